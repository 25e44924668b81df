"""ONNX's linear operators as convolutions, sums and products: Conv, Gemm, MatMul, BatchNormalization, Add and the
like. Handlers as in operators.py."""

import numpy as np

from ....core.ir.graph import Tensor, out_length
from ...model import QuantWeights
from ..feature import Feature, Integers, kept, same_layout, with_channels

DEAD = 2.0**-20  # least scale of a channel whose weights are 0, for which the file has none


def window(node, x: Tensor, k: tuple[int, ...]) -> dict:
    """Kernel, stride and pads of a convolution or pool on `x`, as fields of an Op."""
    s = tuple(node.attribute("strides", (1, 1)))
    if len(k) != 2 or len(s) != 2 or min((*k, *s)) < 1:
        node.refuse(f"kernel {list(k)} with stride {list(s)}: two dimensions are wanted")
    dilations = node.attribute("dilations", (1, 1))
    if any(d != 1 and side != 1 for d, side in zip(dilations, k, strict=False)):
        node.refuse(f"dilations {list(dilations)}: use dilation 1")
    auto, pads = node.attribute("auto_pad", "NOTSET"), tuple(node.attribute("pads", (0, 0, 0, 0)))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        ends = [_same(n, side, step, auto) for n, side, step in zip((x.h, x.w), k, s, strict=True)]
        pads = (ends[0][0], ends[1][0], ends[0][1], ends[1][1])
    elif auto == "VALID":
        pads = (0, 0, 0, 0)
    if len(pads) != 4 or min(pads) < 0:
        node.refuse(f"pads {list(pads)}: four that are not negative are wanted")
    return {"k": tuple(k), "s": s, "pad": pads}


def _same(length: int, k: int, s: int, auto: str) -> tuple[int, int]:
    """Pads of one axis for an output of ceil(length / s)."""
    total = max(0, (out_length(length, 1, s, 0, 0) - 1) * s + k - length)
    lo = total // 2 if auto == "SAME_UPPER" else total - total // 2
    return lo, total - lo


def per_output(node, value: np.ndarray | Integers, axis: int) -> np.ndarray:
    """The values of a weight whose output channels lie along `axis`; its scales, where it has several, too."""
    if isinstance(value, Integers) and value.scale.size > 1 and value.axis % value.values.ndim != axis:
        node.refuse("its weights have scales along another axis than the outputs'; quantize them per output channel")
    if isinstance(value, Integers) and value.zero.any():
        node.refuse("its weights have a zero point; quantize them symmetrically (onnxruntime: weight_type=QInt8)")
    return value.values if isinstance(value, Integers) else value


def convolve(reader, node, x: Tensor, weight, given, bias, **fields) -> Tensor:
    """A conv of weights (cout, cin / groups, kh, kw); `given` says whether they came as Integers. bias: (cout,) float,
    Integers or None."""
    y = reader.add(node, "conv", (x,), weight.shape[0], k=weight.shape[2:], **fields)
    channels = weight.shape[0]
    if weight.shape[1] * fields.get("groups", 1) != x.c:
        node.wrong(f"weights of {list(weight.shape)} on {x.c} channels")
    if bias is not None and (bias.values if isinstance(bias, Integers) else bias).size != channels:
        node.wrong(f"not one bias for each of {channels} channels")
    if isinstance(given, Integers):
        reader.weights[y.name] = _integers(reader, node, x, weight, given.scale, bias)
    elif isinstance(bias, Integers):
        node.refuse("its bias is quantised and its weights are not; quantize both")
    else:
        bias = np.zeros(channels, np.float32) if bias is None else bias.reshape(channels)
        reader.weights[y.name] = np.ascontiguousarray(weight), bias
    return y


def _integers(reader, node, x: Tensor, weight, scale, bias) -> QuantWeights:
    """A float bias is rounded to steps of input * weight scale, an integer one has them. The weights of a channel with
    the scale 0 are all 0."""
    channels = weight.shape[0]
    if weight.dtype != np.int8 or scale.size not in (1, channels):
        node.refuse(f"weights of {weight.dtype} with {scale.size} scales: int8 with one scale, or one a channel")
    scale, step = np.broadcast_to(scale.reshape(-1), (channels,)).astype(np.float32), reader.scale_of(x.name).scale
    if not scale.all():
        weight, scale, bias = _without_zero_scales(node, weight, scale, bias, step)
    steps = step * scale.astype(np.float64)
    if bias is None:
        values = np.zeros(channels)
    elif not isinstance(bias, Integers):
        values = np.round(bias.reshape(channels) / steps)
    elif bias.scale.size not in (1, channels) or not np.allclose(bias.scale.reshape(-1), steps, rtol=1e-4, atol=0):
        node.refuse("the bias has another scale than input * weights; quantize it with that scale")
    elif bias.zero.any():
        node.refuse("the bias has a zero point; quantize it symmetrically")
    else:
        values = bias.values.reshape(channels).astype(np.float64)
    if np.abs(values).max(initial=0) >= 2**31:
        node.refuse("its bias needs more than 32 bits in its weights' scale; quantize the float model again, with a "
                    "coarser scale for the channel whose weights are all but 0")  # fmt: skip
    return QuantWeights(np.ascontiguousarray(weight), scale, values.astype(np.int32))


def _without_zero_scales(node, weight, scale, bias, step: float):
    """Weights, scales and bias, with weights of 0 instead of a scale of 0. step: the scale of the input."""
    channels, dead = len(scale), scale == 0
    weight = np.where(dead.reshape(-1, 1, 1, 1), 0, weight).astype(np.int8)
    if bias is None:
        return weight, np.where(dead, DEAD, scale).astype(np.float32), None
    if isinstance(bias, Integers) and (bias.scale.size not in (1, channels) or bias.zero.any()):
        node.refuse("its bias is quantised otherwise than its weights; quantize it symmetrically, with their scales")
    whole = isinstance(bias, Integers)
    factor = np.broadcast_to(bias.scale.reshape(-1), (channels,)) if whole else np.ones(channels)
    values = (bias.values if whole else bias).reshape(channels) * factor.astype(np.float64)
    # Fine enough for the bias, and so coarse that its integer stays below 2^24, as in quantize_weights.
    scale = np.where(dead, np.maximum(np.abs(values) / (step * 2**24), DEAD), scale).astype(np.float32)
    if not whole:
        return weight, scale, bias
    steps = step * scale.astype(np.float64)
    integers = np.where(dead, np.round(values / steps), bias.values.reshape(channels))
    return weight, scale, Integers(integers, np.where(dead, steps, factor), bias.zero, 0)


def conv(reader, node):
    x = reader.map(node).tensor
    given = reader.parameter(node, 1)
    weight = per_output(node, given, 0)
    if weight.ndim != 4 or weight.size == 0:
        node.refuse(f"weights of {list(weight.shape)}: two-dimensional convolutions alone are known")
    fields = window(node, x, weight.shape[2:])
    del fields["k"]
    bias = reader.parameter(node, 2) if node.has(2) else None
    groups = node.attribute("group", 1)
    return Feature.of(convolve(reader, node, x, weight, given, bias, groups=groups, **fields))


def gemm(reader, node):
    if node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1:
        node.refuse("transA or alpha: use a plain fully connected layer")
    beta, transposed = node.attribute("beta", 1.0), node.attribute("transB", 0)
    given = reader.parameter(node, 1)
    weight = per_output(node, given, 0 if transposed else 1)
    bias = reader.parameter(node, 2) if node.has(2) and beta else None
    if bias is not None and beta != 1:
        node.refuse(f"beta {beta}: use a plain fully connected layer")
    if not isinstance(bias, Integers) and bias is not None and weight.ndim == 2:
        outputs = weight.shape[0 if transposed else 1]
        if bias.size == 1:
            bias = np.repeat(bias, outputs)
    return connect(reader, node, reader.feature(node), weight if transposed else weight.T, given, bias)


def matmul(reader, node):
    given = reader.parameter(node, 1)
    return connect(reader, node, reader.feature(node), per_output(node, given, 1).T, given, None)


def connect(reader, node, x: Feature, weight, given, bias) -> Feature:
    """A fully connected layer (cout, cin) on all elements of `x`, or on the channels of each position."""
    t = x.tensor
    if weight.ndim != 2 or not weight.size or x.shape[-1:] != weight.shape[1:]:
        node.wrong(f"weights of {list(weight.shape)} on {list(x.shape)}")
    cout = weight.shape[0]
    if x.shape[-1] == t.size:
        lengths = [getattr(t, axis) for axis in x.order]
        plain = [1 + x.order.index(axis) for axis in kept("chw", t)]
        kernel = weight.reshape(cout, *lengths).transpose(0, *plain).reshape(cout, t.c, t.h, t.w)
        y = convolve(reader, node, t, kernel, given, bias)
        return Feature(y, kept("c", y), (*x.shape[:-1], cout))
    if not x.has_channels_at(len(x.shape) - 1):
        node.refuse(f"its input {list(x.shape)} ends neither with its channels nor with the whole map; transpose it to "
                    "NHWC or flatten it before")  # fmt: skip
    y = convolve(reader, node, t, weight[:, :, None, None], given, bias)
    return with_channels(y, x, len(x.shape) - 1)


def affine(reader, node, x: Feature, factor, summand) -> Feature:
    """x * factor + summand, each (c,) or one number: a 1x1 convolution of each channel alone."""
    t = x.tensor
    factor, summand = (np.broadcast_to(np.float32(v).reshape(-1), (t.c,)).copy() for v in (factor, summand))
    if not (np.isfinite(factor).all() and np.isfinite(summand).all()):
        node.wrong("its factors are not finite")
    if (factor == 1).all() and not summand.any():
        return x
    y = convolve(reader, node, t, factor.reshape(-1, 1, 1, 1), None, summand, groups=t.c)
    return same_layout(x, y)


def batch_norm(reader, node):
    if node.attribute("training_mode", 0) or len(node.proto.output) > 1:
        node.refuse("it is in training mode; export the model in eval mode")
    x = reader.feature(node)
    gamma, beta, mean, var = (reader.numbers(node, i).astype(np.float64) for i in range(1, 5))
    if not x.has_channels_at(1):
        node.refuse(f"its input {list(x.shape)} has no channels at axis 1; export the model as NCHW")
    if any(v.shape != (x.tensor.c,) for v in (gamma, beta, mean, var)):
        node.wrong(f"not one factor for each of {x.tensor.c} channels")
    with np.errstate(all="ignore"):
        gain = gamma / np.sqrt(var + node.attribute("epsilon", 1e-5))
    return affine(reader, node, x, gain, beta - mean * gain)


def _per_channel(reader, node, i: int, x: Feature) -> tuple[np.ndarray, Feature]:
    """The constant input i as one number or one a channel of x; x with the dimensions of 1 that a longer shape of the
    constant gives it."""
    value = reader.numbers(node, i)
    x = x.reshaped((1,) * (value.ndim - len(x.shape)) + x.shape)
    axis = len(x.shape) - value.ndim + int(np.argmax(value.shape)) if value.ndim else 0
    if value.size != 1 and not (value.size == max(value.shape) == x.tensor.c and x.has_channels_at(axis)):
        node.refuse(f"a constant of {list(value.shape)} on {list(x.shape)}: one number, or one a channel, is wanted")
    return value.reshape(-1), x


def binary(reader, node):
    if len(node.inputs) != 2:
        node.refuse(f"of {len(node.inputs)}; add two at a time")
    return arithmetic(reader, node, node.kind.replace("Sum", "Add"), (0, 1))


def arithmetic(reader, node, kind: str, at: tuple[int, int]) -> Feature:
    """Add, Sub, Mul, Div of the inputs `at`: of two maps (Add, Mul), or of a map and a constant."""
    maps = [node.inputs[i] in reader.features for i in at]
    if maps == [True, True]:
        return combine(reader, node, {"Add": "add", "Mul": "mul"}.get(kind), at)
    if not any(maps):
        reader.feature(node)  # refuses
    value, x = _per_channel(reader, node, at[maps.index(False)], reader.feature(node, at[maps.index(True)]))
    if kind == "Div" and (maps == [False, True] or not value.all()):
        node.refuse("divides by a map or by zero; multiply by a constant")
    with np.errstate(all="ignore"):
        factor = {"Mul": value, "Div": 1 / value, "Sub": 1 if maps[0] else -1}.get(kind, 1)
    summand = {"Add": value, "Sub": -value if maps[0] else value}.get(kind, 0)
    return affine(reader, node, x, factor, summand)


def combine(reader, node, kind: str | None, at: tuple[int, int]) -> Feature:
    """The sum or product of two maps; of a product one may be a factor a channel."""
    a, b = (reader.feature(node, i) for i in at)
    if kind == "mul" and (a.tensor.h, a.tensor.w) == (1, 1) != (b.tensor.h, b.tensor.w):
        a, b = b, a
    gate = kind == "mul" and (b.tensor.h, b.tensor.w, b.tensor.c) == (1, 1, a.tensor.c) and a.is_map
    gate = gate and (b.is_map or b.shape == (a.tensor.c, 1, 1))
    alike = a.shape == b.shape and a.order == b.order and a.groups() == b.groups()
    same = (a.tensor.h, a.tensor.w, a.tensor.c) == (b.tensor.h, b.tensor.w, b.tensor.c)
    if kind is None or not (gate or (alike and same)):
        node.refuse(f"of {list(a.shape)} and {list(b.shape)}: sums and products of maps of one shape, or products with "
                    "a factor a channel, are known")  # fmt: skip
    return same_layout(a, reader.add(node, kind, (a.tensor, b.tensor), a.tensor.c))


LINEAR = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "Add": binary,
    "Sum": binary,
    "Sub": binary,
    "Mul": binary,
    "Div": binary,
}
