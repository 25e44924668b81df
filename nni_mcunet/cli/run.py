"""Run generated C on a board or its emulator with a picture, and show what the firmware says.

mcunet run --board stm32h743 --emulate out/fw --picture photo.jpg --json out/run.json --png out/boxes.png
mcunet run --board stm32f412 --emulate out/fw --picture photo.jpg --layers out/layers.png
mcunet run --board stm32h743 --port /dev/ttyACM0 out/fw --picture photo.jpg
"""

import argparse
import io
from dataclasses import replace

import numpy as np

from ..core.boards import get_board
from ..core.errors import UserError
from ..core.files import write_atomic, write_json
from ..core.outputs import check_outputs, marked
from ..core.view import View
from ..engine.run.generated import input_shape, input_view
from ..engine.run.pictures import ARRAY, load_picture
from ..engine.timing.report import report_table
from .argument_types import BOARD, fraction, seconds

ZOOM = 4


def shown_picture(path: str, shape: tuple[int, int, int], view: View) -> tuple[np.ndarray, int]:
    """Return the RGB picture to draw boxes on, and how many of its pixels are one of the network's. The firmware saw
    the network's own resolution; the figure shows the photograph."""
    h, w, channels = shape
    if path.lower().endswith(ARRAY):
        return np.broadcast_to(load_picture(path, (h, w), view, channels), (h, w, 3)), 1
    return load_picture(path, (ZOOM * h, ZOOM * w), view), ZOOM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="what mcunet generate has written")
    parser.add_argument("--board", required=True, help=BOARD)
    parser.add_argument(
        "--picture", required=True, help="JPEG or PNG, seen as in training; or .npy with uint8 h x w x c"
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--emulate", action="store_true", help="run under QEMU")
    how.add_argument(
        "--port", help="serial port of a board flashed with `mcunet generate --project`, such as /dev/ttyACM0"
    )
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="for the whole run; default 600 with "
                        "--emulate, with --port 60 and ten times what the picture takes on the line")  # fmt: skip
    parser.add_argument("--classes", metavar="FILE", help="a classifier's names: a text file with one a line; default "
                        "those of its file")  # fmt: skip
    parser.add_argument("--json", help="file for the report, with all boxes")
    parser.add_argument("--npz", help="file for the outputs as numpy arrays, flat, in the order of mcu_model.h")
    parser.add_argument("--png", help="file for the picture with the board's boxes")
    parser.add_argument(
        "--layers", metavar="PNG", help="instructions, estimated cycles and memory of each layer: printed, drawn to PNG"
    )
    parser.add_argument(
        "--score", type=fraction, default=0.3, help="print and draw boxes of at least this (default 0.3)"
    )


def main(args: argparse.Namespace) -> None:
    if args.port is not None and args.layers:
        raise UserError("--layers counts in the emulator: give --emulate instead of --port")
    files = {"--json": (args.json, ".json"), "--npz": (args.npz, ".npz"), "--png": (args.png, ".png")}
    check_outputs(files | {"--layers": (args.layers, ".png")}, args.picture, args.board, args.classes)
    from ..api.firmware import run
    from ..profiling.pictures import boxes_figure, cycles_figure

    board, shape = get_board(args.board), input_shape(args.folder)
    if args.png and shape[2] not in (1, 3):
        raise UserError(f"--png draws on a picture, and this network reads {shape[2]} channels: leave it out")
    on = "emulator" if args.port is None else f"serial:{args.port}"
    found = run(
        args.folder, args.picture, board, on=on, timeout=args.timeout, layers=bool(args.layers), classes=args.classes
    )
    report = found.to_dict()
    if args.layers:
        title = f"{board.name}, emulated: {report['milliseconds_estimated']:.3g} ms"
        cycles_figure(found.layers, args.layers, title)
        print(report_table(report))
    if args.npz:
        np.savez_compressed(file := io.BytesIO(), *found.outputs)
        write_atomic(args.npz, marked(file.getvalue()))
    shown = [b for b in found.boxes if b["score"] >= args.score]
    if args.json:
        write_json(args.json, report)
    if args.png:
        drawn, zoom = shown_picture(args.picture, shape, input_view(args.folder))
        scaled = [(*(zoom * v for v in b["box"]), b["score"], b["name"]) for b in shown]
        title = f"found by the firmware on the {'emulated ' if args.emulate else ''}{board.name}"
        boxes_figure(drawn, scaled, args.png, title)
    print(replace(found, boxes=shown))
