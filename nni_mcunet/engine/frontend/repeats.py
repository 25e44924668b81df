"""Find rows and columns that stand several times in a row among the elements of a map that were moved: what Tile,
Expand and Keras' UpSampling2D make, and an upsample gives."""

from itertools import pairwise
from math import gcd

import numpy as np

from ...core.ir.graph import Tensor
from ...core.types import Ints


def without_repeats(tensor: Tensor, index: Ints) -> tuple[Ints, str, tuple[int, int]]:
    """Return an index without the rows and columns that repeat the one before them, the order of its axes ("chw" or
    "hwc"), and how often each row and each column stood there.

    index: of a map (1, c, h, w) or (1, h, w, c); of any other shape it is returned as it is.
    """
    order = _order(tensor, index) if index.ndim == 4 and index.shape[0] == 1 else ""
    times = {dim: _times(index, dim) for dim, axis in enumerate(order, 1) if axis != "c"}
    for dim, n in times.items():
        index = index.take(np.arange(0, index.shape[dim], n), dim)
    factors = {order[dim - 1]: n for dim, n in times.items()}
    return index, order, (factors.get("h", 1), factors.get("w", 1))


def _order(tensor: Tensor, index: Ints) -> str:
    """Return the order of the axes behind the batch: "hwc", where what changes along them says so, else "chw"."""
    places = np.unravel_index(index, (tensor.h, tensor.w, tensor.c))
    changes = [
        {axis for axis, place in zip("hwc", places, strict=True) if (place != place.take([0], dim)).any()}
        for dim in (1, 2, 3)
    ]
    fitting = [order for order in ("chw", "hwc") if all(set(a) >= b for a, b in zip(order, changes, strict=True))]
    return fitting[0] if fitting else ""


def _times(index: Ints, dim: int) -> int:
    """Return how often each step along a dimension stands in a row."""
    lines = np.moveaxis(index, dim, 0).reshape(index.shape[dim], -1)
    ends = [0, *(np.flatnonzero((lines[1:] != lines[:-1]).any(1)) + 1).tolist(), len(lines)]
    return gcd(*(b - a for a, b in pairwise(ends)))
