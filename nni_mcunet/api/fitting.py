"""Does it fit? fits() answers for a CI job: a network, its picture's source and a board, in one line or as data."""

from dataclasses import dataclass

from ..core.boards import Board
from ..core.errors import BoardError, Infeasible
from ..core.plan.board_plan import plan_for_board
from ..core.plan.latency import milliseconds
from ..core.plan.plan import Plan
from ..core.types import FilePath, PlainDict
from ..engine.lower.dead_channels import without_dead_channels
from ..engine.model import QuantModel
from .inputs import user_errors
from .networks import Network, load
from .planning import beside_of, board_for


@dataclass(frozen=True)
class Fit:
    """The answer for a network on a board; print it as one line.

    board    with what the network may take there: arena_limit in one array, usable in all regions, model_limit of flash
    plan     of the schedule of the least computation that fits, None where none does. Its flash are the constants,
             weights and tables; code comes on top
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
            f"{limit:,} bytes, constants {self.plan.flash:,} of {self.board.model_limit:,} bytes{said}"
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
    """Return whether a network fits a board, and by which schedule: the one that compile() takes for that source of the
    picture. It has grids up to 4x4 and three segments in patches at most; finer ones may need less, see front().

    source    what the picture comes from, which takes SRAM, too: "frame", "rgb565" (they lie elsewhere), "lines" of a
              camera, a JPEG such as "jpeg_420"; None counts nothing
    arena_kb  kB of SRAM for both; default all that the board has

    Raises UserError for a network, board or source that is none.

    >>> mcu.fits("mcunet_in3", "stm32f412", source="lines").fits
    """
    found = load(network)
    place, beside = board_for(found, board, arena_kb), beside_of(found, source)
    graph = without_dead_channels(found.model).graph if isinstance(found.model, QuantModel) else found.graph
    try:
        plan = plan_for_board(graph, place, beside=beside)
    except Infeasible as error:
        return Fit(graph.name, place, source, lacking=error)
    taken = beside(graph, plan.schedule, plan.halo) if beside else 0
    return Fit(graph.name, place, source, plan, taken)


def _limit(plan: Plan, board: Board) -> int:
    """Return the bytes of SRAM that a plan and the picture's source may take: of one array, or of all regions."""
    return board.usable if plan.parts else board.arena_limit
