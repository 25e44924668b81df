"""Lay a generated library out as an Arduino or PlatformIO library, a Zephyr module or a CMSIS-Pack.

mcunet package out/fw --as arduino -o out/arduino         the same folder as --as platformio: both read it
mcunet package out/fw --as zephyr --name faces -o out/zephyr
mcunet package out/fw --as cmsis-pack --version 1.2.0 -o out/pack

The C is the library's, file for file, in src/, with the ready callbacks for pictures. An example runs it. The library
is what mcunet generate writes without --project.
"""

import argparse

from ..engine.packages import LAYOUTS, package

READS = {"platformio": "arduino"}  # whose layout it reads
NEXT = {
    "arduino": "copy {out} into the sketchbook's libraries/ (Arduino) or the project's lib/ (PlatformIO)",
    "zephyr": "west build -b BOARD {out}/samples/run, or name {out} in ZEPHYR_EXTRA_MODULES",
    "cmsis-pack": "cpackget add {out}/mcunet.{name}.{version}.pack",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", help="folder that mcunet generate has written")
    parser.add_argument(
        "--as", dest="kind", required=True, choices=sorted([*LAYOUTS, *READS]), help="for which build system"
    )
    parser.add_argument("-o", "--out", required=True, help="folder for the package: new, empty or one of this command")
    parser.add_argument("--name", help="of the package; default mcunet, with the model's prefix where it has one")
    parser.add_argument("--version", default="0.1.0", help="of the package (default 0.1.0)")


def main(args: argparse.Namespace) -> None:
    kind = READS.get(args.kind, args.kind)
    name = package(args.library, kind, args.out, args.name, args.version)
    print(f"{args.out}: {NEXT[kind].format(out=args.out, name=name, version=args.version)}")
