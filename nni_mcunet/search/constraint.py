"""Does a network fit? (spec, limits) -> the best Plan or a Violation. Thin over core's planner, the only authority."""

from dataclasses import dataclass

from ..core.arch import ArchSpec
from ..core.boards import Board
from ..core.build import YoloHead, build_graph
from ..core.errors import Infeasible
from ..core.plan import Plan, best_schedule


@dataclass(frozen=True)
class Violation:
    """`what` ("sram", "flash" in bytes, "macs") is over its limit whatever the schedule."""

    what: str
    needed: int
    limit: int

    def __str__(self):
        unit = "MACs" if self.what == "macs" else "bytes of " + self.what
        return f"{self.needed:,} {unit} needed, {self.limit:,} allowed ({self.needed / self.limit - 1:+.0%})"


@dataclass(frozen=True)
class Limits:
    """What a candidate must satisfy.

    board     its SRAM and flash, less what the runtime keeps
    max_macs  multiply-accumulates of one inference, the halo's included; None: no limit
    yolo      the detection head the network will carry; None: it is judged as the classifier it is
    """

    board: Board
    max_macs: int | None = None
    yolo: YoloHead | None = None

    def check(self, spec: ArchSpec) -> Plan | Violation:
        """The feasible plan with the least computation over all (p, n), section 3.3, or what stands in its way."""
        graph = build_graph(spec, self.yolo)
        if self.max_macs is not None and graph.macs > self.max_macs:
            return Violation("macs", graph.macs, self.max_macs)
        try:
            plan = best_schedule(graph, self.board)
        except Infeasible as error:
            return Violation(error.what, error.needed, error.limit)
        if self.max_macs is not None and plan.macs > self.max_macs:
            return Violation("macs", plan.macs, self.max_macs)
        return plan
