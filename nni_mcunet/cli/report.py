"""Report on a firmware, as one HTML page, or on what the steps of mcunet deploy measured, as a table and as pages.

mcunet report out/fw --html --picture photo.jpg                # of mcunet generate: out/fw/report.html
mcunet report out/demo --boards stm32h743 stm32f412            # of mcunet deploy: report.json and memory.png
mcunet report out/demo --boards stm32f412 --html               # and out/demo/stm32f412.html

The page needs no internet, and runs the network itself where ziglang is installed. It shows the arena
over time, each layer, patches, flash and SRAM, schedules, int8 and boxes.
"""

import argparse
from pathlib import Path

from ..core.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder of mcunet generate or mcunet deploy")
    parser.add_argument("--boards", nargs="+", help="names of the boards, as in the files of mcunet deploy")
    parser.add_argument("--board", help="with --html, of mcunet generate: another board than the plan's, a name of "
                        "mcunet boards or a file")  # fmt: skip
    parser.add_argument(
        "--html", nargs="?", const="", metavar="FILE", help="write the page; default report.html in the folder"
    )
    parser.add_argument("--picture", help="with --html: JPEG, PNG or .npy to run on and to draw patches and boxes on")
    parser.add_argument("--int8", metavar="MODEL", help="with --float and --calib: SQNR by layer, of this int8 model")
    parser.add_argument("--float", metavar="MODEL", help="the float model that it was made from")
    parser.add_argument("--calib", help="folder of pictures to compare them on, as for mcunet quantize")
    parser.add_argument("--images", type=int, default=32, help="with --calib: use so many at most (32)")
    parser.add_argument("--classes", metavar="FILE", help="a classifier's names: a text file with one a line; default "
                        "those of its file")  # fmt: skip
    parser.add_argument("--no-emulator", action="store_true", help="with --html: estimate instead of counting")


def main(args: argparse.Namespace) -> None:
    if args.html is None and args.boards is None:
        raise UserError(f"{args.out}: give --html for the page of a firmware, --boards for a folder of mcunet deploy")
    check_page(args)
    if args.boards is None:
        write_page(args, args.out, args.board, args.html or None, args.int8, args.float)
        return
    from ..api.deployment import outputs, report

    outputs(args.out)
    found = report(args.out, args.boards)
    print(found)
    found.save()
    pictures = ", ".join(f"{board}.png" for board in args.boards)
    print(f"{args.out}/report.json, memory.png and, with the boards' boxes, {pictures}")
    if args.html is not None:
        for board in args.boards:
            models = args.out / "model.int8.onnx", args.out / "model.onnx"
            write_page(args, args.out / board, args.board, args.out / f"{board}.html", *models)


def check_page(args: argparse.Namespace) -> None:
    """Refuse options of the page without one, and models without pictures. Raises UserError."""
    names = ("board", "picture", "int8", "float", "calib", "classes")
    given = [name for name in names if getattr(args, name) is not None]
    if args.html is None and (given or args.no_emulator):
        raise UserError(f"--{given[0] if given else 'no-emulator'} is for the page: give --html, too")
    if args.boards is not None and (args.html or args.int8 or args.float):
        raise UserError("a folder of mcunet deploy has its models, and a page named after each board: leave out the "
                        "file of --html, --int8 and --float")  # fmt: skip
    if args.boards is None and len({bool(args.int8), bool(args.float), bool(args.calib)}) > 1:
        raise UserError("--int8, --float and --calib go together: give all of them or none")


def write_page(
    args: argparse.Namespace,
    folder: Path,
    board: str | None,
    html: str | Path | None,
    int8: str | Path | None,
    source: str | Path | None,
) -> None:
    from ..api.pages import page

    written = page(
        folder,
        args.picture,
        board,
        html=html,
        emulate=not args.no_emulator,
        int8=int8,
        source=source,
        pictures=args.calib,
        images=args.images,
        classes=args.classes,
    )
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB, open it in a browser")
