"""Does it fit? The boards, a network's profile, and plans: of one schedule, or the best for a board."""

import warnings
from typing import Any

from ..core.boards import BOARDS, Board
from ..core.errors import Infeasible, RoomWarning, UserError
from ..core.ir.arch import HALO_WORDS, Schedule
from ..core.ir.graph import Graph
from ..core.plan import plan as planner
from ..core.plan.board_plan import ANY_HALO, INSTRUCTIONS, REGIONS, WIDE_P, front_for_board, plan_for_board
from ..core.plan.cut_points import grids
from ..core.plan.picture_source import STREAMED, source_bytes
from ..core.plan.segments import TABLES
from ..core.types import FilePath
from ..core.validate import integer, short
from ..core.view import STRETCH
from ..engine.model import QuantModel, view_of
from ..profiling import profile as profiler
from .inputs import board_of, number, one_of, schedule_of, user_errors
from .networks import Network, load

MAX_P = 4  # the finest grid that is tried: 4x4, the paper's


def boards() -> dict[str, Board]:
    """Return the boards by name: sram and flash in bytes, clock_hz, core. A board of your own is a YAML file, whose
    name every `board` argument takes.

    >>> mcu.boards()["stm32f412"].sram
    262144
    """
    return dict(BOARDS)


@user_errors
def profile(
    network: FilePath | Network,
    board: FilePath | Board | None = None,
    *,
    schedule: Schedule | None = None,
    max_p: int = MAX_P,
    any_grid: bool = False,
) -> profiler.Profile:
    """Return where a network's memory goes, block by block in bytes, layer by layer and patched; print() shows it as a
    table, to_dict() gives plain data. `mcunet profile` is this function.

    board     also its best schedule, or in `why` what it lacks
    schedule  the one to show, instead of the best with grids up to max_p x max_p, square unless any_grid

    Raises UserError for a network, board or schedule that is none.

    >>> print(mcu.profile("mobilenet_v2", board="stm32h743"))
    """
    found, place = load(network), None if board is None else board_of(board)
    choices = grids(integer(max_p, "max_p"), square=not any_grid)
    return profiler.profile(found.graph, place, schedule_of(schedule), choices)


@user_errors
def plan(network: FilePath | Network, schedule: Schedule | None = None, *, halo: str | None = None) -> planner.Plan:
    """Return a network's plan under one schedule (default: layer by layer): arena and flash in bytes, macs, overhead as
    a part of the network's own multiply-accumulates.

    halo: "clip" computes again what patches share, "cache" keeps it, "narrow" keeps it where it is narrow; see Schedule
    for mixtures. "full" and "none" are the paper's tables'.
    Default: the schedule's. Raises ScheduleError for a schedule that the network does not allow.

    >>> mcu.plan("mobilenet_v2", mcu.Schedule(p=(4, 4), n=5)).arena
    """
    if halo is not None and halo not in TABLES:
        halo_of(halo)
    return planner.plan(load(network).graph, schedule_of(schedule), halo=halo)


@user_errors
def best_schedule(
    network: FilePath | Network,
    board: FilePath | Board,
    *,
    arena_kb: int | None = None,
    halo: str = "best",
    objective: str = "macs",
    max_p: int = MAX_P,
    any_grid: bool = False,
    max_overhead: float | None = None,
    segments: int | None = None,
    regions: str = "fewest",
    source: str | None = None,
) -> planner.Plan:
    """Return the plan of the best schedule that fits a board: its `schedule`, arena and flash in bytes, macs. compile()
    asks the same, once it has left out dead channels.

    arena_kb      kB of SRAM for the network; default all that the board has
    halo          "clip", "cache", "narrow", one for rows and one for columns such as "cache/clip", or the best of them
                  for each segment and axis, "best"
    objective     what is least: "macs", "sram" or estimated "instructions"
    max_p         the finest grid that is tried; any_grid: not only square ones
    max_overhead  multiply-accumulates computed again at most; 0.05 is 5 %
    segments      the most patched segments (default 3; for "instructions" 1)
    regions       "fewest": one array where a schedule fits it, else the board's memories as far as they are needed;
                  "all": its memories count from the start, and what is touched most lies in the fast ones
    source        what the picture comes from, whose ready callback takes SRAM beside the arena: "frame", "rgb565" (they
                  lie elsewhere), "lines" of a camera, "jpeg_420" or another sampling, see docs/c.md

    Raises Infeasible where nothing fits, with `what` ("sram" or "flash"), `needed` and `limit` in bytes.

    >>> mcu.best_schedule("mcunet_in3", "stm32f412").schedule
    """
    found = load(network)
    how = wishes(None, halo, objective, max_p, any_grid, max_overhead, segments, regions)
    return plan_for_board(found.graph, board_for(found, board, arena_kb), beside=beside_of(found, source), **how)


@user_errors
def front(
    network: FilePath | Network,
    board: FilePath | Board | None = None,
    *,
    arena_kb: int | None = None,
    halo: str = "best",
    max_p: int | None = None,
    any_grid: bool = True,
    segments: int | None = None,
    source: str | None = None,
) -> list[planner.Plan]:
    """Return the plans that no other beats both in arena and in computation, those that fit the board where one is
    given: MACs rising, arena falling.

    max_p     the finest grid that is tried (default 8); any_grid: not only square ones
    segments  the most patched segments (default 8)
    The other arguments are best_schedule's. Takes seconds. Raises Infeasible where no plan fits.

    >>> [(p.arena, p.macs) for p in mcu.front("mcunet_in3", "stm32f412")]
    """
    found = load(network)
    if halo != ANY_HALO:
        halo_of(halo)
    return front_for_board(
        found.graph,
        None if board is None else board_for(found, board, arena_kb),
        halo=halo,
        p_choices=grids(WIDE_P if max_p is None else integer(max_p, "max_p"), square=not any_grid),
        segments=None if segments is None else integer(segments, "segments"),
        beside=beside_of(found, source),
    )


def beside_of(network: Network, source: str | None) -> planner.Beside | None:
    """Return what tells the bytes of the picture's source beside a network's arena, None for no source. Raises
    UserError for a source that is none."""
    if source is None:
        return None
    return source_bytes(source, STRETCH if network.model is None else view_of(network.model))


def board_for(network: Network, board: FilePath | Board, arena_kb: int | None) -> Board:
    """Return the board with the SRAM that a network may take there: an int8 detector leaves room for its list of boxes.
    Raises what board_of raises, UserError for a detector whose description is malformed."""
    place = board_of(board)
    if isinstance(network.model, QuantModel) and "detector" in network.model.meta:
        from ..engine.detect import detector_params, with_room

        if post := detector_params(network.model):
            place = with_room(place, post.candidates)
    return board_of(place, arena_kb)


def plan_with_room(network: Network, graph: Graph, board: Board, asked: dict[str, Any]) -> planner.Plan:
    """Return the best plan of `graph`, the network's; where that leaves room for no picture's source that needs no
    frame, the best plan that leaves it for one. Warns (RoomWarning) where the best leaves none. asked: arguments of
    plan_for_board beside the graph and the board. Raises what plan_for_board raises."""
    default = plan_for_board(graph, board, **asked)
    if network.image[2] not in (1, 3):
        return default
    sources = [(name, beside) for name in STREAMED if (beside := beside_of(network, name))]
    sizes = {name: beside(graph, default.schedule, default.halo) for name, beside in sources}
    left, least = board.arena_limit - default.arena, min(sizes.values())
    if least <= left:
        return default
    said = (
        f"{default.schedule} leaves {left:,} of {board.arena_limit:,} bytes, "
        f"a picture's source takes {least:,} at least"
    )
    for name, beside in sorted(sources, key=lambda one: sizes[one[0]]):
        try:
            roomy = plan_for_board(graph, board, beside=beside, **asked)
        except Infeasible:
            continue
        how = f"taking the schedule that leaves room for {name} (source frame: the first one)"
        warnings.warn(f"{said}: {how}", RoomWarning, stacklevel=4)
        return roomy
    warnings.warn(
        f"{said}, and no schedule leaves it: the picture must lie elsewhere, as a frame", RoomWarning, stacklevel=4
    )
    return default


def halo_of(halo: str) -> str:
    """Return the argument `halo`. Raises UserError unless a schedule may have it."""
    words = halo.split(",") if isinstance(halo, str) else []
    if not words or any(word not in planner.EXECUTED for word in words):
        known = f"{', '.join(HALO_WORDS)}, {ANY_HALO}"
        raise UserError(f"halo is {short(halo)}: expected one of {known}, or a mixture such as cache/clip,narrow")
    return halo


def wishes(
    schedule: Schedule | None,
    halo: str,
    objective: str,
    max_p: int,
    any_grid: bool,
    max_overhead: float | None,
    segments: int | None,
    regions: str,
) -> dict[str, Any]:
    """Return the arguments of plan_for_board for those of a user. Raises UserError for a value of another type or out
    of bounds, and for a grid to try beside a schedule that is given."""
    if halo != ANY_HALO:
        halo_of(halo)
    one_of("objective", objective, (*planner.RANKS, INSTRUCTIONS))
    one_of("regions", regions, REGIONS)
    if schedule_of(schedule) is not None and (integer(max_p, "max_p"), any_grid) != (MAX_P, False):
        raise UserError("max_p and any_grid are of no use with a schedule: leave out one of them")
    return {
        "schedule": schedule,
        "halo": halo,
        "p_choices": grids(integer(max_p, "max_p"), square=not any_grid),
        "objective": objective,
        "segments": None if segments is None else integer(segments, "segments"),
        "max_overhead": None if max_overhead is None else number("max_overhead", max_overhead),
        "regions": regions,
    }
