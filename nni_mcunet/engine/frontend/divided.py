"""Read channels as positions: a vector under the shape of a map, as a decoder begins, and channels that are divided in
their last dimension. Both are a depth_to_space.
"""

import numpy as np

from ...core.ir.graph import Tensor
from .builder import Builder, Layer
from .feature import Feature, kept
from .imported import MOST_SIDE


def vector_as_map(builder: Builder, layer: Layer, x: Feature, order: str) -> Feature | None:
    """Return a vector under a shape (1, ., ., .) as the map whose axes these are, "chw" or "hwc"; None for another."""
    if (x.tensor.h, x.tensor.w) != (1, 1) or len(x.shape) != 4 or x.shape[0] != 1:
        return None
    places = np.arange(x.tensor.c).reshape(x.shape[1:]).transpose([order.index(axis) for axis in "hwc"])
    h, w, c = places.shape
    numbers = tuple(places.reshape(-1).tolist())
    t = x.tensor
    if max(h, w) > MOST_SIDE:
        return None
    if numbers != tuple(range(t.c)):
        t = builder.add(layer, "take", (t,), t.c, channels=numbers)
    return Feature.of(_spread(builder, layer, t, (h, w), c), order)


def parts_as_channels(builder: Builder, layer: Layer, x: Feature) -> Feature | None:
    """Return a map whose last dimension is a part of its channels under the same shape, each part a position; None for
    any other. The elements stay where they are in memory."""
    parts, rest = divmod(x.tensor.c, x.shape[-1])
    if x.order != kept("hwc", x.tensor) or rest or not 1 < parts <= MOST_SIDE:
        return None
    y = _spread(builder, layer, x.tensor, (1, parts), x.shape[-1])
    return Feature(y, kept("hwc", y), x.shape)


def _spread(builder: Builder, layer: Layer, t: Tensor, block: tuple[int, int], channels: int) -> Tensor:
    return builder.add(layer, "depth_to_space", (t,), channels, s=block)
