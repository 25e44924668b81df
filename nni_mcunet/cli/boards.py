"""List the boards and the memories that their SRAM is made of; or check and show a board of your own.

mcunet boards
mcunet boards stm32h743 my.yml
mcunet boards --json
"""

import argparse
import json

from ..core.boards import BOARDS, KB, Board, get_board


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("boards", nargs="*", help="names, or boards' .yml or .json files; default all that are known")
    parser.add_argument("--json", action="store_true", help="print what the files say, as JSON")


def described(board: Board) -> str:
    """Return the board as lines of text, one a memory."""
    lines = [
        f"{board.name}: {board.core} at {board.clock_hz / 1e6:g} MHz, {board.flash / KB:,.0f} kB of flash; "
        f"for a network {board.arena_limit / KB:,.0f} kB in one array"
        + (f", {board.usable / KB:,.0f} kB in all memories" if board.usable > board.arena_limit else "")
    ]
    for region in board.regions:
        use = "stack and data" if region == board.regions[0] else ""
        wait = f"waits {region.wait} cycles a line" if region.wait else "never waits"
        lines.append(f"  {region.name:10}{region.at:#010x}{region.bytes / KB:8,.0f} kB  {wait:22}  {use}".rstrip())
    return "\n".join(lines)


def main(args: argparse.Namespace) -> None:
    found = [*map(get_board, args.boards)] or [*BOARDS.values()]
    if args.json:
        print(json.dumps({board.name: board.to_dict() for board in found}, indent=1))
    else:
        print("\n".join(map(described, found)))
