"""Answer, in one place, which plan a network gets on a board: plan_for_board.

Commands, the API and tests ask here, so equal wishes give equal plans. plan.py and latency.py find the plan; this
module only turns wishes into their arguments.
"""

from collections.abc import Sequence

from ..boards import Board
from ..errors import ScheduleError
from ..ir.arch import Schedule
from ..ir.graph import Graph
from .cut_points import Grid
from .kernel_facts import CORTEX_M
from .latency import fastest
from .plan import EXECUTED, RANKS, SEGMENTS, Plan, best_schedule, fitting_plan

ANY_HALO = "best"
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
) -> Plan:
    """Return the plan of `schedule`, or of the best schedule, that fits `board`.

    schedule      the one to run; the wishes below then have nothing to choose and must keep their defaults
    halo          "clip", "cache", or "best": the one that computes less
    p_choices     grids to try: p for p x p, or (p_h, p_w)
    objective     "macs": the least computation (the paper's section 3.3); "sram": the smallest arena; "instructions":
                  the fewest estimated instructions, see latency.fastest
    segments      the most segments in patches, default 3; "instructions" looks at one
    max_overhead  the most recomputation, as a share of the network's multiply-accumulates; not for "instructions"

    Raises ScheduleError for wishes that contradict each other or the graph, Infeasible where nothing fits (see
    best_schedule), UnsupportedOp for an operator that the C kernels do not have.
    """
    halos = EXECUTED if halo == ANY_HALO else (halo,)
    if objective not in (*RANKS, INSTRUCTIONS):
        raise ScheduleError(f"objective '{objective}': expected one of {', '.join((*RANKS, INSTRUCTIONS))}")
    if schedule is not None:
        if (objective, segments, max_overhead) != ("macs", None, None):
            raise ScheduleError(
                f"a given schedule ({schedule}) leaves nothing to choose: leave out objective, segments, max_overhead"
            )
        return fitting_plan(graph, board, schedule, halos=halos)
    if objective == INSTRUCTIONS:
        if (segments, max_overhead) != (None, None):
            raise ScheduleError(f"objective '{INSTRUCTIONS}' heeds neither segments nor max_overhead: leave them out")
        return fastest(graph, board, p_choices, halos)
    most = SEGMENTS if segments is None else segments
    return best_schedule(graph, board, objective, p_choices, None, CORTEX_M, halos, most, max_overhead)
