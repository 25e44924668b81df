"""Go from a trained detector to boards, all of it measured: float metric, ONNX, int8, the int8's metric on the compiled
C, how near its boxes are to the float ones, C for each board, the emulated firmware's run, and a report.

mcunet deploy configs/det/yolov3_bccd_f412.py CHECKPOINT.pth --boards stm32f412 -o out/bccd

Each step is a command of its own; it is printed before it runs. One whose product is in the folder is not run again.
deploy.json there says what the products are of: anything else takes a new folder.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.file_sets import is_whole, named_folder
from ..core.files import write_json
from .cfg_options import Options, add_options
from .steps import Steps

MARKER = "deploy.json"
PRODUCTS = ("float.json", "model.onnx", "model.int8.onnx", "int8.json", "boxes.json", "report.json", "memory.png")


class Words(Options):
    """Keep what was typed, too, for the commands below."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Put the pairs of one option into the namespace, and its words into `words`."""
        namespace.words = [*namespace.words, option_string, *(values or ())]
        super().__call__(parser, namespace, values, option_string)


def begin(args: argparse.Namespace, names: list[str]) -> None:
    """Mark the folder as that of this checkpoint. Raises UserError where it has products of another one, or files of
    others under the names of products: they would be taken for finished steps."""
    checkpoint = hashlib.sha256(args.checkpoint.read_bytes()).hexdigest()
    said = {"config": args.config, "checkpoint": checkpoint, "options": args.words, "arena_kb": args.arena_kb}
    if (marker := args.out / MARKER).exists():
        try:
            found = json.loads(marker.read_text())
            other = [key for key, value in said.items() if found[key] != value]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UserError(f"{marker} is damaged: give a new folder") from None
        if other:
            raise UserError(f"{args.out} holds what was made with another {' and '.join(other)}: give a new folder")
        return
    products = [*PRODUCTS, *names, *(f"{name}{ending}" for name in names for ending in (".json", ".png"))]
    if taken := [name for name in products if (args.out / name).exists()]:
        raise UserError(f"{args.out} has no {MARKER} that says what its {', '.join(taken)} is of: give a new folder")
    write_json(marker, said)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("checkpoint", type=Path, help="of mcunet train (.pth)")
    parser.add_argument("--boards", nargs="+", required=True, help="stm32h743, stm32f746, stm32f412, ... or files")
    parser.add_argument("--arena-kb", type=int, help="kB of SRAM for the network; default all that the board has")
    parser.add_argument("-o", "--out", required=True, help="folder for everything")
    add_options(parser, Words)
    parser.set_defaults(words=[])


def main(args: argparse.Namespace) -> None:
    names = [Path(board).stem for board in args.boards]
    args.out = named_folder(args.out)
    begin(args, names)
    from detection import busy_picture, load_config

    picture = busy_picture(load_config(args.config, args.cfg_options))
    out, step, options = args.out, Steps(), args.words
    network, work = [args.config, args.checkpoint], ["--work-dir", out / "test"]
    floats, int8 = out / "model.onnx", out / "model.int8.onnx"

    step("float metric", out / "float.json", "test", *network, "--out-json", out / "float.json", *work, *options)
    step("ONNX", floats, "export", *network, "-o", floats, *options)
    step("int8", int8, "quantize", floats, "--calib", args.config, "-o", int8, *options)
    step("int8 metric, on the compiled C", out / "int8.json", "test", args.config, int8,
         "--out-json", out / "int8.json", *work, *options)  # fmt: skip
    step("int8 boxes against float ones", out / "boxes.json", "compare-boxes", *network, "--int8", int8,
         "--json", out / "boxes.json", *options)  # fmt: skip
    arena = ["--arena-kb", args.arena_kb] if args.arena_kb else []
    for board, name in zip(args.boards, names, strict=True):
        folder, run = out / name, out / f"{name}.json"
        step(f"C for the {name}", folder / "plan.json", "generate", int8, "--board", board, *arena,
             "-o", folder, done=is_whole(folder))  # fmt: skip
        step(f"its firmware, emulated {name}", run, "run", folder, "--board", board, "--emulate",
             "--picture", picture, "--json", run, "--png", out / f"{name}.png")  # fmt: skip
    step("report", out / "report.json", "report", out, "--boards", *names, done=False)
