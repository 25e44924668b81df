"""Gather what the steps of mcunet deploy measured: a table, report.json and the picture of memory per block.

mcunet report out/demo --boards stm32h743 stm32f412
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder of mcunet deploy")
    parser.add_argument("--boards", nargs="+", required=True, help="names of the boards, as in its files")


def main(args: argparse.Namespace) -> None:
    from ..api.deployment import outputs, report

    outputs(args.out)
    found = report(args.out, args.boards)
    print(found)
    found.save()
    pictures = ", ".join(f"{board}.png" for board in args.boards)
    print(f"{args.out}/report.json, memory.png and, with the boards' boxes, {pictures}")
