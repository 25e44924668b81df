"""Read TensorFlow Lite's operators as ops of our graph. A handler takes (reader, operator), adds ops, and returns the
Feature that its first output is, or a list of them; None where the value is a constant. Raises UnsupportedOp for what
no kernel has.
"""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from ....core.ir.graph import Tensor
from ....core.types import Int8Map
from ...model import QuantWeights, Scale
from ...ops import tflm
from ..feature import Feature, kept
from .arithmetic import arithmetic, prelu
from .convolutions import MOST, conv, depthwise, fully_connected
from .file import Operator
from .functions import function, gelu, hard_swish, int8_function, rectifier, softmax
from .islands import dequantized
from .maps import average_pool, concat, max_pool, mean, moved, pad, reduce_max, resize_nearest, tile
from .values import Values

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
    """Read DEQUANTIZE of a constant or a map. Raises UnsupportedOp, GraphError."""
    if reader.is_constant(op, 0):
        reader.constants[op.outputs[0]] = reader.numbers(op, 0)
        return None
    return dequantized(reader, op)


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


OPERATORS: dict[str, Handler] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "FULLY_CONNECTED": fully_connected,
    "ADD": arithmetic,
    "SUB": arithmetic,
    "MUL": arithmetic,
    "DIV": arithmetic,
    "MAXIMUM": arithmetic,
    "MINIMUM": arithmetic,
    "PAD": pad,
    "PADV2": pad,
    "MEAN": mean,
    "REDUCE_MAX": reduce_max,
    "AVERAGE_POOL_2D": average_pool,
    "MAX_POOL_2D": max_pool,
    "CONCATENATION": concat,
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "TILE": tile,
    "BROADCAST_TO": tile,
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
    "RELU_0_TO_1": rectifier(0, 1),
    "ABS": int8_function(tflm.absolute),
    "EXP": int8_function(tflm.exponential),
    "LOG": int8_function(tflm.logarithm),
    "ELU": int8_function(tflm.elu),
    "GELU": gelu,
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
}
