"""Tell whether a network fits a board, in one line and by the exit code, for a CI job.

mcunet fits model.int8.onnx --board stm32f412
mcunet fits mcunet_in3 --board stm32f412 --source lines
mcunet fits model.int8.onnx --board stm32h743 --arena-kb 256 --json fits.json

Exit codes: 0 it fits, 3 it does not, 2 something in the input is wrong. The schedules are those that mcunet generate
looks at without further options.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from ..api.fitting import fits
from ..api.networks import load
from ..core.files import write_json
from ..core.outputs import check_outputs
from ..core.plan.picture_source import SOURCES
from .argument_types import BOARD
from .outputs_argument import add_outputs

DOES_NOT_FIT = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network", help="int8 or float model (.onnx, .tflite), architecture (.json), config (.py), name"
    )
    add_outputs(parser)
    parser.add_argument("--board", required=True, help=BOARD)
    parser.add_argument("--arena-kb", type=int, help="kB of SRAM for network and source; default all that there is")
    parser.add_argument("--source", choices=SOURCES, help="count what the picture's source takes, too: a frame that "
                        "lies elsewhere, camera lines, a JPEG of this sampling")  # fmt: skip
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE; without FILE print nothing else"
    )


def main(args: argparse.Namespace) -> None:
    to_file = None if args.json == "-" else args.json
    check_outputs({"--json": (to_file, ".json")}, args.network, args.board)
    network = load(args.network, outputs=args.outputs)
    found = fits(network, args.board, source=args.source, arena_kb=args.arena_kb)
    if Path(args.network).suffix in (".onnx", ".tflite"):  # whose graphs exporters call all alike
        found = replace(found, network=Path(args.network).name)
    print(json.dumps(found.to_dict(), indent=1) if args.json == "-" else found)
    if to_file:
        write_json(to_file, found.to_dict())
    sys.exit(0 if found.fits else DOES_NOT_FIT)
