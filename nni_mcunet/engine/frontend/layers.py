"""Append layers of a file as ops of our graph, whatever the format: convolutions and fully connected layers, factors a
channel, sums, products, joins, clamps and changes of scale. The functions take (builder, layer): what is built, and the
layer of the file that errors name. A layout that no op has is refused, not rewritten here.
"""

from collections.abc import Hashable
from dataclasses import replace
from math import inf
from typing import Any, TypeVar

import numpy as np

from ...core.ir.graph import Tensor
from ...core.ir.kinds import FACTS, SAME_SCALE
from ...core.types import Floats, Int8Map
from ..model import PROBABILITY, QuantWeights, Scale
from .builder import Builder, Layer
from .feature import Feature, Integers, kept, same_layout, with_channels
from .imported import MOST_SIDE
from .moved import MOST, Moved, moved, settled
from .scales import NARROW

MOST_WEIGHTS = 1 << 26  # of a dilated convolution
View = TypeVar("View", Feature, Moved, Feature | Moved)  # of a map
DEAD = 2.0**-20  # least scale of a channel whose weights are 0, for which the file has none


def per_output(layer: Layer, value: np.ndarray | Integers, axis: int) -> np.ndarray:
    """Return the values of a weight whose output channels lie along `axis`, integers less their zero point: int8, or
    int16 where they exceed that. Raises UnsupportedOp for several scales along another axis."""
    if isinstance(value, Integers) and value.scale.size > 1 and value.axis % value.values.ndim != axis:
        layer.refuse("its weights have scales along another axis than the outputs'; quantize them per output channel")
    if not isinstance(value, Integers) or not value.zero.any():
        return value.values if isinstance(value, Integers) else value
    sides = [-1 if i == value.axis % value.values.ndim else 1 for i in range(value.values.ndim)]
    if value.zero.size not in (1, value.values.shape[value.axis % value.values.ndim]):
        layer.wrong(f"{value.zero.size} zero points for weights of {list(value.values.shape)}")
    centred = value.values.astype(np.int64) - value.zero.reshape(sides if value.zero.size > 1 else ())
    fits = centred.min(initial=0) >= -128 and centred.max(initial=0) <= 127
    return centred.astype(np.int8 if fits else np.int16) if value.values.dtype == np.int8 else centred


def convolve(
    builder: Builder,
    layer: Layer,
    x: Tensor,
    weight: np.ndarray,
    given: np.ndarray | Integers | None,
    bias: np.ndarray | Integers | None,
    **fields: Any,
) -> Tensor:
    """Append a conv of weights (cout, cin / groups, kh, kw) and return what it writes. `given` says whether they came
    as Integers. bias: (cout,) float, Integers or None; fields: those of Op. Raises GraphError for shapes that do not
    fit, UnsupportedOp for integers that no kernel has."""
    channels, groups = weight.shape[0], fields.get("groups", 1)
    if weight.shape[1] * groups != x.c:
        layer.wrong(f"weights of {list(weight.shape)} on {x.c} channels")
    if weight.dtype == np.int16:
        x, weight = _in_copies(builder, layer, x, weight, groups)
    y = builder.add(layer, "conv", (x,), channels, k=weight.shape[2:], **fields)
    if bias is not None and (bias.values if isinstance(bias, Integers) else bias).size != channels:
        layer.wrong(f"not one bias for each of {channels} channels")
    if isinstance(given, Integers):
        builder.weights[y.name] = _integers(builder, layer, x, weight, given.scale, bias)
    elif isinstance(bias, Integers):
        layer.refuse("its bias is quantised and its weights are not; quantize both")
    else:
        bias = np.zeros(channels, np.float32) if bias is None else bias.reshape(channels)
        builder.weights[y.name] = np.ascontiguousarray(weight), bias
    return y


def _in_copies(builder: Builder, layer: Layer, x: Tensor, weight: np.ndarray, groups: int) -> tuple[Tensor, Int8Map]:
    """Return the map with copies of channels, and int8 weights (cout, ., kh, kw) of it which give the sums of int16
    ones: what exceeds int8 of a weight is the weight of a copy of its channel."""
    parts, left = [weight.clip(-128, 127)], weight - weight.clip(-128, 127)
    while left.any():
        parts.append(left.clip(-128, 127))
        left = left - parts[-1]
    found = [(part, j) for i, part in enumerate(parts) for j in range(weight.shape[1]) if i == 0 or part[:, j].any()]
    numbers = tuple(group * weight.shape[1] + j for group in range(groups) for _, j in found)
    y = builder.add(layer, "take", (x,), len(numbers), channels=numbers)
    builder.scales[y.name] = builder.scale_of(x.name)
    return y, np.stack([part[:, j] for part, j in found], 1).astype(np.int8)


def _integers(
    builder: Builder,
    layer: Layer,
    x: Tensor,
    weight: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray | Integers | None,
) -> QuantWeights:
    """Return a conv's integers. A float bias is rounded to steps of input * weight scale, an integer one has them. The
    weights of a channel with the scale 0 are all 0."""
    channels = weight.shape[0]
    if weight.dtype != np.int8 or scale.size not in (1, channels):
        layer.refuse(f"weights of {weight.dtype} with {scale.size} scales: int8 with one scale, or one a channel")
    scale, step = np.broadcast_to(scale.reshape(-1), (channels,)).astype(np.float32), builder.scale_of(x.name).scale
    if not scale.all():
        weight, scale, bias = _without_zero_scales(layer, weight, scale, bias, step)
    steps = step * scale.astype(np.float64)
    if bias is None:
        values = np.zeros(channels)
    elif not isinstance(bias, Integers):
        values = np.round(bias.reshape(channels) / steps)
    elif bias.scale.size not in (1, channels) or not np.allclose(bias.scale.reshape(-1), steps, rtol=1e-4, atol=0):
        layer.refuse("the bias has another scale than input * weights; quantize it with that scale")
    elif bias.zero.any():
        layer.refuse("the bias has a zero point; quantize it symmetrically")
    else:
        values = bias.values.reshape(channels).astype(np.float64)
    if np.abs(values).max(initial=0) >= 2**31:
        layer.refuse("its bias needs more than 32 bits in its weights' scale; quantize the float model again, with a "
                    "coarser scale for the channel whose weights are all but 0")  # fmt: skip
    return QuantWeights(np.ascontiguousarray(weight), scale, values.astype(np.int32))


def _without_zero_scales(
    layer: Layer, weight: Int8Map, scale: Floats, bias: np.ndarray | Integers | None, step: float
) -> tuple[Int8Map, Floats, np.ndarray | Integers | None]:
    """Return weights, scales and bias, with weights of 0 instead of a scale of 0. step: the scale of the input."""
    channels, dead = len(scale), scale == 0
    weight = np.where(dead.reshape(-1, 1, 1, 1), 0, weight).astype(np.int8)
    if bias is None:
        return weight, np.where(dead, DEAD, scale).astype(np.float32), None
    if isinstance(bias, Integers) and (bias.scale.size not in (1, channels) or bias.zero.any()):
        layer.refuse("its bias is quantised otherwise than its weights; quantize it symmetrically, with their scales")
    factor = np.broadcast_to(bias.scale.reshape(-1), (channels,)) if isinstance(bias, Integers) else np.ones(channels)
    given = bias.values if isinstance(bias, Integers) else bias
    values = given.reshape(channels) * factor.astype(np.float64)
    # Fine enough for the bias, and so coarse that its integer stays below 2^24, as in quantize_weights.
    scale = np.where(dead, np.maximum(np.abs(values) / (step * 2**24), DEAD), scale).astype(np.float32)
    if not isinstance(bias, Integers):
        return weight, scale, bias
    steps = step * scale.astype(np.float64)
    integers = np.where(dead, np.round(values / steps), bias.values.reshape(channels))
    return weight, scale, Integers(integers, np.where(dead, steps, factor), bias.zero, 0)


def dilated(layer: Layer, weight: np.ndarray, k: tuple[int, int]) -> np.ndarray:
    """Return weights (cout, cin, kh, kw) with zeros between their taps, of the sides k. Raises UnsupportedOp where they
    are too many."""
    if weight.shape[2:] == k:
        return weight
    if max(k) > MOST_SIDE or weight.shape[0] * weight.shape[1] * k[0] * k[1] > MOST_WEIGHTS:
        layer.refuse(
            f"dilated it has {weight.shape[0] * weight.shape[1]:,} windows of {k[0]}x{k[1]}: sides go to {MOST_SIDE}, "
            f"weights to {MOST_WEIGHTS:,}; use a smaller dilation"
        )
    found = np.zeros((*weight.shape[:2], *k), weight.dtype)
    steps = [(side - 1) // (n - 1) if n > 1 else 1 for side, n in zip(k, weight.shape[2:], strict=True)]
    found[:, :, :: steps[0], :: steps[1]] = weight
    return found


def sloped(builder: Builder, layer: Layer, x: Feature, slopes: Floats) -> Feature:
    """Append what a slope for each channel (c,) makes of negative values: the clamp to them times the slopes, and the
    others added. In an int8 file both parts have the map's scale, in which a clamp is exact; fused, the sum rounds
    once."""
    above, below = clamp(builder, layer, x, 0, inf), clamp(builder, layer, x, -inf, 0)
    steep = affine(builder, layer, below, slopes, 0)
    found = combined(builder, layer, "add", above, steep)
    if x.tensor.name in builder.scales:
        scale = builder.scales[x.tensor.name]
        builder.scales |= dict.fromkeys((above.tensor.name, below.tensor.name), scale)
        low, high = scale.span
        reached = [*(min(low, 0.0) * slopes).tolist(), high]
        builder.finest[found.tensor.name] = Scale.of_range(min(reached), max(reached))
    return found


def connect(
    builder: Builder,
    layer: Layer,
    x: Feature,
    weight: np.ndarray,
    given: np.ndarray | Integers | None,
    bias: np.ndarray | Integers | None,
) -> Feature:
    """Append a fully connected layer (cout, cin) on all elements of `x`, or on the channels of each position. given,
    bias and errors as of `convolve`."""
    t = x.tensor
    if weight.ndim != 2 or not weight.size or x.shape[-1:] != weight.shape[1:]:
        layer.wrong(f"weights of {list(weight.shape)} on {list(x.shape)}")
    cout = weight.shape[0]
    if x.shape[-1] == t.size:
        lengths = [getattr(t, axis) for axis in x.order]
        plain = [1 + x.order.index(axis) for axis in kept("chw", t)]
        kernel = weight.reshape(cout, *lengths).transpose(0, *plain).reshape(cout, t.c, t.h, t.w)
        y = convolve(builder, layer, t, kernel, given, bias)
        return Feature(y, kept("c", y), (*x.shape[:-1], cout))
    if not x.has_channels_at(len(x.shape) - 1):
        layer.refuse(
            f"its input {list(x.shape)} ends neither with its channels nor with the whole map; transpose it to NHWC or "
            "flatten it before"
        )
    y = convolve(builder, layer, t, weight[:, :, None, None], given, bias)
    return with_channels(y, x, len(x.shape) - 1)


def affine(
    builder: Builder, layer: Layer, x: Feature, factor: np.ndarray | float, summand: np.ndarray | float
) -> Feature:
    """Append x * factor + summand, each (c,) or one number: a 1x1 convolution that mixes no channels. Raises
    GraphError for numbers that are not finite."""
    t = x.tensor
    factor, summand = (_per_channel(v, t.c) for v in (factor, summand))
    if not (np.isfinite(factor).all() and np.isfinite(summand).all()):
        layer.wrong("its factors are not finite")
    if (factor == 1).all() and not summand.any():
        return x
    y = convolve(builder, layer, t, factor.reshape(-1, 1, 1, 1), None, summand, groups=t.c)
    return same_layout(x, y)


def _per_channel(value: np.ndarray | float, channels: int) -> Floats:
    return np.broadcast_to(np.asarray(value, np.float32).reshape(-1), (channels,)).copy()


def combined(builder: Builder, layer: Layer, kind: str | None, a: Feature, b: Feature) -> Feature:
    """Append the sum ("add") or product ("mul") of two maps, each spread to the other's shape where that broadcasts;
    one map of a product may be a factor a channel. Raises UnsupportedOp for shapes that do not fit, and for None, a
    kind that is neither."""
    if kind == "mul" and (a.tensor.h, a.tensor.w) == (1, 1) != (b.tensor.h, b.tensor.w):
        a, b = b, a
    gate = kind == "mul" and _is_gate(a, b)
    if kind and not gate and a.shape != b.shape:
        a, b = _spread(builder, layer, a, b)
    alike = a.shape == b.shape and a.order == b.order and a.groups() == b.groups()
    same = (a.tensor.h, a.tensor.w, a.tensor.c) == (b.tensor.h, b.tensor.w, b.tensor.c)
    if kind is None or not (gate or (alike and same)):
        layer.refuse(
            f"of {list(a.shape)} and {list(b.shape)}: sums and products of maps of one shape, or products with a "
            "factor a channel, are known"
        )
    return same_layout(a, builder.add(layer, kind, (a.tensor, b.tensor), a.tensor.c))


def _spread(builder: Builder, layer: Layer, a: Feature, b: Feature) -> tuple[Feature, Feature]:
    """Return both maps in the shape to which they broadcast; as they are where they do not, or no op spreads them."""
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        return a, b
    found = [x if x.shape == shape else settled(builder, moved(layer, x, lambda i: np.broadcast_to(i, shape)))
             for x in (a, b)]  # fmt: skip
    return found[0] or a, found[1] or b


def _is_gate(a: Feature, b: Feature) -> bool:
    """Tell whether b is one factor a channel of a, by the rules of broadcasting."""
    shape = (1,) * (len(a.shape) - len(b.shape)) + b.shape
    if (b.tensor.h, b.tensor.w, b.tensor.c) != (1, 1, a.tensor.c) or len(shape) != len(a.shape):
        return False
    return a.tensor.c == 1 or a.has_channels_at(shape.index(a.tensor.c))


def clamp(builder: Builder, layer: Layer, x: Feature, lo: float, hi: float) -> Feature:
    """Append a clip to lo..hi; nothing where both are infinite. Raises UnsupportedOp where one value is left."""
    if not lo < hi:
        layer.refuse(f"clips to {lo:g}..{hi:g}, which leaves a constant; export the model without")
    if (lo, hi) == (-inf, inf):
        return x
    act = {(0.0, 6.0): "relu6", (0.0, inf): "relu"}.get((lo, hi), "clip")
    args: tuple[float, ...] = (lo, hi) if act == "clip" else ()
    return same_layout(x, builder.add(layer, "act", (x.tensor,), x.tensor.c, act=act, args=args))


def padded(
    builder: Builder, layer: Layer, x: Tensor, pad: tuple[int, int, int, int], channels: tuple[int, int]
) -> Tensor:
    """Append zeros around rows and columns (top, left, bottom, right), and before and behind the channels. Raises
    UnsupportedOp for too many channels."""
    before, behind = channels
    if before + behind > MOST:
        layer.refuse(f"makes {x.c + before + behind:,} channels; pad by fewer")
    if before + behind:
        numbers = (*[-1] * before, *range(x.c), *[-1] * behind)
        x = builder.add(layer, "take", (x,), len(numbers), channels=numbers)
    return builder.add(layer, "pad", (x,), x.c, pad=pad) if any(pad) else x


def concatenate(builder: Builder, layer: Layer, maps: list[Feature], axis: int) -> Feature:
    """Append the maps joined along `axis`. Raises UnsupportedOp where that is not their channels."""
    first = maps[0]
    if len(maps) == 1:
        return first
    axis %= max(len(first.shape), 1)
    alike = {_outside(m, axis) for m in maps}
    if len(alike) != 1 or not all(m.has_channels_at(axis) for m in maps):
        layer.refuse("joins maps along another axis than their channels; end the model at the maps themselves")
    y = builder.add(layer, "concat", tuple(m.tensor for m in maps), sum(m.tensor.c for m in maps))
    return with_channels(y, first, axis)


def _outside(x: Feature, axis: int) -> Hashable:
    """Return all that maps must have in common to be joined along `axis`."""
    t = x.tensor
    return t.h, t.w, x.order.replace("c", ""), x.shape[:axis], x.shape[axis + 1 :]


def arrives(builder: Builder, layer: Layer, feature: Feature | Moved, given: Scale) -> None:
    """Take in a map with this scale. It must be the one it left with; an input of the model has none yet."""
    name = feature.tensor.name
    source = _source(builder, name)  # of a part of an image that has no scale yet the image
    if source not in builder.scales and source not in builder.ops:
        builder.scales[source] = given
    elif builder.scale_of(name) != given:
        layer.refuse(f"reads '{name}' in another scale than it was written with; quantize the model once")


def leaves(builder: Builder, layer: Layer, feature: View, given: Scale) -> View:
    """Return the map in this scale: as the op before wrote it, or behind a change of its scale."""
    name = feature.tensor.name
    _settle(builder, name, given)
    if builder.scales[name] == given:
        return feature
    source = _source(builder, name)
    if source in builder.narrowed and not (source not in builder.ops and _alike(builder.scales[source], given)):
        layer.refuse(
            f"'{source}' {NARROW}, and they differ; quantize it whole, or give the float file to mcunet quantize"
        )
    y = builder.add(layer, "act", (feature.tensor,), feature.tensor.c)
    builder.scales[y.name] = given
    return replace(feature, tensor=y)


def _alike(a: Scale, b: Scale) -> bool:
    """Tell whether two scales hold the same range to within a step, as those of the four parts of YOLOX's Focus do."""
    return max(abs(one - other) for one, other in zip(a.span, b.span, strict=True)) <= max(a.scale, b.scale)


def _source(builder: Builder, name: str) -> str:
    """Return the tensor of which ops that keep its scale make this one."""
    op = builder.ops.get(name)
    return _source(builder, op.inputs[0]) if op and op.kind in SAME_SCALE else name


def _settle(builder: Builder, name: str, given: Scale) -> None:
    """Give a tensor without a scale this one, where its kernel has the choice. A kernel that keeps its input's scale
    passes it on: the greatest of rounded values is the rounded greatest. So does a join, whose inputs round once."""
    if name in builder.scales:
        return
    op = builder.ops.get(name)
    if op and op.kind in SAME_SCALE:
        if op.kind in ("maxpool", "take") and op.inputs[0] not in builder.scales:
            builder.narrowed.add(op.inputs[0])
        _settle(builder, op.inputs[0], given)
        builder.scales[name] = builder.scales[op.inputs[0]]
        return
    if op and op.kind == "concat":
        for source in op.inputs:
            _settle(builder, source, given)
    builder.scales[name] = PROBABILITY if op and FACTS[op.kind].scale == "probability" else given
