"""Show where a network's memory goes, what patches save, what they cost, and the best schedule for a board.

mcunet profile mobilenet_v2 --png memory.png    # a name of the zoo
mcunet profile model.int8.onnx --board stm32f412 --json
mcunet profile configs/det/yolov3_digits.py --board stm32f746 --patches 3x3 --blocks 4
mcunet profile extd_32        # a published face detector at 640x480
"""

import argparse
import json

from ..api.networks import load
from ..api.planning import MAX_P, front, profile
from ..core.boards import get_board
from ..core.errors import UserError
from ..core.files import write_json
from ..core.ir.arch import parse_schedule
from ..core.outputs import check_outputs
from ..profiling.profile import front_table
from .argument_types import BOARD
from .outputs_argument import add_outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network", help="name of the zoo, architecture (.json), float or int8 model (.onnx, .tflite) or config (.py)"
    )
    add_outputs(parser)
    parser.add_argument("--board", help=BOARD)
    parser.add_argument("--patches", help="grid such as 3x3; default: the board's best, or the least peak")
    parser.add_argument("--blocks", help="with --patches: blocks run patch by patch, the stem counted; 5,9 for two")
    parser.add_argument(
        "--max-p", type=int, help="finest grid tried without --patches (default 4: 4x4; with --pareto 8, of any shape)"
    )
    parser.add_argument("--any-grid", action="store_true", help="try grids that are not square, too")
    parser.add_argument("--pareto", action="store_true", help="print the front of SRAM against computation instead")
    parser.add_argument("--segments", type=int, help="with --pareto: most patched segments tried (default 8)")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE; without FILE print nothing else"
    )
    parser.add_argument("--png", metavar="FILE", help="draw the memory of each block")


def main(args: argparse.Namespace) -> None:
    to_file = None if args.json == "-" else args.json
    check_outputs({"--json": (to_file, ".json"), "--png": (args.png, ".png")}, args.network, args.board)
    if args.pareto and any((args.patches, args.blocks, args.json, args.png)):
        raise UserError("--pareto prints the whole front: leave out --patches, --blocks, --json and --png")
    if args.segments is not None and not args.pareto:
        raise UserError("--segments is for --pareto: give both or none")
    schedule, board = parse_schedule(args.patches, args.blocks), args.board and get_board(args.board)
    network = load(args.network, outputs=args.outputs)
    if args.pareto:
        wide = args.any_grid or args.max_p is None
        print(front_table(front(network, board, max_p=args.max_p, any_grid=wide, segments=args.segments), board))
        return
    found = profile(network, board, schedule=schedule, max_p=args.max_p or MAX_P, any_grid=args.any_grid)
    if args.json == "-":
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print(found)
        if args.json:
            write_json(args.json, found.to_dict())
    if args.png:
        from ..profiling.pictures import memory_figure

        limit = found.limit
        memory_figure(found.whole, found.patched, limit, args.png, found.graph.name)
