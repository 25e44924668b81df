"""Bound the int8 values that each channel can take, whatever the picture: interval arithmetic over the integers of
kernels.

Sound by construction: a result of an op that rises with its input is computed by the reference itself, from the ends.
The bounds hold at every position, also where windows reach into the padding.
"""

from ..model import QuantModel
from ..ops import OPERATORS
from ..ops.operator import Interval
from ..ops.windows import any_value
from .integers import integers


def intervals(model: QuantModel) -> dict[str, Interval]:
    """Return tensor name -> its interval. An image may hold any byte. Raises GraphError, see integers."""
    table, graph = integers(model), model.graph
    found = {t.name: any_value(t.c) for t in graph.inputs}
    for op in graph.ops:
        found[op.name] = OPERATORS[op.kind].interval(graph, op, table[op.name], [found[name] for name in op.reads])
    return found
