"""Say on a command line what the picture comes from."""

import argparse

from ..core.plan.picture_source import SOURCES


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add --source."""
    parser.add_argument(
        "--source",
        choices=SOURCES,
        help="where the picture comes from; its ready callback takes SRAM besides the arena: a frame that lies "
        "elsewhere, the lines of a camera, a JPEG of this sampling; default: any that fits, if one does",
    )
