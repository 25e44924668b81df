"""Make a detector's config of a folder of labelled pictures, for a board.

mcunet new-detector photos --board stm32f412 -o out/mine

The folder may hold VOC's XML files (also next to the pictures), COCO's JSON or YOLO's text files with data.yaml or
classes.txt; pictures are JPEG, PNG or BMP. Splits that it names are kept; else a fifth of the pictures is drawn for
validation, and a second run into the same folder keeps that draw. The command writes train.json, val.json and
config.py, with anchors of these boxes (YOLOv3) or none (--head yolox), a training as long as the set needs, and the
largest network that fits the board together with the picture's source. It prints the commands that follow.
"""

import argparse
import csv
import shlex
import sys
from pathlib import Path

from ..core.errors import UserError
from ..core.file_sets import Seal, free_folder, write_set
from ..core.model_zoo import entry, is_named, weights_file, weights_for
from ..core.plan.picture_source import SOURCES
from ..core.validate import counted
from .argument_types import positive
from .steps import CONFIGS

HEADS = ("yolov3", "yolox")

FEW = 100  # steps: 26 found no blood cell, 208 reached an mAP50 of 0.72
SEAL = Seal("config.py", "raise SystemExit('this config was not written to its end: run mcunet new-detector again')\n")
NEXT = """wrote {out}. Next:
  mcunet check-data {config}
  mcunet train {config} --work-dir {work}
  mcunet deploy {config} {last} --boards {board} --source {source} -o {end}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="pictures with their labels")
    parser.add_argument("--board", required=True, help="stm32f412, stm32f746, stm32h743, ... or a YAML file")
    parser.add_argument("-o", "--out", help="folder to write; default out/NAME_BOARD")
    parser.add_argument("--format", choices=("voc", "coco", "yolo"), help="of the labels (default: recognised)")
    parser.add_argument("--classes", metavar="A,B,C",
                        help="classes to detect, in the order of their labels; objects of others are left out and "
                        "counted; a name with a comma stands in double quotes; default all")  # fmt: skip
    parser.add_argument(
        "--head",
        choices=HEADS,
        default=HEADS[0],
        help="yolov3, with anchors clustered on these boxes (default); yolox, which has none",
    )
    parser.add_argument("--source", choices=SOURCES, default="lines",
                        help="where the board's picture comes from, which takes SRAM, too: a frame that lies "
                        "elsewhere, camera lines (default), a JPEG of this sampling")  # fmt: skip
    parser.add_argument("--weights", help="checkpoint to begin with, such as MCUNet's ImageNet weights, or zoo:NAME; "
                        "default those of the zoo that fit the network; none: random ones")  # fmt: skip
    parser.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="of the network's input; default "
                        "the largest that fits")  # fmt: skip
    parser.add_argument("--fit", choices=("stretch", "letterbox"), default="stretch", help="how a picture comes to the "
                        "input's size: each axis for itself (default), or in its own shape with a margin")  # fmt: skip
    parser.add_argument("--epochs", type=positive, help="of the training; default as many as the set needs, 24 to 200")
    parser.add_argument("--seed", type=int, default=0, help="of the draw for validation")


def main(args: argparse.Namespace) -> None:
    from detection.config.picture_fit import GREY
    from detection.own_data.coco_text import coco_text, kept_names
    from detection.own_data.new_config import choose_network, config_text, plan_title, shapes, sizes, training
    from detection.own_data.read_folder import read_folder
    from detection.own_data.splits import divided

    from ..core.boards import get_board
    from ..core.plan.picture_source import source_bytes
    from ..core.progress import Progress
    from ..core.view import STRETCH, View

    board, base = get_board(args.board), (CONFIGS / f"det/_base_/{args.head}_mcunet.py").resolve()
    if args.weights not in (None, "none") and not Path(args.weights).is_file():
        raise UserError(f"--weights {args.weights}: no such file")
    name = Path(args.folder).resolve().name
    out = free_folder(args.out or f"out/{name}_{board.name}")
    folder = read_folder(args.folder, args.format)
    if args.classes:
        folder.keep(tuple(name.strip() for name in next(csv.reader([args.classes], skipinitialspace=True))))
    splits = divided(folder, args.folder, kept_names(out), args.seed)
    train, classes = splits["train"], folder.classes
    print(f"{args.folder}: {folder.lines(splits)}")

    view = View(pad=GREY) if args.fit == "letterbox" else STRETCH
    source = source_bytes(args.source, view)
    tried = [(args.size[0], args.size[1])] if args.size else shapes(train)
    with Progress(None, "network", "looking for the largest network that fits") as bar:

        def trying(which: str) -> None:
            bar.to(bar.done + 1, which)

        choice = choose_network(base, len(classes), sizes(train), tried, board, source, trying)
    weights = weights_for(choice.arch) if args.weights is None else args.weights
    begun = None if weights == "none" else weights and str(weights_file(weights) if is_named(weights) else weights)
    title = f"A detector of {len(classes)} classes on the pictures of {' '.join(name.split())}, for the {board.name}."
    texts = {f"{split}.json": coco_text(items, classes, args.folder) for split, items in splits.items()}
    length = training(len(train), args.epochs)
    texts["config.py"] = config_text(base, out, args.folder, classes, splits, choice, begun, title, length, board, view)
    write_set(out, {"detector": {**texts}}, SEAL)
    begin = f"from {weights}" if begun else "from random weights (--weights takes ImageNet's)"
    size = f"{counted(length.epochs, 'epoch')} of {counted(len(train), 'picture')} in batches of {length.batch}"
    print(f"network: {plan_title(choice, board)}\ntraining: {size}, {counted(length.steps, 'step')}, {begin}")
    if length.steps < FEW:
        print("note: after so few steps a detector finds little or nothing; leave out --epochs", file=sys.stderr)
    if weights and is_named(weights):
        print(f"note: {weights} was trained on {entry(weights)['data']}: a metric of pictures that are among them is "
              "too good; --weights none begins without it", file=sys.stderr)  # fmt: skip
    work = Path("work_dirs", out.name)
    words = {
        "config": out / "config.py",
        "work": work,
        "last": work / "last.pth",
        "board": args.board,
        "end": out / "board",
    }
    typed = {key: shlex.quote(str(word)) for key, word in words.items()}
    print(NEXT.format(out=out, source=args.source, **typed))
