"""Answer, in one place, which plan a network gets on a board: plan_for_board.

Commands, the API and tests ask here, so equal wishes give equal plans. plan.py and latency.py find the plan; this
module only turns wishes into their arguments.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..boards import Board
from ..errors import Infeasible, ScheduleError
from ..ir.arch import Schedule
from ..ir.graph import Graph
from .cut_points import Grid, grids
from .kernel_facts import CORTEX_M
from .latency import fastest, instructions
from .plan import (
    ENDS,
    EXECUTED,
    RANKS,
    SEGMENTS,
    SLICES,
    Beside,
    Plan,
    best_schedule,
    fitting_plan,
    pareto,
    plan,
    plans_by_rank,
    schedules,
    too_large,
)
from .regions import first_spread

ANY_HALO = "best"
REGIONS = ("fewest", "all")
WIDE_SEGMENTS, WIDE_P = 8, 8  # what a front looks at: segments in patches, patches along an axis
INSTRUCTIONS = "instructions"


def plan_for_board(
    graph: Graph,
    board: Board,
    *,
    schedule: Schedule | None = None,
    halo: str = ANY_HALO,
    p_choices: Sequence[Grid] = (1, 2, 3, 4),
    objective: str = "macs",
    segments: int | None = None,
    max_overhead: float | None = None,
    regions: str = "fewest",
    beside: Beside | None = None,
) -> Plan:
    """Return the plan of `schedule`, or of the best schedule, that fits `board`.

    schedule      the one to run; the wishes below then have nothing to choose and must keep their defaults
    halo          "clip", "cache", "narrow", a mixture (see Schedule), or "best": for each segment and axis what
                  computes less and fits; "instructions" looks at "clip" and "cache"
    p_choices     grids to try: p for p x p, or (p_h, p_w)
    objective     "macs": the least computation (the paper's section 3.3); "sram": the smallest arena; "instructions":
                  the fewest estimated instructions, see latency.fastest
    segments      the most segments in patches, default 3; "instructions" looks at one
    max_overhead  the most recomputation, as a share of the network's multiply-accumulates; not for "instructions"
    regions       "fewest": one array where a schedule fits that, else as few of the board's regions as hold the best
                  schedule; "all": its regions count from the start, and what is touched most lies in the fast ones
    beside        what the picture's source takes of the SRAM beside a schedule's arena, see picture_source.source_bytes

    Raises ScheduleError for wishes that contradict each other or the graph, Infeasible where nothing fits (see
    best_schedule), UnsupportedOp for an operator that the C kernels do not have.
    """
    wide = EXECUTED if objective != INSTRUCTIONS else ENDS  # every plan of the fewest instructions is placed
    halos = wide if halo == ANY_HALO else (halo,)
    if regions not in REGIONS:
        raise ScheduleError(f"regions '{regions}': expected {' or '.join(REGIONS)}")
    if objective not in (*RANKS, INSTRUCTIONS):
        raise ScheduleError(f"objective '{objective}': expected one of {', '.join((*RANKS, INSTRUCTIONS))}")
    if schedule is not None:
        if (objective, segments, max_overhead) != ("macs", None, None):
            raise ScheduleError(
                f"a given schedule ({schedule}) leaves nothing to choose: leave out objective, segments, max_overhead"
            )
        given = sorted((plan(graph, schedule, halo=halo) for halo in halos), key=lambda p: p.macs)

        def alone() -> Plan:
            return fitting_plan(graph, board, schedule, halos=halos, beside=beside)

        return _over_regions(graph, given, board, regions, alone, beside)
    if objective == INSTRUCTIONS:
        if (segments, max_overhead) != (None, None):
            raise ScheduleError(f"objective '{INSTRUCTIONS}' heeds neither segments nor max_overhead: leave them out")
        ordered = _by_instructions(graph, p_choices, halos)
        how = p_choices, halos, beside
        return _over_regions(graph, ordered, board, regions, lambda: fastest(graph, board, *how), beside)
    most = SEGMENTS if segments is None else segments
    ranked = plans_by_rank(graph, objective, board.usable, p_choices, CORTEX_M, halos, most, max_overhead, SLICES)
    rest = p_choices, None, CORTEX_M, halos, most, max_overhead, SLICES, beside
    return _over_regions(graph, ranked, board, regions, lambda: best_schedule(graph, board, objective, *rest), beside)


def _by_instructions(graph: Graph, p_choices: Sequence[Grid], halos: tuple[str, ...]) -> Iterator[Plan]:
    """Yield the plans that fastest chooses from, the fewest instructions first."""
    every = [plan(graph, one, halo=halo) for halo in halos for one in schedules(graph, p_choices)]
    yield from sorted(every, key=instructions)


def _over_regions(
    graph: Graph,
    plans: Iterable[Plan],
    board: Board,
    regions: str,
    one_array: Callable[[], Plan],
    beside: Beside | None,
) -> Plan:
    """Return the plan that `one_array` finds or, where no schedule fits one array, the first of `plans` that the
    board's regions hold; with regions "all" the first of those anyway."""
    if len(board.rooms) < 2:
        return one_array()
    plans = (p for p in plans if p.flash <= board.model_limit)
    if regions == "all" and (all_of := first_spread(plans, board, beside, fewest=False)):
        return all_of
    try:
        return one_array()
    except Infeasible as error:
        if error.what != "sram":
            raise
        if regions == "fewest" and (found := first_spread(plans, board, beside)):
            return found
        if error.needed <= board.usable:  # one of its maps is larger than any region
            raise
        where = f"{graph.name} on {board.name}"
        raise Infeasible.over("sram", int(error.needed), board.usable, where) from None


def front_for_board(
    graph: Graph,
    board: Board | None = None,
    *,
    halo: str = ANY_HALO,
    p_choices: Sequence[Grid] | None = None,
    segments: int | None = None,
    beside: Beside | None = None,
) -> list[Plan]:
    """Return the plans that no other beats both in arena and in computation, those that fit `board`: MACs rising, arena
    falling. Default: grids of any shape up to 8x8, eight segments in patches. That takes seconds.

    Raises Infeasible where none fits, and ScheduleError, see best_schedule.
    """
    choices = grids(WIDE_P, square=False) if p_choices is None else p_choices
    most = WIDE_SEGMENTS if segments is None else segments
    front = pareto(graph, choices, None, CORTEX_M, EXECUTED if halo == ANY_HALO else (halo,), most, SLICES)
    if board is None:
        return front
    needs = [p.arena + (beside(graph, p.schedule, p.halo) if beside else 0) for p in front]
    fitting = [p for p, needed in zip(front, needs, strict=True) if needed <= board.arena_limit]
    if not fitting:
        raise too_large(front[needs.index(min(needs))], board, beside)
    return fitting


def knee(front: Sequence[Plan]) -> Plan:
    """Return the plan of the least product of arena and estimated instructions: from there on, a step down the front
    costs a larger share of the time than it saves of the memory."""
    return min(front, key=lambda p: (p.arena * instructions(p), p.macs))
