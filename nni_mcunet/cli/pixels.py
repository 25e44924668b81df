"""Say on a command line what the byte of a picture is to an int8 network: --mean and --std."""

import argparse
import warnings
from collections.abc import Sequence

from ..core.errors import PixelsWarning, UserError
from ..engine.model import PIXELS, Model, QuantModel
from ..engine.ops.pixels import described, with_pixels


def add_pixels(parser: argparse.ArgumentParser) -> None:
    """Add --mean and --std."""
    parser.add_argument("--mean", type=float, nargs="+", metavar="M",
                        help="the int8 file reads (byte - mean) / std, one number or one a channel; default: what the "
                        "range of its input says, and 0 where only --std is given")  # fmt: skip
    parser.add_argument("--std", type=float, nargs="+", metavar="S", help="default 255 where only --mean is given")


def told_pixels(
    model: Model | QuantModel, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Model | QuantModel:
    """Return the model with what the command line says of a byte, and print what that is, unless it is byte / 255 as
    in our own files. Raises UserError for a float model with either, and what with_pixels raises."""
    if isinstance(model, QuantModel):
        return told(with_pixels(model, mean, std))
    if mean is not None or std is not None:
        raise UserError("--mean and --std are for an int8 file: give a float one its own with mcunet quantize")
    return model


def told(model: QuantModel) -> QuantModel:
    """Print what a byte of a picture is to the model, unless it is byte / 255, and return the model."""
    if model.pixels is not None or model.scales[model.graph.inputs[0].name] != PIXELS:
        print(described(model))
        warnings.simplefilter("ignore", PixelsWarning)  # which would say it again
    return model
