"""Read a command's words. No command: argparse's parser with the errors of every other refusal, and --verbose, which
every command takes."""

import argparse
import io
import os
import sys
from typing import NoReturn

from ..core import errors
from ..core.errors import one_line

VERBOSE = "--verbose"


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Name --verbose in a command's help."""
    parser.add_argument(VERBOSE, action="store_true", help="show the lines of mmengine, mmdet, NNI and torch, too")


def without_verbose(words: list[str]) -> list[str]:
    """Return a command's words without --verbose, which may stand anywhere; note it for all that the command starts."""
    if VERBOSE in words:
        os.environ[errors.VERBOSE] = "1"
    return [word for word in words if word != VERBOSE]


def by_the_line() -> None:
    """Let a pipe have each line when it is printed: Python keeps lines back until there are 8 kB of them."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def one_thread() -> None:
    """Let torch and numpy compute with one thread, unless OMP_NUM_THREADS says otherwise: two threads on two cores that
    others use too wait for each other, and networks this small take six to twenty times as long."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


class Parser(argparse.ArgumentParser):
    """Say in one line what is wrong with an argument; argparse prints the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and the message."""
        self.exit(2, f"error: {one_line(message)}; see {self.prog} --help\n")
