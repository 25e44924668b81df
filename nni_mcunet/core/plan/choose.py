"""The plan for a board and its user's wishes: one schedule that is given, or the best of those that fit."""

from dataclasses import dataclass, fields

from ..boards import Board
from ..errors import ScheduleError
from ..ir.arch import Schedule
from ..ir.graph import Graph
from .cut_points import grids
from .kernel_facts import CORTEX_M
from .latency import fastest
from .plan import EXECUTED, SEGMENTS, Plan, best_schedule, fitting_plan

AIMS = ("macs", "sram", "instructions")
HALOS = (*EXECUTED, "best")


@dataclass(frozen=True)
class Wishes:
    """How a schedule is looked for where none is given.

    aim           what is least: "macs" (the paper's section 3.3), "sram" (bytes of the arena), or "instructions"
                  (estimated, in one patched segment)
    max_p         the finest grid that is tried: 4 for 4x4
    any_grid      try grids that are not square, too
    max_overhead  multiply-accumulates computed again at most, as a part of the network's own: 0.05 for 5 %
    segments      the most patched segments; None for SEGMENTS
    """

    aim: str = "macs"
    max_p: int = 4
    any_grid: bool = False
    max_overhead: float | None = None
    segments: int | None = None

    def __post_init__(self) -> None:
        if self.aim not in AIMS:
            raise ScheduleError(f"aim '{self.aim}': expected one of {', '.join(AIMS)}")
        if self.aim == "instructions" and (self.max_overhead, self.segments) != (None, None):
            raise ScheduleError("max_overhead and segments are of no use with the aim 'instructions': leave them out")

    @property
    def said(self) -> list[str]:
        """Return the names of the wishes that are not the default."""
        return [f.name for f in fields(self) if getattr(self, f.name) != f.default]


def choose(
    graph: Graph, board: Board, schedule: Schedule | None = None, halo: str = "best", wishes: Wishes | None = None
) -> Plan:
    """Return the plan of `schedule`, or without one the best by `wishes`. halo: "clip", "cache" or, of both, the better
    ("best").

    Raises ScheduleError for wishes beside a schedule, an unknown halo and a schedule that the graph does not allow,
    Infeasible where nothing fits the board.
    """
    wishes = wishes or Wishes()
    if halo not in HALOS:
        raise ScheduleError(f"halo '{halo}': expected one of {', '.join(HALOS)}")
    halos = EXECUTED if halo == "best" else (halo,)
    if schedule is not None:
        if wishes.said:
            raise ScheduleError(f"{wishes.said[0]} is of no use with a schedule: leave out one of them")
        return fitting_plan(graph, board, schedule, halos=halos)
    choices = grids(wishes.max_p, square=not wishes.any_grid)
    if wishes.aim == "instructions":
        return fastest(graph, board, choices, halos)
    segments = SEGMENTS if wishes.segments is None else wishes.segments
    return best_schedule(graph, board, wishes.aim, choices, None, CORTEX_M, halos, segments, wishes.max_overhead)
