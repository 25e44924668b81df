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
    """Return the ops of the first n blocks and the one tensor that the blocks from `begin` on hand on; "" where they
    run layer by layer, not `patched`, which may hand on several. Maps of the blocks before stand whole, so they may be
    read behind block n again: a detector's neck reads what its backbone has long left behind. Raises ScheduleError
    where no segment may end behind block n, or where the blocks from `begin` on cannot run in patches."""
    ops = tuple(op for op in graph.ops if op.block < n)
    if not 0 < n <= graph.ops[-1].block + 1:
        raise ScheduleError(f"n = {n}: {graph.name} has {graph.ops[-1].block + 1} blocks")
    for op in ops:
        if patched and op.block >= begin and ends_patches(graph, op):
            raise ScheduleError(
                f"n = {n}: {op.name} needs the whole map; end the patched segment before block {op.block}"
            )
    handed = next((names for size, names in graph.block_ends if size == len(ops)), ())
    done = sum(op.block < begin for op in ops)
    own = [name for name in handed if not 0 <= graph.links.born[name] < done]  # an image, of which patches have a tile
    if patched and len(own) != 1:
        raise ScheduleError(
            f"n = {n}: the patched segment must hand on one tensor, not {', '.join(sorted(own))}; a segment from "
            f"block {begin} may end at n = {_said(list(_cuts(graph, {op.name for op in ops[:done]}, done)))}"
        )
    if again := [name for name in own if graph.links.born[name] < 0]:
        raise ScheduleError(f"n = {n}: behind block {n - 1} the picture {again[0]} is read again; end no segment there")
    return ops, own[0] if patched else ""


def _said(numbers: list[int]) -> str:
    """Rising numbers in words: 1 to 5, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs) or "no block"


@once
def cuts(graph: Graph) -> dict[int, tuple[int, str]]:
    """Return every n that `split` accepts for a first segment, rising -> (number of ops, the tensor they hand on)."""
    return _cuts(graph, set())


@once
def cuts_behind(graph: Graph) -> dict[int, tuple[int, str]]:
    """Return the same of the rest of a graph, whose inputs are the maps of former segments."""
    return _cuts(graph, {tensor.name for tensor in graph.inputs})


def _cuts(graph: Graph, former: set[str], begin: int = 0) -> dict[int, tuple[int, str]]:
    """Return the cuts behind the first `begin` ops; `former` are the maps that stand whole before it."""
    found = {}
    rest = enumerate(graph.ops[begin:], begin)
    whole_map = next((i for i, op in rest if ends_patches(graph, op)), len(graph.ops))
    for size, handed in graph.block_ends:
        own = [name for name in handed if name not in former]
        if begin < size <= whole_map and len(own) == 1:
            block = graph.ops[size - 1].block
            following = graph.ops[size].block if size < len(graph.ops) else block + 1
            found.update(dict.fromkeys(range(block + 1, following + 1), (size, own[0])))
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


def schedules(
    graph: Graph, p_choices: Sequence[Grid] = (1, 2, 3, 4), n_max: int | None = None, former: bool = False
) -> list[Schedule]:
    """Return the schedule layer by layer, then every grid of `p_choices` at every cut of the graph up to block `n_max`.

    A choice is an integer p for a p x p grid, or a pair (p_h, p_w). A grid finer than the map it divides is left out.
    former: the graph is the rest of another, see cuts_behind.
    """
    found = [Schedule()]
    grids = [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in p_choices]
    for n, (_, out) in (cuts_behind if former else cuts)(graph).items():
        tensor = graph.tensors[out]
        if n_max is None or n <= n_max:
            found += [_schedule(p, n) for p in grids if p != (1, 1) and p[0] <= tensor.h and p[1] <= tensor.w]
    return found
