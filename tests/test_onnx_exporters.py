"""ONNX as exporters write it, node by node: what a random search against onnxruntime found wrong, refused or clumsy."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from programs import run_host
from test_onnx_import import assert_imported, constant, small
from theirs import run

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Scale
from nni_mcunet.engine.quant.post_training import calibrated

RNG = np.random.default_rng(0)
GREATEST = np.finfo(np.float32).max


def node(kind, inputs, output="y", **attributes):
    """A node from names divided by blanks, called after what it writes."""
    return helper.make_node(kind, inputs.split(" "), output.split(" "), name=output, **attributes)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def saved(path, nodes, constants, shape=(1, 4, 6, 6), opset=13, rank=4, kind=TensorProto.FLOAT):
    proto = small(nodes, [constant(n, v) for n, v in constants.items()], shape, opset, kind=kind)
    value = helper.make_tensor_value_info("y", kind, [f"d{i}" for i in range(rank)])
    proto.graph.output[0].CopyFrom(value)
    onnx.save(proto, path)
    return path


NHWC, NCHW = [0, 2, 3, 1], [0, 3, 1, 2]
# Name: nodes, constants, and what differs from `saved`'s defaults.
ACCEPTED = {
    "clip below": ([node("Clip", "x lo hi")], {"lo": np.float32(-np.inf), "hi": np.float32(0.5)}, {}),
    "clip above nothing": ([node("Clip", "x lo hi")], {"lo": np.float32(0), "hi": GREATEST}, {}),
    "min and max": (
        [node("Max", "x lo", "t"), node("Min", "hi t")], {"lo": np.float32(0.1), "hi": np.float32([6])}, {},
    ),
    "sum of three": ([node("Sigmoid", "x", "t"), node("Tanh", "x", "u"), node("Sum", "x t u")], {}, {}),
    "difference": ([node("Sigmoid", "x", "t"), node("Sub", "x t")], {}, {}),
    "a position on a map": ([node("GlobalAveragePool", "x", "t"), node("Add", "t x")], {}, {}),
    "a channel on a map": ([node("Conv", "x w", "t"), node("Mul", "x t")], {"w": normal(1, 4, 1, 1)}, {}),
    "a row on a column": (
        [node("ReduceMax", "x", "t", axes=[2]), node("ReduceMax", "x", "u", axes=[3]), node("Add", "t u")], {}, {},
    ),
    "sum": ([node("Sigmoid", "x", "t"), node("Sum", "x t")], {}, {}),
    "global maximum": ([node("GlobalMaxPool", "x")], {}, {}),
    "pad two axes": (
        [node("Pad", "x p  a")],
        {"p": np.array([1, 2, 3, 0]), "a": np.array([-1, 2])}, {"opset": 18},
    ),
    "average, rounded up": ([node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], {}, {}),
    "average of all and padding": (
        [node("AveragePool", "x", kernel_shape=[8, 8], pads=[1, 1, 1, 1], count_include_pad=1)], {}, {},
    ),
    "TensorFlow's half pixels": (
        [node("Resize", "x r s", coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor")],
        {"r": np.zeros(0, np.float32), "s": np.float32([1, 1, 3, 2])}, {"opset": 11},
    ),
    "joined channels last": (
        [node("Transpose", "x", "t", perm=NHWC), node("MatMul", "t w", "u"), node("Concat", "t u u", "v", axis=-1),
         node("Transpose", "v", perm=NCHW)],
        {"w": normal(4, 1)}, {"shape": (1, 4, 5, 6)},
    ),
    "one channel, channels last": (
        [node("Transpose", "x", "t", perm=NHWC), node("MatMul", "t w", "u"),
         node("Transpose", "u", perm=NCHW)],
        {"w": normal(1, 3)}, {"shape": (1, 1, 5, 6)},
    ),
    "flattened by width": (
        [node("Transpose", "x", "t", perm=[0, 3, 2, 1]), node("Flatten", "t", "u"), node("Gemm", "u w")],
        {"w": normal(120, 5)}, {"shape": (1, 4, 5, 6), "rank": 2},
    ),
    "longer constant": (
        [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "t"), node("Mul", "t k", "u"),
         node("Softmax", "u", axis=3)],
        {"k": normal(1, 1, 1, 4)}, {},
    ),
    "norm of one number": (
        [node("Flatten", "x", "t"), node("MatMul", "t w", "u"), node("BatchNormalization", "u a a a b")],
        {"w": normal(144, 1), "a": normal(1), "b": np.float32([2])}, {"rank": 2},
    ),
    "a signal as a column": (
        [node("Transpose", "x", "a", perm=[0, 1, 3, 2]), node("Conv", "a w", "b", pads=[1, 0, 1, 0], strides=[2, 1]),
         node("AveragePool", "b", "d", kernel_shape=[3, 1], strides=[2, 1]),
         node("Resize", "d r s", "e", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
         node("Pad", "e p")],
        {"w": normal(5, 4, 3, 1), "r": np.zeros(0, np.float32),
         "s": np.float32([1, 1, 3, 1]), "p": np.array([0, 0, 2, 0, 0, 0, 1, 0])},
        {"shape": (1, 4, 1, 12), "opset": 11},
    ),
    "every position twice": (
        [node("Squeeze", "x a", "t"), node("Split", "t", "b c d e", axis=2),
         node("Concat", "b b c c d d e e", "u", axis=2),
         node("Unsqueeze", "u a")],
        {"a": np.array([2])}, {"shape": (1, 6, 1, 4)},
    ),
    "nobody reads it": ([node("Sin", "x", "t"), node("Relu", "x")], {}, {}),
    "scaled, channels last": (
        [node("Mul", "x k", "t"), node("Sub", "t m", "u"), node("Transpose", "u", "v", perm=NCHW),
         node("Conv", "v w")],
        {"k": np.float32(2), "m": normal(3), "w": normal(4, 3, 3, 3)}, {"shape": (1, 7, 8, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name, tmp_path):
    """It computes what onnxruntime computes, and written and read again it is the same graph."""
    nodes, constants, other = ACCEPTED[name]
    model = assert_imported(saved(tmp_path / "m.onnx", nodes, constants, **other))
    assert load_onnx(save_onnx(model, tmp_path / "again.onnx")).graph == model.graph


def test_a_transposed_convolution_of_a_column(tmp_path):
    nodes = [node("Transpose", "x", "a", perm=[0, 1, 3, 2]), node("ConvTranspose", "a w", strides=[2, 1],
             output_padding=[1, 0], pads=[1, 0, 0, 0])]  # fmt: skip
    assert_imported(saved(tmp_path / "m.onnx", nodes, {"w": normal(4, 5, 3, 1)}, shape=(1, 4, 1, 12)))


GATE = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "t"), node("Mul", "x t")]
REFUSED = {
    "a factor a column": (GATE, {}, {"shape": (1, 6, 6, 6)}, "Mul at 'y': of .* sums and products"),
    "positions of two maps": (
        [node("Conv", "x v", "s"), node("Squeeze", "s a", "t"), node("Sigmoid", "t", "u"),
         node("Split", "t", "b c", axis=2),
         node("Split", "u", "d e", axis=2), node("Concat", "b e", "f", axis=2), node("Unsqueeze", "f a", "g"),
         node("Conv", "g w")],
        {"a": np.array([2]), "v": normal(6, 6, 1, 1), "w": normal(3, 6, 1, 1)},
        {"shape": (1, 6, 1, 4)}, "Concat at 'f': joins maps along",
    ),
    "sizes kept in proportion": (
        [node("Resize", "x   s", keep_aspect_ratio_policy="not_larger")], {"s": np.array([1, 4, 12, 18])},
        {"opset": 18}, "Resize at 'y': keep_aspect_ratio_policy; use constant whole factors",
    ),
    "dropout in training": (
        [node("Dropout", "x r t")], {"r": np.float32(0.5), "t": np.array(True)}, {}, "in training mode",
    ),
    "softmax over nothing": (
        [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "t"), node("Mul", "t k", "u"),
         node("Softmax", "u", axis=1)],
        {"k": normal(1, 1, 1, 1)}, {}, "Softmax at 'y': over axis 1 of .1, 1, 1, 4.",
    ),
    "average with pads, rounded up": (
        [node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, count_include_pad=1)], {}, {},
        "AveragePool at 'y': ceil_mode with count_include_pad",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    nodes, constants, other, message = REFUSED[name]
    with pytest.raises(UnsupportedOp, match=message):
        load_onnx(saved(tmp_path / "m.onnx", nodes, constants, **other))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Mul", "x k", "t"), node("Pad", "t p", "u"), node("Conv", "u w")],
        [node("Pad", "x p", "t"), node("Pad", "t p", "u"), node("Conv", "u w")],
    ],
)
def test_one_convolution_is_left(nodes, tmp_path):
    """As Keras writes its MobileNets: pixels scaled, padded, convolved."""
    constants = {"k": np.float32(0.5), "p": np.array([0, 0, 1, 0, 0, 0, 1, 2]), "w": normal(4, 4, 3, 3)}
    model = assert_imported(saved(tmp_path / "m.onnx", nodes, constants))
    assert [op.kind for op in model.graph.ops] == ["conv"]


def test_any_names_make_c(tmp_path):
    """C has a name of its own for each part of an op, ONNX for each of its constants."""
    names = ["c", "c_w", "c.weight", "c/w", "for", "tile_x", "mcu_run", "c_x", "c_", "2"]
    nodes, x = [], "x"
    for i, name in enumerate(names):
        nodes.append(helper.make_node("Conv", [x, "w"], [f"v{i}" if i < len(names) - 1 else "y"], name=name))
        x = f"v{i}"
    model = load_onnx(saved(tmp_path / "m.onnx", nodes, {"w": normal(3, 3, 1, 1) / 2}, (1, 3, 6, 6)))
    assert load_onnx(save_onnx(model, tmp_path / "again.onnx")).graph == model.graph
    picture = RNG.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    quantized = calibrated(model, [picture])
    (raw,) = run_host(write_sources(plan(model.graph), quantized, tmp_path / "c"), picture)["outputs"]
    (ours,) = reference.run(plan(model.graph), quantized, (picture.astype(np.int16) - 128).astype(np.int8)).values()
    assert np.array_equal(raw, ours.ravel())


# Quantised files.

SCALES = {"s": np.float32(0.02), "z": np.uint8(120), "t": np.float32(0.05), "u": np.uint8(7)}
Q, DQ = node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "r s z")


def rounded(tmp_path, *between, **constants):
    return saved(tmp_path / "m.onnx", [Q, *between, DQ], SCALES | constants)


@pytest.mark.parametrize(
    "between, constants",
    [
        (node("Relu", "q", "r"), {}),
        (node("Clip", "q lo", "r"), {"lo": np.uint8(3)}),
        (node("Cast", "q", "r", to=TensorProto.UINT8), {}),
    ],
)
def test_integers_are_no_numbers(between, constants, tmp_path):
    with pytest.raises((UnsupportedOp, GraphError), match=r"computes with 8-bit integers|not a valid ONNX file"):
        load_onnx(rounded(tmp_path, between, **constants))


def exact(path, shape=(1, 4, 6, 6)):
    """The reference and onnxruntime on one input: real numbers in steps of the output's scale."""
    model, image = load_onnx(path), RNG.normal(size=shape).astype(np.float32)
    (theirs,) = run(onnx.load(path), image)
    values = model.scales[model.graph.inputs[0].name].quantize(image[0].transpose(1, 2, 0))
    ((name, ours),) = reference.run(plan(model.graph), model, values).items()
    return (model.scales[name].dequantize(ours) - theirs[0].transpose(1, 2, 0)) / model.scales[name].scale


def test_moves_of_integers(tmp_path):
    """A zero is padded as the zero point; another number is refused."""
    pads = np.array([0, 0, 1, 0, 0, 0, 2, 1])
    between = [node("MaxPool", "q", "m", kernel_shape=[2, 2]), node("Pad", "m p v", "r")]
    assert np.abs(exact(rounded(tmp_path, *between, p=pads, v=np.uint8(120)))).max() < 1e-3
    with pytest.raises(UnsupportedOp, match=r"Pad at 'r': pads .* with zeros"):
        load_onnx(rounded(tmp_path, *between, p=pads, v=np.uint8(0)))


def test_a_factor_in_integers(tmp_path):
    """QLinearMul by a constant, as the quantiser leaves the parts of a hard swish."""
    factor = helper.make_node("QLinearMul", ["q", "s", "z", "k", "t", "u", "t", "z"], ["r"], domain="com.microsoft")
    nodes = [Q, factor, node("DequantizeLinear", "r t z")]
    path = saved(tmp_path / "m.onnx", nodes, SCALES | {"k": np.uint8(40)})
    assert np.abs(exact(path)).max() < 1.01


def test_a_clamped_summand_in_integers(tmp_path):
    """The first half of a hard swish: both are one convolution of each channel by itself."""
    summand = helper.make_node("QLinearAdd", ["q", "s", "z", "k", "s", "u", "t", "u"], ["r"], domain="com.microsoft")
    nodes = [Q, summand, node("DequantizeLinear", "r t u", "d"), node("Clip", "d lo hi", "c"),
             node("QuantizeLinear", "c t u", "e"), node("DequantizeLinear", "e t u")]  # fmt: skip
    limits = {"lo": np.float32(0), "hi": np.float32(6)}
    path = saved(tmp_path / "m.onnx", nodes, SCALES | limits | {"k": np.uint8(157)})
    assert np.abs(exact(path)).max() < 1.01
    assert [(op.kind, op.act) for op in load_onnx(path).graph.ops] == [("conv", "relu6")]


def test_a_slope_above_one_does_not_saturate(tmp_path):
    nodes = [Q, node("DequantizeLinear", "q s z", "d"), node("PRelu", "d k")]
    path = saved(tmp_path / "m.onnx", nodes, SCALES | {"k": np.float32([3])})
    assert np.abs(exact(path)).max() < 1 and load_onnx(path).scales["y"] != Scale(np.float32(0.02), -8)


def test_maxima_do_not_narrow_other_readers(tmp_path):
    """The scale of a max pool's output is the input's only where nobody else reads the input."""
    pool, tail = node("MaxPool", "x", "m", kernel_shape=[6, 6]), node("DequantizeLinear", "q s z")
    nodes = [pool, node("QuantizeLinear", "m s z", "q"), tail]
    assert np.abs(exact(saved(tmp_path / "m.onnx", nodes, SCALES))).max() < 1e-3
    nodes = [*nodes[:2], node("DequantizeLinear", "q s z", "d"), node("Mul", "x d")]
    with pytest.raises(GraphError, match="'x' has no scale of its own, only its maxima"):
        load_onnx(saved(tmp_path / "m.onnx", nodes, SCALES))


def test_rounded_pixels_channels_last(tmp_path):
    """TensorFlow's int8 models: NHWC, rounded, then transposed."""
    nodes = [Q, node("DequantizeLinear", "q s z", "d"), node("Transpose", "d", "v", perm=NCHW),
             node("MaxPool", "v", "m", kernel_shape=[2, 3]), node("QuantizeLinear", "m s z", "r"), DQ]  # fmt: skip
    path = saved(tmp_path / "m.onnx", nodes, SCALES, (1, 7, 8, 3))
    model, image = load_onnx(path), normal(1, 7, 8, 3)
    ((name, ours),) = reference.run(plan(model.graph), model, model.scales["x"].quantize(image[0])).items()
    (theirs,) = run(onnx.load(path), image)
    assert np.allclose(model.scales[name].dequantize(ours), theirs[0].transpose(1, 2, 0), atol=1e-6)
