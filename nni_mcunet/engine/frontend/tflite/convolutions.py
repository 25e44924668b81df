"""Read TensorFlow Lite's convolutions and fully connected layers as ops of our graph. Handlers as in operators.py.

A dilated kernel is one with zeros between its taps: more multiplications, the same values. The factor of a sum is
computed as TFLite does, in float32 where it does.
"""

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from ....core.ir.graph import Tensor, out_length
from ....core.types import Doubles
from ...model import QuantWeights, Scale
from ...ops import half_away, tflm
from ...ops.fixed_point import Multiplier
from ...ops.requantise import multiplier
from ..feature import Feature, Integers
from ..layers import DEAD, clamp, connect, convolve, dilated, leaves
from ..scales import GREATEST
from ..transposed import Side, convolve_transposed
from .file import Operator
from .values import UINT8, Values

SAME, VALID = 0, 1
PADS = 2  # not in the schema: the operator has its own, see pool_pads.py
MOST = 255  # side of a window, dilated, and stride
ACTS = {0: (-inf, inf), 1: (0.0, inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}  # of FusedActivationFunction


def limits(op: Operator) -> tuple[float, float]:
    """Return the range that the activation in an operator lets through. Raises UnsupportedOp."""
    found = ACTS.get(op.option("FusedActivationFunction"))
    return found or op.refuse("has tanh or another function for its activation; make it an operator of its own")


def window(
    op: Operator, x: Tensor, axes: str, k: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> dict[str, Any]:
    """Return kernel, stride and pads on `x` as fields of an Op. axes: "whc" where the operator's height is the map's
    width (Values.plane). Raises GraphError, UnsupportedOp for one too large."""
    s = op.option("StrideH"), op.option("StrideW")
    if min(*k, *s, *dilation) < 1 or op.option("Padding") not in (SAME, VALID, PADS):
        op.wrong(f"kernel {list(k)} with stride {list(s)}, dilation {list(dilation)}, padding {op.option('Padding')}")
    if axes == "whc":
        k, s, dilation = k[::-1], s[::-1], dilation[::-1]
    k = (k[0] - 1) * dilation[0] + 1, (k[1] - 1) * dilation[1] + 1
    if max(*k, *s) > MOST:
        op.refuse(f"a window of {list(k)} with stride {list(s)}: sides and strides go to {MOST}")
    ends = [(0, 0), (0, 0)]
    if op.option("Padding") == PADS:
        ends = op.option("Pads")[:: 1 if axes == "hwc" else -1]
    elif op.option("Padding") == SAME:
        ends = [_same(n, side, step) for n, side, step in zip((x.h, x.w), k, s, strict=True)]
    return {"k": k, "s": s, "pad": (ends[0][0], ends[1][0], ends[0][1], ends[1][1])}


def _same(length: int, k: int, s: int) -> tuple[int, int]:
    """Return the pads of one axis for ceil(length / s) positions; the odd one comes last."""
    total = max(0, (out_length(length, 1, s, 0, 0) - 1) * s + k - length)
    return total // 2, total - total // 2


def conv(reader: Values, op: Operator) -> Feature:
    """Read CONV_2D, its channels in groups or not. Raises UnsupportedOp, GraphError."""
    x, axes = reader.plane(op)
    weight, scale = _weights(reader, op, 0)
    if weight.ndim != 4 or not weight.size or weight.shape[3] == 0 or x.c % weight.shape[3]:
        op.wrong(f"weights of {list(weight.shape)} on {x.c} channels")
    weight = weight.transpose(0, 3, 1, 2)
    return _convolution(reader, op, x, axes, weight, scale, x.c // weight.shape[1])


def depthwise(reader: Values, op: Operator) -> Feature:
    """Read DEPTHWISE_CONV_2D. Raises UnsupportedOp, GraphError."""
    x, axes = reader.plane(op)
    weight, scale = _weights(reader, op, 3)
    if weight.ndim != 4 or not weight.size or weight.shape[0] != 1 or weight.shape[3] % x.c:
        op.wrong(f"weights of {list(weight.shape)} on {x.c} channels")
    return _convolution(reader, op, x, axes, weight.transpose(3, 0, 1, 2), scale, x.c)


def _convolution(
    reader: Values, op: Operator, x: Tensor, axes: str, weight: np.ndarray, scale: np.ndarray | None, groups: int
) -> Feature:
    """Append a convolution of weights (cout, cin / groups, kh, kw), as _weights returned them."""
    dilation = op.option("DilationHFactor"), op.option("DilationWFactor")
    fields = window(op, x, axes, (weight.shape[2], weight.shape[3]), dilation)
    if axes == "whc":
        weight = weight.transpose(0, 1, 3, 2)
    weight, given, bias = parameters(reader, op, x, dilated(op, weight, fields.pop("k")), scale)
    y = convolve(reader, op, x, weight, given, bias, groups=groups, **fields)
    return activated(reader, op, Feature.of(y, axes))


def transpose_conv(reader: Values, op: Operator) -> Feature:
    """Read TRANSPOSE_CONV as the convolutions of its phases. Raises UnsupportedOp, GraphError."""
    x, size = reader.map(op, 2), reader.integers(op, 0)
    weight, scale = _weights(reader, op, 0)
    if weight.ndim != 4 or not weight.size or weight.shape[3] != x.c or len(size) != 4 or min(size) < 1:
        op.wrong(f"weights of {list(weight.shape)} on {x.c} channels to {size}")
    if op.option("Padding") not in (SAME, VALID) or min(op.option("StrideH"), op.option("StrideW")) < 1:
        op.wrong(f"stride {[op.option('StrideH'), op.option('StrideW')]}, padding {op.option('Padding')}")
    weight, given, bias = parameters(reader, op, x, weight, scale, 3)
    same, strides = op.option("Padding") == SAME, (op.option("StrideH"), op.option("StrideW"))
    lengths = tuple(zip((x.h, x.w), size[1:3], weight.shape[1:3], strides, strict=True))
    if any(n_in != (n_out + s - (1 if same else k)) // s for n_in, n_out, k, s in lengths):
        op.wrong(f"makes {size} of {x.h}x{x.w} positions by stride {list(strides)}")
    rows, cols = (Side(n_in, n_out, k, s, _same(n_out, k, s)[0] if same else 0) for n_in, n_out, k, s in lengths)
    y = convolve_transposed(reader, op, x, weight.transpose(3, 0, 1, 2), given, bias, (rows, cols))
    if reader.quantized:
        leaves(reader, op, Feature.of(y, "hwc"), reader.scale(op, op.outputs[0]))
    return activated(reader, op, Feature.of(y, "hwc"))


def fully_connected(reader: Values, op: Operator) -> Feature:
    """Read FULLY_CONNECTED. Raises UnsupportedOp, GraphError."""
    if op.option("WeightsFormat"):
        op.refuse("has shuffled weights; convert for the plain kernels")
    x = reader.feature(op)
    weight, scale = _weights(reader, op, 0)
    if weight.ndim != 2 or not weight.size or x.tensor.size % weight.shape[1]:
        op.wrong(f"weights of {list(weight.shape)} on {list(x.shape)}")
    weight, given, bias = parameters(reader, op, x.tensor, weight, scale)
    flat = x.reshaped((x.tensor.size // weight.shape[1], weight.shape[1]))
    assert flat is not None  # it has the elements of x
    y = connect(reader, op, flat, weight, given, bias)
    q = reader.weights[y.tensor.name]
    if isinstance(q, QuantWeights):
        exact = _half_away(reader.scale_of(x.tensor.name), q.scale, reader.scale(op, op.outputs[0]))
        reader.weights[y.tensor.name] = replace(q, scale=exact)
        reader.once.add(y.tensor.name)
    outputs = reader.declared(op.outputs[0], y.shape)
    y = y.reshaped(outputs) or op.wrong(f"writes {list(outputs)}, its inputs give {list(y.shape)}")
    return activated(reader, op, y)


def _half_away(x: Scale, scale: np.ndarray, y: Scale) -> Doubles:
    """Return the weights' scales, float64 (cout,), whose multipliers round every sum as TFLite rounds sum * x.scale *
    scale / y.scale in float64: half away from zero."""
    known: dict[float, float] = {}
    for value in map(float, scale):
        if value not in known:
            wanted = half_away.away_from_zero(x.scale * value / y.scale)
            near = wanted * y.scale / x.scale
            tried = [near, *(float(np.nextafter(near, to)) for to in (0, np.inf))]
            found = (v for v in tried if half_away.value(multiplier(x.scale * v / y.scale)) == wanted)
            known[value] = next(found, near)
    return np.array([known[value] for value in map(float, scale)])


def activated(reader: Values, op: Operator, y: Feature) -> Feature:
    """Return the feature in the scale of the operator's output, behind the operator's activation."""
    if reader.quantized:
        reader.scales[y.tensor.name] = reader.scale(op, op.outputs[0])
    found = clamp(reader, op, y, *ends(limits(op), reader.scales.get(y.tensor.name)))
    if reader.quantized:
        reader.scales[found.tensor.name] = reader.scales[y.tensor.name]
    return found


def ends(limits: tuple[float, float], scale: Scale | None) -> tuple[float, float]:
    """Return the limits of an activation; of an int8 map those values of it that TFLite clamps to, infinite at int8's
    own."""
    if scale is None:
        return limits
    lo, hi = tflm.clamp(scale, *limits)
    low, high = ((end - scale.zero_point) * scale.scale for end in (lo, hi))
    return -inf if lo == -128 else low, inf if hi == 127 else high


def parameters(
    reader: Values, op: Operator, x: Tensor, weight: np.ndarray, scale: np.ndarray | None, at: int = 2
) -> tuple[np.ndarray, Integers | None, np.ndarray | Integers | None]:
    """Return (weights, the same as Integers, bias as Integers) of an int8 operator, (weights, None, bias) of a float
    one, weights (cout, ...). A channel whose factor TFLite takes for 0 is 0, its bias too; one of a negative scale is
    negated. at: the input that is the bias. Raises UnsupportedOp."""
    if scale is None:
        return weight, None, reader.numbers(op, at).reshape(-1) if op.has(at) else None
    cout, none, bias = len(weight), np.zeros(1, np.int64), None
    factors = reader.scale_of(x.name).scale * scale.astype(np.float64) / reader.scale(op, op.outputs[0]).scale
    sign = np.array([np.sign(Multiplier.of(factor).mult) for factor in factors])
    scale = np.where(sign == 0, np.float32(DEAD), np.abs(scale))
    sign = np.broadcast_to(sign, (cout,))
    weight = weight.astype(np.int16) * sign.astype(np.int16).reshape(-1, *[1] * (weight.ndim - 1))
    if weight.max(initial=0) > 127:
        op.refuse("a channel has the weight -128 in a negative scale; convert again")
    if op.has(at):
        values = reader.constant(op, at)
        if values.dtype != np.int32 or values.size != cout:
            op.refuse(
                f"{values.size} biases of {values.dtype}, expected {cout} of int32; convert with int8 activations"
            )
        steps = reader.scale_of(x.name).scale * scale.astype(np.float64)
        bias = Integers(values.reshape(-1) * sign, steps, none, 0)
    weight = weight.astype(np.int8)
    return weight, Integers(weight, scale, none, 0), bias


def _weights(reader: Values, op: Operator, axis: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return weights as the file has them, with one scale or one for each step along `axis`; float ones, with none, in
    a float file. Raises UnsupportedOp, GraphError."""
    declared = reader.tensor(op, 1)
    if not reader.quantized:
        return reader.numbers(op, 1), None
    value, scale = reader.constant(op, 1), declared.scale
    if value.dtype == np.uint8:
        op.refuse(UINT8)
    if value.dtype != np.int8 or scale.size not in (1, value.shape[axis] if value.ndim > axis else 0):
        op.refuse(
            f"weights of {declared.kind} with {scale.size} scales, expected int8 with one scale, or one a channel; "
            "convert with full integer quantisation"
        )
    if declared.zero.any() or (scale.size > 1 and declared.axis != axis):
        op.refuse("its weights have zero points, or scales along another axis than the outputs'; convert again")
    if not (np.abs(scale) < GREATEST).all():
        op.wrong(f"its weights have scales beyond {GREATEST:g}")
    return value, scale
