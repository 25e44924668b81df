"""The path that users' YAML and resumed searches name; see nni/tuner.py."""

from .nni.tuner import ArgsValidator, EvolutionTuner

__all__ = ["ArgsValidator", "EvolutionTuner"]
