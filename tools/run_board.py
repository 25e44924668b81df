"""Run generated C on a board or its emulator with a picture, and show what the firmware says.

python tools/run_board.py --board stm32h743 --emulate out/fw --picture photo.jpg --json out/run.json --png out/boxes.png
python tools/run_board.py --board stm32f412 --emulate out/fw --picture photo.jpg --layers out/layers.png
python tools/run_board.py --board stm32h743 --port /dev/ttyACM0 out/fw --picture photo.jpg
"""

import argparse
import io

import numpy as np

from nni_mcunet.core.boards import Board, get_board
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.outputs import check_outputs
from nni_mcunet.engine.board_report import board_report, report_table
from nni_mcunet.engine.cycles import run_profiled
from nni_mcunet.engine.draw import boxes_figure, cycles_figure
from nni_mcunet.engine.firmware import build_firmware, build_host, elf_report, input_shape, input_view, run_emulated
from nni_mcunet.engine.images import load_picture
from nni_mcunet.engine.project import model_hash
from nni_mcunet.engine.serial_link import SerialBoard
from nni_mcunet.engine.stack import stack_bound


def box_dict(box, name: str) -> dict:
    """Pixels of the model's input, score 0..1."""
    corners = [round(float(box[k]) / 16, 4) for k in ("x1", "y1", "x2", "y2")]
    return {"box": corners, "score": float(box["score"]) / 2**15, "label": int(box["label"]), "name": name}


def check_against_host(folder: str, picture: np.ndarray, run: dict) -> None:
    """The same C on this machine must give the same bytes. Raises RuntimeError: a compiler or the C is at fault."""
    host = build_host(folder)
    wanted = host.run(picture)
    same = len(wanted) == len(run["outputs"]) and all(map(np.array_equal, wanted, run["outputs"]))
    if not same or ("boxes" in run and not np.array_equal(host.detect(), run["boxes"])):
        raise RuntimeError(f"{folder}: the firmware's outputs are not those of the same C on this machine")


def on_board(args, board: Board, picture: np.ndarray) -> tuple[dict, dict]:
    """What is known of the board, and its run."""
    with SerialBoard(args.port, args.timeout) as line:
        greeting = line.greet(board.name, model_hash(args.folder))
        return {"clock_hz": greeting["clock_hz"]}, line.run(picture)


def emulated(args, board: Board, picture: np.ndarray) -> tuple[dict, dict]:
    """What the ELF says, layer by layer where asked for, and the run."""
    elf = build_firmware(args.folder, board, picture)
    facts = elf_report(elf) | {"stack_bound_bytes": stack_bound(elf)}
    if not args.layers:
        return facts, run_emulated(elf, board)
    run, layers = run_profiled(elf, board)
    return facts | board_report(elf, board, layers), run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what tools/generate.py has written")
    parser.add_argument("--board", required=True, help="stm32h743, stm32f746, stm32f412, stm32f410 or a board's .json")
    parser.add_argument("--picture", required=True, help="JPEG or PNG, seen as in training")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--emulate", action="store_true", help="run under QEMU")
    how.add_argument("--port", help="serial port of a board flashed with `generate.py --project`, such as /dev/ttyACM0")
    parser.add_argument("--timeout", type=float, default=60, help="with --port: seconds of silence (default 60)")
    parser.add_argument("--json", help="file for the report, with all boxes")
    parser.add_argument("--npz", help="file for the outputs as numpy arrays, flat, in the order of mcu_model.h")
    parser.add_argument("--png", help="file for the picture with the board's boxes")
    parser.add_argument(
        "--layers", metavar="PNG", help="instructions, estimated cycles and memory of each layer: printed, drawn to PNG"
    )
    parser.add_argument("--score", type=float, default=0.3, help="print and draw boxes of at least this (default 0.3)")
    args = parser.parse_args()
    if args.port and args.layers:
        raise UserError("--layers counts in the emulator: give --emulate instead of --port")
    files = {"--json": (args.json, ".json"), "--npz": (args.npz, ".npz"), "--png": (args.png, ".png")}
    check_outputs(files | {"--layers": (args.layers, ".png")}, args.picture, args.board)
    board = get_board(args.board)
    (h, w, _), view = input_shape(args.folder), input_view(args.folder)
    picture = load_picture(args.picture, (h, w), view)
    facts, run = on_board(args, board, picture) if args.port else emulated(args, board, picture)
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
        zoom = 4  # the firmware saw the model's own resolution; the figure shows the photograph
        scaled = [(*(zoom * v for v in b["box"]), b["score"], b["name"]) for b in shown]
        title = f"found by the firmware on the {'emulated ' if args.emulate else ''}{board.name}"
        boxes_figure(load_picture(args.picture, (zoom * h, zoom * w), view), scaled, args.png, title)
    for name, value in report.items():
        if isinstance(value, int):
            print(f"{name:>22} {value:>12,}")
    for b in shown:
        print("{name:>22}  score {score:.3f}  at {box}".format(**b))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
