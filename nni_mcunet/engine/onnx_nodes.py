"""ONNX's operators as ops of our graph. A handler takes (reader, node), adds ops, and returns the Feature that the
node's first output is; None where the value is a constant. Raises UnsupportedOp for an attribute no kernel has."""

from math import inf

import numpy as np

from ..core.graph import Tensor
from .onnx_values import Feature, Integers
from .quant import QuantWeights


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
    total = max(0, (-(-length // s) - 1) * s + k - length)
    lo = total // 2 if auto == "SAME_UPPER" else total - total // 2
    return lo, total - lo


def per_output(node, value: np.ndarray | Integers, axis: int) -> np.ndarray:
    """The values of a weight whose output channels lie along `axis`; its scales, where it has several, too."""
    if isinstance(value, Integers) and value.scale.size > 1 and value.axis % value.values.ndim != axis:
        node.refuse("its weights have scales along another axis than the outputs'; quantize them per output channel")
    if isinstance(value, Integers) and value.zero.any():
        node.refuse("its weights have a zero point; quantize them symmetrically")
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
    """A float bias is rounded to steps of input * weight scale, an integer one has them."""
    channels = weight.shape[0]
    if weight.dtype != np.int8 or scale.size not in (1, channels):
        node.refuse(f"weights of {weight.dtype} with {scale.size} scales: int8 with one scale, or one a channel")
    scale = np.broadcast_to(scale.reshape(-1), (channels,)).astype(np.float32)
    steps = reader.scale_of(x.name).scale * scale.astype(np.float64)
    if bias is None:
        values = np.zeros(channels)
    elif not isinstance(bias, Integers):
        values = np.round(bias.reshape(channels) / steps)
    elif bias.scale.size not in (1, channels) or not np.allclose(bias.scale.reshape(-1), steps, rtol=1e-4, atol=0):
        node.refuse("the bias has another scale than input * weights; quantize it with that scale")
    else:
        values = bias.values.reshape(channels).astype(np.float64)
    if np.abs(values).max(initial=0) >= 2**31:
        node.wrong("its bias does not fit in 32 bits")
    return QuantWeights(np.ascontiguousarray(weight), scale, values.astype(np.int32))


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
    if weight.ndim != 2 or not weight.size or x.shape[-1] != weight.shape[1]:
        node.wrong(f"weights of {list(weight.shape)} on {list(x.shape)}")
    cout = weight.shape[0]
    if x.shape == (1, t.size):
        if x.order in ("ch", "cw", "chw", "c", "h", "w", "hw", ""):
            kernel = weight.reshape(cout, t.c, t.h, t.w)
        else:
            kernel = weight.reshape(cout, t.h, t.w, t.c).transpose(0, 3, 1, 2)
            if not x.is_ours:
                node.refuse("its input has rows and channels mixed; flatten the map itself")
        y = convolve(reader, node, t, kernel, given, bias)
        return Feature(y, "c" if cout > 1 else "", (1, cout))
    if x.axis_of("c") != len(x.shape) - 1:
        node.refuse(f"its input {list(x.shape)} has no channels at its end; flatten the map itself")
    y = convolve(reader, node, t, weight[:, :, None, None], given, bias)
    order = x.order.replace("c", "") + "c" * (cout > 1)
    return Feature(y, order, (*x.shape[:-1], cout))


def same_layout(x: Feature, y: Tensor) -> Feature:
    """`y`, of the size of x, under x's shape and order."""
    return Feature(y, x.order, x.shape)


def activation(act: str, *names: str, **defaults):
    """Handler of an elementwise function whose arguments are attributes."""

    def handler(reader, node):
        x = reader.feature(node)
        args = tuple(float(node.attribute(name, defaults[name])) for name in names)
        if not np.isfinite(args).all():
            node.wrong(f"arguments {args}")
        if act == "hsigmoid" and np.allclose(args, (1 / 6, 0.5), rtol=1e-6):
            args = ()
        return same_layout(x, reader.add(node, "act", (x.tensor,), x.tensor.c, act=act, args=args))

    return handler


def clip(reader, node):
    x, limits = reader.feature(node), [-inf, inf]
    for i in (1, 2):
        if node.has(i):
            value = reader.numbers(node, i)
            if value.size != 1:
                node.wrong("its limits are no single numbers")
            limits[i - 1] = float(value.reshape(()))
    if not limits[0] < limits[1]:
        node.wrong(f"clips to {limits}")
    if limits == [-inf, inf]:
        return x
    act = {(0.0, 6.0): "relu6", (0.0, inf): "relu"}.get(tuple(limits), "clip")
    args = tuple(limits) if act == "clip" else ()
    return same_layout(x, reader.add(node, "act", (x.tensor,), x.tensor.c, act=act, args=args))


def prelu(reader, node):
    slopes = reader.numbers(node, 1)
    if slopes.size != 1:
        node.refuse("a slope a channel; train with one slope, or LeakyRelu")
    x = reader.feature(node)
    args = (float(slopes.reshape(())),)
    return same_layout(x, reader.add(node, "act", (x.tensor,), x.tensor.c, act="leaky", args=args))


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
    if any(v.shape != (x.tensor.c,) for v in (gamma, beta, mean, var)) or x.axis_of("c") != 1:
        node.wrong(f"not one factor for each of {x.tensor.c} channels")
    with np.errstate(all="ignore"):
        gain = gamma / np.sqrt(var + node.attribute("epsilon", 1e-5))
    return affine(reader, node, x, gain, beta - mean * gain)


def _per_channel(reader, node, i: int, x: Feature) -> np.ndarray:
    """The constant input i as one number or one a channel of x."""
    value = reader.numbers(node, i)
    if value.size == 1:
        return value.reshape(-1)
    axis, dims = x.axis_of("c"), (1,) * (len(x.shape) - value.ndim) + value.shape
    if axis is None or len(dims) != len(x.shape) or value.size != x.tensor.c or dims[axis] != x.tensor.c:
        node.refuse(f"a constant of {list(value.shape)} on {list(x.shape)}: one number, or one a channel, is wanted")
    return value.reshape(-1)


def arithmetic(reader, node):
    """Add, Sub, Mul, Div: of two maps (Add, Mul), or of a map and a constant."""
    kind, maps = node.kind, [name in reader.features for name in node.inputs]
    if maps == [True, True]:
        return combine(reader, node, {"Add": "add", "Mul": "mul"}.get(kind))
    if not any(maps):
        reader.feature(node)  # refuses
    x = reader.feature(node, maps.index(True))
    value = _per_channel(reader, node, maps.index(False), x)
    if kind == "Div" and (maps == [False, True] or not value.all()):
        node.refuse("divides by a map or by zero; multiply by a constant")
    with np.errstate(all="ignore"):
        factor = {"Mul": value, "Div": 1 / value, "Sub": 1 if maps[0] else -1}.get(kind, 1)
    summand = {"Add": value, "Sub": -value if maps[0] else value}.get(kind, 0)
    return affine(reader, node, x, factor, summand)


def combine(reader, node, kind: str | None, at=(0, 1)) -> Feature:
    """The sum or product of two maps; of a product one may be a factor a channel."""
    a, b = (reader.feature(node, i) for i in at)
    if kind == "mul" and (a.tensor.h, a.tensor.w) == (1, 1) != (b.tensor.h, b.tensor.w):
        a, b = b, a
    gate = kind == "mul" and (b.tensor.h, b.tensor.w, b.tensor.c) == (1, 1, a.tensor.c) and a.is_map
    gate = gate and (b.is_map or b.shape in ((1, a.tensor.c), (a.tensor.c, 1, 1)))
    alike = a.shape == b.shape and a.order == b.order and a.groups() == b.groups()
    same = (a.tensor.h, a.tensor.w, a.tensor.c) == (b.tensor.h, b.tensor.w, b.tensor.c)
    if kind is None or not (gate or (alike and same)):
        node.refuse(f"of {list(a.shape)} and {list(b.shape)}: sums and products of maps of one shape, or products with "
                    "a factor a channel, are known")  # fmt: skip
    return same_layout(a, reader.add(node, kind, (a.tensor, b.tensor), a.tensor.c))


def max_pool(reader, node):
    x = reader.map(node).tensor
    fields = window(node, x, node.attribute("kernel_shape", ()))
    if len([name for name in node.proto.output if name]) > 1:
        node.refuse("gives the indices, too; export it without")
    if node.attribute("ceil_mode", 0):
        fields["pad"] = _ceil_pads(x, **fields)
    return Feature.of(reader.add(node, "maxpool", (x,), x.c, **fields))


def _ceil_pads(x: Tensor, k, s, pad) -> tuple[int, ...]:
    """Pads with which rounding down gives what rounding up does: the last window begins inside the map."""
    ends = []
    for length, side, step, lo, hi in zip((x.h, x.w), k, s, pad[:2], pad[2:], strict=True):
        outputs = -(-(length + lo + hi - side) // step) + 1
        outputs -= (outputs - 1) * step >= length + lo
        ends.append(max(hi, (outputs - 1) * step + side - length - lo))
    return (*pad[:2], *ends)


def average_pool(reader, node, x: Feature | None = None):
    x = (x or reader.map(node)).tensor
    fields = window(node, x, node.attribute("kernel_shape", ()))
    if node.attribute("ceil_mode", 0) and _ceil_pads(x, **fields) != fields["pad"]:
        node.refuse("ceil_mode; pad the map or choose a size that the stride divides")
    if fields["k"] == (x.h, x.w) and not any(fields["pad"]):
        return Feature.of(reader.add(node, "gap", (x,), x.c))
    if any(fields["pad"]) and node.attribute("count_include_pad", 0):
        x = reader.add(node, "pad", (x,), x.c, pad=fields["pad"])
        fields["pad"] = (0, 0, 0, 0)
    return Feature.of(reader.add(node, "avgpool", (x,), x.c, **fields))


def global_pool(reader, node):
    x = reader.map(node).tensor
    return Feature.of(reader.add(node, "gap", (x,), x.c))


def _axes(reader, node, i: int, dims: int) -> list[int] | None:
    """An `axes` that is an attribute or, in later opsets, the input i."""
    axes = reader.array(node, i).reshape(-1).tolist() if node.has(i) else node.attribute("axes", None)
    if axes is None:
        return None
    if not all(type(a) is int and -dims <= a < dims for a in axes):
        node.wrong(f"axes {axes} of {dims}")
    return [a % dims for a in axes]


def reduce_mean(reader, node):
    x = reader.feature(node)
    axes, groups = _axes(reader, node, 1, len(x.shape)), x.groups()
    spatial = sorted(c for c in x.order if c != "c")
    if not axes or groups is None or sorted("".join(groups[a] for a in axes)) != spatial:
        node.refuse(f"axes {axes} of {list(x.shape)}: the mean over height and width is known")
    y = reader.add(node, "gap", (x.tensor,), x.tensor.c)
    keep = node.attribute("keepdims", 1)
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
    return Feature(y, "c" if y.c > 1 else "", tuple(shape))


def resize(reader, node):
    x = reader.map(node).tensor
    if node.attribute("axes", None) is not None or node.attribute("mode", "nearest") != "nearest":
        node.refuse(f"mode '{node.attribute('mode', 'nearest')}': use nearest by a constant whole factor, on all axes")
    if node.has(3):
        sizes = reader.array(node, 3).reshape(-1).tolist()
        scales = [a / b for a, b in zip(sizes, (1, x.c, x.h, x.w), strict=False)]
    else:
        scales = reader.numbers(node, 2).reshape(-1).tolist() if node.has(2) else []
    where = node.attribute("coordinate_transformation_mode", "half_pixel")
    how = node.attribute("nearest_mode", "round_prefer_floor")
    whole = len(scales) == 4 and scales[:2] == [1, 1] and all(1 <= v <= 255 and v == int(v) for v in scales)
    # By a whole factor the middle of a pixel lies nearest to the pixel it copies, never half-way between two.
    exact = (where, how) == ("asymmetric", "floor") or (
        where in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel") and how.startswith("round_prefer")
    )
    if not (whole and exact):
        node.refuse(f"nearest by {scales} ({where}, {how}): use a constant whole factor, asymmetric with floor or "
                    "half_pixel with round_prefer_floor")  # fmt: skip
    return Feature.of(reader.add(node, "upsample", (x,), x.c, s=(int(scales[2]), int(scales[3]))))


def pad(reader, node):
    x = reader.map(node).tensor
    if node.attribute("mode", "constant") != "constant" or node.has(3):
        node.refuse("pads by reflection, by the edge, or some axes alone; pad all four with zeros")
    value = reader.numbers(node, 2) if node.has(2) else np.zeros(1)
    ends = reader.array(node, 1).reshape(-1).tolist()
    if len(ends) != 8 or any(ends[i] for i in (0, 1, 4, 5)) or min(ends) < 0 or value.any():
        node.refuse(f"pads {ends} with {value.reshape(-1)[:1]}: pad height and width with zeros")
    top, left, bottom, right = ends[2], ends[3], ends[6], ends[7]
    return Feature.of(reader.add(node, "pad", (x,), x.c, pad=(top, left, bottom, right)))


def concat(reader, node):
    maps = [reader.feature(node, i) for i in range(len(node.inputs))]
    return concatenate(reader, node, maps, node.attribute("axis", 1))


def concatenate(reader, node, maps: list[Feature], axis: int) -> Feature:
    first, dims = maps[0], len(maps[0].shape)
    if len(maps) == 1:
        return first
    plain = all(m.is_map for m in maps) and axis % dims == 1
    vectors = all(m.shape == (1, m.tensor.c) for m in maps) and axis % dims == 1
    if not plain and not vectors:
        node.refuse("joins maps along another axis than their channels; end the model at the maps themselves")
    y = reader.add(node, "concat", tuple(m.tensor for m in maps), sum(m.tensor.c for m in maps))
    return Feature.of(y) if plain else Feature(y, "c", (1, y.c))


def softmax(reader, node):
    x = reader.feature(node)
    later = reader.opset >= 13
    axis = node.attribute("axis", -1 if later else 1)
    if not -len(x.shape) <= axis < len(x.shape):
        node.wrong(f"axis {axis} of {len(x.shape)}")
    axis %= len(x.shape)
    if x.axis_of("c") != axis or (not later and np.prod(x.shape[axis:]) != x.tensor.c):
        node.refuse(f"over axis {axis} of {list(x.shape)}: over the channels alone")
    return same_layout(x, reader.add(node, "softmax", (x.tensor,), x.tensor.c))


def alias(reader, node):
    if node.has(0) and node.inputs[0] in reader.integers:
        reader.integers[node.proto.output[0]] = reader.integers[node.inputs[0]]
        return None
    return reader.feature(node)


def cast(reader, node):
    if node.attribute("to", 1) not in (1, 10, 11, 16):
        node.refuse("casts a map to integers; leave it away")
    return reader.feature(node)


def _reshaped(node, x: Feature, shape) -> Feature:
    return x.reshaped(shape) or node.wrong(f"{list(x.shape)} has not the elements of {list(shape)}")


def reshape(reader, node):
    x, wanted = reader.feature(node), reader.array(node, 1).reshape(-1).tolist()
    if not all(type(n) is int for n in wanted):
        node.wrong(f"the shape {wanted}")
    if not node.attribute("allowzero", 0):
        wanted = [x.shape[i] if n == 0 and i < len(x.shape) else n for i, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = int(np.prod([float(n) for n in wanted if n != -1]))
        wanted = [(x.tensor.size // rest if rest else 0) if n == -1 else n for n in wanted]
    return _reshaped(node, x, wanted)


def flatten(reader, node):
    x, axis = reader.feature(node), node.attribute("axis", 1)
    if not -len(x.shape) <= axis <= len(x.shape):
        node.wrong(f"axis {axis} of {len(x.shape)}")
    axis = axis % len(x.shape) if axis < len(x.shape) else axis
    return _reshaped(node, x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))


def squeeze(reader, node):
    x = reader.feature(node)
    axes = _axes(reader, node, 1, len(x.shape))
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else axes
    if any(x.shape[a] != 1 for a in axes):
        node.wrong(f"axes {axes} of {list(x.shape)}")
    return _reshaped(node, x, [n for i, n in enumerate(x.shape) if i not in axes])


def unsqueeze(reader, node):
    x = reader.feature(node)
    given = reader.array(node, 1).reshape(-1) if node.has(1) else node.attribute("axes", ())
    dims = len(x.shape) + len(given)
    axes = _axes(reader, node, 1, dims) or []
    if len(set(axes)) != len(given) or dims > 8:
        node.wrong(f"axes {axes}")
    rest = iter(x.shape)
    return _reshaped(node, x, [1 if i in axes else next(rest) for i in range(dims)])


def transpose(reader, node):
    x = reader.feature(node)
    perm = node.attribute("perm", list(range(len(x.shape)))[::-1])
    found = x.transposed(perm)
    return found or node.refuse(f"perm {list(perm)} of {list(x.shape)} divides an axis, as a channel shuffle does; use "
                                "a convolution or none")  # fmt: skip


NODES = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "Add": arithmetic,
    "Sub": arithmetic,
    "Mul": arithmetic,
    "Div": arithmetic,
    "Relu": activation("relu"),
    "LeakyRelu": activation("leaky", "alpha", alpha=0.01),
    "PRelu": prelu,
    "Clip": clip,
    "Sigmoid": activation("sigmoid"),
    "Tanh": activation("tanh"),
    "HardSigmoid": activation("hsigmoid", "alpha", "beta", alpha=0.2, beta=0.5),
    "HardSwish": activation("hswish"),
    "Softmax": softmax,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool,
    "ReduceMean": reduce_mean,
    "Resize": resize,
    "Pad": pad,
    "Concat": concat,
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Identity": alias,
    "Dropout": alias,
    "Cast": cast,
}
