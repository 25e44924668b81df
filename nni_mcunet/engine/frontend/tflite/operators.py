"""Read TensorFlow Lite's operators as ops of our graph. A handler takes (reader, operator), adds ops, and returns the
Feature that its first output is, or a list of them; None where the value is a constant. Raises UnsupportedOp for what
no kernel has.
"""

from collections.abc import Callable
from functools import partial
from math import inf, prod

import numpy as np

from ...model import Scale
from ...ops import tflm
from ..feature import Feature
from ..moved import Moved, moved, reshaped, transposed
from .arithmetic import arithmetic, prelu
from .constants import places
from .convolutions import conv, depthwise, fully_connected, transpose_conv
from .file import Operator
from .functions import function, gelu, hard_swish, int8_function, rectifier, softmax
from .islands import dequantized
from .maps import average_pool, concat, max_pool, mean, pad, passed_on, reduce_max, resize_nearest, tile
from .values import Values

Handler = Callable[[Values, Operator], Feature | Moved | list[Feature | Moved] | None]

SIGMOID, TANH = Scale(1 / 256, -128), Scale(1 / 128, 0)  # the only scales that their kernels write


# Layout: nothing is left of these in our graph.


def reshape(reader: Values, op: Operator) -> Feature | Moved:
    """Read RESHAPE, SQUEEZE and EXPAND_DIMS: the map under another shape. Raises GraphError."""
    x = reader.view(op)
    shape = _target(reader, op, x.shape)
    y = reshaped(op, x, shape) or op.wrong(f"{list(x.shape)} has not the elements of {list(shape)}")
    return passed_on(reader, op, y)


def _target(reader: Values, op: Operator, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that an operator gives one of this shape: what its constant says, else what is declared."""
    numbers = reader.integers(op, 1) if op.kind != "SQUEEZE" and reader.is_constant(op, 1) else []
    if op.kind == "EXPAND_DIMS" and len(numbers) == 1:
        at = numbers[0] % (len(shape) + 1)
        return *shape[:at], 1, *shape[at:]
    if op.kind != "RESHAPE" or not numbers:
        return reader.declared(op.outputs[0], shape)
    rest = prod(n for n in numbers if n != -1)
    return tuple(prod(shape) // rest if n == -1 and rest else n for n in numbers)


def transpose(reader: Values, op: Operator) -> Feature | Moved:
    """Read TRANSPOSE: the map with its elements counted in another order. Raises GraphError."""
    return passed_on(reader, op, transposed(op, reader.view(op), reader.integers(op, 1)))


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


# Parts of a map and blocks of it.


def split(reader: Values, op: Operator) -> list[Feature | Moved]:
    """Read SPLIT of (axis, value) and SPLIT_V of (value, sizes, axis). Raises GraphError, UnsupportedOp."""
    at, last = (1, 0) if op.kind == "SPLIT" else (0, 2)
    x, axes = reader.view(op, at, whole=True), reader.integers(op, last)
    axis = axes[0] % len(x.shape) if len(axes) == 1 else op.wrong(f"axes {axes}")
    sizes = reader.integers(op, 1) if op.kind == "SPLIT_V" else [x.shape[axis] // len(op.outputs)] * len(op.outputs)
    sizes = [x.shape[axis] - sum(sizes) - 1 if n == -1 else n for n in sizes]
    if len(sizes) != len(op.outputs) or sum(sizes) != x.shape[axis] or min(sizes) < 1:
        op.wrong(f"parts of {sizes} of {list(x.shape)}")
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    whole = [(0, n, 1) for n in x.shape]
    return [
        part(reader, op, x, [*whole[:axis], (start, size, 1), *whole[axis + 1 :]], output)
        for output, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def slice_(reader: Values, op: Operator) -> Feature | Moved:
    """Read SLICE. Raises GraphError, UnsupportedOp."""
    x, begin, size = reader.view(op, whole=True), reader.integers(op, 1), reader.integers(op, 2)
    if not len(begin) == len(size) == len(x.shape):
        op.wrong(f"begin {begin} and size {size} of {list(x.shape)}")
    sizes = [n - b if s == -1 else s for n, b, s in zip(x.shape, begin, size, strict=True)]
    return part(reader, op, x, list(zip(begin, sizes, [1] * len(sizes), strict=True)))


def strided_slice(reader: Values, op: Operator) -> Feature | Moved:
    """Read STRIDED_SLICE. Raises GraphError, UnsupportedOp."""
    x = reader.view(op, whole=True)
    begin, end, step = (reader.integers(op, i) for i in (1, 2, 3))
    at = places(op, len(x.shape), begin, end, step)
    try:
        y = moved(op, x, lambda index: index[at])
    except IndexError as error:
        op.wrong(str(error))
    return passed_on(reader, op, y)


def part(
    reader: Values, op: Operator, x: Feature | Moved, ranges: list[tuple[int, int, int]], output: int = 0
) -> Feature | Moved:
    """Return the part of a map in (first, count, step) of each of its dimensions."""
    if any(f < 0 or c < 1 or f + (c - 1) * s >= n for (f, c, s), n in zip(ranges, x.shape, strict=True)):
        op.wrong(f"takes {ranges} of {list(x.shape)}")
    if any(taken != (0, n, 1) for taken, n in zip(ranges, x.shape, strict=True)):
        at = tuple(slice(first, first + count * step, step) for first, count, step in ranges)
        x = moved(op, x, lambda index: index[at])
    return passed_on(reader, op, x, output)


def unpack(reader: Values, op: Operator) -> list[Feature | Moved]:
    """Read UNPACK: each step along an axis as a map without it. Raises GraphError, UnsupportedOp."""
    x = reader.view(op, whole=True)
    axis = op.option("Axis") % max(len(x.shape), 1)
    if len(x.shape) < 2 or x.shape[axis] != len(op.outputs):
        op.wrong(f"{len(op.outputs)} parts of {list(x.shape)}")
    steps = [moved(op, x, partial(np.take, indices=i, axis=axis)) for i in range(len(op.outputs))]
    return [passed_on(reader, op, step, i) for i, step in enumerate(steps)]


def gather(reader: Values, op: Operator) -> Feature | Moved:
    """Read GATHER: a constant choice along one axis. Raises GraphError, UnsupportedOp."""
    x, places = reader.view(op, whole=True), reader.constant(op, 1)
    axis = op.option("Axis") % len(x.shape)
    if op.option("BatchDims") or places.ndim > 1 or places.dtype.kind != "i":
        op.refuse(f"places {places.tolist()} in batches: a row of whole numbers is known")
    if places.size == 0 or places.min() < 0 or places.max() >= x.shape[axis]:
        op.wrong(f"places {places.tolist()} of {list(x.shape)}")
    return passed_on(reader, op, moved(op, x, lambda index: index.take(places, axis)))


def space_to_depth(reader: Values, op: Operator) -> Feature:
    """Read SPACE_TO_DEPTH. Raises GraphError."""
    x, b = reader.map(op), op.option("BlockSize")
    if b < 1 or x.h % b or x.w % b:
        op.wrong(f"blocks of {b} of {x.h}x{x.w}")
    y = reader.add(op, "space_to_depth", (x,), x.c * b * b, k=(b, b), s=(b, b))
    return passed_on(reader, op, Feature.of(y, "hwc"))


def depth_to_space(reader: Values, op: Operator) -> Feature:
    """Read DEPTH_TO_SPACE. Raises GraphError."""
    x, b = reader.map(op), op.option("BlockSize")
    if b < 1 or x.c % (b * b):
        op.wrong(f"blocks of {b} of {x.c} channels")
    y = reader.add(op, "depth_to_space", (x,), x.c // (b * b), s=(b, b))
    return passed_on(reader, op, Feature.of(y, "hwc"))


OPERATORS: dict[str, Handler] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise,
    "TRANSPOSE_CONV": transpose_conv,
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
    "UNPACK": unpack,
    "GATHER": gather,
    "SPACE_TO_DEPTH": space_to_depth,
    "DEPTH_TO_SPACE": depth_to_space,
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
    "ABS": function("abs", tflm.absolute),
    "EXP": int8_function(tflm.exponential),
    "LOG": int8_function(tflm.logarithm),
    "ELU": function("elu", tflm.elu),
    "GELU": gelu,
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
}
