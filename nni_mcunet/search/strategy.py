"""Open nni/strategy.py and nni/model_space.py by the path that users' scripts name."""

from .nni.model_space import MCUNetSpace
from .nni.strategy import EvolutionStrategy, SupernetEvaluator

__all__ = ["EvolutionStrategy", "MCUNetSpace", "SupernetEvaluator"]
