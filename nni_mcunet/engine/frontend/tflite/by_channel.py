"""Multiply an int8 map by one whole number a channel, as MUL with a constant and PRELU do: by a 1x1 depth-wise
convolution, whose rounding is that of TensorFlow Lite's products. What does not fit its 8 bits is refused.
"""

import numpy as np

from ...model import QuantWeights, Scale
from ...ops import tflm
from ...ops.fixed_point import Multiplier
from ..feature import Feature, same_layout
from ..layers import DEAD, combined


def channels(reader, op, x: Feature, at: int) -> np.ndarray | None:
    """Values less zero point, int64 (c,), of the int8 constant that is input `at`; None where it is not one a channel
    of the map. Raises UnsupportedOp for values that the weights of a convolution have no room for."""
    declared, value = reader.tensor(op, at), reader.constant(op, at)
    shape = (1,) * (value.ndim - len(x.shape)) + x.shape
    axis = len(shape) - value.ndim + int(np.argmax(value.shape))
    x = x.reshaped(shape)
    if x is None or not (value.size == max(value.shape) == x.tensor.c and x.has_channels_at(axis)):
        return None
    values = value.reshape(-1).astype(np.int64) - reader.scale(op, op.inputs[at]).zero_point
    if np.abs(values).max() > 127:
        op.refuse(f"'{declared.name}' is {np.abs(values).max()} from its zero point, expected 127 at most; fold it "
                  "into the convolution before it")  # fmt: skip
    return values


def times(reader, op, x: Feature, values: np.ndarray, factor: Multiplier) -> Feature:
    """(x - zero point) * values (c,) * factor, in the scale of the operator's output."""
    t, before, given = x.tensor, reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
    scale = factor.mult * 2.0 ** (factor.shift - 31) * given.scale / before.scale  # float64: the same multiplier again
    if factor.mult == 0:
        values, scale = np.zeros_like(values), DEAD
    y = reader.put(op, "conv", (t,), t.c, k=(1, 1), groups=t.c)
    weight = values.astype(np.int8).reshape(-1, 1, 1, 1)
    reader.weights[y.name] = QuantWeights(weight, np.full(t.c, float(scale)), np.zeros(t.c, np.int32))
    return same_layout(x, y)


def sloped(reader, op, x: Feature, slopes: np.ndarray) -> Feature:
    """PRELU with a slope a channel, int64 (c,): the values above the zero point in the new scale, plus the others by
    their slopes. One of the two is zero, and in one scale a sum is exact."""
    before, given = reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
    step = np.float32(before.scale) * np.float32(reader.scale(op, op.inputs[1]).scale)
    value = tflm.VALUES - before.zero_point
    above = tflm.rescaled_by(np.maximum(value, 0), np.float32(before.scale) / np.float32(given.scale), given)
    below = (np.minimum(value, 0) + before.zero_point).astype(np.int8)
    below = reader.put_table(op, x, below, Scale(before.scale, before.zero_point))
    below = times(reader, op, below, slopes, Multiplier.of(step / np.float32(given.scale)))
    y = combined(reader, op, "add", reader.put_table(op, x, above, given), below)
    reader.scales[y.tensor.name] = given
    return y
