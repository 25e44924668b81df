"""Go from a trained detector to boards, all of it measured: float metric, ONNX, int8, the int8's metric on the compiled
C, how near its boxes are to the float ones, C for each board, the emulated firmware's run, and a report.

mcunet deploy configs/det/yolov3_bccd_f412.py CHECKPOINT.pth --boards stm32f412 -o out/bccd

Each step is a command of its own; it is printed before it runs. One whose product is in the folder is not run again.
deploy.json there says what the products are of, the config, its data, the checkpoint, the boards: anything else takes a
new folder.
"""

import argparse
import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..api.deployment import MARKER
from ..core.boards import KB, Board, get_board
from ..core.errors import UserError
from ..core.file_sets import is_whole, named_folder
from ..core.files import sha256
from ..core.types import Plain
from ..core.validate import check_is_file
from .argument_types import BOARD
from .cfg_options import Options, add_options
from .picture_source import add_source
from .steps import Steps, claim

WAY_OUT = "give a new folder"
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


def begin(args: argparse.Namespace, boards: dict[str, Board], of: dict[str, dict[str, str]]) -> None:
    """Mark the folder as that of this checkpoint, config, data and boards. Raises UserError where it has products of
    others."""
    common: dict[str, Plain] = {**of, "checkpoint": sha256(args.checkpoint), "arena_kb": args.arena_kb}
    common |= {"source": args.source} if args.source else {}
    each: dict[str, Plain] = {f"board {name}": board.to_dict() for name, board in boards.items()}
    made = {f"board {name}": [args.out / f"{name}{end}" for end in ("", ".json", ".png")] for name in boards}
    whole = [*(args.out / name for name in PRODUCTS), *chain(*made.values())]
    if other := claim(args.out / MARKER, {**common, **each}, dict.fromkeys(common, whole) | made, WAY_OUT):
        raise UserError(f"{args.out} holds what was made with another {' and '.join(other)}: {WAY_OUT}")


def named_boards(names: list[str], arena_kb: int | None = None) -> dict[str, Board]:
    """Return the boards by the names that their files get. Raises UserError for a board that is not known or cannot be
    emulated, for two of one name and for no kB."""
    from ..engine.run.emulator import machine

    boards = {Path(name).stem: get_board(name) for name in names}
    for board in boards.values():
        machine(board)
        board.with_arena(None if arena_kb is None else arena_kb * KB)  # raises
    if len(boards) < len(names):
        raise UserError(f"--boards {' '.join(names)}: two have the same name, and their files would, too")
    return boards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("checkpoint", type=Path, help="of mcunet train (.pth)")
    parser.add_argument("--boards", nargs="+", required=True, help=BOARD)
    parser.add_argument("--arena-kb", type=int, help="kB of SRAM for the network; default all that the board has")
    add_source(parser)
    parser.add_argument("-o", "--out", required=True, help="folder for everything")
    add_options(parser, Words)
    parser.set_defaults(words=[])


def main(args: argparse.Namespace) -> None:
    boards = named_boards(args.boards, args.arena_kb)
    args.out, names = named_folder(args.out), list(boards)
    check_is_file(args.checkpoint)
    from detection import busy_picture, identity, load_config

    config = load_config(args.config, args.cfg_options)
    begin(args, boards, identity(config))
    picture = busy_picture(config)
    out, step, options = args.out, Steps(), args.words
    network, work = [args.config, args.checkpoint], ["--work-dir", out / "test"]
    floats, int8 = out / "model.onnx", out / "model.int8.onnx"

    step("ONNX", floats, "export", *network, "-o", floats, *options)
    step("int8", int8, "quantize", floats, "--calib", args.config, "-o", int8, *options)
    arena = ["--arena-kb", args.arena_kb] if args.arena_kb is not None else []
    arena += ["--source", args.source] if args.source else []
    for board, name in zip(args.boards, names, strict=True):  # before what takes minutes: it may not fit
        folder = out / name
        step(f"C for the {name}", folder / "plan.json", "generate", int8, "--board", board, *arena,
             "-o", folder, done=is_whole(folder))  # fmt: skip
    step("float metric", out / "float.json", "test", *network, "--out-json", out / "float.json", *work, *options)
    step("int8 metric, on the compiled C", out / "int8.json", "test", args.config, int8,
         "--out-json", out / "int8.json", *work, *options)  # fmt: skip
    step("int8 boxes against float ones", out / "boxes.json", "compare-boxes", *network, "--int8", int8,
         "--json", out / "boxes.json", *options)  # fmt: skip
    for board, name in zip(args.boards, names, strict=True):
        folder, run = out / name, out / f"{name}.json"
        step(f"firmware of the {name}, emulated", run, "run", folder, "--board", board, "--emulate",
             "--picture", picture, "--json", run, "--png", out / f"{name}.png")  # fmt: skip
    step("report", out / "report.json", "report", out, "--boards", *names, done=False)
    page = ["report", out, "--boards", *names, "--html", "--picture", picture]
    print(f"a page of each board, which runs the network in a browser:\n  mcunet {shlex.join(map(str, page))}")
