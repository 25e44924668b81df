"""Interpret a Program in numpy: the oracle for the C kernels, patch by patch, with the same tiles and pads.

It computes what the integers say and nothing about memory: tensors are separate full maps, no arena, and the Program's
tiles say which positions of them a call reads and writes. Where the halo is cached, a tile begins with what earlier
patches have computed. The reference follows the same Program as the C, so it proves the kernels and not the lowering:
see program.py.
"""

import numpy as np

from ...core.plan.plan import Plan
from ..model import QuantModel
from ..ops import OPERATORS
from .program import Call, Loop, Program, lower


def run(plan: Plan, model: QuantModel, image: np.ndarray, keep: bool = False) -> dict[str, np.ndarray]:
    """Return the outputs (h, w, c) int8 by name for an image (h, w, c) int8; with keep=True every tensor that is whole.
    Raises what `lower` raises."""
    return interpret(lower(plan, model), image, keep)


def interpret(program: Program, image: np.ndarray, keep: bool = False) -> dict[str, np.ndarray]:
    """Do the same with a program that is lowered already."""
    graph = program.plan.graph
    tensors = {graph.inputs[0].name: image}
    for loop in program.loops:
        _run_loop(program, loop, tensors)
    return tensors if keep else {name: tensors[name] for name in graph.outputs}


def each(plan: Plan, model: QuantModel, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what every op by itself makes of `tensors`, (h, w, c) int8 by name, of which it reads its inputs: no error
    of an op adds up with another's. plan: layer by layer. Raises what `lower` raises."""
    program, found = (
        lower(plan, model),
        {t.name: np.zeros((t.h, t.w, t.c), np.int8) for t in plan.graph.tensors.values()},
    )
    for call in (step for loop in program.loops for step in loop.steps if isinstance(step, Call)):
        _run_call(program, call, 0, 0, {**tensors, call.op.name: found[call.op.name]})
    return {op.name: found[op.name] for op in plan.graph.ops}


def _run_loop(program: Program, loop: Loop, tensors: dict[str, np.ndarray]) -> None:
    found = [step for step in loop.steps if isinstance(step, Call)]
    shapes = {call.op.name: program.plan.graph.tensors[call.op.name] for call in found}
    maps = {**tensors, **{name: np.zeros((t.h, t.w, t.c), np.int8) for name, t in shapes.items()}}
    for i in range(loop.grid[0]):
        for j in range(loop.grid[1]):
            for call in found:
                _run_call(program, call, i, j, maps)
    tensors.update({name: maps[name] for name in loop.leaves})


def _run_call(program: Program, call: Call, i: int, j: int, maps: dict[str, np.ndarray]) -> None:
    y, x = call.axes[0][i], call.axes[1][j]
    if y.n_out and x.n_out:
        p, reads = program.integers[call.op.name], [maps[tile.tensor][tile.patch(i, j)] for tile in call.reads]
        own = p if call.part is None else p[call.part]
        target = maps[call.op.name][call.out.patch(i, j)]
        target[..., slice(*call.channels)] = OPERATORS[call.op.kind].run(call.op, own, reads, y, x)
