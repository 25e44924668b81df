"""Say where tensors lie and in what order ops run: plan(graph, schedule) -> Plan, the only answer to "does it fit?".

A plan is a row of segments. The first n blocks may run patch by patch on a p_h x p_w grid (the paper's section 3.1),
the blocks behind them on other grids. The rest is a segment of one patch. Time is the index of an op. Inside a patched
segment it restarts for each patch, so a buffer of that segment is as large as its largest patch needs. liveness.py says
which tensor is alive when. This module writes no C and knows no board's kernels beyond kernel_facts.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from ..boards import Board
from ..errors import ArchError, Infeasible, ScheduleError
from ..ir.arch import HALO_WORDS, Schedule
from ..ir.graph import Graph
from .arena import Buffer, Part, check, place, profile
from .cut_points import Grid, schedules, split, worth
from .head_slices import counts, sliced
from .kernel_facts import CORTEX_M, Kernels, graph_constants
from .layout import buffers_of
from .multi_segment import several_segments
from .schedule_costs import Costs, costs
from .segments import TABLES, Segment
from .segments import segments as segments_of

Beside = Callable[[Graph, Schedule, str], int]  # (graph, schedule, halo) -> bytes of SRAM beside the arena

__all__ = ["Beside", "Plan", "best_schedule", "fitting_plan", "pareto", "plan", "schedules", "split"]


@dataclass(frozen=True)
class Plan:
    """A graph with its schedule, buffers and costs. Placing them takes most of the time, so the first question after
    `buffers` or `arena` does it.

    graph     the network's, its heads cut where the schedule has slices
    segments  the row of segments, in order
    unplaced  the buffers, without offsets; home[tensor], scratch[op] and cache[its buffer's name] index them
    macs      multiply-accumulates, the recomputed halo included
    halo      the schedule's, or "full" or "none", see plan()
    parts     the arena by regions where it lies in several, see regions.py; (): it is one array
    spread    the buffers with their offsets then
    """

    graph: Graph
    schedule: Schedule
    segments: tuple[Segment, ...]
    unplaced: tuple[Buffer, ...]
    home: dict[str, int]
    scratch: dict[str, int]
    cache: dict[str, int]
    macs: int
    halo: str = "clip"
    parts: tuple[Part, ...] = ()
    spread: tuple[Buffer, ...] = ()

    def __str__(self) -> str:
        how = f"{self.schedule}, halo {self.halo}" if self.schedule.n else str(self.schedule)
        return (
            f"{self.graph.name}: {how}; arena {self.arena:,} bytes, constants {self.flash:,} bytes, "
            f"{self.macs / 1e6:.2f}M MACs ({self.overhead:+.1%})"
        )

    def executable(self) -> "Plan":
        """Return the plan itself, to run it or to print it as C. Raises ScheduleError for a halo of tables only, and
        AssertionError for buffers placed over each other, a fault of arena.place."""
        _check_executed(self.halo)
        check(self.buffers, self.arena)
        return self

    @cached_property
    def _placed(self) -> tuple[tuple[Buffer, ...], int]:
        return (self.spread, sum(part.size for part in self.parts)) if self.parts else place(self.unplaced, self.peak)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers with their offsets."""
        return self._placed[0]

    @property
    def arena(self) -> int:
        """Bytes from the first to the last of all placed buffers, those of all regions together."""
        return self._placed[1]

    @cached_property
    def _live(self) -> list[int]:
        return profile(self.unplaced)

    @cached_property
    def peak(self) -> int:
        """Bytes alive at once at the worst op: no placement can do with less."""
        return max(self._live)

    @property
    def flash(self) -> int:
        """Bytes of constants: weights, requantisation, tables."""
        return graph_constants(self.graph)

    @property
    def overhead(self) -> float:
        """Recomputed multiply-accumulates, as a share of the network's own: the paper's computation overhead."""
        return self.macs / self.graph.macs - 1

    @property
    def copied(self) -> int:
        """Bytes moved into the caches of a cached halo and out of them."""
        return sum(segment.copied(op.name) for segment in self.segments for op in segment.ops)

    def limit(self, board: Board) -> int:
        """Return the bytes of SRAM that the board has for it: in one array, or in all regions where it lies in
        several."""
        return board.usable if self.parts else board.arena_limit

    def live_bytes(self, index: int) -> int:
        """Return the bytes alive while op `index` runs."""
        return self._live[index]

    def block_peaks(self) -> dict[int, int]:
        """Return block -> most bytes alive during any of its ops (the paper's Fig. 1)."""
        peaks: dict[int, int] = {}
        for index, op in enumerate(self.graph.ops):
            peaks[op.block] = max(peaks.get(op.block, 0), self.live_bytes(index))
        return peaks


def plan(graph: Graph, schedule: Schedule | None = None, kernels: Kernels = CORTEX_M, halo: str | None = None) -> Plan:
    """Return the plan of `graph` under `schedule` (default: layer by layer) with `halo` (default: the schedule's).

    "clip"    patches compute their overlap again, clipped at the border of the map
    "cache"   patches keep their overlap, see halo_cache.py
    "narrow"  they keep it, but of a map that is wider than what it is made of they compute it again
    "full"    every patch costs as an interior one, the convention of the paper's Table 1
    "none"    patches have no overlap: another network, which must be trained so (net.forward_apart, Table 5)

    The engine runs the first three, and any mixture of them over segments and axes (see Schedule). They give the same
    bytes. Raises ScheduleError for a schedule that the graph does not allow.
    """
    schedule = schedule or Schedule()
    halo = schedule.halo if halo is None else halo
    if halo not in TABLES:
        try:
            schedule = replace(schedule, halo=halo)
        except ArchError as error:
            raise ScheduleError(str(error)) from None
        halo = schedule.halo
    graph = graph if schedule.slices == 1 else sliced(graph, schedule.slices).graph
    parts = segments_of(graph, schedule, halo)
    macs = sum(segment.macs() for segment in parts)
    return Plan(graph, schedule, parts, *buffers_of(graph, parts, kernels), macs, halo if schedule.n else "clip")


def best_schedule(
    graph: Graph,
    board: Board,
    objective: str = "macs",
    p_choices: Sequence[Grid] = (1, 2, 3, 4),
    n_max: int | None = None,
    kernels: Kernels = CORTEX_M,
    halos: tuple[str, ...] = ("clip",),
    segments: int = 1,
    max_overhead: float | None = None,
    slices: int = 1,
    beside: Beside | None = None,
) -> Plan:
    """Return the plan of the best schedule that fits the board. By default the schedules are the paper's: square grids,
    p up to 4, one patched segment.

    objective     "macs": the least computation (section 3.3), ties to fewer bytes copied into caches, then to the
                  smaller arena; "sram": the smallest arena, ties to less computation, then to fewer bytes copied;
                  further ties to the first of `halos`, then of `schedules`
    p_choices     grids to try, see schedules; n_max: the last block in patches
    halos         those that a segment may have, such as "clip" or "cache/clip"; segments may differ in it
    segments      the most patched segments. Several are those that multi_segment.py finds: no other schedule has fewer
                  bytes alive, but one might be placed better
    max_overhead  the most recomputation, as a share of the network's own multiply-accumulates
    slices        the most slices of a head, see head_slices.py; there are no more than are needed
    beside        bytes of SRAM that must be left beside a schedule's arena, see picture_source.source_bytes; they count
                  as the arena's do

    Raises ScheduleError for a wrong argument, and Infeasible with `what` ("sram" or "flash"), `needed` and `limit` in
    bytes. `needed` is exact: the constants, or the smallest arena of all schedules asked for, with what is beside it.
    """
    if objective not in RANKS:
        raise ScheduleError(f"objective '{objective}': expected one of {', '.join(RANKS)}")
    if max_overhead is not None and not max_overhead >= 0:  # a NaN, too
        raise ScheduleError(f"an overhead of at most {max_overhead:g}: expected 0 or more")
    flash = graph_constants(graph)
    if flash > board.model_limit:
        raise Infeasible.over("flash", flash, board.model_limit, f"{graph.name} on {board.name}")
    tried = counts(graph, slices)
    candidates = _candidates(graph, p_choices, n_max, kernels, halos, segments, tried[-1])
    if max_overhead is not None:
        candidates = [c for c in candidates if c[0].macs <= (1 + max_overhead) * graph.macs]
    best = _best_placed(graph, candidates, kernels, RANKS[objective], board.arena_limit, beside)
    if best is None:
        smallest = _best_placed(graph, candidates, kernels, RANKS["sram"], inf, beside)
        assert smallest is not None  # layer by layer is always a candidate
        raise too_large(smallest, board, beside)
    room = board.arena_limit - (beside(graph, best.schedule, best.halo) if beside else 0)
    return _fewest_slices(graph, best, kernels, tried, best.arena if objective == "sram" else room)


def too_large(smallest: Plan, board: Board, beside: Beside | None) -> Infeasible:
    """Make the error of a network of which no plan fits: the one that needs least does not."""
    where, more = f"{smallest.graph.name} on {board.name}", 0
    if beside:
        more = beside(smallest.graph, smallest.schedule, smallest.halo)
        where += f", with {more:,} bytes for the picture's source"
    return Infeasible.over("sram", smallest.arena + more, board.arena_limit, where)


def plans_by_rank(
    graph: Graph,
    objective: str,
    limit: int,
    p_choices: Sequence[Grid],
    kernels: Kernels = CORTEX_M,
    halos: tuple[str, ...] = ("clip",),
    segments: int = 1,
    max_overhead: float | None = None,
    slices: int = 1,
) -> Iterator[Plan]:
    """Yield the plans that best_schedule chooses from, with up to `limit` bytes alive at once, in the order of its
    objective by that lower bound: of equal computation those with whole heads first."""
    found: list[tuple[tuple[int, ...], Candidate]] = []
    for count in {1, counts(graph, slices)[-1]}:
        for at, one in enumerate(_candidates(graph, p_choices, None, kernels, halos, segments, count)):
            first, *rest = RANKS[objective](*one[0], at)
            found.append(((first, count, *rest), one))
    for _, (cost, schedule, halo) in sorted(found, key=lambda one: one[0]):
        if cost.peak <= limit and (max_overhead is None or cost.macs <= (1 + max_overhead) * graph.macs):
            yield plan(graph, schedule, kernels, halo)


def fitting_plan(
    graph: Graph,
    board: Board,
    schedule: Schedule,
    kernels: Kernels = CORTEX_M,
    halos: tuple[str, ...] = ("clip",),
    beside: Beside | None = None,
) -> Plan:
    """Return the plan of one schedule with the halo that fits the board at the least computation. Raises Infeasible,
    see best_schedule, and ScheduleError."""
    plans = [plan(graph, schedule, kernels, halo) for halo in halos]
    needs = [p.arena + (beside(graph, p.schedule, p.halo) if beside else 0) for p in plans]
    fitting = [p for p, needed in zip(plans, needs, strict=True) if needed <= board.arena_limit]
    if not fitting:
        raise too_large(plans[needs.index(min(needs))], board, beside)
    found = min(fitting, key=lambda p: p.macs)
    if found.flash > board.model_limit:
        raise Infeasible.over("flash", found.flash, board.model_limit, f"{graph.name} on {board.name}")
    return found


def pareto(
    graph: Graph,
    p_choices: Sequence[Grid] = (1, 2, 3, 4),
    n_max: int | None = None,
    kernels: Kernels = CORTEX_M,
    halos: tuple[str, ...] = ("clip",),
    segments: int = 1,
    slices: int = 1,
) -> list[Plan]:
    """Return the plans that no other beats both in arena and in computation: MACs rising, arena falling. Arguments and
    errors are best_schedule's."""
    front: list[Plan] = []
    tried = counts(graph, slices)
    candidates = _candidates(graph, p_choices, n_max, kernels, halos, segments, tried[-1])
    for cost, schedule, halo in sorted(candidates, key=lambda candidate: candidate[0]):
        if front and cost.peak >= front[-1].arena:
            continue  # no placement of it is smaller than what costs no more
        found = plan(graph, schedule, kernels, halo)
        if front and found.arena >= front[-1].arena:
            continue
        if front and found.macs == front[-1].macs:
            front.pop()
        front.append(found)
    fewest = [_fewest_slices(graph, found, kernels, tried, found.arena) for found in front]
    return [p for i, p in enumerate(fewest) if all(p.arena < before.arena for before in fewest[:i])]


# The halos of one segment that the engine runs: those with one word for both axes, and their mixtures.
MIXED = tuple(f"{rows}/{cols}" for rows in HALO_WORDS for cols in HALO_WORDS if rows != cols)
EXECUTED = (*HALO_WORDS, *MIXED)
ENDS = ("clip", "cache")  # the two tried where thousands of networks are planned
SLICES = 16  # the most slices of a head tried there
SEGMENTS = 3  # the most patched segments tried where a network is planned once; a search plans thousands


def _check_executed(halo: str) -> None:
    if halo in TABLES:
        known = " or ".join(f"'{name}'" for name in HALO_WORDS)
        raise ScheduleError(f"the engine does not execute halo '{halo}': plan with halo {known}")


Candidate = tuple[Costs, Schedule, str]  # costs, schedule, halo
Rank = Callable[[int, int, int, int], tuple[int, ...]]
# Objective -> what is compared, the smaller the better. A rank rises with each argument, so the rank of a schedule's
# peak is a lower bound of the rank of its arena.
RANKS: dict[str, Rank] = {
    "macs": lambda macs, sram, copied, at: (macs, copied, sram, at),
    "sram": lambda macs, sram, copied, at: (sram, macs, copied, at),
}


def _candidates(
    graph: Graph,
    p_choices: Sequence[Grid],
    n_max: int | None,
    kernels: Kernels,
    halos: tuple[str, ...],
    most: int,
    slices: int,
) -> list[Candidate]:
    """Every schedule of one patched segment, and those worth a look of up to `most`, with their exact costs, all with
    so many slices. The one layer by layer, which has no halo, comes once."""
    if any("," in halo for halo in halos):
        raise ScheduleError(f"halo {', '.join(halos)}: one for each segment needs a schedule that says the segments")
    if most < 1:
        raise ScheduleError(f"at most {most} patched segments: expected 1 or more")
    found: list[Candidate] = []
    graph = graph if slices == 1 else sliced(graph, slices).graph
    single = schedules(graph, p_choices, n_max)
    for halo in halos:
        _check_executed(halo)
        own = worth(single, halo, halos)
        table = costs(graph, own, kernels, halo)
        found += [(c, s, halo) for c, s in zip(table, own, strict=True) if s.n or halo == halos[0]]
    if most > 1:
        several = several_segments(graph, p_choices, n_max, kernels, halos, most)
        found += [(c, s, s.halo) for c, s in several]
    return [(c, replace(s, slices=slices), halo) for c, s, halo in found] if slices > 1 else found


def _best_placed(
    graph: Graph,
    candidates: list[Candidate],
    kernels: Kernels,
    rank: Rank,
    limit: float = inf,
    beside: Beside | None = None,
) -> Plan | None:
    """Return the plan of the best rank whose arena, with what is beside it, is within `limit`; None for none. Placing
    is slow, so candidates are placed in the order of their lower bounds, until the next bound is no better than the
    best plan."""
    best: tuple[tuple[int, ...], Plan] | None = None
    known: dict[tuple[object, ...], int] = {}  # the rows of patches of the first segment -> what is beside them

    def more(schedule: Schedule, halo: str) -> int:
        if beside is None:
            return 0
        rows = schedule.n, schedule.p[0], halo.split(",")[0].split("/")[0]
        if rows not in known:
            known[rows] = beside(graph, schedule, halo)
        return known[rows]

    for key, at in sorted((rank(*cost, at), at) for at, (cost, _, _) in enumerate(candidates)):
        if best is not None and key >= best[0]:
            break
        cost, schedule, halo = candidates[at]
        extra = more(schedule, halo) if cost.peak <= limit else 0
        if cost.peak + extra <= limit and (
            best is None or rank(cost.macs, cost.peak + extra, cost.copied, at) < best[0]
        ):
            found = plan(graph, schedule, kernels, halo)
            found.__dict__["peak"] = cost.peak
            key = rank(cost.macs, found.arena + extra, cost.copied, at)
            if found.arena + extra <= limit and (best is None or key < best[0]):
                best = key, found
    return best and best[1]


def _fewest_slices(graph: Graph, found: Plan, kernels: Kernels, tried: Sequence[int], limit: int) -> Plan:
    """Return the plan of the same schedule with the fewest slices whose arena is within `limit`."""
    for slices in tried:
        if slices < found.schedule.slices:
            fewer = plan(graph, replace(found.schedule, slices=slices), kernels)
            if fewer.arena <= limit:
                return fewer
    return found
