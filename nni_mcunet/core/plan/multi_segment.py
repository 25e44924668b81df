"""Find schedules of several patched segments, by dynamic programming over the places where a segment may end.

The costs of a segment depend only on its own blocks and on the maps that stand whole before it and behind it. So of
all ways to run the ops up to a place, those that another way beats in every cost can be forgotten. Costs are those of
plan(), exactly. Nothing is placed here.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..ir.arch import Schedule
from ..ir.graph import Graph
from .cut_points import Grid, schedules, worth
from .kernel_facts import Kernels
from .schedule_costs import Costs, layer_costs, segment_costs


class _Way(NamedTuple):
    """A way to run the ops up to some place.

    macs, copied, peak  its costs, see schedule_costs.Costs
    patched             how many of its segments run in patches
    path                its segments: (grid, the block where it ends, halo); grid (1, 1) is layer by layer
    """

    macs: int
    copied: int
    peak: int
    patched: int
    path: tuple["_Part", ...]

    def then(self, step: "_Way", least: int) -> "_Way":
        """Return this way with another behind it. least: the bytes alive that no way behind both does without, so that
        fewer are no advantage."""
        return _Way(
            self.macs + step.macs,
            self.copied + step.copied,
            max(self.peak, step.peak, least),
            self.patched + step.patched,
            self.path + step.path,
        )


_Part = tuple[tuple[int, int], int, str]


def several_segments(
    graph: Graph, p_choices: Sequence[Grid], n_max: int | None, kernels: Kernels, halos: Sequence[str], segments: int
) -> list[tuple[Costs, Schedule]]:
    """Return the schedules of up to `segments` patched segments that no other schedule beats, with their costs.

    Compared are multiply-accumulates, then bytes copied, against bytes alive: to beat is to be as good in both and
    better in one.
    The schedules of one patched segment at the beginning are cut_points.schedules's and are left out. n_max: the last
    block in patches. halos: those that a segment may have.
    """
    macs, live = layer_costs(graph, kernels)
    images = {image.name for image in graph.inputs}
    ends: dict[int, tuple[int, tuple[str, ...]]] = {0: (0, ())}  # number of ops -> (block, the tensors they hand on)
    for size, handed in graph.block_ends:
        if size < len(macs) and images.isdisjoint(handed):
            ends[size] = graph.ops[size - 1].block + 1, handed
    sizes = {n: size for size, (n, _) in ends.items()} | {graph.ops[-1].block + 1: len(macs)}
    steps: dict[int, list[_Way]] = {}  # number of ops -> the segments that may follow them
    for size, following in pairwise((*ends, len(macs))):
        n = graph.ops[following - 1].block + 1
        layers = _Way(sum(macs[size:following]), 0, max(live[size:following]), 0, (((1, 1), n, "clip"),))
        rest = graph if not size else _rest(graph, size, ends[size][1])
        every = [s for s in schedules(rest, p_choices, n_max, size > 0) if not s.n or s.n in sizes]
        steps[size] = [layers, *_segments(rest, every, kernels, halos, size > 0)]
    least = {len(macs): 0}  # number of ops -> the fewest bytes alive at the worst op behind them
    for size in reversed(steps):
        least[size] = min(max(way.peak, least[sizes[way.path[0][1]]]) for way in steps[size])
    ways: dict[int, list[_Way]] = {size: [] for size in (*ends, len(macs))}
    ways[0] = [_Way(0, 0, 0, 0, ())]
    for size, following_ways in steps.items():
        best = _best(ways[size])
        for step in following_ways:
            end = sizes[step.path[0][1]]
            ways[end] += [w.then(step, least[end]) for w in best if w.patched + step.patched <= segments]
    several = []
    for way in _best(ways[len(macs)]):
        (p, n), *then = [part[:2] for part in way.path]
        halo = ",".join(part[2] for part in way.path if part[0] != (1, 1)) or "clip"
        schedule = Schedule(p, n, tuple(then), halo)
        if schedule.then:
            several.append((Costs(way.macs, way.peak, way.copied), schedule))
    return several


def _rest(graph: Graph, size: int, handed: tuple[str, ...]) -> Graph:
    """Return the graph of what follows the first `size` ops, which hand on the tensors `handed`."""
    return Graph(graph.name, tuple([graph.tensors[name] for name in handed]), graph.ops[size:], graph.outputs)


def _segments(
    rest: Graph, every: list[Schedule], kernels: Kernels, halos: Sequence[str], former: bool
) -> Iterator[_Way]:
    """Yield every patched segment that `rest` may begin with, as a way of its own. Among those with the same end only
    those come that no other beats. former: see segment_costs."""
    by_end: dict[int, list[_Way]] = {}
    for halo in halos:
        own = worth(every, halo, halos)
        for schedule, cost in zip(own, segment_costs(rest, own, kernels, halo, former), strict=True):
            if schedule.n:
                way = _Way(cost.macs, cost.copied, cost.peak, 1, ((schedule.p, schedule.n, halo),))
                by_end.setdefault(schedule.n, []).append(way)
    for found in by_end.values():
        yield from _best(found)


def _best(ways: list[_Way]) -> list[_Way]:
    """Return the ways that no other equals or beats. A way that computes less is the better one, however much it
    copies: so both are one cost, and sums of it keep their order."""
    kept: list[_Way] = []
    least: dict[int, int] = {}  # segments in patches -> the fewest bytes alive with as many or fewer
    for way in sorted(ways):
        if way.peak < min((peak for patched, peak in least.items() if patched <= way.patched), default=way.peak + 1):
            least[way.patched] = way.peak
            kept.append(way)
    return kept
