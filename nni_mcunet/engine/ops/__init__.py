"""Collect the operators of the engine. A file has one kind of op, or a few that share a C struct: see operator.py.

docs/extending.md adds one step by step.
"""

from . import attention, conv, elementwise, move, pool, softmax, table
from .operator import Operator

OPERATORS: dict[str, Operator] = {
    **conv.OPERATORS,
    **pool.OPERATORS,
    **move.OPERATORS,
    **elementwise.OPERATORS,
    **attention.OPERATORS,
    **table.OPERATORS,
    **softmax.OPERATORS,
}
