"""The path that users' scripts name; see nni/strategy.py."""

from .nni.strategy import EvolutionStrategy, MCUNetSpace, SupernetEvaluator

__all__ = ["EvolutionStrategy", "MCUNetSpace", "SupernetEvaluator"]
