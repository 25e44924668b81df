"""Turn scales into the integers that kernels compute with: ask each operator for its own.

The numpy reference and the generated C both read the result and nothing else.
"""

from typing import Any

from ..model import QuantModel
from ..ops import OPERATORS
from .c_limits import check


def integers(model: QuantModel) -> dict[str, Any]:
    """Return op name -> the integers its kernel computes with: a dataclass of the operator's file, or for a concat a
    tuple with one for each input. Raises GraphError where 32 bits do not suffice, and see c_limits.check."""
    check(model)
    return {op.name: OPERATORS[op.kind].integers(model, op) for op in model.graph.ops}
