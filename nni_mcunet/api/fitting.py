"""Does it fit? fits() answers for a CI job: a network, its picture's source and a board, in one line or as data."""

from dataclasses import dataclass

from ..core.boards import Board
from ..core.errors import BoardError, Infeasible
from ..core.ir.graph import Graph
from ..core.plan.board_plan import front_for_board, plan_for_board
from ..core.plan.cut_points import grids
from ..core.plan.latency import milliseconds
from ..core.plan.plan import SEGMENTS, Plan
from ..core.types import FilePath, PlainDict
from ..core.view import STRETCH, View
from ..engine.codegen.picture_callbacks import callback_bytes
from ..engine.lower.dead_channels import without_dead_channels
from ..engine.model import QuantModel, view_of
from .inputs import one_of, user_errors
from .networks import Network, load
from .planning import MAX_P, board_for

SOURCES = ("frame", "rgb565", "grey", "lines", "jpeg_420", "jpeg_422", "jpeg_440", "jpeg_444", "jpeg_grey")


@dataclass(frozen=True)
class Fit:
    """The answer for a network on a board; print it as one line.

    board    with what the network may take there: arena_limit in one array, usable in all regions, model_limit of flash
    plan     of the schedule of the least computation that fits, None where none does
    taken    bytes of SRAM that the picture's source takes besides the arena
    lacking  why nothing fits: its `what` ("sram", "flash"), `needed` and `limit` in bytes; None where something does
    """

    network: str
    board: Board
    source: str | None
    plan: Plan | None = None
    taken: int = 0
    lacking: Infeasible | None = None

    @property
    def fits(self) -> bool:
        """Tell whether the network fits."""
        return self.plan is not None

    def to_dict(self) -> PlainDict:
        """Return the answer as plain data, bytes and milliseconds."""
        said: PlainDict = {"fits": self.fits, "network": self.network, "board": self.board.name, "source": self.source}
        if self.lacking is not None:
            found = self.lacking
            return said | {"lacks": found.what, "needed": found.needed, "limit": found.limit, "why": str(found)}
        assert self.plan is not None  # one of both is there
        return said | {
            "schedule": str(self.plan.schedule),
            "halo": self.plan.halo,
            "arena_bytes": self.plan.arena,
            "source_bytes": self.taken,
            "arena_limit": _limit(self.plan, self.board),
            "regions": {part.region: part.size for part in self.plan.parts},
            "constant_bytes": self.plan.flash,
            "constant_limit": self.board.model_limit,
            "macs": self.plan.macs,
            "milliseconds_estimated": _milliseconds(self.plan, self.board),
        }

    def __str__(self) -> str:
        if self.plan is None:
            return f"does not fit: {self.lacking}"
        beside = f" + {self.taken:,} for {self.source}" if self.source else ""
        time = _milliseconds(self.plan, self.board)
        said = "" if time is None else f", {time:,} ms estimated"
        limit = _limit(self.plan, self.board)
        return (
            f"fits: {self.network} on {self.board.name}, {self.plan.schedule}: SRAM {self.plan.arena:,}{beside} of "
            f"{limit:,} bytes, flash {self.plan.flash:,} of {self.board.model_limit:,} bytes{said}"
        )


def _milliseconds(plan: Plan, board: Board) -> float | None:
    """Return the estimated time, None for a core of which nothing is known."""
    try:
        return round(milliseconds(plan, board), 1)
    except BoardError:
        return None


@user_errors
def fits(
    network: FilePath | Network, board: FilePath | Board, *, source: str | None = None, arena_kb: int | None = None
) -> Fit:
    """Return whether a network fits a board, and by which schedule: the one that compile() takes or, where that leaves
    no room for the picture's source, the one of the least computation that does. compile() takes grids up to 4x4 and
    three segments in patches; finer ones may need less, see front().

    source    what the picture comes from, which takes SRAM, too: "frame" (that lies elsewhere), "rgb565", "grey",
              "lines" of a camera, a JPEG such as "jpeg_420"; None counts nothing
    arena_kb  kB of SRAM for both; default all that the board has

    Raises UserError for a network, board or source that is none.

    >>> mcu.fits("mcunet_in3", "stm32f412", source="lines").fits
    """
    found = load(network)
    place, view, graph = board_for(found, board, arena_kb), STRETCH, found.graph
    if isinstance(found.model, QuantModel):
        graph, view = without_dead_channels(found.model).graph, view_of(found.model)
    if source is not None:
        one_of("source", source, SOURCES)
    try:
        plan = _plan(graph, place, source, view)
    except Infeasible as error:
        return Fit(graph.name, place, source, lacking=error)
    return Fit(graph.name, place, source, plan, _taken(plan, source, view))


def _plan(graph: Graph, board: Board, source: str | None, view: View) -> Plan:
    """Return the plan. Raises Infeasible where there is none."""
    plan = plan_for_board(graph, board)
    if plan.arena + _taken(plan, source, view) <= _limit(plan, board):
        return plan
    tried = front_for_board(graph, p_choices=grids(MAX_P), segments=SEGMENTS)
    sizes = [p.arena + _taken(p, source, view) for p in tried]
    fitting = [p for p, size in zip(tried, sizes, strict=True) if size <= board.arena_limit]
    if not fitting:
        where = f"{graph.name} and {source} on {board.name}"
        raise Infeasible.over("sram", min(sizes), board.arena_limit, where)
    return fitting[0]


def _limit(plan: Plan, board: Board) -> int:
    """Return the bytes of SRAM that a plan and the picture's source may take: of one array, or of all regions."""
    return board.usable if plan.parts else board.arena_limit


def _taken(plan: Plan, source: str | None, view: View) -> int:
    """Return the bytes of SRAM that the picture's source takes. Raises UserError for one that the network has not."""
    if source is None:
        return 0
    sizes = callback_bytes(plan, view)
    one_of("source", source, tuple(sizes))
    return sizes[source] + sizes.get("letterbox", 0)
