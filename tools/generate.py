"""Compile an int8 ONNX file to C for a board, with the patch schedule that fits at the least computation.

python tools/generate.py model.int8.onnx --board stm32h743 -o out/fw
python tools/generate.py model.int8.onnx --board stm32f412 --patches 3x3 --blocks 5 --halo cache -o out/fw
python tools/generate.py model.int8.onnx --board stm32h743 --project --picture photo.jpg -o out/fw

The folder holds a plain C99 library: mcu_model.h is the one header, no OS, no heap. With --project also a firmware for
the board's Nucleo: start-up, clock, UART, linker script; `make && make flash` (Makefile, CMakeLists.txt, README.txt).
"""

import argparse
from pathlib import Path

from nni_mcunet.core.arch import parse_schedule
from nni_mcunet.core.boards import KB, get_board
from nni_mcunet.core.cuts import grids
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.latency import fastest
from nni_mcunet.core.plan import EXECUTED, best_schedule, fitting_plan
from nni_mcunet.engine.detect import with_room
from nni_mcunet.engine.emit import detector_params, write_sources
from nni_mcunet.engine.firmware import input_shape
from nni_mcunet.engine.images import load_picture
from nni_mcunet.engine.onnx_io import load_onnx
from nni_mcunet.engine.project import target_of, write_project
from nni_mcunet.engine.quant import QuantModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="int8 ONNX of tools/quantize.py")
    parser.add_argument("--board", required=True, help="stm32h743, stm32f746, stm32f412, stm32f410 or a board's .json")
    parser.add_argument("--arena-kb", type=int, help="kB of SRAM for the network; default all that the board has")
    parser.add_argument("--patches", help="grid such as 3x3; default: the best that fits")
    parser.add_argument("--blocks", type=int, help="with --patches: blocks run patch by patch, the stem counted")
    parser.add_argument("--max-p", type=int, default=4, help="finest grid tried without --patches (default 4: 4x4)")
    parser.add_argument("--any-grid", action="store_true", help="try grids that are not square, too")
    parser.add_argument(
        "--halo",
        choices=(*EXECUTED, "best"),
        default="best",
        help="what patches share is computed again (clip) or kept (cache); best (default): the cheaper that fits",
    )
    parser.add_argument(
        "--fastest",
        action="store_true",
        help="without --patches: the fewest estimated instructions, not the least MACs",
    )
    parser.add_argument("--project", action="store_true", help="also a complete firmware project for the board")
    parser.add_argument("--picture", help="with --project: JPEG or PNG to build in, run after each reset")
    parser.add_argument("-o", "--out", required=True, help="folder to write")
    args = parser.parse_args()
    if args.picture and not args.project:
        raise UserError("--picture is what a project has built in: give --project, too")
    model, board = load_onnx(args.model), get_board(args.board)
    if args.project:
        target_of(board)
    if not isinstance(model, QuantModel):
        raise UserError(f"{args.model} is float: quantise it with tools/quantize.py first")
    if post := detector_params(model):
        board = with_room(board, post.candidates)
    board = board.with_arena(args.arena_kb and args.arena_kb * KB)
    schedule, halos = parse_schedule(args.patches, args.blocks), EXECUTED if args.halo == "best" else (args.halo,)
    if schedule is None:
        search = fastest if args.fastest else best_schedule
        p = search(model.graph, board, p_choices=grids(args.max_p, not args.any_grid), halos=halos)
    else:
        p = fitting_plan(model.graph, board, schedule, halos=halos)
    write_sources(p, model, args.out)
    if args.project:
        picture = load_picture(args.picture, input_shape(args.out)[:2]) if args.picture else None
        write_project(args.out, board, p.arena, picture)
    s = p.schedule
    facts = {"board": board.name, "p": s.p, "n": s.n, "halo": p.halo, "arena_bytes": p.arena,
             "arena_limit": board.arena_limit, "constant_bytes": p.flash, "macs": p.macs,
             "patch_overhead": p.overhead}  # fmt: skip
    write_json(Path(args.out) / "plan.json", facts)
    how = "layer by layer"
    if s.n:
        how = f"{s.p[0]}x{s.p[1]} patches over {s.n} blocks, halo {p.halo} ({p.overhead:+.1%} MACs)"
    print(f"{args.out}: {how}, arena {p.arena:,} of {board.arena_limit:,} bytes, constants {p.flash:,} bytes")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
