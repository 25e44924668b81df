"""Open nni/strategy.py by the path that users' scripts name."""

from .nni.strategy import EvolutionStrategy, MCUNetSpace, SupernetEvaluator

__all__ = ["EvolutionStrategy", "MCUNetSpace", "SupernetEvaluator"]
