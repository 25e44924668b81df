"""Read TensorFlow Lite's ADD, SUB, MUL and PRELU, of maps and constants. Handlers as in operators.py.

An int8 map and one number make a table. An int8 map and one number a channel make a 1x1 depth-wise convolution, whose
rounding is that of TensorFlow Lite's products. A product that does not fit the 8 bits of its weights is refused.
"""

import numpy as np

from ....core.types import Ints
from ...model import QuantWeights, Scale
from ...ops import tflm
from ...ops.fixed_point import Multiplier
from ..feature import Feature, same_layout
from ..layers import DEAD, affine, combined
from .convolutions import activated, limits
from .file import Operator
from .values import Values


def arithmetic(reader: Values, op: Operator) -> Feature:
    """Read ADD, SUB, MUL of two maps, or of a map and one number; in a float file of a map and a number a channel, too.
    Raises UnsupportedOp, GraphError."""
    constants = [reader.is_constant(op, i) for i in (0, 1)]
    if not any(constants):
        return activated(reader, op, _of_two(reader, op))
    if all(constants):
        op.refuse("of two constants; convert again, with constants folded")
    at = constants.index(True)
    x = reader.feature(op, 1 - at)
    if reader.quantized:
        return _with_number(reader, op, x, at)
    value = reader.numbers(op, at)
    x = x.reshaped((1,) * (value.ndim - len(x.shape)) + x.shape) or x
    axis = len(x.shape) - value.ndim + int(np.argmax(value.shape)) if value.ndim else 0
    if value.size != 1 and not (value.size == max(value.shape) == x.tensor.c and x.has_channels_at(axis)):
        op.refuse(f"a constant of {list(value.shape)} on {list(x.shape)}: one number, or one a channel, is known")
    value = value.reshape(-1)
    factor = {"MUL": value, "SUB": 1 if at else -1}.get(op.kind, 1)
    summand = {"ADD": value, "SUB": -value if at else value}.get(op.kind, 0)
    return activated(reader, op, affine(reader, op, x, factor, summand))


def _of_two(reader: Values, op: Operator) -> Feature:
    """Append the sum or product. A difference is the sum with the negative: in int8 its values are ~q around ~zero
    point, exactly."""
    if op.kind != "SUB":
        return combined(reader, op, {"ADD": "add", "MUL": "mul"}[op.kind], reader.feature(op, 0), reader.feature(op, 1))
    x = reader.feature(op, 1)
    if reader.quantized:
        scale = reader.scale_of(x.tensor.name)
        negative = reader.put_table(op, x, (~tflm.VALUES).astype(np.int8), Scale(scale.scale, ~scale.zero_point))
    else:
        negative = affine(reader, op, x, -1, 0)
    return combined(reader, op, "add", reader.feature(op), negative)


def _with_number(reader: Values, op: Operator, x: Feature, at: int) -> Feature:
    """Append the table of an int8 map and one number, the input `at`."""
    declared, value = reader.tensor(op, at), reader.constant(op, at)
    if declared.kind != "int8":
        op.refuse(f"a constant of {declared.kind}, expected int8")
    if value.size != 1:
        return _with_numbers(reader, op, x, at)
    one, scales = value.reshape(-1).astype(np.int64), [reader.scale_of(x.tensor.name), reader.scale(op, op.inputs[at])]
    values = [tflm.VALUES, np.broadcast_to(one, 256)]
    if at == 0:
        scales, values = scales[::-1], values[::-1]
    (a, b), given, (lo, hi) = scales, reader.scale(op, op.outputs[0]), limits(op)
    if op.kind == "MUL":
        table = tflm.Product.of(a, b, given, lo, hi)(*values)
    else:
        table = tflm.Sum.of(a, b, given, lo, hi, sign=-1 if op.kind == "SUB" else 1)(*values)
    return reader.put_table(op, x, table, given)


def _with_numbers(reader: Values, op: Operator, x: Feature, at: int) -> Feature:
    """Append MUL of an int8 map and one number a channel; a sum of them rounds each, as no convolution does."""
    values = channels(reader, op, x, at) if op.kind == "MUL" else None
    if values is None:
        op.refuse(f"a constant of {list(reader.constant(op, at).shape)}: of an int8 map and one number it is known, of "
                  "MUL one a channel, too; fold it into the convolution before it")  # fmt: skip
    before, given = reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
    factor = tflm.product_factor(before, reader.scale(op, op.inputs[at]), given)
    return activated(reader, op, times(reader, op, x, values, factor))


def prelu(reader: Values, op: Operator) -> Feature:
    """Read PRELU of one slope; in an int8 file of a slope a channel, too. Raises UnsupportedOp, GraphError."""
    x, slopes = reader.feature(op), reader.constant(op, 1)
    if slopes.size != 1:
        values = channels(reader, op, x, 1) if reader.quantized else None
        if values is None:
            op.refuse(f"slopes of {list(slopes.shape)}: one, or one a channel of an int8 map, is known")
        return sloped(reader, op, x, values)
    if not reader.quantized:
        slope = float(reader.numbers(op, 1).reshape(()))
        return same_layout(x, reader.add(op, "act", (x.tensor,), x.tensor.c, act="leaky", args=(slope,)))
    steps, given = reader.scale(op, op.inputs[1]), reader.scale(op, op.outputs[0])
    slope = int(slopes.reshape(())) - steps.zero_point
    return reader.put_table(op, x, tflm.prelu(reader.scale_of(x.tensor.name), given, slope, steps.scale), given)


def channels(reader: Values, op: Operator, x: Feature, at: int) -> Ints | None:
    """Return the values less zero point, int64 (c,), of the int8 constant that is input `at`; None where it is not one
    a channel of the map. Raises UnsupportedOp for values that the weights of a convolution have no room for."""
    declared, value = reader.tensor(op, at), reader.constant(op, at)
    shape = (1,) * (value.ndim - len(x.shape)) + x.shape
    axis = len(shape) - value.ndim + int(np.argmax(value.shape))
    found = x.reshaped(shape)
    if found is None or not (value.size == max(value.shape) == x.tensor.c and found.has_channels_at(axis)):
        return None
    values = value.reshape(-1).astype(np.int64) - reader.scale(op, op.inputs[at]).zero_point
    if np.abs(values).max() > 127:
        op.refuse(f"'{declared.name}' is {np.abs(values).max()} from its zero point, expected 127 at most; fold it "
                  "into the convolution before it")  # fmt: skip
    return values


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
