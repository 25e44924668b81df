"""ONNX's operators as ops of our graph. A handler takes (reader, node), adds ops, and returns the Feature that the
node's first output is; None where the value is a constant. Raises UnsupportedOp for an attribute no kernel has."""

from math import inf

import numpy as np

from ..core.graph import Tensor
from .onnx_layout import LAYOUT, axes_of
from .onnx_linear import LINEAR, window
from .onnx_values import Feature, same_layout


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


def reduce_mean(reader, node):
    x = reader.feature(node)
    axes, groups = axes_of(reader, node, 1, len(x.shape)), x.groups()
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


NODES = {
    **LINEAR,
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
    **LAYOUT,
}
