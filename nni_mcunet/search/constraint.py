"""Judge whether a network fits: (spec, limits) -> how it fits best, or a Violation.

This is thin over core's planner, which is the only authority on memory.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ..core.boards import Board
from ..core.errors import Infeasible
from ..core.ir.arch import ArchSpec, Schedule
from ..core.ir.build import Yolo, build_graph
from ..core.ir.graph import Graph
from ..core.plan.latency import milliseconds
from ..core.plan.parts import spec_constants
from ..core.plan.picture_source import source_bytes
from ..core.plan.plan import Beside, Plan, best_schedule, plan, plans_by_rank
from ..core.plan.regions import first_spread
from ..core.plan.spec_plan import best_of_row, row_of

UNITS = {"sram": "bytes of sram", "flash": "bytes of flash", "macs": "MACs", "latency": "ms"}


@dataclass(frozen=True)
class Violation:
    """Say that a network exceeds a limit whatever its schedule.

    what    "sram" or "flash" in bytes, "macs", or "latency" in estimated ms
    needed  of it, and the limit
    """

    what: str
    needed: float
    limit: float

    @property
    def unit(self) -> str:
        """Return the unit of `needed` and `limit`."""
        return UNITS[self.what]

    @property
    def ratio(self) -> float:
        """Return how many times the limit is needed."""
        return self.needed / self.limit

    def __str__(self) -> str:
        return f"{number(self.needed)} {self.unit} needed, {number(self.limit)} allowed ({self.ratio - 1:+.0%})"


class Fit(NamedTuple):
    """Say how a network keeps to all limits: its schedule of the least computation, the multiply-accumulates under it,
    and bytes of its arena and constants."""

    schedule: Schedule
    macs: int
    arena: int
    flash: int

    @classmethod
    def of(cls, plan: Plan) -> "Fit":
        """Return the same of a plan."""
        return cls(plan.schedule, plan.macs, plan.arena, plan.flash)


def number(value: float) -> str:
    """Write bytes and MACs as whole numbers, milliseconds with one digit behind the point."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


@dataclass(frozen=True)
class Limits:
    """Hold what a candidate must satisfy.

    board     its SRAM and flash, less what the runtime keeps
    max_macs  multiply-accumulates of one inference, the halo's included; None: no limit
    yolo      the detection head the network will carry, its neck counted; None: it is judged as the classifier it is
    max_ms    estimated milliseconds of one inference on the board, see core/plan/latency.py; None: no limit
    patches   the p of the grids p x p that may be tried; per layer is always tried, so (1,) allows nothing else
    halos     what patches may do with what they share, see core's plan(); ties go to the first
    source    of the board's picture, one of picture_source.SOURCES, which takes SRAM beside the network's; None: the
              board's SRAM is all the network's
    """

    board: Board
    max_macs: int | None = None
    yolo: Yolo | None = None
    max_ms: float | None = None
    patches: tuple[int, ...] = (1, 2, 3, 4)
    halos: tuple[str, ...] = ("clip",)
    source: str | None = None

    @cached_property
    def _beside(self) -> Beside | None:
        return None if self.source is None else source_bytes(self.source)

    def check(self, spec: ArchSpec) -> Fit | Violation:
        """Return the schedule with the least computation that fits, over all (p, n), section 3.3, or the limit in its
        way. Limits that need no schedule come first: the one of macs and flash that is exceeded most. Then sram, then
        latency."""
        flash = spec_constants(spec, self.yolo)
        if self.max_macs is None and flash > self.board.model_limit:
            return Violation("flash", flash, self.board.model_limit)
        row, limit = row_of(spec, self.yolo), self.board.arena_limit
        known = [("flash", flash, self.board.model_limit)]
        if self.max_macs is not None:
            known.append(("macs", row.macs if row else build_graph(spec, self.yolo).macs, self.max_macs))
        over = [Violation(*figures) for figures in known if figures[1] > figures[2]]
        if over:
            return max(over, key=lambda violation: violation.ratio)
        simple = self.halos == ("clip",) and self.source is None
        choice = best_of_row(row, limit, self.patches) if row and simple else None
        if choice is None:
            return self._planned(build_graph(spec, self.yolo))
        if choice.arena > limit:
            # No schedule has fewer bytes alive, so no placement in several regions needs less.
            regions = choice.arena <= self.board.usable
            spread = self._spread(build_graph(spec, self.yolo)) if regions else None
            return self._judged(spread) if spread else Violation("sram", choice.arena, limit)
        if self.max_ms is not None:
            return self._judged(plan(build_graph(spec, self.yolo), choice.schedule))
        if self.max_macs is not None and choice.macs > self.max_macs:
            return Violation("macs", choice.macs, self.max_macs)
        return Fit(choice.schedule, choice.macs, choice.arena, flash)

    def _planned(self, graph: Graph) -> Fit | Violation:
        """Return the same for a graph with every halo of the limits, and a source."""
        try:
            found = best_schedule(graph, self.board, p_choices=self.patches, halos=self.halos, beside=self._beside)
        except Infeasible as error:
            spread = self._spread(graph) if error.what == "sram" else None
            if spread is None:
                return Violation(error.what, error.needed, error.limit)
            found = spread
        return self._judged(found)

    def _judged(self, found: Plan) -> Fit | Violation:
        return self.judge(found) or Fit.of(found)

    def _spread(self, graph: Graph) -> Plan | None:
        """Return the feasible plan with the least computation that several regions of the board hold, or None."""
        board = self.board
        if board.usable <= board.arena_limit:
            return None
        plans = plans_by_rank(graph, "macs", board.usable, self.patches, halos=self.halos)
        return first_spread(plans, board, self._beside)

    def judge(self, plan: Plan) -> Violation | None:
        """Return the first limit that one plan exceeds: memory, then macs, then latency. None where it keeps to all."""
        beside = self._beside(plan.graph, plan.schedule, plan.halo) if self._beside else 0
        figures: list[tuple[str, float, float]] = [
            ("flash", plan.flash, self.board.model_limit),
            ("sram", plan.arena + beside, plan.limit(self.board)),
        ]
        if self.max_macs is not None:
            figures.append(("macs", plan.macs, self.max_macs))
        if self.max_ms is not None:
            figures.append(("latency", milliseconds(plan, self.board), self.max_ms))
        return next((Violation(*figure) for figure in figures if figure[1] > figure[2]), None)
