"""Name where a network ends: --outputs of every command that reads a model's file. No command."""

import argparse


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add --outputs."""
    parser.add_argument("--outputs", nargs="+", metavar="NAME", help="end the network at these nodes or tensors of the "
                        "file, instead of at its own outputs")  # fmt: skip
