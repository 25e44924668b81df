"""Print mcu_weights.h out of the integers: the arrays and the struct of every op, as the op's operator prints them."""

from ..lower.program import Program
from ..ops import OPERATORS
from .header import CLOSED, OPENED, summary
from .names import Names, commented


def weights(program: Program, names: Names) -> str:
    """Return the C of the header of constants, each op's under its name for the user."""
    graph, guard = program.plan.graph, f"{names.macro}_WEIGHTS_H"
    parts = [summary(program.plan), f'#ifndef {guard}\n#define {guard}\n#include "mcu.h"\n\n{OPENED}\n']
    for op in graph.ops:
        body = OPERATORS[op.kind].constants(graph, op, program.integers[op.name], names.of(op.name))
        parts.append(f"/* {commented(op.name)} */\n{body}")
    return "".join([*parts, f"{CLOSED}\n#endif\n"])
