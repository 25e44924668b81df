"""No command: the pictures that `mcunet quantize` and `mcunet inspect` read, of a folder or of a detector's training
set."""

from collections.abc import Iterator

import numpy as np

from ..core.errors import UserError
from ..engine.model import Model, input_shape, view_of


def add_arguments(parser) -> None:
    from .cfg_options import Options

    parser.add_argument("--calib", help="folder of pictures, or of .npy files (uint8, h x w x c or n x h x w x c), one "
                        "such file, or a config of configs/det")  # fmt: skip
    parser.add_argument("--list", help="text file with the pictures to use, one stem a line; default all")
    parser.add_argument("--images", type=int, default=128, help="use so many of them at most (default 128)")
    parser.add_argument("--cfg-options", nargs="+", action=Options, help="key=value pairs merged into that config")


def pictures(args, model: Model) -> Iterator[np.ndarray]:
    """uint8 (h, w, c) as the network sees them: those of a folder by the view in its file. Raises UserError."""
    if args.images < 1:
        raise UserError(f"--images {args.images}: expected 1 or more")
    if args.calib.endswith(".py"):
        from detection import input_pictures, load_config  # imports mmdet

        return input_pictures(load_config(args.calib, args.cfg_options), args.images)
    from ..engine.run.pictures import read_pictures

    return read_pictures(args.calib, input_shape(model), view_of(model), args.list, args.images)
