"""Find schedules of several patched segments, by dynamic programming over the places where a segment may end.

The costs of a segment depend only on its own blocks and on the maps that it reads and writes. So of all ways to run the
ops up to a place, those that another way beats in every cost can be forgotten. Costs are those of plan(), exactly.
Nothing is placed here.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..ir.arch import Schedule
from ..ir.graph import Graph
from .cut_points import Grid, schedules
from .kernel_facts import Kernels
from .schedule_costs import Costs, layer_costs, segment_costs


class _Way(NamedTuple):
    """A way to run the ops up to some place.

    macs, copied, peak  its costs, see schedule_costs.Costs
    patched             how many of its segments run in patches
    path                its segments: (grid, the block where it ends); grid (1, 1) is layer by layer
    """

    macs: int
    copied: int
    peak: int
    patched: int
    path: tuple[tuple[tuple[int, int], int], ...]

    def then(self, p: tuple[int, int], n: int, macs: int, copied: int, peak: int) -> "_Way":
        """Return this way with one segment more: grid p up to block n, and its costs."""
        patched, path = self.patched + (p != (1, 1)), (*self.path, (p, n))
        return _Way(self.macs + macs, self.copied + copied, max(self.peak, peak), patched, path)


def several_segments(
    graph: Graph, p_choices: Sequence[Grid], n_max: int | None, kernels: Kernels, halo: str, segments: int
) -> list[tuple[Costs, Schedule]]:
    """Return the schedules of up to `segments` patched segments that no other schedule beats, with their costs.

    Compared are multiply-accumulates, bytes copied and bytes alive: to beat is to be as good in each and better in one.
    The schedules of one patched segment at the beginning are cut_points.schedules's and are left out. n_max: the last
    block in patches. halo: "clip" or "cache".
    """
    macs, live = layer_costs(graph, kernels)
    ends = {0: (0, "")}  # number of ops -> (block, the tensor that they hand on)
    for size, handed in graph.block_ends:
        if len(handed) == 1 and size < len(macs) and handed[0] != graph.inputs[0].name:
            ends[size] = graph.ops[size - 1].block + 1, handed[0]
    sizes = {n: size for size, (n, _) in ends.items()} | {graph.ops[-1].block + 1: len(macs)}
    ways: dict[int, list[_Way]] = {size: [] for size in (*ends, len(macs))}
    ways[0] = [_Way(0, 0, 0, 0, ())]
    for size, following in pairwise(ways):
        best = ways[size] = _best(ways[size])
        n = graph.ops[following - 1].block + 1
        layers = sum(macs[size:following]), 0, max(live[size:following])
        ways[following] += [way.then((1, 1), n, *layers) for way in best]
        rest = graph if not size else _rest(graph, size, ends[size][1])
        every = [s for s in schedules(rest, p_choices, n_max) if not s.n or s.n in sizes]
        for end, p, cost in _segments(rest, every, kernels, halo, size > 0):
            ways[sizes[end]] += [
                way.then(p, end, cost.macs, cost.copied, cost.peak) for way in best if way.patched < segments
            ]
    found = []
    for way in _best(ways[len(macs)]):
        (p, n), *then = way.path
        schedule = Schedule(p, n, tuple(then))
        if schedule.then:
            found.append((Costs(way.macs, way.peak, way.copied), schedule))
    return found


def _rest(graph: Graph, size: int, source: str) -> Graph:
    """Return the graph of what follows the first `size` ops, which hand on `source`."""
    return Graph(graph.name, (graph.tensors[source],), graph.ops[size:], graph.outputs)


def _segments(
    rest: Graph, every: list[Schedule], kernels: Kernels, halo: str, former: bool
) -> Iterator[tuple[int, tuple[int, int], Costs]]:
    """Yield (block where it ends, grid, costs) of every patched segment that `rest` may begin with. Among grids with
    the same end only those come that no other beats. former: see segment_costs."""
    by_end: dict[int, list[_Way]] = {}
    for schedule, cost in zip(every, segment_costs(rest, every, kernels, halo, former), strict=True):
        if schedule.n:
            way = _Way(cost.macs, cost.copied, cost.peak, 0, (schedule.segments[0],))
            by_end.setdefault(schedule.n, []).append(way)
    for end, found in by_end.items():
        for way in _best(found):
            yield end, way.path[0][0], Costs(way.macs, way.peak, way.copied)


def _best(ways: list[_Way]) -> list[_Way]:
    """Return the ways that no other equals or beats in every cost."""
    kept: list[_Way] = []
    for way in sorted(ways):
        if not any(k.copied <= way.copied and k.peak <= way.peak and k.patched <= way.patched for k in kept):
            kept.append(way)
    return kept
