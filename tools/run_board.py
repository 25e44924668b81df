"""Run generated C on a board's emulator with a picture, and show what the firmware says.

python tools/run_board.py --board stm32h743 --emulate out/fw --picture photo.jpg --json out/run.json --png out/boxes.png
"""

import argparse
from pathlib import Path

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.engine.firmware import build_firmware, elf_report, input_shape, run_emulated
from nni_mcunet.engine.images import load_picture


def box_dict(box) -> dict:
    """Pixels of the model's input, score 0..1."""
    corners = [round(float(box[k]) / 16, 4) for k in ("x1", "y1", "x2", "y2")]
    return {"box": corners, "score": float(box["score"]) / 2**15, "label": int(box["label"])}


def draw(picture, zoom: int, boxes: list[dict], path: str) -> None:
    """The boxes on the picture, which is `zoom` times as large as the model's input, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6 * picture.shape[0] / picture.shape[1]))
    axes.imshow(picture)
    axes.axis("off")
    for b in boxes:
        (x1, y1, x2, y2), colour = (zoom * v for v in b["box"]), f"C{b['label'] % 10}"
        axes.add_patch(plt.Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linewidth=2))
        corner, style = (max(x1, 0), max(y1, 0)), dict(color="white", backgroundcolor=colour, fontsize=7)
        axes.text(*corner, f"{b['label']} {b['score']:.2f}", verticalalignment="top", **style)
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what tools/generate.py has written")
    parser.add_argument("--board", required=True, help="stm32h743, stm32f746, stm32f412, stm32f410 or a board's .json")
    parser.add_argument("--picture", required=True, help="JPEG or PNG, resized to the model's input")
    parser.add_argument("--emulate", action="store_true", help="run under QEMU")
    parser.add_argument("--port", help="serial port of a real board: not yet supported")
    parser.add_argument("--json", help="file for the report, with all boxes")
    parser.add_argument("--png", help="file for the picture with the board's boxes")
    parser.add_argument("--score", type=float, default=0.3, help="print and draw boxes of at least this (default 0.3)")
    args = parser.parse_args()
    if args.port or not args.emulate:
        raise UserError("a real board over --port is not supported yet: give --emulate to run the firmware under QEMU")
    board = get_board(args.board)
    h, w, _ = input_shape(args.folder)
    picture = load_picture(args.picture, (h, w))
    elf = build_firmware(args.folder, board, picture)
    run = run_emulated(elf, board)
    boxes = [box_dict(b) for b in run.pop("boxes", [])]
    del run["outputs"]
    report = {"board": board.name, **elf_report(elf), **run, "boxes": boxes}
    shown = [b for b in boxes if b["score"] >= args.score]
    if args.json:
        write_json(args.json, report)
    if args.png:
        Path(args.png).parent.mkdir(parents=True, exist_ok=True)
        draw(load_picture(args.picture, (4 * h, 4 * w)), 4, shown, args.png)
    for name, value in report.items():
        if isinstance(value, int):
            print(f"{name:>22} {value:>12,}")
    for b in shown:
        print("label {label:3d}  score {score:.3f}  at {box}".format(**b))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
