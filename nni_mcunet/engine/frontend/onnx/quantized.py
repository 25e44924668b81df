"""Read the operators of quantised ONNX files: QuantizeLinear / DequantizeLinear pairs around float operators, and
QLinear* ones, ONNX's own and com.microsoft's. The integers of the file are kept; uint8 activations become int8 by -128
on both the values and the zero point, which changes no result.

Two roundings differ: onnxruntime requantises in float32, half to even, our kernels in integers, by floor(x + 1/2). The
difference is one step of an op's output at most, at a tie or where float32 errs.
"""

from dataclasses import replace
from math import isfinite

import numpy as np

from ....core.ir.graph import Tensor
from ...model import Scale
from ..feature import Feature, Integers, same_layout
from ..layers import arrives, concatenate, connect, convolve, dilated, leaves, per_output
from ..moved import Moved
from ..scales import GREATEST, LEAST
from .file import Node
from .linear import arithmetic, scaled, window
from .operators import Handler, average_pool, softmax
from .values import Values


def scale(reader: Values, node: Node, scale_at: int, zero_at: int) -> Scale:
    """Return the scale of an activation, inputs `scale_at` and `zero_at` of the node."""
    value = reader.numbers(node, scale_at)
    zero = reader.array(node, zero_at) if node.has(zero_at) else np.array(0, np.uint8)
    if value.size != 1 or zero.size != 1 or zero.dtype not in (np.int8, np.uint8):
        node.refuse("expected one constant scale and an 8-bit zero point per tensor; quantize activations so")
    number = float(value.reshape(()))
    if not LEAST < number < GREATEST:
        node.refuse(f"an activation of the scale {number:g}, as of a tensor that was 0 or infinite on every "
                    "picture of the calibration: quantize the float model again, on other pictures")  # fmt: skip
    return Scale(number, int(zero.reshape(())) - (128 if zero.dtype == np.uint8 else 0))


def integers(reader: Values, node: Node, at: int, scale_at: int, zero_at: int, axis: int) -> Integers:
    """Return a constant of int8, of uint8, which becomes int8, or, for a bias, of int32."""
    values, factor = reader.array(node, at), reader.numbers(node, scale_at)
    zero = reader.array(node, zero_at) if node.has(zero_at) else np.zeros(1, values.dtype)
    if values.dtype not in (np.int8, np.uint8, np.int32) or zero.dtype != values.dtype:
        node.refuse(f"constants of {values.dtype} with zero points of {zero.dtype}; expected 8-bit weights")
    if not ((factor >= 0) & (factor < GREATEST)).all() or factor.ndim > 1:
        node.wrong(f"scales of '{node.inputs[at]}' that are negative or beyond {GREATEST:g}")
    factor = np.where(factor > LEAST, factor, 0)  # 0: of a channel that is zero, see layers.py
    if values.dtype == np.uint8:
        values, zero = ((v.astype(np.int16) - 128).astype(np.int8) for v in (values, zero))
    return Integers(values, factor.reshape(-1), zero, axis)


def weights(reader: Values, node: Node, at: int, scale_at: int, zero_at: int, axis: int) -> Integers:
    """Return int8 weights of the outputs along `axis`, less their zero point."""
    found = integers(reader, node, at, scale_at, zero_at, axis)
    return replace(found, values=per_output(node, found, axis), zero=np.zeros(1, np.int8))


def quantize_linear(reader: Values, node: Node) -> Feature | Moved:
    """Read QuantizeLinear of a map."""
    _whole_tensors(node)
    return leaves(reader, node, reader.view(node, whole=True), scale(reader, node, 1, 2))


def dequantize_linear(reader: Values, node: Node) -> Feature | Moved | None:
    """Read DequantizeLinear of a map, or of a constant, which its reader takes as Integers."""
    _whole_tensors(node)
    if reader.is_constant(node.inputs[0]):
        reader.integers[node.proto.output[0]] = integers(reader, node, 0, 1, 2, node.attribute("axis", 1))
        return None
    x = reader.view(node)
    arrives(reader, node, x, scale(reader, node, 1, 2))
    return x


def _whole_tensors(node: Node) -> None:
    if node.attribute("block_size", 0):
        node.refuse("quantises in blocks; quantize per tensor, weights per output channel")


def _input(reader: Values, node: Node, at: int, is_map: bool = False) -> Feature:
    """Return the map at `at`, its scale and zero point behind it."""
    x = reader.map(node, at) if is_map else reader.feature(node, at)
    arrives(reader, node, x, scale(reader, node, at + 1, at + 2))
    return x


def qlinear_conv(reader: Values, node: Node) -> Feature:
    """Read QLinearConv."""
    x = _input(reader, node, 0, is_map=True).tensor
    given = weights(reader, node, 3, 4, 5, 0)
    if given.values.ndim != 4 or not given.values.size:
        node.refuse(f"weights of {list(given.values.shape)}: expected those of a two-dimensional convolution")
    if node.attribute("channels_last", 0):
        node.refuse("channels_last; export the model as NCHW")
    of = window(node, x, given.values.shape[2:], spread=True)
    weight = dilated(node, given.values, of["k"])
    bias, groups = _bias(reader, node, 8, x, given), node.attribute("group", 1)
    y = convolve(reader, node, x, weight, given, bias, groups=groups, s=of["s"], pad=of["pad"])
    return leaves(reader, node, Feature.of(y), scale(reader, node, 6, 7))


def _bias(reader: Values, node: Node, at: int, x: Tensor, given: Integers) -> Integers | None:
    """Return an int32 bias in steps of input * weight scale."""
    if not node.has(at):
        return None
    values = reader.array(node, at)
    if values.dtype != np.int32:
        node.wrong(f"a bias of {values.dtype}")
    steps = np.float64(reader.scale_of(x.name).scale) * given.scale.astype(np.float64)
    return Integers(values, steps, np.zeros(1, np.int32), 0)


def qlinear_matmul(reader: Values, node: Node) -> Feature:
    """Read QLinearMatMul, of a map and a constant matrix."""
    x = _input(reader, node, 0)
    given = weights(reader, node, 3, 4, 5, 1)
    _matrix(node, given, 1)
    y = connect(reader, node, x, given.values.T, given, None)
    return leaves(reader, node, y, scale(reader, node, 6, 7))


def qgemm(reader: Values, node: Node) -> Feature:
    """Read com.microsoft.QGemm: a, b, their scales and zero points, C int32, y_scale, y_zero_point."""
    x = _input(reader, node, 0)
    transposed = node.attribute("transB", 0)
    if node.attribute("transA", 0) or not node.has(7):
        node.refuse("transA or a float output: use a plain fully connected layer")
    given = scaled(node, weights(reader, node, 3, 4, 5, 0 if transposed else 1), node.attribute("alpha", 1.0))
    _matrix(node, given, 0 if transposed else 1)
    weight = given.values if transposed else given.values.T
    y = connect(reader, node, x, weight, given, _bias(reader, node, 6, x.tensor, given))
    return leaves(reader, node, y, scale(reader, node, 7, 8))


def _matrix(node: Node, given: Integers, axis: int) -> None:
    shape = given.values.shape
    if len(shape) != 2 or given.scale.size not in (1, shape[axis]):
        node.wrong(f"weights of {list(shape)} with {given.scale.size} scales")


def qlinear_binary(kind: str) -> Handler:
    """Return the handler of com.microsoft's QLinearAdd or QLinearMul."""

    def handler(reader: Values, node: Node) -> Feature:
        for at in (0, 3):
            if reader.is_constant(node.inputs[at]):
                reader.integers[node.inputs[at]] = integers(reader, node, at, at + 1, at + 2, 0)
            else:
                _input(reader, node, at)
        return leaves(reader, node, arithmetic(reader, node, kind, (0, 3)), scale(reader, node, 6, 7))

    return handler


def qlinear_concat(reader: Values, node: Node) -> Feature:
    """Read com.microsoft.QLinearConcat: y_scale, y_zero_point, then each input with its own."""
    maps = [_input(reader, node, at) for at in range(2, len(node.inputs), 3)]
    if not maps:
        node.wrong("joins nothing")
    axis = node.attribute("axis", 1)
    return leaves(reader, node, concatenate(reader, node, maps, axis), scale(reader, node, 0, 1))


def qlinear_pool(reader: Values, node: Node) -> Feature:
    """Read com.microsoft's QLinearGlobalAveragePool and QLinearAveragePool."""
    x = _input(reader, node, 0, is_map=True)
    if node.attribute("channels_last", 0):
        node.refuse("channels_last; export the model as NCHW")
    if node.kind == "QLinearAveragePool":
        y = average_pool(reader, node, x)
    else:
        y = Feature.of(reader.add(node, "gap", (x.tensor,), x.tensor.c))
    return leaves(reader, node, y, scale(reader, node, 3, 4))


def qlinear_act(act: str) -> Handler:
    """Return the handler of com.microsoft's QLinearSigmoid or QLinearLeakyRelu."""

    def handler(reader: Values, node: Node) -> Feature:
        x = _input(reader, node, 0)
        args = (float(node.attribute("alpha", 0.01)),) if act == "leaky" else ()
        if not all(map(isfinite, args)):
            node.wrong(f"alpha {args}")
        y = reader.add(node, "act", (x.tensor,), x.tensor.c, act=act, args=args)
        return leaves(reader, node, same_layout(x, y), scale(reader, node, 3, 4))

    return handler


def qlinear_softmax(reader: Values, node: Node) -> Feature:
    """Read com.microsoft.QLinearSoftmax."""
    _input(reader, node, 0)
    return leaves(reader, node, softmax(reader, node), scale(reader, node, 3, 4))


QUANTIZED: dict[str, Handler] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "QGemm": qgemm,
    "QLinearAdd": qlinear_binary("Add"),
    "QLinearMul": qlinear_binary("Mul"),
    "QLinearConcat": qlinear_concat,
    "QLinearGlobalAveragePool": qlinear_pool,
    "QLinearAveragePool": qlinear_pool,
    "QLinearSigmoid": qlinear_act("sigmoid"),
    "QLinearLeakyRelu": qlinear_act("leaky"),
    "QLinearSoftmax": qlinear_softmax,
}
