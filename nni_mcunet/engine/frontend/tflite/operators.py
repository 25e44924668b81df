"""Read TensorFlow Lite's operators as ops of our graph. A handler takes (reader, operator), adds ops, and returns the
Feature that its first output is, or a list of them; None where the value is a constant. Raises UnsupportedOp for what
no kernel has.

In an int8 file a function of one value is a table of 256, made of TFLite's own integers.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from ....core.ir.graph import Tensor
from ....core.types import Int8Map
from ...model import PROBABILITY, QuantWeights, Scale
from ...ops import tflm
from ..feature import Feature, kept, same_layout
from ..layers import affine, clamp, concatenate
from .arithmetic import arithmetic, prelu
from .convolutions import MOST, activated, conv, depthwise, ends, fully_connected, window
from .file import Operator
from .values import Values

OneMap = Callable[[Values, Operator], Feature]
Handler = Callable[[Values, Operator], Feature | list[Feature] | None]

MOST_PICKED = 1 << 20  # weights of a convolution that stands for a slice of channels
SIGMOID, TANH = Scale(1 / 256, -128), Scale(1 / 128, 0)  # the only scales that their kernels write


# Layout: nothing is left of these in our graph.


def reshape(reader: Values, op: Operator) -> Feature:
    """Read RESHAPE, SQUEEZE and EXPAND_DIMS: the map under another shape. Raises GraphError."""
    x, declared = reader.feature(op), reader.file.tensors[op.outputs[0]]
    y = x.reshaped(declared.shape) or op.wrong(f"{list(x.shape)} has not the elements of {list(declared.shape)}")
    return moved(reader, op, y)


def transpose(reader: Values, op: Operator) -> Feature:
    """Read TRANSPOSE: the map with its elements counted in another order. Raises UnsupportedOp."""
    x, perm = reader.feature(op), reader.integers(op, 1)
    y = x.transposed(perm)
    return moved(reader, op, y) if y else op.refuse(f"perm {perm} of {list(x.shape)} divides an axis; leave it away")


def moved(reader: Values, op: Operator, y: Feature) -> Feature:
    """Return a map whose values go on as they are: under another scale where the file says so."""
    if not reader.quantized:
        return y
    given = reader.scale(op, op.outputs[0])
    return y if reader.scale_of(y.tensor.name) == given else reader.put_table(op, y, tflm.int8(tflm.VALUES), given)


def quantize(reader: Values, op: Operator) -> Feature:
    """Read QUANTIZE: of the image its scale, of any other map a change of scale. Raises UnsupportedOp."""
    if not reader.quantized or reader.is_constant(op, 0):
        op.refuse("in a float file; convert without it, or the whole model to int8")
    x, declared = reader.feature(op), reader.file.tensors[op.outputs[0]]
    last = declared.kind == "uint8" and op.outputs[0] in reader.file.outputs
    given = reader.scale_as_int8(declared) if last else reader.scale(op, op.outputs[0])
    name = x.tensor.name
    if name not in reader.ops and name not in reader.scales:
        reader.scales[name] = given
    if reader.scale_of(name) == given:
        return x
    return reader.put_table(op, x, tflm.rescaled(reader.scale_of(name), given), given)


def dequantize(reader: Values, op: Operator) -> Feature | None:
    """Read DEQUANTIZE of a constant, or before an output of the network. Raises UnsupportedOp for others."""
    if reader.is_constant(op, 0):
        reader.constants[op.outputs[0]] = reader.numbers(op, 0)
        return None
    if op.outputs[0] not in reader.file.outputs:
        op.refuse("computes on in float; quantize the whole model to int8, or end it before")
    return reader.feature(op)


# Windows and maps.


def max_pool(reader: Values, op: Operator) -> Feature:
    """Read MAX_POOL_2D. Raises UnsupportedOp."""
    x = reader.map(op)
    fields = window(op, x, (op.option("FilterHeight"), op.option("FilterWidth")))
    y = Feature.of(reader.add(op, "maxpool", (x,), x.c, **fields), "hwc")
    return _pooled(reader, op, x, y)


def average_pool(reader: Values, op: Operator) -> Feature:
    """Read AVERAGE_POOL_2D; over a whole float map it is the global mean. Raises UnsupportedOp."""
    x = reader.map(op)
    fields = window(op, x, (op.option("FilterHeight"), op.option("FilterWidth")))
    whole = fields["k"] == (x.h, x.w) and not any(fields["pad"]) and not reader.quantized
    y = reader.add(op, "gap", (x,), x.c) if whole else reader.add(op, "avgpool", (x,), x.c, **fields)
    return _pooled(reader, op, x, Feature.of(y, "hwc"))


def _pooled(reader: Values, op: Operator, x: Tensor, y: Feature) -> Feature:
    if reader.quantized and reader.scale_of(x.name) != reader.scale(op, op.outputs[0]):
        op.refuse("has another scale than its input, which TFLite refuses, too; convert again")
    return activated(reader, op, y)


def mean(reader: Values, op: Operator) -> Feature:
    """Read MEAN over height and width. Raises UnsupportedOp for other axes."""
    x = reader.feature(op)
    axes, groups = [a % len(x.shape) for a in reader.integers(op, 1)], x.groups()
    spatial = sorted(axis for axis in x.order if axis != "c")
    if groups is None or sorted("".join(groups[a] for a in set(axes))) != spatial:
        op.refuse(f"axes {axes} of {list(x.shape)}: the mean over height and width is known")
    y = reader.put(op, "gap", (x.tensor,), x.tensor.c)
    return Feature(y, kept("c", y), reader.file.tensors[op.outputs[0]].shape)


def pad(reader: Values, op: Operator) -> Feature:
    """Read PAD and PADV2 with zeros around height and width. Raises UnsupportedOp for others."""
    x, ends = reader.map(op), np.array(reader.integers(op, 1)).reshape(-1, 2)
    zeros = op.kind == "PAD" or _is_zero(reader, op)
    if ends.shape != (4, 2) or ends[[0, 3]].any() or (ends < 0).any() or not zeros:
        op.refuse(f"pads {ends.tolist()}: pad height and width, with zeros")
    if not ends.any():
        return moved(reader, op, Feature.of(x, "hwc"))
    (top, bottom), (left, right) = ends[1].tolist(), ends[2].tolist()
    y = reader.add(op, "pad", (x,), x.c, pad=(top, left, bottom, right))
    if reader.quantized:
        reader.scales[y.name] = reader.scale_of(x.name)
    return moved(reader, op, Feature.of(y, "hwc"))


def _is_zero(reader: Values, op: Operator) -> bool:
    """Tell whether PADV2 pads with zero, in int8 the zero point."""
    value = reader.constant(op, 2).reshape(-1)
    zero = reader.scale_of(reader.feature(op).tensor.name).zero_point if reader.quantized else 0
    return value.size == 1 and bool(value[0] == zero)


def resize_nearest(reader: Values, op: Operator) -> Feature:
    """Read RESIZE_NEAREST_NEIGHBOR by whole factors. Raises UnsupportedOp for others."""
    x, size = reader.map(op), reader.integers(op, 1)
    whole = len(size) == 2 and all(n % m == 0 and 1 <= n // m <= MOST for n, m in zip(size, (x.h, x.w), strict=True))
    if not whole or op.option("AlignCorners"):
        op.refuse(f"to {size} from {[x.h, x.w]}: use a whole factor, without align_corners")
    factors = size[0] // x.h, size[1] // x.w
    middle = np.float32(0.5 if op.option("HalfPixelCenters") else 0)
    for length, factor in zip((x.h, x.w), factors, strict=True):
        at = np.arange(length * factor, dtype=np.float32) + middle
        taken = np.floor(at * (np.float32(length) / np.float32(length * factor)))
        if (np.minimum(taken, length - 1) != np.arange(length * factor) // factor).any():
            op.refuse(f"by {factors}: float32 misses a pixel here; use half_pixel_centers")
    y = reader.add(op, "upsample", (x,), x.c, s=factors)
    if reader.quantized:
        reader.scales[y.name] = reader.scale_of(x.name)
    return moved(reader, op, Feature.of(y, "hwc"))


def concat(reader: Values, op: Operator) -> Feature:
    """Read CONCATENATION of channels. Raises UnsupportedOp for another axis and for several scales."""
    maps = [reader.feature(op, i) for i in range(len(op.inputs))]
    if reader.quantized and {reader.scale_of(m.tensor.name) for m in maps} != {reader.scale(op, op.outputs[0])}:
        op.refuse("joins maps of several scales, which TFLite refuses, too; convert again")
    return activated(reader, op, concatenate(reader, op, maps, op.option("Axis")))


# Parts of a map: 0/1 convolutions, exact in every scale.


def split(reader: Values, op: Operator) -> list[Feature]:
    """Read SPLIT of (axis, value) and SPLIT_V of (value, sizes, axis). Raises GraphError, UnsupportedOp."""
    at, last = (1, 0) if op.kind == "SPLIT" else (0, 2)
    x, axes = reader.feature(op, at), reader.integers(op, last)
    axis = axes[0] % len(x.shape) if len(axes) == 1 else op.wrong(f"axes {axes}")
    sizes = [reader.file.tensors[i].shape[axis] if len(reader.file.tensors[i].shape) > axis else 0 for i in op.outputs]
    if sum(sizes) != x.shape[axis] or min(sizes) < 1:
        op.wrong(f"parts of {sizes} of {list(x.shape)}")
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    whole = [(0, n, 1) for n in x.shape]
    return [
        part(reader, op, x, [*whole[:axis], (start, size, 1), *whole[axis + 1 :]])
        for start, size in zip(starts, sizes, strict=True)
    ]


def slice_(reader: Values, op: Operator) -> Feature:
    """Read SLICE. Raises GraphError, UnsupportedOp."""
    x, begin, size = reader.feature(op), reader.integers(op, 1), reader.integers(op, 2)
    if not len(begin) == len(size) == len(x.shape):
        op.wrong(f"begin {begin} and size {size} of {list(x.shape)}")
    sizes = [n - b if s == -1 else s for n, b, s in zip(x.shape, begin, size, strict=True)]
    return part(reader, op, x, list(zip(begin, sizes, [1] * len(sizes), strict=True)))


def strided_slice(reader: Values, op: Operator) -> Feature:
    """Read STRIDED_SLICE with positive steps. Raises GraphError, UnsupportedOp."""
    x = reader.feature(op)
    begin, end, step = (reader.integers(op, i) for i in (1, 2, 3))
    if not len(begin) == len(end) == len(step) == len(x.shape) or min(step) < 1:
        op.refuse(f"from {begin} to {end} by {step} of {list(x.shape)}: positive steps, one an axis, are known")
    if op.option("EllipsisMask") or op.option("NewAxisMask"):
        op.refuse("has an ellipsis or a new axis; write the slice out")
    ranges = []
    for i, n in enumerate(x.shape):
        first = None if op.option("BeginMask") >> i & 1 else begin[i]
        last = None if op.option("EndMask") >> i & 1 else end[i]
        if op.option("ShrinkAxisMask") >> i & 1:
            last = begin[i] % n + 1
        first, last, _ = slice(first, last, step[i]).indices(n)
        ranges.append((first, max(0, -(-(last - first) // step[i])), step[i]))
    return part(reader, op, x, ranges)


def part(reader: Values, op: Operator, x: Feature, ranges: list[tuple[int, int, int]]) -> Feature:
    """Return the part of a map in (first, count, step) of each of its dimensions."""
    t = x.tensor
    groups = x.groups() or [""] * len(ranges)
    if any(f < 0 or c < 1 or f + (c - 1) * s >= n for (f, c, s), n in zip(ranges, x.shape, strict=True)):
        op.wrong(f"takes {ranges} of {list(x.shape)}")
    takes = {"h": (0, t.h, 1), "w": (0, t.w, 1), "c": (0, t.c, 1)}
    for taken, n, group in zip(ranges, x.shape, groups, strict=True):
        if taken != (0, n, 1):
            if group not in takes:
                op.refuse(f"takes {taken} of a dimension of {n} which is no axis of the map; reshape behind it")
            takes[group] = taken
    y, shape = t, tuple(count for _, count, _ in ranges)
    if takes["c"] != (0, t.c, 1):
        first, count, step = takes["c"]
        if count * t.c > MOST_PICKED:
            op.refuse(
                f"takes {count} of {t.c} channels, which is a convolution of {count * t.c} weights; leave it away"
            )
        weight = np.zeros((count, t.c, 1, 1), np.int8)
        weight[np.arange(count), first + step * np.arange(count)] = 1
        y = picked(reader, op, y, weight)
    (top, h, down), (left, w, right) = takes["h"], takes["w"]
    if (top, h, down) != (0, t.h, 1) or (left, w, right) != (0, t.w, 1):
        weight = np.zeros((y.c, 1, top + 1, left + 1), np.int8)
        weight[:, :, top, left] = 1
        if max(top, left, down, right) >= MOST:
            op.refuse(f"takes {ranges} of {list(x.shape)}: it begins too far from the edge; crop the picture instead")
        ends = (h - 1) * down + top + 1 - t.h, (w - 1) * right + left + 1 - t.w
        y = picked(reader, op, y, weight, groups=y.c, s=(down, right), pad=(0, 0, *ends))
    return moved(reader, op, Feature(y, kept(x.order, y), shape))


def picked(reader: Values, op: Operator, x: Tensor, weight: Int8Map, **fields: Any) -> Tensor:
    """Append a convolution of zeros and ones (cout, cin, kh, kw) that keeps the scale."""
    y = reader.add(op, "conv", (x,), len(weight), k=weight.shape[2:], **fields)
    if not reader.quantized:
        reader.weights[y.name] = weight.astype(np.float32), np.zeros(len(weight), np.float32)
    else:
        reader.scales[y.name] = reader.scale_of(x.name)
        ones = np.ones(len(weight), np.float32)
        reader.weights[y.name] = QuantWeights(weight, ones, np.zeros(len(weight), np.int32))
    return y


# Element by element.


def function(act: str, table: Callable[..., np.ndarray], fixed: Scale | None = None, **option: str) -> OneMap:
    """Return the handler of a function of one value: `act` of a float file, table(x, y, *args) of an int8 one. fixed:
    the only scale that its kernel writes; option: the argument and the name it has in the file."""

    def handler(reader: Values, op: Operator) -> Feature:
        x, args = reader.feature(op), tuple(float(op.option(name)) for name in option.values())
        if not np.isfinite(args).all():
            op.wrong(f"arguments {args}")
        if not reader.quantized:
            return same_layout(x, reader.add(op, "act", (x.tensor,), x.tensor.c, act=act, args=args))
        given = reader.scale(op, op.outputs[0])
        if fixed is not None and given != fixed:
            op.refuse(f"writes the scale {given.scale:g} and zero point {given.zero_point}, which TFLite refuses, too")
        made = table(reader.scale_of(x.tensor.name), given, *args)
        return reader.put_table(op, x, made, given, act=act, args=args)

    return handler


def rectifier(lo: float, hi: float) -> OneMap:
    """Return the handler of RELU and its kind as operators of their own. In the scale of its input it is a clamp."""

    def handler(reader: Values, op: Operator) -> Feature:
        x = reader.feature(op)
        if not reader.quantized:
            return clamp(reader, op, x, lo, hi)
        before, given = reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
        if before == given:
            y = clamp(reader, op, x, *ends((lo, hi), given))
            reader.scales[y.tensor.name] = given
            return y
        return reader.put_table(op, x, tflm.rectified(before, given, lo, hi), given)

    return handler


def hard_swish(reader: Values, op: Operator) -> Feature:
    """Read HARD_SWISH. Raises UnsupportedOp for scales that TFLite does not compute either."""
    x = reader.feature(op)
    if reader.quantized and reader.scale_of(x.tensor.name).scale / 128 > reader.scale(op, op.outputs[0]).scale:
        op.refuse("its output's scale is below 1/128 of its input's, which TFLite does not compute either")
    return function("hswish", tflm.hard_swish)(reader, op)


def softmax(reader: Values, op: Operator) -> Feature:
    """Read SOFTMAX over the channels of each position. Raises UnsupportedOp for another axis."""
    x, beta = reader.feature(op), float(op.option("Beta"))
    if not x.has_channels_at(len(x.shape) - 1):
        op.refuse(f"over the last of {list(x.shape)}: softmax over the channels of each position is known")
    if not reader.quantized:
        if beta != 1:
            x = affine(reader, op, x, beta, 0)
    elif beta != 1 or reader.scale(op, op.outputs[0]) != PROBABILITY:
        op.refuse(f"beta {beta:g} and the scale {reader.scale(op, op.outputs[0]).scale:g}, expected 1 and 1/256")
    return same_layout(x, reader.put(op, "softmax", (x.tensor,), x.tensor.c))


OPERATORS: dict[str, Handler] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "ADD": arithmetic,
    "SUB": arithmetic,
    "MUL": arithmetic,
    "PAD": pad,
    "PADV2": pad,
    "MEAN": mean,
    "AVERAGE_POOL_2D": average_pool,
    "MAX_POOL_2D": max_pool,
    "CONCATENATION": concat,
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "SPLIT": split,
    "SPLIT_V": split,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "SOFTMAX": softmax,
    "LOGISTIC": function("sigmoid", tflm.logistic, SIGMOID),
    "TANH": function("tanh", tflm.tanh, TANH),
    "HARD_SWISH": hard_swish,
    "LEAKY_RELU": function("leaky", tflm.leaky, slope="Alpha"),
    "PRELU": prelu,
    "RELU": rectifier(0, inf),
    "RELU6": rectifier(0, 6),
    "RELU_N1_TO_1": rectifier(-1, 1),
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
}
