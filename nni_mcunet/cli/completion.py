"""Print what makes a shell complete the words of mcunet: commands, flags, choices, boards, files.

mcunet completion bash > ~/.local/share/bash-completion/completions/mcunet
mcunet completion zsh > ~/.zfunc/_mcunet       a folder of zsh's $fpath
mcunet completion fish > ~/.config/fish/completions/mcunet.fish
"""

import argparse

import shtab

from ..core.boards import BOARDS
from ..core.plan.board_plan import ANY_HALO
from ..core.plan.plan import EXECUTED
from .main import COMMANDS, TITLE, fill

SHELLS = ("bash", "zsh", "fish", "tcsh")


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of every command's words, which only a shell reads."""
    parser = argparse.ArgumentParser("mcunet", description=TITLE)
    parser.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command")
    for name, what in COMMANDS.items():
        complete(fill(commands.add_parser(name, help=what), name))
    return parser


def complete(parser: argparse.ArgumentParser) -> None:
    """Say what a shell offers for each word: a board for --board and --boards, a halo, a file for any other text."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                complete(inner)
        elif "--board" in action.option_strings or "--boards" in action.option_strings:
            action.choices = sorted(BOARDS)
        elif "--halo" in action.option_strings:
            action.choices = [*EXECUTED, ANY_HALO]
        elif action.nargs != 0 and not action.choices and action.type is None:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab looks for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def main(args: argparse.Namespace) -> None:
    print(shtab.complete(whole_parser(), args.shell))
