"""Read the pictures of `mcunet quantize` and `mcunet inspect`: of a folder, of a search's data or of a detector's
training set.

No command: their shared flags and what these mean."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .cfg_options import add_options

if TYPE_CHECKING:
    import numpy as np

    from ..engine.model import Model


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add --calib, --list, --images and --cfg-options."""
    parser.add_argument("--calib", help="folder of pictures (JPEG, PNG, BMP, WEBP, GIF, TIFF, PPM, JPEG2000, AVIF), of "
                        "folders by class, or of .npy files (uint8, h x w x c or n x h x w x c), one such file, a "
                        "config of configs/det, or a search's --data (KIND:ROOT or {YAML}): its training "
                        "pictures")  # fmt: skip
    parser.add_argument("--list", help="text file with the pictures to use, one stem a line; default all")
    parser.add_argument("--images", type=int, default=128, help="use so many of them at most (default 128)")
    add_options(parser)


def pictures(args: argparse.Namespace, model: "Model") -> "Iterator[np.ndarray]":
    """Return uint8 (h, w, c) as the network sees them: those of a folder by the view in its file. Raises UserError."""
    from ..api.quantization import read

    return read(args.calib, model, args.images, args.list, args.cfg_options)
