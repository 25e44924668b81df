"""Does a network fit? (spec, limits) -> the best Plan or a Violation. Thin over core's planner, the only authority."""

from dataclasses import dataclass

from ..core.boards import Board
from ..core.errors import Infeasible
from ..core.ir.arch import ArchSpec
from ..core.ir.build import YoloHead, build_graph
from ..core.plan.kernel_facts import constant_bytes
from ..core.plan.latency import milliseconds
from ..core.plan.plan import Plan, best_schedule

UNITS = {"sram": "bytes of sram", "flash": "bytes of flash", "macs": "MACs", "latency": "ms"}


@dataclass(frozen=True)
class Violation:
    """`what` ("sram", "flash" in bytes, "macs", "latency" in estimated ms) is over its limit whatever the schedule."""

    what: str
    needed: float
    limit: float

    @property
    def unit(self) -> str:
        return UNITS[self.what]

    @property
    def ratio(self) -> float:
        return self.needed / self.limit

    def __str__(self):
        return f"{number(self.needed)} {self.unit} needed, {number(self.limit)} allowed ({self.ratio - 1:+.0%})"


def number(value: float) -> str:
    """Bytes and MACs whole, milliseconds to a tenth."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


@dataclass(frozen=True)
class Limits:
    """What a candidate must satisfy.

    board     its SRAM and flash, less what the runtime keeps
    max_macs  multiply-accumulates of one inference, the halo's included; None: no limit
    yolo      the detection head the network will carry, its neck counted; None: it is judged as the classifier it is
    max_ms    estimated milliseconds of one inference on the board, see core/plan/latency.py; None: no limit
    patches   the p of the grids p x p that may be tried; per layer is always tried, so (1,) allows nothing else
    halos     what patches may do with what they share, see core's plan(); ties go to the first
    """

    board: Board
    max_macs: int | None = None
    yolo: YoloHead | None = None
    max_ms: float | None = None
    patches: tuple[int, ...] = (1, 2, 3, 4)
    halos: tuple[str, ...] = ("clip",)

    def check(self, spec: ArchSpec) -> Plan | Violation:
        """The feasible plan with the least computation over all (p, n), section 3.3, or what stands in its way: of
        several limits the one exceeded most among those that need no plan (macs, flash), then sram, then latency."""
        graph = build_graph(spec, self.yolo)
        known = [("flash", sum(constant_bytes(graph, op) for op in graph.ops), self.board.model_limit)]
        if self.max_macs is not None:
            known.append(("macs", graph.macs, self.max_macs))
        over = [Violation(*figures) for figures in known if figures[1] > figures[2]]
        if over:
            return max(over, key=lambda violation: violation.ratio)
        try:
            plan = best_schedule(graph, self.board, p_choices=self.patches, halos=self.halos)
        except Infeasible as error:
            return Violation(error.what, error.needed, error.limit)
        return self.judge(plan) or plan

    def judge(self, plan: Plan) -> Violation | None:
        """What one plan exceeds: memory first, then macs, then latency."""
        figures = [("flash", plan.flash, self.board.model_limit), ("sram", plan.arena, self.board.arena_limit)]
        if self.max_macs is not None:
            figures.append(("macs", plan.macs, self.max_macs))
        if self.max_ms is not None:
            figures.append(("latency", milliseconds(plan, self.board), self.max_ms))
        return next((Violation(*figure) for figure in figures if figure[1] > figure[2]), None)
