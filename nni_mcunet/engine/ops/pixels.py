"""Say what the byte of a picture is to an int8 network: real = (byte - mean) / std, rounded to the input's scale.

A float network is quantised as one that reads byte / 255, and its integer is byte - 128. A file that came as int8 says
only which real values its input holds. Where these are the range of a usual way to scale pictures, that way is assumed;
elsewhere byte - 128 is the file's integer. The user's --mean and --std say otherwise.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.errors import UserError
from ...core.int8 import LOWEST
from ...core.types import Doubles, Int8Map, Picture
from ..model import PIXELS, Pixels, QuantModel, Scale, input_shape

BYTES = np.arange(256)
USUAL = (Pixels((0,), (255,)), Pixels((127.5,), (127.5,)), Pixels((0,), (1,)), Pixels((128,), (1,)),
         Pixels((127.5,), (255,)), Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))  # fmt: skip
NEAR = 1 / 16  # of a range: as far as the ends that calibration finds may lie from those of a usual way
PLAIN = 0.75  # steps of the input: half a one is what rounding costs
PICTURES = (1, 3)  # channels


def pixels_of(model: QuantModel) -> Pixels:
    """Return what the user said, or else the usual way whose range the input has, or else that byte - 128 is the
    integer."""
    given = model.scales[model.graph.inputs[0].name]
    plain = Pixels((128.0 + given.zero_point,), (1 / given.scale,))
    if model.pixels is not None:
        return model.pixels
    channels = input_shape(model)[2]
    usual = (way for way in USUAL if channels in PICTURES and len(way.mean) in (1, channels))
    return next((way for way in usual if _has_range(way, given)), plain)


def table(model: QuantModel) -> Int8Map:
    """Return the integers of bytes 0 .. 255, int8 (channels, 256), one row where all channels have the same. They are
    byte - 128 where that is within PLAIN steps of what each byte stands for."""
    given, way = model.scales[model.graph.inputs[0].name], pixels_of(model)
    steps = _reals(way) / given.scale + given.zero_point
    if np.abs(steps - (BYTES + LOWEST)).max() < PLAIN:
        return (BYTES[None] + LOWEST).astype(np.int8)
    return given.quantize(_reals(way))


def is_plain(model: QuantModel) -> bool:
    """Tell whether the integer of every byte is byte - 128."""
    return bool((table(model) == BYTES + LOWEST).all())


def integers(model: QuantModel, picture: Picture) -> Int8Map:
    """Return what the network reads, int8 (h, w, c), of a photograph, uint8 (h, w, c)."""
    found = table(model)
    return found[np.arange(picture.shape[2]) % len(found), picture]


def as_read(model: QuantModel, picture: Picture) -> Picture:
    """Return these integers plus 128, uint8 (h, w, c): what a frame of C holds."""
    return (integers(model, picture).astype(np.int16) - LOWEST).astype(np.uint8)


def with_pixels(model: QuantModel, mean: Sequence[float] | None, std: Sequence[float] | None) -> QuantModel:
    """Return the model as one that reads (byte - mean) / std, each one number or one a channel, 0 and 255 unless
    given; the model itself where neither is. Raises UserError for other numbers of them, and where the input does not
    hold a quarter of the bytes."""
    if mean is None and std is None:
        return model
    image, given = model.graph.inputs[0], model.scales[model.graph.inputs[0].name]
    means, stds = (tuple(map(float, default if v is None else v)) for v, default in ((mean, (0,)), (std, (255,))))
    for name, values in (("mean", means), ("std", stds)):
        if len(values) not in (1, image.c) or not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            raise UserError(
                f"--{name} {' '.join(f'{v:g}' for v in values)}: expected one finite number or one for each of "
                f"{image.c} channels, a std above 0"
            )
    way = Pixels(*(tuple(values.tolist()) for values in np.broadcast_arrays(means, stds)))
    low, high = given.span
    reals, half = _reals(way), given.scale / 2
    if ((reals < low - half) | (reals > high + half)).mean(axis=1).max() > 0.25:
        raise UserError(
            f"--mean and --std make {_reals(way).min():.4g} to {_reals(way).max():.4g} of a picture, and the file's "
            f"input holds {low:.4g} to {high:.4g}: give those that the network was trained with"
        )
    return replace(model, pixels=way)


def is_assumed(model: QuantModel) -> bool:
    """Tell whether only the range of its input says what a byte of a picture is to it."""
    image = model.graph.inputs[0]
    return model.pixels is None and image.c in PICTURES and model.scales[image.name] != PIXELS


def described(model: QuantModel) -> str:
    """Say in a line which real value a byte is taken for, and why."""
    way, given = pixels_of(model), model.scales[model.graph.inputs[0].name]
    low, high = given.span
    if model.pixels is not None:
        return f"a byte of a picture is {way} to the network"
    why = f"as the range of its input, {low:.4g} to {high:.4g}, says"
    if way not in USUAL:
        why = f"its integers are the bytes less 128, for its input holds {low:.4g} to {high:.4g}, no usual range"
    return f"a byte of a picture is {way} to the network, {why}; --mean and --std say otherwise"


def _reals(way: Pixels) -> Doubles:
    """Return the real values of all bytes, (channels or 1, 256)."""
    return (BYTES - np.array(way.mean)[:, None]) / np.array(way.std)[:, None]


def _has_range(way: Pixels, given: Scale) -> bool:
    reals, (low, high) = _reals(way), given.span
    room = NEAR * (reals.max() - reals.min())
    return bool(abs(low - reals.min()) < room and abs(high - reals.max()) < room)
