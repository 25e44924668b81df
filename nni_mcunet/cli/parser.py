"""Refuse arguments in one line. No command: argparse's parser with the errors of every other refusal."""

import argparse
from typing import NoReturn

from ..core.errors import one_line


class Parser(argparse.ArgumentParser):
    """Say in one line what is wrong with an argument; argparse prints the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and the message."""
        self.exit(2, f"error: {one_line(message)}; see {self.prog} --help\n")
