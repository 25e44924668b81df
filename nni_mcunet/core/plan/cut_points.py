"""Say where a patched segment may end, and list the schedules that follow from it. Nothing here has a cost."""

from collections.abc import Sequence
from functools import cache

from ..errors import ScheduleError
from ..ir.arch import Schedule
from ..ir.graph import Graph, Op, once
from ..ir.kinds import FACTS

Grid = int | tuple[int, int]  # p for p x p patches, or (p_h, p_w)
_schedule = cache(Schedule)  # a search asks thousands of times for the same few


def ends_patches(graph: Graph, op: Op) -> bool:
    """Whether the patched segment ends before `op`: one of a whole map, or a gate, whose factors come from one."""
    gated = op.kind == "mul" and graph.tensors[op.inputs[1]].size < graph.tensors[op.name].size
    return FACTS[op.kind].whole_map or gated


def split(graph: Graph, n: int, begin: int = 0, patched: bool = True) -> tuple[tuple[Op, ...], str]:
    """Return the ops of the first n blocks and the one tensor that they hand on. Raises ScheduleError where no segment
    may end behind block n, or where the blocks from `begin` on are `patched` and cannot be."""
    ops = tuple(op for op in graph.ops if op.block < n)
    if not 0 < n <= graph.ops[-1].block + 1:
        raise ScheduleError(f"n = {n}: {graph.name} has {graph.ops[-1].block + 1} blocks")
    for op in ops:
        if patched and op.block >= begin and ends_patches(graph, op):
            raise ScheduleError(
                f"n = {n}: {op.name} needs the whole map; end the patched segment before block {op.block}"
            )
    handed = next((names for size, names in graph.block_ends if size == len(ops)), ())
    if len(handed) != 1:
        raise ScheduleError(f"n = {n}: the patched segment must hand on one tensor, not {', '.join(sorted(handed))}")
    return ops, handed[0]


@once
def cuts(graph: Graph) -> dict[int, tuple[int, str]]:
    """Return every n that `split` accepts for a first segment, rising -> (number of ops, the tensor they hand on)."""
    found = {}
    whole_map = next((i for i, op in enumerate(graph.ops) if ends_patches(graph, op)), len(graph.ops))
    for size, handed in graph.block_ends:
        if size <= whole_map and len(handed) == 1:
            block = graph.ops[size - 1].block
            following = graph.ops[size].block if size < len(graph.ops) else block + 1
            found.update(dict.fromkeys(range(block + 1, following + 1), (size, handed[0])))
    return found


def grids(most: int, square: bool = True) -> list[tuple[int, int]]:
    """Return every grid (p_h, p_w) up to `most` x `most`, for the p_choices of `schedules`; by default square ones.
    Raises ScheduleError for a `most` below 1."""
    if most < 1:
        raise ScheduleError(f"grids up to {most}x{most}: expected 1 or more")
    return [(i, j) for i in range(1, most + 1) for j in range(1, most + 1) if i == j or not square]


def worth(every: list[Schedule], halo: str, halos: Sequence[str]) -> list[Schedule]:
    """Return the schedules that are worth a look with `halo`, one of `halos`. Along an axis of one patch its word says
    nothing, so there one whose words are alike does as well."""
    if "/" not in halo or len(halos) == 1:
        return every
    return [s for s in every if min(s.p) > 1 or not s.n]


def schedules(graph: Graph, p_choices: Sequence[Grid] = (1, 2, 3, 4), n_max: int | None = None) -> list[Schedule]:
    """Return the schedule layer by layer, then every grid of `p_choices` at every cut of the graph up to block `n_max`.

    A choice is an integer p for a p x p grid, or a pair (p_h, p_w). A grid finer than the map it divides is left out.
    """
    found = [Schedule()]
    grids = [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in p_choices]
    for n, (_, out) in cuts(graph).items():
        tensor = graph.tensors[out]
        if n_max is None or n <= n_max:
            found += [_schedule(p, n) for p in grids if p != (1, 1) and p[0] <= tensor.h and p[1] <= tensor.w]
    return found
