"""Open nni/tuner.py by the path that users' YAML and resumed searches name."""

from .nni.tuner import ArgsValidator, EvolutionTuner

__all__ = ["ArgsValidator", "EvolutionTuner"]
