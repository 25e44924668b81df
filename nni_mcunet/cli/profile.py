"""Where a network's memory goes, what patches save, what they cost, and the best schedule for a board.

mcunet profile configs/arch/mobilenet_v2.json --png memory.png
mcunet profile model.int8.onnx --board stm32f412 --json
mcunet profile configs/det/yolov3_digits.py --board F746 --patches 3x3 --blocks 4
mcunet profile extd_32        # a published face detector at 640x480, one of core/faces.py
"""


def read(path: str):
    """Graph of any input; mmdet is imported for a config alone."""
    from ..profiling.profile import read_graph

    if not path.endswith(".py"):
        return read_graph(path)
    from detection import config_graph, load_config

    return config_graph(load_config(path))


def main() -> None:
    import argparse
    import json

    from ..core.boards import get_board
    from ..core.errors import UserError
    from ..core.files import write_json
    from ..core.ir.arch import parse_schedule
    from ..core.outputs import check_outputs
    from ..core.plan.cut_points import grids
    from ..profiling.profile import front_table, profile, table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "network", help="architecture (.json), float or int8 model (.onnx), mmdet config (.py) or face detector's name"
    )
    parser.add_argument("--board", help="stm32h743, stm32f746, stm32f412, stm32f410 or a board's .json")
    parser.add_argument("--patches", help="grid such as 3x3; default: the board's best, or the least peak")
    parser.add_argument("--blocks", help="with --patches: blocks run patch by patch, the stem counted; 5,9 for two")
    parser.add_argument("--max-p", type=int, default=4, help="finest grid tried without --patches (default 4: 4x4)")
    parser.add_argument("--any-grid", action="store_true", help="try grids that are not square, too")
    parser.add_argument("--pareto", action="store_true", help="print the front of SRAM against computation instead")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE, or print it alone")
    parser.add_argument("--png", metavar="FILE", help="draw the memory of each block")
    args = parser.parse_args()

    to_file = None if args.json == "-" else args.json
    check_outputs({"--json": (to_file, ".json"), "--png": (args.png, ".png")}, args.network, args.board)
    if args.pareto and any((args.board, args.patches, args.blocks, args.json, args.png)):
        raise UserError("--pareto prints the whole front: leave out --board, --patches, --blocks, --json and --png")
    board = get_board(args.board) if args.board else None
    schedule = parse_schedule(args.patches, args.blocks)
    graph, choices = read(args.network), grids(args.max_p, square=not args.any_grid)
    if args.pareto:
        print(front_table(graph, choices))
        return
    found = profile(graph, board, schedule, choices)
    if args.json == "-":
        print(json.dumps(found.to_dict(), indent=1))
    else:
        print(table(found))
        if args.json:
            write_json(args.json, found.to_dict())
    if args.png:
        from ..profiling.pictures import memory_figure

        memory_figure(found.whole, found.patched, board and board.arena_limit, args.png, found.graph.name)
