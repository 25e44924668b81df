"""Say on a command line which schedule the C has, or which one is looked for."""

import argparse
from dataclasses import replace
from typing import Any

from ..api.networks import Network
from ..api.planning import MAX_P, front
from ..core.boards import Board
from ..core.errors import UserError
from ..core.ir.arch import Schedule, parse_schedule
from ..core.plan.board_plan import REGIONS, WIDE_P, WIDE_SEGMENTS, knee
from ..core.plan.plan import SEGMENTS
from ..profiling.profile import front_table

# The values of these options where they are not given.
UNSAID = {
    "max_p": None,
    "any_grid": False,
    "fastest": False,
    "least_sram": False,
    "max_overhead": None,
    "segments": None,
}


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Add the options, from --patches to --segments."""
    parser.add_argument("--patches", help="grid such as 3x3, or 4x4,2x2 for two segments; default: the best that fits")
    parser.add_argument("--blocks", help="with --patches: blocks run patch by patch, the stem counted; 5,9 for two")
    parser.add_argument(
        "--slices",
        type=int,
        help="with --patches, or layer by layer: compute a head before a global mean in so many slices",
    )
    parser.add_argument(
        "--max-p",
        type=int,
        help="finest grid tried without --patches (default 4: 4x4; with --least-sram 8, of any shape)",
    )
    parser.add_argument("--any-grid", action="store_true", help="try grids that are not square, too")
    parser.add_argument(
        "--halo",
        default="best",
        help="what patches share: computed again (clip), kept (cache), kept where it is narrow (narrow), a mixture "
        "such as cache/clip for rows and columns, with commas for each segment, or (default) the best of all",
    )
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument("--fastest", action="store_true", help="the fewest estimated instructions, not the least MACs")
    aim.add_argument(
        "--least-sram",
        action="store_true",
        help="the smallest arena that --max-overhead allows; without it the front is printed, and its knee taken",
    )
    parser.add_argument("--max-overhead", type=float, help="MACs recomputed at most; 0.05 is 5 %%")
    parser.add_argument(
        "--segments",
        "--stages",
        type=int,
        help=f"most patched segments tried (default {SEGMENTS}; --fastest: 1, --least-sram: {WIDE_SEGMENTS})",
    )


def add_regions(parser: argparse.ArgumentParser) -> None:
    """Add the option of the board's memories."""
    parser.add_argument(
        "--regions",
        choices=REGIONS,
        default=REGIONS[0],
        help="the board's memories: one where a schedule fits it, else as few as hold it (fewest), or all of them from "
        "the start, with what is touched most in the fast ones (all)",
    )


def check_schedule(args: argparse.Namespace) -> None:
    """Refuse an option that another one would overrule in silence. Raises UserError."""
    if args.patches or args.blocks or args.slices is not None:
        ruling, others = "--patches" if args.patches or args.blocks else "--slices", tuple(UNSAID)
    else:
        ruling, others = "--fastest", ("max_overhead", "segments") if args.fastest else ()
    for name in others:
        if getattr(args, name) != UNSAID[name]:
            raise UserError(f"--{name.replace('_', '-')} is of no use with {ruling}: leave out one of them")


def asked(args: argparse.Namespace, network: Network, board: Board) -> dict[str, Any]:
    """Return the arguments of compile() that these options say. --least-sram looks wide: without --max-overhead it
    prints the front and takes the knee. Raises ArchError, and what front() raises."""
    wide = args.least_sram and args.max_p is None
    max_p, any_grid = args.max_p, args.any_grid or wide
    if max_p is None:
        max_p = WIDE_P if wide else MAX_P
    segments = WIDE_SEGMENTS if args.least_sram and args.segments is None else args.segments
    if args.least_sram and args.max_overhead is None:
        how = {"arena_kb": args.arena_kb, "halo": args.halo, "max_p": max_p, "any_grid": any_grid, "segments": segments}
        how["source"] = args.source
        plans = front(network, board, **how)
        shape = "any shape" if any_grid else "square shape"
        print(f"up to {segments} segments in patches, grids up to {max_p}x{max_p} of {shape}; the front:")
        print(front_table(plans, board))
        return {"schedule": knee(plans).schedule, "halo": knee(plans).halo}
    schedule = parse_schedule(args.patches, args.blocks)
    if args.slices is not None:
        schedule = replace(schedule or Schedule(), slices=args.slices)
    return {
        "schedule": schedule,
        "halo": args.halo,
        "objective": "instructions" if args.fastest else "sram" if args.least_sram else "macs",
        "max_p": max_p,
        "any_grid": any_grid,
        "max_overhead": args.max_overhead,
        "segments": segments,
    }
