"""Read TensorFlow Lite's pools, padding, resizing, repeating and joining of maps. Handlers as in operators.py."""

from dataclasses import replace
from math import prod
from typing import TypeVar

import numpy as np

from ....core.ir.graph import Tensor
from ....core.types import Ints
from ...ops import tflm
from ..feature import Feature, kept
from ..layers import concatenate, padded
from ..moved import MOST as FOLLOWED
from ..moved import Moved, moved, settled, spread, tiled
from .convolutions import MOST, activated, window
from .file import Operator
from .values import Values

AnyMap = TypeVar("AnyMap", Feature, Moved, Feature | Moved)


def passed_on(reader: Values, op: Operator, y: AnyMap, output: int = 0) -> AnyMap:
    """Return a map whose values go on as they are: under another scale where the file says so for this output."""
    if not reader.quantized:
        return y
    given, x = reader.scale(op, op.outputs[output]), y.tensor
    if reader.scale_of(x.name) == given:
        return y
    z = reader.add(op, "act", (x,), x.c)
    reader.tables[z.name], reader.scales[z.name] = tflm.int8(tflm.VALUES), given
    return replace(y, tensor=z)


def max_pool(reader: Values, op: Operator) -> Feature:
    """Read MAX_POOL_2D. Raises UnsupportedOp."""
    x, axes = reader.plane(op)
    fields = window(op, x, axes, (op.option("FilterHeight"), op.option("FilterWidth")))
    y = Feature.of(reader.add(op, "maxpool", (x,), x.c, **fields), axes)
    return _pooled(reader, op, x, y)


def average_pool(reader: Values, op: Operator) -> Feature:
    """Read AVERAGE_POOL_2D; over a whole float map it is the global mean. Raises UnsupportedOp."""
    x, axes = reader.plane(op)
    fields = window(op, x, axes, (op.option("FilterHeight"), op.option("FilterWidth")))
    whole = fields["k"] == (x.h, x.w) and not any(fields["pad"]) and not reader.quantized
    y = reader.add(op, "gap", (x,), x.c) if whole else reader.add(op, "avgpool", (x,), x.c, **fields)
    return _pooled(reader, op, x, Feature.of(y, axes))


def _pooled(reader: Values, op: Operator, x: Tensor, y: Feature) -> Feature:
    if reader.quantized and reader.scale_of(x.name) != reader.scale(op, op.outputs[0]):
        op.refuse("has another scale than its input, which TFLite refuses, too; convert again")
    return activated(reader, op, y)


def mean(reader: Values, op: Operator) -> Feature:
    """Read MEAN over height and width. Raises UnsupportedOp for other axes."""
    x = reader.feature(op)
    axes, shape = _reduced(reader, op, x)
    if sorted(axes) != sorted(axis for axis in x.order if axis != "c"):
        op.refuse(
            f"axes {reader.integers(op, 1)} of {list(x.shape)}: height and width together are known; end the model "
            "before it, or train with BatchNormalization in place of one that normalises each picture"
        )
    y = reader.put(op, "gap", (x.tensor,), x.tensor.c)
    return Feature(y, kept("c", y), shape)


def reduce_max(reader: Values, op: Operator) -> Feature:
    """Read REDUCE_MAX over height, width or both: a pool with a window as high or wide as the map. Raises UnsupportedOp
    for other axes."""
    x = reader.feature(op)
    axes, shape = _reduced(reader, op, x)
    t = x.tensor
    if "c" in axes:
        op.refuse(
            f"axes {reader.integers(op, 1)} of {list(x.shape)}: height, width or both are known; end the model before "
            "it"
        )
    k = t.h if "h" in axes else 1, t.w if "w" in axes else 1
    if max(k) > MOST:
        op.refuse(f"over {list(k)}: windows go to {MOST}")
    y = reader.add(op, "maxpool", (t,), t.c, k=k)
    if reader.quantized:
        reader.scales[y.name] = reader.scale_of(t.name)
    return passed_on(reader, op, Feature(y, kept(x.order, y), shape))


def _reduced(reader: Values, op: Operator, x: Feature) -> tuple[str, tuple[int, ...]]:
    """Return the axes that an operator reduces, "c" among them where it divides one, and the shape that is left."""
    axes, groups = {a % len(x.shape) for a in reader.integers(op, 1)}, x.groups()
    keeps = len(reader.file.tensors[op.outputs[0]].shape) == len(x.shape)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keeps or i not in axes)
    return "".join(groups[a] for a in axes) if groups is not None else "c", shape


def tile(reader: Values, op: Operator) -> Feature | Moved:
    """Read TILE and BROADCAST_TO. Raises UnsupportedOp, GraphError."""
    x, numbers = reader.view(op, whole=True), reader.integers(op, 1)
    if op.kind == "TILE" and len(numbers) != len(x.shape):
        op.wrong(f"repeats {list(x.shape)} {numbers} times")
    return passed_on(reader, op, (tiled if op.kind == "TILE" else spread)(op, x, numbers))


def _spread(order: str, factors: dict[str, int]) -> str:
    """Return the order of a map whose axes of one position, which say nothing of an order, become longer."""
    return order if set(order) >= {axis for axis, n in factors.items() if n > 1} else "hwc"


def pad(reader: Values, op: Operator) -> Feature:
    """Read PAD and PADV2 with zeros around height, width and channels, of a sequence around its positions. Raises
    UnsupportedOp for others."""
    x, numbers = reader.feature(op), reader.integers(op, 1)
    if len(numbers) != 2 * len(x.shape):
        op.wrong(f"{len(numbers)} pads of {list(x.shape)}")
    ends = np.array(numbers).reshape(-1, 2)
    zeros = op.kind == "PAD" or _is_zero(reader, op)
    axes, t = x.groups(), x.tensor
    if axes is not None and x.shape == (1, t.h, t.w, t.c):
        axes = ["", "h", "w", "c"]
    longer = np.flatnonzero(ends.any(1)).tolist()
    known = axes is not None and all(axes[i] in ("h", "w", "c") for i in longer)
    if axes is None or not known or (ends < 0).any() or not zeros:
        op.refuse(f"pads {ends.tolist()}: pad height, width and channels, with zeros")
    padded_int8 = reader.quantized and op.kind == "PAD" and bool(longer)
    if padded_int8 and _zero_point(reader, op) != reader.scale_of(t.name).zero_point:
        op.refuse("has another zero point than its input; convert again")
    sides = {axis: (0, 0) for axis in "hwc"} | {axes[i]: (int(ends[i, 0]), int(ends[i, 1])) for i in longer}
    (top, bottom), (left, right) = sides["h"], sides["w"]
    y = padded(reader, op, t, (top, left, bottom, right), sides["c"])
    grown = {axis: n for axis, n in (("h", y.h), ("w", y.w), ("c", y.c)) if n > 1}
    shape = tuple(n + int(ends[i].sum()) for i, n in enumerate(x.shape))
    return passed_on(reader, op, Feature(y, kept(_spread(x.order, grown), y), shape))


def _zero_point(reader: Values, op: Operator) -> int:
    """Return what TFLite pads with."""
    return reader.scale(op, op.outputs[0]).zero_point


def _is_zero(reader: Values, op: Operator) -> bool:
    """Tell whether PADV2 pads with zero, in int8 the zero point."""
    value = reader.constant(op, 2).reshape(-1)
    zero = reader.scale_of(reader.feature(op).tensor.name).zero_point if reader.quantized else 0
    return value.size == 1 and bool(value[0] == zero)


def resize_nearest(reader: Values, op: Operator) -> Feature:
    """Read RESIZE_NEAREST_NEIGHBOR: an enlargement by whole factors, or every n-th row and column. Raises UnsupportedOp
    for others."""
    x, size = reader.map(op), reader.integers(op, 1)
    if len(size) != 2 or min(size) < 1 or prod(size) * x.c > FOLLOWED:
        op.wrong(f"to {size} from {[x.h, x.w]}")
    rows, cols = (_nearest(op, n, m) for n, m in zip((x.h, x.w), size, strict=True))
    taken = moved(op, reader.feature(op), lambda index: index[:, rows][:, :, cols])
    y = settled(reader, taken)
    if y is None:
        op.refuse(
            f"to {size} from {[x.h, x.w]}: each row and column equally often, or every n-th, is known; use a whole "
            "factor, or half_pixel_centers where float32 misses a pixel"
        )
    return passed_on(reader, op, y)


def _nearest(op: Operator, length: int, wanted: int) -> Ints:
    """Return which of `length` positions each of the wanted ones is, in TFLite's float32."""
    corners = op.option("AlignCorners") and wanted > 1
    scale = np.float32(length - 1) / np.float32(wanted - 1) if corners else np.float32(length) / np.float32(wanted)
    at = (np.arange(wanted, dtype=np.float32) + np.float32(0.5 if op.option("HalfPixelCenters") else 0)) * scale
    steps = tflm.fp_round(at) if op.option("AlignCorners") else np.floor(at)
    return np.clip(steps.astype(np.int64), 0, length - 1)


def concat(reader: Values, op: Operator) -> Feature:
    """Read CONCATENATION of channels. Raises UnsupportedOp for another axis and for several scales."""
    if (parts := reader.joined(op, op.inputs, op.option("Axis"))) is not None:
        return activated(reader, op, passed_on(reader, op, parts))
    maps = [reader.feature(op, i) for i in range(len(op.inputs))]
    if reader.quantized and {reader.scale_of(m.tensor.name) for m in maps} != {reader.scale(op, op.outputs[0])}:
        op.refuse("joins maps of several scales, which TFLite refuses, too; convert again")
    return activated(reader, op, concatenate(reader, op, maps, op.option("Axis")))
