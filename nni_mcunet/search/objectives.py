"""Search for a front instead of one best network: the limits of several boards, what a network costs besides its score,
and the order in which NSGA-II lets networks breed (Deb et al. 2002). The sorting is pymoo's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import UserError
from ..core.ir.arch import ArchSpec
from ..core.ir.build import build_graph
from ..core.plan.latency import milliseconds
from ..core.plan.plan import plan
from .constraint import Fit, Limits, Violation
from .evolution import Proposal
from .space import Space

COSTS = ("sram", "flash", "macs", "ms", "board")


@dataclass(frozen=True)
class Boards:
    """Hold the limits of one board or several, the smallest first. A network fits when it fits one of them."""

    each: tuple[Limits, ...]

    def check(self, spec: ArchSpec) -> Fit | Violation:
        """Return how the network fits the first board that it fits, or what keeps it from the last."""
        return self.first(spec)[1]

    def first(self, spec: ArchSpec) -> tuple[int, Fit | Violation]:
        """Return the place of the first board that the network fits and how it does; for none the last place and
        what keeps it from that."""
        for at, limits in enumerate(self.each[:-1]):
            found = limits.check(spec)
            if isinstance(found, Fit):
                return at, found
        return len(self.each) - 1, self.each[-1].check(spec)


class Objectives:
    """Order networks by score and costs, all of which count.

    names   of COSTS: "sram" and "flash" in bytes, "macs" with the halo's, "ms" estimated on the board, "board": the
            place of the smallest board that the network fits
    """

    def __init__(self, names: Sequence[str], space: Space, boards: Boards):
        check_library()
        self.names, self.space, self.boards = tuple(names), space, boards
        self._known: dict[tuple[ArchSpec, str], float] = {}

    def order(self, scored: list[Proposal]) -> list[Proposal]:
        """Return the proposals, those first that NSGA-II would keep: by non-dominated front, within a front by crowding
        distance, between equals the earlier. Every one has a score."""
        if not scored:
            return []
        table = np.array([[-(p.score or 0.0), *(self.cost(p, name) for name in self.names)] for p in scored])
        return [scored[at] for at in by_front_and_crowding(table, [p.index for p in scored])]

    def cost(self, proposal: Proposal, name: str) -> float:
        """Return what a proposal costs, the less the better."""
        if name in ("sram", "flash", "macs"):
            return float(getattr(proposal, name))
        key = self.space.spec(proposal.candidate), name
        if key not in self._known:
            at, found = self.boards.first(key[0])
            self._known[key] = at
            if name == "ms" and isinstance(found, Fit):
                graph = build_graph(key[0], self.boards.each[at].yolo)
                self._known[key] = milliseconds(plan(graph, found.schedule), self.boards.each[at].board)
        return self._known[key]


def by_front_and_crowding(table: np.ndarray, index: Sequence[int]) -> list[int]:
    """Return the rows of `table` (networks, objectives), each objective the lower the better, in NSGA-II's order.
    index: which of two equals is first."""
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    found: list[int] = []
    for front in NonDominatedSorting().do(table):
        distance = calc_crowding_distance(table[front])
        found += [int(front[at]) for at in np.lexsort((np.array(index)[front], -distance))]
    return found


def check_library() -> None:
    """Raise UserError where pymoo is not installed."""
    try:
        import pymoo  # noqa: F401
    except ImportError:
        raise UserError("objectives need pymoo: pip install 'nni-mcunet[front]'") from None
