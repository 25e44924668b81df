"""Say on a command line what the picture comes from, and leave room for it."""

import argparse
from typing import Any

from ..api.networks import Network
from ..api.planning import beside_of, best_schedule, board_for
from ..core.boards import Board
from ..core.errors import Infeasible
from ..core.plan.picture_source import SOURCES, STREAMED


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add --source."""
    parser.add_argument(
        "--source",
        choices=SOURCES,
        help="of the picture, whose ready callback takes SRAM besides the arena: a frame that lies elsewhere, the "
        "lines of a camera, a JPEG of this sampling; default: any that fits, if one does",
    )


def with_room(network: Network, board: Board, how: dict[str, Any]) -> str | None:
    """Return the source for which the plan must leave room where the user named none: None where some callback that
    needs no frame fits beside the default plan, or beside no plan at all. Says so where the default leaves none. how:
    arguments of best_schedule() besides the board.
    """
    if network.image[2] not in (1, 3):
        return None
    options = {key: value for key, value in how.items() if key != "schedule"}
    try:
        default = best_schedule(network, board, **options)
    except Infeasible:
        return None  # compile() says what is missing
    limit = board_for(network, board, None).arena_limit
    sizes = {}
    for name in STREAMED:
        if beside := beside_of(network, name):
            sizes[name] = beside(network.graph, default.schedule, default.halo)
    if min(sizes.values()) <= limit - default.arena:
        return None
    left = f"{default.schedule} leaves {limit - default.arena:,} of {limit:,} bytes, a picture's source takes"
    least = f"{min(sizes.values()):,} at least"
    for name in sorted(STREAMED, key=lambda name: sizes[name]):
        try:
            best_schedule(network, board, **options, source=name)
        except Infeasible:
            continue
        print(f"{left} {least}: taking the schedule that leaves room for {name} (--source frame: the first one)")
        return name
    print(f"{left} {least}, and no schedule leaves it: the picture must lie elsewhere, as a frame")
    return None
