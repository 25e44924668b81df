"""Run NNI's own command, with repairs of NNI 3.0: mcunet nnictl create --config ..., and any other of its words."""

import argparse

from ..search.nni import nnictl


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs=argparse.REMAINDER, help="as for nnictl")


def main(words: list[str]) -> None:
    nnictl.main(words)
