"""Say what a value of a file is to its reader: a constant, or a feature map of ours under the file's shape.

ONNX counts a map's elements by channel, row, column ("chw"), TFLite and the engine by row, column, channel ("hwc").
Transpose, Reshape and their kind change no element, only the order in which they are counted and the shape: a Feature
holds both, so that layout costs nothing and what is no mere layout is found out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ...core.ir.graph import Tensor
from ...core.types import Floats


@dataclass(frozen=True)
class Feature:
    """A map of a file: `tensor` of our graph; `order`, the axes of it that are longer than 1 in the order in which its
    elements are counted; `shape`, as the file has it."""

    tensor: Tensor
    order: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor, order: str = "chw") -> "Feature":
        """Return a map as it comes out of an operator: (1, c, h, w), or in another order of the three."""
        return cls(tensor, kept(order, tensor), (1, *(getattr(tensor, axis) for axis in order)))

    @property
    def is_map(self) -> bool:
        """Tell whether it is (1, c, h, w)."""
        t = self.tensor
        return self.shape == (1, t.c, t.h, t.w) and self.order == kept("chw", t)

    @property
    def is_signal(self) -> bool:
        """Tell whether it is (1, c, positions), of one row or one column."""
        t = self.tensor
        return 1 in (t.h, t.w) and self.shape == (1, t.c, t.h * t.w) and self.order == kept("chw", t)

    @property
    def is_turned(self) -> bool:
        """Tell whether it is (1, c, positions, 1) of a map of one row, or (1, c, 1, positions) of one of one column."""
        t = self.tensor
        turned = 1 in (t.h, t.w) and (self.shape, self.order) == ((1, t.c, t.w, t.h), kept("chw", t))
        return turned and not self.is_map

    @property
    def looks_like_a_map(self) -> bool:
        """Tell whether it has the shape of a plain map or signal and is none."""
        plain = replace(self, order=kept("chw", self.tensor))
        return self.order != plain.order and (plain.is_map or plain.is_signal or plain.is_turned)

    @property
    def is_channels_last(self) -> bool:
        """Tell whether it is (1, h, w, c) and no (1, c, h, w)."""
        t = self.tensor
        return self.shape == (1, t.h, t.w, t.c) and self.order == kept("hwc", t) and not self.is_map

    @property
    def is_ours(self) -> bool:
        """Tell whether its elements are counted as the engine counts them, or it is a plain map or signal."""
        return self.is_map or self.is_signal or self.is_turned or self.order == kept("hwc", self.tensor)

    def groups(self) -> list[str] | None:
        """Return for each dimension of `shape` the axes that it is made of; None where a dimension divides an axis."""
        left, found = self.order, []
        for size in self.shape:
            group = ""
            while left and prod(getattr(self.tensor, a) for a in group) < size:
                group, left = group + left[0], left[1:]
            if prod(getattr(self.tensor, a) for a in group) != size:
                return None
            found.append(group)
        return found

    def has_channels_at(self, axis: int) -> bool:
        """Tell whether this dimension is the channels and nothing else. One channel may be any dimension of 1."""
        groups = self.groups()
        return groups is not None and 0 <= axis < len(groups) and groups[axis] == kept("c", self.tensor)

    def reshaped(self, shape: Sequence[int]) -> "Feature | None":
        """Return the map under another shape, None where the number of elements would be another."""
        found = tuple(int(n) for n in shape)
        return replace(self, shape=found) if prod(found) == self.tensor.size and min(found, default=1) > 0 else None

    def transposed(self, perm: Sequence[int]) -> "Feature | None":
        """Return the map with its dimensions in another order, None where one divides an axis (a channel shuffle, for
        instance)."""
        groups = self.groups()
        if groups is None or sorted(perm) != list(range(len(self.shape))):
            return None
        return replace(self, order="".join(groups[i] for i in perm), shape=tuple(self.shape[i] for i in perm))


def kept(axes: str, tensor: Tensor) -> str:
    """Return the axes that are longer than 1: the others say nothing of an order."""
    return "".join(axis for axis in axes if getattr(tensor, axis) > 1)


def with_channels(y: Tensor, x: Feature, axis: int) -> Feature:
    """Return `y`, of the positions of x and other channels, under x's layout, its channels at `axis`, which are x's
    (has_channels_at)."""
    groups = x.groups()
    assert groups is not None  # the caller has asked has_channels_at
    groups[axis] = "c"
    return Feature(y, kept("".join(groups), y), (*x.shape[:axis], y.c, *x.shape[axis + 1 :]))


def same_layout(x: Feature, y: Tensor) -> Feature:
    """Return `y`, of the size of x, under x's shape and order."""
    return Feature(y, x.order, x.shape)


@dataclass(frozen=True)
class Integers:
    """A constant of a quantised file: real = scale * (values - zero), scale and zero one number or one for each
    step along `axis`."""

    values: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int

    @property
    def real(self) -> Floats | None:
        """The real values in float32; None where it has another number of scales than steps along `axis`."""
        axis = self.axis % max(self.values.ndim, 1)
        sides = [-1 if i == axis else 1 for i in range(self.values.ndim)]
        if any(v.size not in (1, *self.values.shape[axis : axis + 1]) for v in (self.zero, self.scale)):
            return None
        zero, scale = (v.reshape(sides if v.size > 1 else ()) for v in (self.zero, self.scale))
        return (self.values.astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
