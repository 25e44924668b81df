"""Read ONNX's operators as ops of our graph, and write ops as ONNX's operators.

A handler of NODES reads: it takes (reader, node), adds ops, and returns the Feature that the node's first output is;
None where the value is a constant. It raises UnsupportedOp for an attribute no kernel has. An entry of STEPS writes: it
takes (writer, op) and returns the nodes that the op is, its activation and residual not among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import copysign, inf
from typing import Any

import numpy as np

from ....core.ir.graph import Op, Tensor, out_length
from ....core.types import PlainDict
from ..divided import parts_as_channels
from ..feature import Feature, kept, same_layout
from ..layers import clamp, concatenate, padded, sloped
from ..moved import Moved
from . import moves
from .attention import STEPS as ATTENTION
from .file import Node
from .layout import LAYOUT, axes_of
from .linear import LINEAR, Window, per_channel, window
from .values import Values
from .writer import Step, Steps, Writer

Handler = Callable[[Values, Node], Feature | Moved | Sequence[Feature | Moved] | None]


def activation(act: str, *names: str, **defaults: float) -> Handler:
    """Return the handler of an elementwise function whose arguments are attributes."""

    def handler(reader: Values, node: Node) -> Feature:
        x = reader.feature(node)
        args = tuple(float(np.float32(node.attribute(name, defaults[name]))) for name in names)
        if not np.isfinite(args).all():
            node.wrong(f"arguments {args}")
        if act == "hsigmoid" and np.allclose(args, (1 / 6, 0.5), rtol=1e-6):
            args = ()
        return same_layout(x, reader.add(node, "act", (x.tensor,), x.tensor.c, act=act, args=args))

    return handler


def clip(reader: Values, node: Node) -> Feature:
    """Read Clip, whose limits are constants, before opset 11 attributes."""
    lo, hi = (
        _limit(reader, node, i) if node.has(i) else _bounded(node.attribute(name, none))
        for i, name, none in ((1, "min", -inf), (2, "max", inf))
    )
    return clamp(reader, node, reader.feature(node), lo, hi)


def extremum(reader: Values, node: Node) -> Feature:
    """Read Max and Min of a map and a number."""
    maps = [name in reader.features for name in node.inputs]
    if sorted(maps) != [False, True]:
        node.refuse("of several maps; of a map and a constant it is known")
    x, value = reader.feature(node, maps.index(True)), _limit(reader, node, maps.index(False))
    return clamp(reader, node, x, *((value, inf) if node.kind == "Max" else (-inf, value)))


def _limit(reader: Values, node: Node, i: int) -> float:
    """Return the constant input i as a limit. Exporters also write the greatest float32 for none."""
    value = reader.numbers(node, i, finite=False)
    if value.size != 1 or value.ndim > 1:
        node.refuse(f"'{node.inputs[i]}' of {list(value.shape)}: a limit is one number")
    return _bounded(float(value.reshape(())))


def _bounded(limit: float) -> float:
    return limit if abs(limit) < np.finfo(np.float32).max else copysign(inf, limit)


def prelu(reader: Values, node: Node) -> Feature:
    """Read PRelu of one slope, or of one a channel."""
    x, slopes = reader.feature(node), reader.numbers(node, 1)
    if slopes.size > 1:
        slopes, x = per_channel(reader, node, 1, x)
        return sloped(reader, node, x, slopes)
    args = (float(slopes.reshape(())),)
    return same_layout(x, reader.add(node, "act", (x.tensor,), x.tensor.c, act="leaky", args=args))


def max_pool(reader: Values, node: Node) -> Feature:
    """Read MaxPool."""
    x = reader.map(node).tensor
    fields = window(node, x, node.attribute("kernel_shape", ()))
    if len([name for name in node.proto.output if name]) > 1:
        node.refuse("gives the indices, too; export it without")
    if node.attribute("ceil_mode", 0):
        fields["pad"] = _ceil_pads(reader, x, fields)
    return Feature.of(reader.add(node, "maxpool", (x,), x.c, **fields))


def _ceil_pads(reader: Values, x: Tensor, of: Window) -> tuple[int, int, int, int]:
    """Return pads with which rounding down gives what rounding up does. A last window that begins in the padding is
    left out, as onnxruntime and PyTorch do, whatever the file's shapes say."""
    top, left, *_ = of["pad"]
    ends = []
    for length, side, step, lo, hi in zip((x.h, x.w), of["k"], of["s"], of["pad"][:2], of["pad"][2:], strict=True):
        outputs = out_length(length, side, step, lo, hi + step - 1)
        beyond = (outputs - 1) * step >= length + lo
        reader.shortened |= beyond
        outputs -= beyond
        ends.append(max(hi, (outputs - 1) * step + side - length - lo))
    return top, left, ends[0], ends[1]


def average_pool(reader: Values, node: Node, given: Feature | None = None) -> Feature:
    """Read AveragePool of its input, or of the map that is given."""
    x = (given or reader.map(node)).tensor
    fields = window(node, x, node.attribute("kernel_shape", ()))
    if node.attribute("ceil_mode", 0) and (pads := _ceil_pads(reader, x, fields)) != fields["pad"]:
        if node.attribute("count_include_pad", 0):
            node.refuse("ceil_mode with count_include_pad; leave one away, or choose a size that the stride divides")
        fields["pad"] = pads  # no more counted than other padding
    if any(fields["pad"]) and node.attribute("count_include_pad", 0):
        x = reader.add(node, "pad", (x,), x.c, pad=fields["pad"])
        fields["pad"] = (0, 0, 0, 0)
    if fields["k"] == (x.h, x.w) and not any(fields["pad"]):
        return Feature.of(reader.add(node, "gap", (x,), x.c))
    return Feature.of(reader.add(node, "avgpool", (x,), x.c, **fields))


def global_pool(reader: Values, node: Node) -> Feature:
    """Read GlobalMaxPool and GlobalAveragePool, of a map or a signal."""
    x = reader.feature(node)
    groups = x.groups()
    if groups is None or "c" in "".join(groups[2:]):
        x = reader.map(node)
    return _reduction(reader, node, x, list(range(2, len(x.shape))), keep=True)


def reduced(reader: Values, node: Node) -> Feature:
    """Read ReduceMean and ReduceMax over height, width or both."""
    x = reader.feature(node)
    axes, groups = axes_of(reader, node, 1, len(x.shape)), x.groups()
    if not axes and node.attribute("noop_with_empty_axes", 0):
        return x
    over = None if groups is None else "".join(groups[a] for a in axes or range(len(x.shape)))
    if over is None or "c" in over:
        node.refuse(
            f"over the axes {axes} of {list(x.shape)}, channels among them, as LayerNormalization does: of height and "
            "width it is known; normalise with BatchNormalization and train again"
        )
    return _reduction(reader, node, x, axes or list(range(len(x.shape))), node.attribute("keepdims", 1))


def _reduction(reader: Values, node: Node, x: Feature, axes: list[int], keep: bool) -> Feature:
    """Append the mean or maximum over these axes, which are height, width or both. keep: with a length of 1."""
    t, groups, mean = x.tensor, x.groups(), node.kind in ("ReduceMean", "GlobalAveragePool")
    assert groups is not None  # the callers have asked
    over = "".join(groups[a] for a in axes)
    k = t.h if "h" in over else 1, t.w if "w" in over else 1
    if mean and k == (t.h, t.w):
        y = reader.add(node, "gap", (t,), t.c)
    else:
        y = reader.add(node, "avgpool" if mean else "maxpool", (t,), t.c, k=k)
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep or i not in axes]
    return Feature(y, "".join(axis for axis in x.order if axis not in over), tuple(shape))


def resize(reader: Values, node: Node) -> Feature:
    """Read Resize and, of old files, Upsample: nearest, by a whole factor."""
    x = reader.map(node).tensor
    if node.attribute("axes", None) is not None or node.attribute("mode", "nearest") != "nearest":
        node.refuse(f"mode '{node.attribute('mode', 'nearest')}': use nearest by a constant whole factor, on all axes")
    if node.has(3):
        if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
            node.refuse("keep_aspect_ratio_policy; use constant whole factors instead")
        sizes = reader.array(node, 3).reshape(-1).tolist()
        scales = [a / b for a, b in zip(sizes, (1, x.c, x.h, x.w), strict=False)]
    else:
        at = 2 if reader.opset >= 11 else 1
        scales = reader.numbers(node, at).reshape(-1).tolist() if node.has(at) else node.attribute("scales", [])
    # Before opset 11 the standard knows one way.
    where = node.attribute("coordinate_transformation_mode", "half_pixel" if reader.opset >= 11 else "asymmetric")
    how = node.attribute("nearest_mode", "round_prefer_floor" if reader.opset >= 11 else "floor")
    whole = len(scales) == 4 and scales[:2] == [1, 1] and all(1 <= v <= 255 and v == int(v) for v in scales)
    # By a whole factor the middle of a pixel lies nearest to the pixel it copies, never half-way between two.
    exact = (where, how) in (("asymmetric", "floor"), ("tf_half_pixel_for_nn", "floor")) or (
        where in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel") and how.startswith("round_prefer")
    )
    if not (whole and exact):
        node.refuse(f"nearest by {scales} ({where}, {how}): use a constant whole factor, asymmetric with floor or "
                    "half_pixel with round_prefer_floor")  # fmt: skip
    return Feature.of(reader.add(node, "upsample", (x,), x.c, s=(int(scales[2]), int(scales[3]))))


def pad(reader: Values, node: Node) -> Feature:
    """Read Pad: channels, height and width, with zeros."""
    x = reader.feature(node)
    dims = axes_of_map(x)
    if dims is None:
        x, dims = reader.map(node), ["", "c", "h", "w"]
    if node.attribute("mode", "constant") != "constant":
        node.refuse(f"mode '{node.attribute('mode', '')}': pad with zeros")
    axes = axes_of(reader, node, 3, len(dims))
    # Before opset 11 they are an attribute.
    ends = list(node.attribute("pads", ())) if reader.opset < 11 else reader.array(node, 1).reshape(-1).tolist()
    axes = list(range(len(dims))) if axes is None else axes
    if len(ends) != 2 * len(axes) or len(set(axes)) != len(axes):
        node.wrong(f"pads {ends} of the axes {axes}")
    sides = dict(zip(axes, zip(ends[: len(axes)], ends[len(axes) :], strict=True), strict=True))
    by_name = {name: sides[i] for i, name in enumerate(dims) if name and i in sides}
    others = [sides[i] for i, name in enumerate(dims) if i in sides and len(name) != 1]
    if any(map(any, others)) or min(ends, default=0) < 0 or not _is_zero(reader, node):
        node.refuse(f"pads {ends} of the axes {axes}: pad channels, height and width, with zeros; Slice crops")
    (top, bottom), (left, right) = by_name.get("h", (0, 0)), by_name.get("w", (0, 0))
    y = padded(reader, node, x.tensor, (top, left, bottom, right), by_name.get("c", (0, 0)))
    shape = tuple(n + sum(sides.get(i, (0, 0))) for i, n in enumerate(x.shape))
    return Feature(y, kept("".join(dims), y), shape)


def axes_of_map(x: Feature) -> list[str] | None:
    """Return which axis of the map each dimension is, "" for one of 1; None where a dimension is several, or a part."""
    t = x.tensor
    if len(x.shape) == 4 and (x.is_map or x.is_channels_last):
        return ["", *("chw" if x.is_map else "hwc")]
    if x.is_turned:
        return ["", "c", "w", "h"]
    if x.is_signal:
        return ["", "c", "h" if t.w == 1 else "w"]
    groups = x.groups()
    return groups if groups is not None and max(map(len, groups), default=0) < 2 else None


def _is_zero(reader: Values, node: Node) -> bool:
    """Tell whether a Pad pads with zero, which integers have at their zero point."""
    if node.inputs[0] not in reader.rounded:
        return not (node.attribute("value", 0.0) or (node.has(2) and reader.numbers(node, 2).any()))
    value = reader.array(node, 2) if node.has(2) else np.zeros(1, np.int8)
    zero = reader.scale_of(reader.feature(node).tensor.name).zero_point
    return value.dtype in (np.int8, np.uint8) and value.astype(int) - 128 * (value.dtype == np.uint8) == zero


def concat(reader: Values, node: Node) -> Feature:
    """Read Concat along the channels."""
    if (parts := reader.joined(node, node.inputs, node.attribute("axis", 1))) is not None:
        return parts
    maps = [reader.feature(node, i) for i in range(len(node.inputs))]
    return concatenate(reader, node, maps, node.attribute("axis", 1))


def softmax(reader: Values, node: Node) -> Feature:
    """Read Softmax over the channels; before opset 13 over all dimensions from `axis` on."""
    x = reader.feature(node)
    later = reader.opset >= 13
    axis = node.attribute("axis", -1 if later else 1)
    if not -len(x.shape) <= axis < len(x.shape):
        node.wrong(f"axis {axis} of {len(x.shape)}")
    axis %= len(x.shape)
    last = axis == len(x.shape) - 1
    if not x.has_channels_at(axis) and last:
        x = parts_as_channels(reader, node, x) or x
    if not x.has_channels_at(axis) or (not later and not last and np.prod(x.shape[axis:]) != x.tensor.c):
        node.refuse(
            f"over axis {axis} of {list(x.shape)}: softmax over the channels of each position, or over equal parts of "
            "them, is known; end the model before it (--outputs)"
        )
    return same_layout(x, reader.add(node, "softmax", (x.tensor,), x.tensor.c))


NODES: dict[str, Handler] = {
    **LINEAR,
    "Relu": activation("relu"),
    "LeakyRelu": activation("leaky", "alpha", alpha=0.01),
    "Abs": activation("abs"),
    "Elu": activation("elu", "alpha", alpha=1.0),
    "Selu": activation("selu", "alpha", "gamma", alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Softplus": activation("softplus"),
    "PRelu": prelu,
    "Clip": clip,
    "Max": extremum,
    "Min": extremum,
    "Sigmoid": activation("sigmoid"),
    "Tanh": activation("tanh"),
    "HardSigmoid": activation("hsigmoid", "alpha", "beta", alpha=0.2, beta=0.5),
    "HardSwish": activation("hswish"),
    "Softmax": softmax,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "ReduceMean": reduced,
    "ReduceMax": reduced,
    "Resize": resize,
    "Upsample": resize,
    "Pad": pad,
    "Concat": concat,
    **moves.NODES,
    **LAYOUT,
}


def plain(kind: str, **attributes: Any) -> Steps:
    """Return the writer of an op that is one node on all its inputs."""
    return lambda writer, op: [(kind, [writer.float_name[name] for name in op.inputs[1:]], attributes)]


def cropped(steps: Steps) -> Steps:
    """Return the writer of an op with a window. ONNX has no negative pads: rows that are never read are cut before."""

    def written(writer: Writer, op: Op) -> list[Step]:
        if min(op.pad) >= 0:
            return steps(writer, op)
        top, left, bottom, right = (max(p, 0) for p in op.pad)
        return [*moves.crop(writer, op), *steps(writer, replace(op, pad=(top, left, bottom, right)))]

    return written


def windowed(kind: str, **attributes: Any) -> Steps:
    """Return the writer of an op that is one node with kernel, stride and pads."""
    return cropped(lambda writer, op: [(kind, [], {**_window(op), **attributes})])


def _window(op: Op) -> PlainDict:
    return dict(kernel_shape=list(op.k), strides=list(op.s), pads=list(op.pad))


def _conv(writer: Writer, op: Op) -> list[Step]:
    return [("Conv", writer.weights(op), {**_window(op), "group": op.groups})]


def _upsample(writer: Writer, op: Op) -> list[Step]:
    scales = writer.constant(f"{op.name}.scales", np.array([1, 1, *op.s], np.float32))
    nearest = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return [("Resize", ["", scales], nearest)]


def _pad(writer: Writer, op: Op) -> list[Step]:
    top, left, bottom, right = op.pad
    return [("Pad", [writer.constant(f"{op.name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))], {})]


STEPS: dict[str, Steps] = {
    "conv": cropped(_conv),
    "maxpool": windowed("MaxPool"),
    "avgpool": windowed("AveragePool"),
    "gap": plain("GlobalAveragePool"),
    "upsample": _upsample,
    "pad": cropped(_pad),
    **moves.STEPS,
    **ATTENTION,
    "add": plain("Add"),
    "mul": plain("Mul"),
    "concat": plain("Concat", axis=1),
    "act": lambda writer, op: [],
    "softmax": plain("Softmax", axis=1),
}
