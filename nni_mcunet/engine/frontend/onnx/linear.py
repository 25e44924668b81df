"""Read ONNX's linear operators as convolutions, sums and products: Conv, Gemm, MatMul, BatchNormalization, Add and the
like. Handlers as in operators.py."""

from dataclasses import replace
from functools import reduce
from typing import TypedDict

import numpy as np

from ....core.ir.graph import Tensor, out_length
from ....core.types import Floats
from ..feature import Feature, Integers
from ..layers import affine, combined, connect, convolve, dilated, per_output
from ..moved import Moved, block_of, phases
from ..transposed import Side, convolve_transposed
from .attention import product
from .file import Node
from .values import Values


class Window(TypedDict):
    """Kernel, stride and pads of a convolution or pool, as fields of an Op."""

    k: tuple[int, int]
    s: tuple[int, int]
    pad: tuple[int, int, int, int]


def window(node: Node, x: Tensor, k: tuple[int, ...], spread: bool = False) -> Window:
    """Return the window of a convolution or pool on `x` with the kernel k, which may be dilated where it is `spread`.
    Raises UnsupportedOp for another than one of two dimensions and with no negative pads."""
    s = tuple(node.attribute("strides", (1, 1)))
    if len(k) != 2 or len(s) != 2 or min((*k, *s)) < 1:
        node.refuse(f"kernel {list(k)} with stride {list(s)}: expected two dimensions")
    check_kernel(node, k)
    dilations = node.attribute("dilations", (1, 1))
    sides = tuple((side - 1) * d + 1 for side, d in zip(k, dilations, strict=False))
    if len(dilations) != 2 or min(dilations) < 1 or (sides != tuple(k) and not spread):
        node.refuse(f"dilations {list(dilations)} of a {node.kind}: use dilation 1")
    k = sides
    auto, pads = node.attribute("auto_pad", "NOTSET"), tuple(node.attribute("pads", (0, 0, 0, 0)))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        ends = [_same(n, side, step, auto) for n, side, step in zip((x.h, x.w), k, s, strict=True)]
        pads = (ends[0][0], ends[1][0], ends[0][1], ends[1][1])
    elif auto == "VALID":
        pads = (0, 0, 0, 0)
    if len(pads) != 4 or min(pads) < 0:
        node.refuse(f"pads {list(pads)}: expected four that are not negative")
    (height, width), (down, right) = k, s
    top, left, bottom, after = pads
    return {"k": (height, width), "s": (down, right), "pad": (top, left, bottom, after)}


def check_kernel(node: Node, k: tuple[int, ...]) -> None:
    """Raise GraphError where a node states another kernel than its weights have."""
    if tuple(node.attribute("kernel_shape", k)) != tuple(k):
        node.wrong(f"kernel_shape {list(node.attribute('kernel_shape', k))} and weights of {list(k)}")


def _same(length: int, k: int, s: int, auto: str) -> tuple[int, int]:
    """Return the pads of one axis for an output of ceil(length / s)."""
    total = max(0, (out_length(length, 1, s, 0, 0) - 1) * s + k - length)
    lo = total // 2 if auto == "SAME_UPPER" else total - total // 2
    return lo, total - lo


def conv(reader: Values, node: Node) -> Feature | Moved:
    """Read Conv; of a batch that is the phases of a map, as tf2onnx writes SPACE_TO_BATCH_ND, a dilated one."""
    view = reader.view(node)
    block = block_of(node, view) if list(node.attribute("strides", (1, 1))) == [1, 1] and _is_valid(node) else None
    x = view.tensor if block else reader.map(node).tensor
    given = reader.parameter(node, 1)
    weight = per_output(node, given, 0)
    if weight.ndim != 4 or weight.size == 0:
        node.refuse(f"weights of {list(weight.shape)}: expected those of a two-dimensional convolution")
    of = window(node, x, weight.shape[2:], spread=True)
    if block:
        of["k"] = (of["k"][0] - 1) * block[0] + 1, (of["k"][1] - 1) * block[1] + 1
    weight = dilated(node, weight, of["k"])
    bias = reader.parameter(node, 2) if node.has(2) else None
    groups = node.attribute("group", 1)
    y = Feature.of(convolve(reader, node, x, weight, given, bias, groups=groups, s=of["s"], pad=of["pad"]))
    return phases(node, y, block) if block else y


def _is_valid(node: Node) -> bool:
    """Tell whether a convolution pads nothing."""
    return node.attribute("auto_pad", "NOTSET") in ("NOTSET", "VALID") and not any(node.attribute("pads", ()))


def conv_transpose(reader: Values, node: Node) -> Feature:
    """Read ConvTranspose as the convolutions of its phases."""
    x, given = reader.map(node).tensor, reader.parameter(node, 1)
    weight = per_output(node, given, 1)
    if weight.ndim != 4 or weight.size == 0:
        node.refuse(f"weights of {list(weight.shape)}: expected those of a two-dimensional convolution")
    check_kernel(node, weight.shape[2:])
    if reader.scales and not isinstance(given, Integers):
        node.refuse("is left in float between quantised layers; quantize it, too (onnxruntime: quant_format=QDQ)")
    rows, cols = (_transposed_side(node, axis, (x.h, x.w)[axis], weight.shape[2 + axis]) for axis in (0, 1))
    bias = reader.parameter(node, 2) if node.has(2) else None
    groups = node.attribute("group", 1)
    return Feature.of(convolve_transposed(reader, node, x, weight, given, bias, (rows, cols), groups))


def _transposed_side(node: Node, axis: int, n_in: int, k: int) -> Side:
    """Return one axis of a ConvTranspose. Raises UnsupportedOp for another than one of two dimensions."""

    def pair(name: str, default: int, length: int = 2) -> list[int]:
        found = list(node.attribute(name, (default,) * length))
        if len(found) != length:
            node.refuse(f"{name} {found}: expected two dimensions")
        return found

    s, dilation, added = (pair(name, n)[axis] for name, n in (("strides", 1), ("dilations", 1), ("output_padding", 0)))
    if min(s, dilation) < 1 or added < 0:
        node.wrong(f"stride {s}, dilation {dilation} and output_padding {added}")
    whole = (n_in - 1) * s + (k - 1) * dilation + 1 + added
    auto, pads = node.attribute("auto_pad", "NOTSET"), pair("pads", 0, 4)
    before, behind = (pads[axis], pads[axis + 2]) if auto == "NOTSET" else (0, 0)
    if "output_shape" in node.attributes or auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = pair("output_shape", 0)[axis] if "output_shape" in node.attributes else n_in * s
        before = (whole - wanted) // 2 if auto == "SAME_UPPER" else whole - wanted - (whole - wanted) // 2
        behind = whole - wanted - before
    if min(before, behind) < 0 or whole - before - behind < 1:
        node.refuse(f"cuts {before} and {behind} of {whole} positions off; expected none added and some left")
    return Side(n_in, whole - before - behind, k, s, before, dilation)


def gemm(reader: Values, node: Node) -> Feature:
    """Read Gemm."""
    x, transposed = reader.feature(node), node.attribute("transB", 0)
    if node.attribute("transA", 0):
        x = x.transposed((1, 0)) or node.refuse(f"transposes {list(x.shape)}, which divides an axis; leave transA away")
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    given = reader.parameter(node, 1)
    given = _times(node, given, alpha)
    weight = per_output(node, given, 0 if transposed else 1)
    bias = reader.parameter(node, 2) if node.has(2) and beta else None
    if isinstance(bias, Integers) and beta != alpha:
        bias = bias.values.astype(np.float64) * bias.scale  # in steps of its own; rounded to those of the product
    if bias is not None:
        bias = _repeated(_times(node, bias, beta), weight.shape[0 if transposed else -1])
    return connect(reader, node, x, weight if transposed else weight.T, given, bias)


def scaled(node: Node, value: Integers, factor: float) -> Integers:
    """Return quantised weights or a bias times a number. Raises UnsupportedOp for one that is not positive."""
    if factor <= 0:
        node.refuse(f"quantised weights times {factor}: leave alpha and beta away")
    return replace(value, scale=value.scale * np.float32(factor))


def _times(node: Node, value: np.ndarray | Integers, factor: float) -> np.ndarray | Integers:
    return scaled(node, value, factor) if isinstance(value, Integers) else value * np.float32(factor)


def _repeated(bias: np.ndarray | Integers, outputs: int) -> np.ndarray | Integers:
    """Return a bias of one number for each output."""
    if isinstance(bias, Integers):
        return replace(bias, values=np.repeat(bias.values, outputs)) if bias.values.size == 1 else bias
    return np.repeat(bias, outputs) if bias.size == 1 else bias


def matmul(reader: Values, node: Node) -> Feature | Moved:
    """Read MatMul, of a map and a constant matrix, or of two maps."""
    if node.has(1) and node.inputs[1] in reader.features:
        return product(reader, node)
    given = reader.parameter(node, 1)
    return connect(reader, node, reader.feature(node), per_output(node, given, 1).T, given, None)


def batch_norm(reader: Values, node: Node) -> Feature:
    """Read BatchNormalization as one factor and summand a channel."""
    if not node.attribute("spatial", 1):
        node.refuse("has statistics for each position; export it with those of each channel")
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


def per_channel(reader: Values, node: Node, i: int, x: Feature) -> tuple[Floats, Feature]:
    """Return the constant input i as one number or one a channel of x, and x with the dimensions of 1 that a longer
    shape of the constant gives it."""
    value = reader.numbers(node, i)
    x = replace(x, shape=(1,) * (value.ndim - len(x.shape)) + x.shape)
    axis = len(x.shape) - value.ndim + int(np.argmax(value.shape)) if value.ndim else 0
    if value.size != 1 and not (value.size == max(value.shape) == x.tensor.c and x.has_channels_at(axis)):
        node.refuse(f"a constant of {list(value.shape)} on {list(x.shape)}: expected one number, or one a channel")
    return value.reshape(-1), x


def binary(reader: Values, node: Node) -> Feature:
    """Read Add, Sum, Sub, Mul, Div."""
    if node.kind == "Sum" and len(node.inputs) > 2 and all(name in reader.features for name in node.inputs):
        maps = [reader.feature(node, i) for i in range(len(node.inputs))]
        return reduce(lambda a, b: combined(reader, node, "add", a, b), maps)
    if len(node.inputs) != 2:
        node.refuse(f"of {len(node.inputs)}; add two at a time")
    return arithmetic(reader, node, node.kind.replace("Sum", "Add"), (0, 1))


def arithmetic(reader: Values, node: Node, kind: str, at: tuple[int, int]) -> Feature:
    """Read an Add, Sub, Mul or Div of the inputs `at`: of two maps (not Div), or of a map and a constant."""
    maps = [node.inputs[i] in reader.features for i in at]
    if maps == [True, True]:
        a, b = (reader.feature(node, i) for i in at)
        b = affine(reader, node, b, -1, 0) if kind == "Sub" else b
        return combined(reader, node, {"Add": "add", "Sub": "add", "Mul": "mul"}.get(kind), a, b)
    if not any(maps):
        reader.feature(node)  # refuses
    value, x = per_channel(reader, node, at[maps.index(False)], reader.feature(node, at[maps.index(True)]))
    if kind == "Div" and (maps == [False, True] or not value.all()):
        node.refuse("divides by a map or by zero; multiply by a constant")
    with np.errstate(all="ignore"):
        one = np.float32(1)
        factor = {"Mul": value, "Div": one / value, "Sub": one if maps[0] else -one}.get(kind, one)
    summand = {"Add": value, "Sub": -value if maps[0] else value}.get(kind, 0)
    return affine(reader, node, x, factor, summand)


LINEAR = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "Add": binary,
    "Sum": binary,
    "Sub": binary,
    "Mul": binary,
    "Div": binary,
}
