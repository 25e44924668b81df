"""Compile an int8 ONNX or .tflite file to C for a board, with the patch schedule that fits at the least computation.

mcunet generate model.int8.onnx --board stm32h743 -o out/fw
mcunet generate model.int8.onnx --board stm32f412 --patches 3x3 --blocks 5 --halo cache -o out/fw
mcunet generate model.int8.onnx --board stm32f412 --patches 4x4,2x2 --blocks 5,9 -o out/fw
mcunet generate model.int8.onnx --board stm32f412 --least-sram --max-overhead 0.05 -o out/fw
mcunet generate model.int8.onnx --board stm32h743 --project --picture photo.jpg -o out/fw

The folder holds a plain C11 library: mcu_model.h is the one header, no OS, no heap. With --project also a firmware for
the board's Nucleo: start-up, clock, UART, linker script; `make && make flash` (Makefile, CMakeLists.txt, README.txt).
It must be new or empty, or an earlier one of this command: mcunet_files.json in it says which files may be replaced.
"""

import argparse
from dataclasses import replace

from ..api.networks import load
from ..core.boards import get_board
from ..core.errors import Infeasible, UserError
from ..core.file_sets import free_folder, owned
from ..core.plan.plan import plan
from ..core.validate import check_is_file
from ..engine.codegen.names import DEFAULT, check_prefix
from ..engine.lower.dead_channels import channels, without_dead_channels
from ..engine.model import QuantModel
from ..engine.ops.pixels import with_pixels
from .argument_types import BOARD
from .outputs_argument import add_outputs
from .picture_source import add_source
from .pixels import add_pixels, told
from .schedule_arguments import add_regions, add_schedule, asked, check_schedule


def smaller(model: QuantModel) -> QuantModel:
    """Return the model without its dead channels and print what that saved."""
    found = without_dead_channels(model)
    gone, before, after = channels(model.graph) - channels(found.graph), plan(model.graph), plan(found.graph)
    if gone:
        print(f"removed {gone:,} dead channels: MACs {before.macs:,} -> {after.macs:,}, "
              f"constants {before.flash:,} -> {after.flash:,} bytes")  # fmt: skip
    return found


def check_options(args: argparse.Namespace) -> None:
    """Refuse an option that another one would overrule in silence, and a library that would not be that of the project
    around it. Raises UserError."""
    if not args.project and any("board/config.h" in names for names in owned(args.out).values()):
        raise UserError(f"{args.out} holds a project, which is of one model: give --project, too, or another folder")
    free_folder(args.out)
    if args.picture:
        check_is_file(args.picture)
    if args.picture and not args.project:
        raise UserError("--picture is what a project has built in: give --project, too")
    check_schedule(args)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="int8 ONNX of mcunet quantize, or int8 .tflite")
    add_outputs(parser)
    parser.add_argument("--board", required=True, help=BOARD)
    parser.add_argument("--arena-kb", type=int, help="kB of SRAM for the network; default all that the board has")
    add_source(parser)
    add_schedule(parser)
    add_regions(parser)
    parser.add_argument("--keep-dead-channels", action="store_true", help="compute constant and unread channels, too")
    parser.add_argument("--project", action="store_true", help="also a complete firmware project for the board")
    parser.add_argument("--prefix", default=DEFAULT, help="what this model's files and names in C begin with (mcu)")
    parser.add_argument("--picture", help="with --project: JPEG, PNG or .npy to build in, run after each reset")
    add_pixels(parser)
    parser.add_argument("-o", "--out", required=True, help="folder to write")


def main(args: argparse.Namespace) -> None:
    from ..api.firmware import compile

    check_options(args)
    check_prefix(args.prefix)
    board, network = get_board(args.board), load(args.model, outputs=args.outputs)
    network = replace(network, model=told(with_pixels(network.int8_model(), args.mean, args.std)))
    if not args.keep_dead_channels:
        network = replace(network, model=smaller(network.int8_model()))
    try:
        fw = compile(
            network,
            board,
            args.out,
            arena_kb=args.arena_kb,
            **asked(args, network, board),
            regions=args.regions,
            source=args.source,
            keep_dead_channels=True,
            project=args.project,
            picture=args.picture,
            prefix=args.prefix,
        )
    except Infeasible as error:  # it names the network, which exporters call as they like
        raise UserError(f"{args.model}: {error}") from None
    print(fw)
    if sizes := fw.facts["callback_bytes"]:
        print("SRAM of a ready callback:", ", ".join(f"{name} {size:,}" for name, size in sizes.items()))
