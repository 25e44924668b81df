"""Open the one door to every command: `mcunet COMMAND ...`. Each is a module beside this one, by the same name.

A command's module has `add_arguments(parser)`, which imports nothing heavy, so that help and completion are there at
once, and `main(args)`, which does the work. Its docstring is the text of `mcunet COMMAND --help`.
"""

import argparse
import difflib
import importlib
import sys
from types import ModuleType

from ..core.errors import UserError, exit_on_user_error
from .parser import Parser, add_verbose, by_the_line, one_thread, without_verbose

GROUPS = {  # whom a group is for -> command -> what it does
    "Search a network for a board, with NNI": {
        "search": "search a network: run, resume, export, report",
        "train-supernet": "train the super-network that candidates are cut from",
        "pretrain": "train a backbone as a classifier, from nothing",
        "finetune": "train a classifier that a search found, or train it for int8",
        "accuracy": "measure a classifier as it is deployed",
        "nnictl": "NNI's own command, with repairs of NNI 3.0",
    },
    "Train a detector, with mmdet": {
        "new-detector": "make a config of your own pictures, for a board",
        "anchors": "cluster anchors on real boxes",
        "check-data": "look at every picture and box of a config's data sets",
        "digits": "write a data set of handwritten digits",
        "train": "train a detector",
        "test": "evaluate a detector or classifier: float, int8, its C",
        "detect": "find objects in pictures, and draw them",
        "compare-boxes": "compare the int8 engine's boxes with the float ones",
        "deploy": "go from a trained detector to measured boards",
    },
    "Bring a network to a board": {
        "zoo": "list the trained networks that come with mcunet",
        "boards": "list the boards and their memories, or check a board's file",
        "fits": "tell by the exit code whether a network fits a board",
        "profile": "show where a network's memory goes and what patches save",
        "export": "write a trained network as float ONNX",
        "quantize": "turn float ONNX into int8, calibrated on pictures",
        "inspect": "show ranges, scales and SQNR of an int8 model",
        "generate": "turn int8 ONNX into C for a board",
        "package": "lay that C out for Arduino, PlatformIO, Zephyr or CMSIS-Pack",
        "run": "run generated C on a board or its emulator",
        "report": "write the page of a firmware, or gather what deploy measured",
    },
    "The project as a whole": {
        "demo": "go the whole way, from search to emulated boards",
        "tables": "recompute the paper's tables and figures",
        "detector-table": "print the table of every detector's config",
        "completion": "print what makes your shell complete these words",
    },
}
COMMANDS = {name: what for group in GROUPS.values() for name, what in group.items()}
USAGE = "usage: mcunet COMMAND ...       what it does:  mcunet COMMAND --help"
TITLE = "MCUNetV2 for microcontrollers: networks searched, trained, compiled to int8 C."


def main(arguments: list[str] | None = None) -> None:
    """Run the command that `arguments` (default: the program's own) name; exits with its code."""
    words = sys.argv[1:] if arguments is None else arguments
    by_the_line()
    one_thread()
    with exit_on_user_error():
        if not words or words[0] in ("-h", "--help"):
            print(overview())
            sys.exit(0 if words else 2)
        if words[0] in ("-V", "--version"):
            from .version import version

            print(f"mcunet {version()}")
        else:
            run(words[0], words[1:])


def run(name: str, words: list[str]) -> None:
    """Run one command with its words. Raises UserError for an unknown one."""
    if name not in COMMANDS:
        raise UserError(unknown(name))
    module = module_of(name)
    if name == "nnictl":  # its words are NNI's, --help too
        module.main(words)
    else:
        parser = Parser(f"mcunet {name}")
        from .given_files import with_files  # imports numpy

        args = fill(parser, name).parse_args(without_verbose(words))
        module.main(args if name == "zoo" else with_files(args))


def module_of(name: str) -> ModuleType:
    """Import the module of a command."""
    return importlib.import_module(f".{name.replace('-', '_')}", __package__)


def fill(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """Give a parser the text and the arguments of a command."""
    module = module_of(name)
    parser.description, parser.formatter_class = module.__doc__, argparse.RawDescriptionHelpFormatter
    module.add_arguments(parser)
    add_verbose(parser)
    return parser


def overview() -> str:
    """Return the one screen of `mcunet --help`."""
    lines = [TITLE, "", USAGE]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:16} {what}" for name, what in commands.items())]
    return "\n".join([*lines, "", "mcunet --version prints the version and, from a git tree, the commit."])


def unknown(name: str) -> str:
    """Return the message for a command that is none: the nearest names, or all of them."""
    near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, n=3, cutoff=0.5)
    advice = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(COMMANDS)}"
    shown = name if len(name) <= 40 else f"{name[:40]}..."
    return f"unknown command '{shown}': {advice}"
