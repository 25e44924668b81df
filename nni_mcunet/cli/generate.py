"""Compile an int8 ONNX file to C for a board, with the patch schedule that fits at the least computation.

mcunet generate model.int8.onnx --board stm32h743 -o out/fw
mcunet generate model.int8.onnx --board stm32f412 --patches 3x3 --blocks 5 --halo cache -o out/fw
mcunet generate model.int8.onnx --board stm32f412 --patches 4x4,2x2 --blocks 5,9 -o out/fw
mcunet generate model.int8.onnx --board stm32f412 --least-sram --max-overhead 0.05 -o out/fw
mcunet generate model.int8.onnx --board stm32h743 --project --picture photo.jpg -o out/fw

The folder holds a plain C11 library: mcu_model.h is the one header, no OS, no heap. With --project also a firmware for
the board's Nucleo: start-up, clock, UART, linker script; `make && make flash` (Makefile, CMakeLists.txt, README.txt).
It must be new or empty, or an earlier one of this command: mcunet_files.json in it says which files may be replaced.
"""

import argparse

from ..core.boards import KB, get_board
from ..core.errors import UserError
from ..core.file_sets import owned
from ..core.ir.arch import parse_schedule
from ..core.plan.board_plan import plan_for_board
from ..core.plan.cut_points import grids
from ..core.plan.plan import EXECUTED, SEGMENTS, plan
from ..engine.codegen.sources import DEFAULT, check_prefix, detector_params
from ..engine.detect import with_room
from ..engine.frontend.onnx import load_onnx
from ..engine.library import write_library
from ..engine.lower.dead_channels import channels, without_dead_channels
from ..engine.model import QuantModel, view_of
from ..engine.run.board_project import target_of
from ..engine.run.pictures import load_picture


def smaller(model: QuantModel) -> QuantModel:
    """The model without its dead channels; says what that saved."""
    found = without_dead_channels(model)
    gone, before, after = channels(model.graph) - channels(found.graph), plan(model.graph), plan(found.graph)
    if gone:
        print(f"removed {gone:,} dead channels: MACs {before.macs:,} -> {after.macs:,}, "
              f"constants {before.flash:,} -> {after.flash:,} bytes")  # fmt: skip
    return found


def check_options(args, default) -> None:
    """Raises UserError for an option that another one would overrule in silence, and for a library that would not be
    that of the project around it."""
    if not args.project and any("board/config.h" in names for names in owned(args.out).values()):
        raise UserError(f"{args.out} holds a project, which is of one model: give --project, too, or another folder")
    if args.picture and not args.project:
        raise UserError("--picture is what a project has built in: give --project, too")
    if args.patches or args.blocks:
        alone, others = "--patches", ("max_p", "any_grid", "fastest", "least_sram", "max_overhead", "segments")
    else:
        alone, others = "--fastest", ("max_overhead", "segments") if args.fastest else ()
    for name in others:
        if getattr(args, name) != default(name):
            raise UserError(f"--{name.replace('_', '-')} is of no use with {alone}: leave out one of them")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="int8 ONNX of mcunet quantize")
    parser.add_argument("--board", required=True, help="stm32h743, stm32f746, stm32f412, stm32f410 or a board's .json")
    parser.add_argument("--arena-kb", type=int, help="kB of SRAM for the network; default all that the board has")
    parser.add_argument("--patches", help="grid such as 3x3, or 4x4,2x2 for two segments; default: the best that fits")
    parser.add_argument("--blocks", help="with --patches: blocks run patch by patch, the stem counted; 5,9 for two")
    parser.add_argument("--max-p", type=int, default=4, help="finest grid tried without --patches (default 4: 4x4)")
    parser.add_argument("--any-grid", action="store_true", help="try grids that are not square, too")
    parser.add_argument("--halo", choices=(*EXECUTED, "best"), default="best",
                        help="what patches share: computed again, kept, or (default) what is cheaper")  # fmt: skip
    aim = parser.add_mutually_exclusive_group()
    aim.add_argument("--fastest", action="store_true", help="the fewest estimated instructions, not the least MACs")
    aim.add_argument("--least-sram", action="store_true", help="the smallest arena, not the least MACs")
    parser.add_argument("--max-overhead", type=float, help="MACs recomputed at most; 0.05 is 5 %%")
    parser.add_argument(
        "--segments", "--stages", type=int, help=f"most patched segments tried (default {SEGMENTS}; --fastest: 1)"
    )
    parser.add_argument("--keep-dead-channels", action="store_true", help="compute constant and unread channels, too")
    parser.add_argument("--project", action="store_true", help="also a complete firmware project for the board")
    parser.add_argument("--prefix", default=DEFAULT, help="what this model's files and names in C begin with (mcu)")
    parser.add_argument("--picture", help="with --project: JPEG, PNG or .npy to build in, run after each reset")
    parser.add_argument("-o", "--out", required=True, help="folder to write")
    args = parser.parse_args()
    check_options(args, parser.get_default)
    check_prefix(args.prefix)
    model, board = load_onnx(args.model), get_board(args.board)
    if args.project:
        target_of(board)
    if not isinstance(model, QuantModel):
        raise UserError(f"{args.model} is float: quantise it with mcunet quantize first")
    if not args.keep_dead_channels:
        model = smaller(model)
    if post := detector_params(model):
        board = with_room(board, post.candidates)
    board = board.with_arena(None if args.arena_kb is None else args.arena_kb * KB)
    p = plan_for_board(
        model.graph,
        board,
        schedule=parse_schedule(args.patches, args.blocks),
        halo=args.halo,
        p_choices=grids(args.max_p, not args.any_grid),
        objective="instructions" if args.fastest else "sram" if args.least_sram else "macs",
        segments=args.segments,
        max_overhead=args.max_overhead,
    )
    image = p.graph.inputs[0]
    seen = (image.h, image.w), view_of(model), image.c
    picture = load_picture(args.picture, *seen) if args.picture else None
    facts = write_library(args.out, p, model, board, args.project, picture, args.prefix)
    how = f"{p.schedule}, halo {p.halo} ({p.overhead:+.1%} MACs)" if p.schedule.n else p.schedule
    print(f"{args.out}: {how}, arena {p.arena:,} of {board.arena_limit:,} bytes, constants {p.flash:,} bytes")
    if sizes := facts["callback_bytes"]:
        print("SRAM of a ready callback:", ", ".join(f"{name} {size:,}" for name, size in sizes.items()))
