"""Run generated C on a board or its emulator with a picture, and show what the firmware says.

mcunet run --board stm32h743 --emulate out/fw --picture photo.jpg --json out/run.json --png out/boxes.png
mcunet run --board stm32f412 --emulate out/fw --picture photo.jpg --layers out/layers.png
mcunet run --board stm32h743 --port /dev/ttyACM0 out/fw --picture photo.jpg
"""

import argparse
import io

import numpy as np

from ..core.boards import get_board
from ..core.errors import UserError
from ..core.files import write_atomic, write_json
from ..core.outputs import check_outputs
from ..engine.run.board_run import check_against_host, emulated, on_board
from ..engine.run.emulator import EMULATED
from ..engine.run.generated import input_shape, input_view
from ..engine.run.pictures import ARRAY, load_picture
from ..engine.run.serial_link import patience
from ..engine.timing.report import report_table
from ..profiling.pictures import boxes_figure, cycles_figure

ZOOM = 4


def box_dict(box, name: str) -> dict:
    """Pixels of the model's input, score 0..1."""
    corners = [round(float(box[k]) / 16, 4) for k in ("x1", "y1", "x2", "y2")]
    return {"box": corners, "score": float(box["score"]) / 2**15, "label": int(box["label"]), "name": name}


def seconds_of(args, picture: np.ndarray) -> float:
    """For the run: --timeout, or what the picture takes on a serial line and more. Raises UserError."""
    if args.timeout is None:
        return EMULATED if args.port is None else patience(picture)
    if not 0 < args.timeout < 1e6:
        raise UserError(f"--timeout {args.timeout:g}: expected seconds above 0, such as 60")
    return args.timeout


def shown_picture(args, picture: np.ndarray, view) -> tuple[np.ndarray, int]:
    """Return the RGB picture to draw boxes on, and how many of its pixels are one of the network's. The firmware saw
    the network's own resolution; the figure shows the photograph."""
    if args.picture.lower().endswith(ARRAY):
        return np.broadcast_to(picture, (*picture.shape[:2], 3)), 1
    return load_picture(args.picture, tuple(ZOOM * n for n in picture.shape[:2]), view), ZOOM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what mcunet generate has written")
    parser.add_argument("--board", required=True, help="stm32h743, stm32f746, stm32f412, stm32f410 or a board's .json")
    parser.add_argument(
        "--picture", required=True, help="JPEG or PNG, seen as in training; or .npy with uint8 h x w x c"
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--emulate", action="store_true", help="run under QEMU")
    how.add_argument(
        "--port", help="serial port of a board flashed with `mcunet generate --project`, such as /dev/ttyACM0"
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for the whole run; default 600 with "
                        "--emulate, with --port 60 and ten times what the picture takes on the line")  # fmt: skip
    parser.add_argument("--json", help="file for the report, with all boxes")
    parser.add_argument("--npz", help="file for the outputs as numpy arrays, flat, in the order of mcu_model.h")
    parser.add_argument("--png", help="file for the picture with the board's boxes")
    parser.add_argument(
        "--layers", metavar="PNG", help="instructions, estimated cycles and memory of each layer: printed, drawn to PNG"
    )
    parser.add_argument("--score", type=float, default=0.3, help="print and draw boxes of at least this (default 0.3)")
    args = parser.parse_args()
    if args.port is not None and args.layers:
        raise UserError("--layers counts in the emulator: give --emulate instead of --port")
    files = {"--json": (args.json, ".json"), "--npz": (args.npz, ".npz"), "--png": (args.png, ".png")}
    check_outputs(files | {"--layers": (args.layers, ".png")}, args.picture, args.board)
    board = get_board(args.board)
    (*size, channels), view = input_shape(args.folder), input_view(args.folder)
    if args.png and channels not in (1, 3):
        raise UserError(f"--png draws on a picture, and this network reads {channels} channels: leave it out")
    picture = load_picture(args.picture, tuple(size), view, channels)
    seconds = seconds_of(args, picture)
    if args.port is None:
        facts, run = emulated(args.folder, board, picture, seconds, bool(args.layers))
    else:
        facts, run = on_board(args.folder, board, picture, args.port, seconds)
    check_against_host(args.folder, picture, run)
    classifier = "boxes" not in run and len(run["outputs"]) == 1
    boxes = [box_dict(b, name) for b, name in zip(run.pop("boxes", ()), run.pop("names", ()), strict=True)]
    outputs = run.pop("outputs")
    report = {"board": board.name, **facts, **run, "boxes": boxes}
    if args.layers:
        title = f"{board.name}, emulated: {report['milliseconds_estimated']:.3g} ms"
        cycles_figure(report["layers"], args.layers, title)
        print(report_table(report))
    if args.npz:
        np.savez_compressed(file := io.BytesIO(), *outputs)
        write_atomic(args.npz, file.getvalue())
    if classifier:  # a classifier: the int8 scores of the likeliest classes
        best = np.argsort(-outputs[0].astype(int), kind="stable")[:5]
        report["top"] = [{"class": int(i), "score": int(outputs[0][i])} for i in best]
        print("  ".join(f"class {t['class']}: {t['score']}" for t in report["top"]))
    shown = [b for b in boxes if b["score"] >= args.score]
    if args.json:
        write_json(args.json, report)
    if args.png:
        drawn, zoom = shown_picture(args, picture, view)
        scaled = [(*(zoom * v for v in b["box"]), b["score"], b["name"]) for b in shown]
        title = f"found by the firmware on the {'emulated ' if args.emulate else ''}{board.name}"
        boxes_figure(drawn, scaled, args.png, title)
    for name, value in report.items():
        if isinstance(value, int):
            print(f"{name:>22} {value:>12,}")
    for b in shown:
        print("{name:>22}  score {score:.3f}  at {box}".format(**b))
