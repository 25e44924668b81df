"""The operators of the engine, one file for each kind of op or for a few of one C struct: see operator.py.

docs/extending.md adds one step by step.
"""

from . import conv, elementwise, pool, softmax, table
from .operator import Operator

OPERATORS: dict[str, Operator] = {
    **conv.OPERATORS,
    **pool.OPERATORS,
    **elementwise.OPERATORS,
    **table.OPERATORS,
    **softmax.OPERATORS,
}
