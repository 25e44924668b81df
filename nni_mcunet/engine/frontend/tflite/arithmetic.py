"""Read TensorFlow Lite's ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM and PRELU, of maps and constants. Handlers as in
operators.py.

An int8 map and one number make a table; a map and a number a channel a table a channel. A factor a channel within 8
bits is a 1x1 depth-wise convolution instead, whose rounding is that of TensorFlow Lite's products.
"""

from math import inf

import numpy as np

from ....core.types import Int8Map, Ints
from ...model import QuantWeights, Scale
from ...ops import tflm
from ...ops.fixed_point import Multiplier
from .. import layers
from ..feature import Feature, same_layout
from ..layers import DEAD, affine, clamp, combined
from .convolutions import activated, limits
from .file import Operator
from .one_value import of_one_value
from .values import Values

OF_MAPS = {"ADD": "add", "SUB": "add", "MUL": "mul"}  # operators of two maps -> the kind of op that they are


def arithmetic(reader: Values, op: Operator) -> Feature:
    """Read an operator of two maps, or of a map and a constant of one number or one a channel. Raises UnsupportedOp,
    GraphError."""
    constants = [reader.is_constant(op, i) for i in (0, 1)]
    if not any(constants):
        if op.kind not in OF_MAPS:
            op.refuse("of two maps is not known; end the model before it, or write it with ADD, SUB and MUL")
        a, b = reader.feature(op, 0), reader.feature(op, 1)
        if found := of_one_value(reader, a, b):
            x, *values = found
            table = _rounded(reader, op, [reader.scale_of(m.tensor.name) for m in (a, b)], values)
            return reader.put_table(op, x, table, _given(reader, op))
        return activated(reader, op, _of_two(reader, op))
    if all(constants):
        op.refuse("of two constants; convert again, with constants folded")
    at = constants.index(True)
    x = reader.feature(op, 1 - at)
    return _with_integers(reader, op, x, at) if reader.quantized else _with_numbers(reader, op, x, at)


def _with_numbers(reader: Values, op: Operator, x: Feature, at: int) -> Feature:
    """Append a function of a float map and the constant that is input `at`."""
    value = per_channel(reader, op, x, at, reader.numbers(op, at))
    if op.kind in ("MAXIMUM", "MINIMUM"):
        if value.size != 1:
            op.refuse("of a float map and several numbers is not known; give one number")
        bound = float(value[0])
        return clamp(reader, op, x, *((bound, inf) if op.kind == "MAXIMUM" else (-inf, bound)))
    if op.kind == "DIV" and (at == 0 or not value.all()):
        op.refuse("by a map, or by zero, is not known; multiply by the reciprocal")
    with np.errstate(over="ignore"):
        inverse = 1 / value if op.kind == "DIV" else value
    factor = {"MUL": value, "DIV": inverse, "SUB": 1 if at else -1}.get(op.kind, 1)
    summand = {"ADD": value, "SUB": -value if at else value}.get(op.kind, 0)
    return activated(reader, op, affine(reader, op, x, factor, summand))


def _of_two(reader: Values, op: Operator) -> Feature:
    """Append the sum or product. A difference is the sum with the negative: in int8 its values are ~q around ~zero
    point, exactly."""
    if op.kind != "SUB":
        return combined(reader, op, OF_MAPS[op.kind], reader.feature(op, 0), reader.feature(op, 1))
    x = reader.feature(op, 1)
    if reader.quantized:
        scale = reader.scale_of(x.tensor.name)
        negative = reader.put_table(op, x, (~tflm.VALUES).astype(np.int8), Scale(scale.scale, ~scale.zero_point))
    else:
        negative = affine(reader, op, x, -1, 0)
    return combined(reader, op, "add", reader.feature(op), negative)


def _with_integers(reader: Values, op: Operator, x: Feature, at: int) -> Feature:
    """Append the table, or the table a channel, of an int8 map and the constant that is input `at`."""
    declared, value = reader.tensor(op, at), reader.constant(op, at)
    if op.kind == "DIV":
        op.refuse("of int8 is not known: TFLite's own kernel is wrong for small quotients; multiply by the reciprocal")
    if declared.kind != "int8":
        op.refuse(f"a constant of {declared.kind}, expected int8")
    values = per_channel(reader, op, x, at, value).astype(np.int64)
    before, constant = reader.scale_of(x.tensor.name), reader.scale(op, op.inputs[at])
    less = values - constant.zero_point
    if op.kind == "MUL" and values.size > 1 and np.abs(less).max() <= 127:
        factor = tflm.product_factor(before, constant, reader.scale(op, op.outputs[0]))
        return activated(reader, op, times(reader, op, x, less, factor))
    tables = [_table(reader, op, before, constant, one, at) for one in values]
    return reader.put_table(op, x, tables[0] if len(tables) == 1 else np.stack(tables), _given(reader, op))


def _given(reader: Values, op: Operator) -> Scale:
    return reader.scale(op, op.outputs[0])


def _table(reader: Values, op: Operator, x: Scale, constant: Scale, value: int, at: int) -> Int8Map:
    """Tabulate an operator of int8 values (256,) of the scale x and a value, its input `at`."""
    scales, values = [x, constant], [tflm.VALUES, np.full(256, value)]
    if op.kind in ("MAXIMUM", "MINIMUM"):  # of the integers, whatever their scales
        return tflm.int8((np.maximum if op.kind == "MAXIMUM" else np.minimum)(*values))
    if at == 0:
        scales, values = scales[::-1], values[::-1]
    return _rounded(reader, op, scales, values)


def _rounded(reader: Values, op: Operator, scales: list[Scale], values: list[np.ndarray]) -> Int8Map:
    """Return the sums, differences or products of int8 values of these two scales."""
    (a, b), (lo, hi), given = scales, limits(op), _given(reader, op)
    if op.kind == "MUL":
        return tflm.Product.of(a, b, given, lo, hi)(*values)
    return tflm.Sum.of(a, b, given, lo, hi, sign=-1 if op.kind == "SUB" else 1)(*values)


def prelu(reader: Values, op: Operator) -> Feature:
    """Read PRELU of one slope, or of one a channel. Raises UnsupportedOp, GraphError."""
    x, given_slopes = reader.feature(op), reader.constant(op, 1)
    if not reader.quantized:
        numbers = per_channel(reader, op, x, 1, reader.numbers(op, 1))
        if numbers.size > 1:
            return layers.sloped(reader, op, x, numbers)
        return same_layout(x, reader.add(op, "act", (x.tensor,), x.tensor.c, act="leaky", args=(float(numbers[0]),)))
    steps, given, before = reader.scale(op, op.inputs[1]), _given(reader, op), reader.scale_of(x.tensor.name)
    slopes = per_channel(reader, op, x, 1, given_slopes).astype(np.int64) - steps.zero_point
    if slopes.size > 1 and np.abs(slopes).max() <= 127:
        return sloped(reader, op, x, slopes)
    tables = [tflm.prelu(before, given, int(slope), steps.scale) for slope in slopes]
    return reader.put_table(op, x, tables[0] if len(tables) == 1 else np.stack(tables), given)


def per_channel(reader: Values, op: Operator, x: Feature, at: int, value: np.ndarray) -> np.ndarray:
    """Return the constant `value` that is input `at`, (1,) or (c,). Raises UnsupportedOp where it is neither one number
    nor one a channel of the map."""
    shape = (1,) * (value.ndim - len(x.shape)) + x.shape
    axis = len(shape) - value.ndim + int(np.argmax(value.shape)) if value.ndim else 0
    found = x.reshaped(shape)
    fits = value.size == max(value.shape, default=1) == x.tensor.c and found is not None and found.has_channels_at(axis)
    if value.size != 1 and not fits:
        way = "share its slopes over height and width" if op.kind == "PRELU" else "end the model before it"
        op.refuse(
            f"'{reader.tensor(op, at).name}' of {list(value.shape)} on {list(x.shape)}: one number, or one a channel, "
            f"is known; {way}"
        )
    return value.reshape(-1)


def times(reader: Values, op: Operator, x: Feature, values: Ints, factor: Multiplier) -> Feature:
    """Append (x - zero point) * values (c,) * factor, in the scale of the operator's output."""
    t, before, given = x.tensor, reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
    scale = factor.mult * 2.0 ** (factor.shift - 31) * given.scale / before.scale  # float64: the same multiplier again
    if factor.mult == 0:
        values, scale = np.zeros_like(values), DEAD
    y = reader.put(op, "conv", (t,), t.c, k=(1, 1), groups=t.c)
    weight = values.astype(np.int8).reshape(-1, 1, 1, 1)
    reader.weights[y.name] = QuantWeights(weight, np.full(t.c, float(scale)), np.zeros(t.c, np.int32))
    return same_layout(x, y)


def sloped(reader: Values, op: Operator, x: Feature, slopes: Ints) -> Feature:
    """Append PRELU with a slope a channel, int64 (c,): the values above the zero point in the new scale, plus the
    others by their slopes. One of the two is zero, and in one scale a sum is exact."""
    before, given = reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
    step = np.float32(before.scale) * np.float32(reader.scale(op, op.inputs[1]).scale)
    value = tflm.VALUES - before.zero_point
    above = tflm.rescaled_by(np.maximum(value, 0), np.float32(before.scale) / np.float32(given.scale), given)
    below = (np.minimum(value, 0) + before.zero_point).astype(np.int8)
    negative = reader.put_table(op, x, below, Scale(before.scale, before.zero_point))
    product = times(reader, op, negative, slopes, Multiplier.of(step / np.float32(given.scale)))
    y = combined(reader, op, "add", reader.put_table(op, x, above, given), product)
    reader.scales[y.tensor.name] = given
    return y
