"""A message's advice can be followed and helps: scales that 32 bits do not hold, in a file and after calibration; and
what is legal ONNX and a little odd works: weights of the scale 0, ceil_mode windows that lie in the padding."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from theirs import run

from nni_mcunet.core.errors import GraphError, UserError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.integers import integers
from nni_mcunet.engine.model import Model, QuantModel, QuantWeights, Scale
from nni_mcunet.engine.ops.requantise import ScaleError
from nni_mcunet.engine.quant.post_training import calibrated, learnt, unlike
from nni_mcunet.engine.quant.sqnr import lost, report

A, B = Tensor("a", 6, 6, 3), Tensor("b", 6, 6, 3)
OPS = {
    "conv": Op("y", "conv", ("a",), 3, (3, 3), pad=(1, 1, 1, 1)),
    "residual": Op("y", "conv", ("a",), 3, residual="a"),
    "far residual": Op("y", "conv", ("b",), 3, residual="a"),
    "mean of all": Op("y", "gap", ("a",), 3),
    "mean": Op("y", "avgpool", ("a",), 3, (2, 2)),
    "mean at a border": Op("y", "avgpool", ("a",), 3, (3, 3), pad=(2, 2, 1, 1)),
    "sum": Op("y", "add", ("a", "b"), 3),
    "product": Op("y", "mul", ("a", "b"), 3),
}


def model_of(op, scale, a=0.02, b=0.03):
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (3, 3, *op.k)).astype(np.int8)
    weights = {"y": QuantWeights(weight, np.float32([0.01, 0.02, 0.03]), np.int32([5, -7, 900]))}
    inputs = (A, B) if "b" in op.reads else (A,)
    graph = Graph("g", inputs, (op,), ("y",)).verify()
    scales = {"a": Scale(a, 0), "b": Scale(b, -128), "y": Scale(scale, 3)}
    return QuantModel(graph, {name: scales[name] for name in graph.tensors}, weights if op.kind == "conv" else {})


@pytest.mark.parametrize("name", OPS)
def test_the_scale_that_a_message_names_suffices(name):
    """And is not needlessly coarse: a thousandth is none."""
    op, wide = OPS[name], 1e4 if name == "far residual" else 0.02
    with pytest.raises(
        ScaleError, match=r"quantise the float model again, with a scale of .* or more for 'y'"
    ) as caught:
        integers(model_of(op, 1e-11, a=wide))
    assert "y: " in str(caught.value) and "calibrat" not in str(caught.value)
    least = float(re.search(r"a scale of (\S+) or more", str(caught.value))[1])
    integers(model_of(op, least, a=wide))
    with pytest.raises(ScaleError):
        integers(model_of(op, least / 1000, a=wide))


def imbalanced(spread):
    """A depth-wise layer whose channels' ranges differ by `spread`, undone by the layer behind it."""
    rng, factor = np.random.default_rng(0), np.geomspace(1, spread, 6)
    same = {"k": (3, 3), "pad": (1, 1, 1, 1)}
    ops = (Op("first", "conv", ("image",), 6, act="relu", **same), Op("dw", "conv", ("first",), 6, groups=6, **same),
           Op("last", "conv", ("dw",), 4))  # fmt: skip
    graph = Graph("imbalanced", (Tensor("image", 9, 9, 3),), ops, ("last",)).verify()
    weights = {
        "first": (rng.normal(0, 0.5, (6, 3, 3, 3)), rng.normal(0, 0.5, 6)),
        "dw": (rng.normal(0, 0.5, (6, 1, 3, 3)) * factor.reshape(-1, 1, 1, 1), rng.normal(0, 0.5, 6) * factor),
        "last": (rng.normal(0, 0.5, (4, 6, 1, 1)) / factor.reshape(1, -1, 1, 1), rng.normal(0, 0.5, 4)),
    }
    return Model(graph, {n: tuple(v.astype(np.float32) for v in pair) for n, pair in weights.items()})


def pictures(value=None, size=9):
    found = np.random.default_rng(1).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    return found if value is None else np.full_like(found, value)


def test_ranges_that_int8_does_not_hold_are_not_the_pictures_fault():
    with pytest.raises(
        GraphError, match=r"channels of 'dw' that differ .* times in range.*train the model with"
    ) as caught:
        calibrated(imbalanced(1e12), pictures())
    assert "pictures" not in str(caught.value)
    calibrated(imbalanced(100), pictures())  # which equalisation sees to


def test_an_output_that_int8_loses_is_named():
    """The file can be written: a warning says what is the matter with it."""
    for spread, is_lost in ((1e8, True), (1.0, False)):
        model = imbalanced(spread)
        int8 = calibrated(model, pictures())
        assert [row.name for row in lost(report(model, int8, pictures()), ("last",))] == ["last"] * is_lost
        assert (unlike(model, "last") is not None) == is_lost


def test_pictures_on_which_nothing_happens_are_named():
    """Black ones, for a network without biases; others help."""
    op = Op("y", "conv", ("image",), 4, (3, 3))
    graph = Graph("g", (Tensor("image", 9, 9, 3),), (op,), ("y",)).verify()
    weight = np.random.default_rng(0).normal(0, 9, (4, 3, 3, 3)).astype(np.float32)
    model = Model(graph, {"y": (weight, np.zeros(4, np.float32))})
    with pytest.raises(GraphError, match=r"y: .*on the calibration pictures it hardly changes: give pictures"):
        calibrated(model, pictures(0))
    calibrated(model, pictures())
    with pytest.raises(GraphError, match="train longer, or calibrate on pictures instead"):
        learnt(model, model.weights, {"image": (0, 1), "y": (0, 1e-9)})


def made(nodes, constants, shape, outputs, opset=13, kind=TensorProto.FLOAT):
    """outputs: the declared shape of y."""
    ends = [helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, outputs)]
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def theirs(proto, x):
    return run(proto, x)[0]


POOLS = {"MaxPool": {}, "AveragePool": {}, "AveragePool all": {"count_include_pad": 1}}


@pytest.mark.parametrize("opset, declared", [(13, 4), (13, 3), (22, 3)])
@pytest.mark.parametrize("kind", POOLS)
def test_a_window_in_the_padding_is_left_out(kind, opset, declared, tmp_path):
    """As onnxruntime and PyTorch do, whatever the file declares, behind it, too."""
    pool = helper.make_node(kind.split()[0], ["x"], ["p"], kernel_shape=[3, 3], strides=[3, 3], pads=[1] * 4,
                            ceil_mode=1, **POOLS[kind])  # fmt: skip
    w = np.random.default_rng(0).normal(0, 1, (2, 2, 1, 1)).astype(np.float32)
    proto = made(
        [pool, helper.make_node("Conv", ["p", "w"], ["y"])], {"w": w}, [1, 2, 7, 8], [1, 2, 3, declared], opset
    )
    onnx.save(proto, tmp_path / "m.onnx")
    x = np.random.default_rng(1).normal(0, 1, (1, 2, 7, 8)).astype(np.float32)
    ours = to_onnx(load_onnx(tmp_path / "m.onnx"))
    assert np.allclose(theirs(ours, x), theirs(proto, x), atol=1e-6)


def test_other_shapes_that_do_not_fit_are_still_refused(tmp_path):
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    onnx.save(made([pool], {}, [1, 2, 7, 8], [1, 2, 4, 5]), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"output 'y' is .*, its nodes give"):
        load_onnx(tmp_path / "m.onnx")


def zero_scaled(form, scales, bias):
    """A quantised 3x3 convolution of 4 outputs with these weight scales. form: "qdq" or "qlinear"; bias: "int", "float"
    or None."""
    rng = np.random.default_rng(3)
    b = rng.integers(-3000, 3000, 4).astype(np.int32)
    values = {"xs": np.float32(0.02), "xz": np.int8(-5), "ys": np.float32(0.05), "yz": np.int8(9),
              "w": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), "ws": np.float32(scales),
              "wz": np.zeros(np.shape(scales), np.int8)}  # fmt: skip
    if form == "qlinear":
        more = ["b"] if bias else []
        values |= {"b": b} if bias else {}
        nodes = [helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", *more], ["y"])]
        return made(nodes, values, [1, 3, 8, 7], [1, 4, 6, 5], kind=TensorProto.INT8)
    axis = {"axis": 0} if np.ndim(scales) else {}
    nodes = [helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xd"]),
             helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], **axis)]  # fmt: skip
    if bias == "int":
        values |= {"b": b, "bs": np.float32(0.02) * values["ws"], "bz": np.zeros(np.shape(scales), np.int32)}
        nodes.append(helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], **axis))
    elif bias:
        values["bd"] = np.float32([3, -1, 0.5, -2])
    nodes += [helper.make_node("Conv", ["xd", "wd", *(["bd"] if bias else [])], ["c"]),
              helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["y"])]  # fmt: skip
    return made(nodes, values, [1, 3, 8, 7], [1, 4, 6, 5], kind=TensorProto.INT8)


@pytest.mark.parametrize("scales", [[0.02, 0, 0.003, 0.01], [0, 0, 0, 0], 0.0, [1e-40, 0.01, 1e-38, 0.02]])
@pytest.mark.parametrize("form, bias", [("qdq", "int"), ("qdq", "float"), ("qdq", None), ("qlinear", "int"),
                                        ("qlinear", None)])  # fmt: skip
def test_weights_of_the_scale_zero_are_zero(form, bias, scales, tmp_path):
    """Exporters write it for a channel without weights: the channel is its bias, as onnxruntime has it."""
    proto = zero_scaled(form, scales, bias)
    onnx.save(proto, tmp_path / "m.onnx")
    model = load_onnx(tmp_path / "m.onnx")
    x = np.random.default_rng(1).integers(-128, 128, (1, 3, 8, 7)).astype(np.int8)
    ours = reference.run(plan(model.graph), model, x[0].transpose(1, 2, 0))[model.graph.outputs[0]]
    wanted = theirs(proto, x)[0].transpose(1, 2, 0)
    assert np.abs(ours.astype(int) - wanted).max() <= 1
    dead = np.broadcast_to(np.float32(scales) < 1e-30, 4)
    assert not any(w.weight[dead].any() for w in model.weights.values())
    assert np.array_equal(ours[..., dead], wanted[..., dead]) and (dead.all() or len(np.unique(ours)) > 20)
    assert np.array_equal(ours, reference.run(plan(model.graph), again(model, tmp_path), x[0].transpose(1, 2, 0))[
        model.graph.outputs[0]])  # fmt: skip


def again(model, folder):
    """Through a file of ours."""
    onnx.save(to_onnx(model), folder / "again.onnx")
    return load_onnx(folder / "again.onnx")


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-35, 1e35])
def test_an_activation_of_no_scale_says_what_to_do(scale, tmp_path):
    proto = zero_scaled("qlinear", [0.1] * 4, None)
    constant = next(t for t in proto.graph.initializer if t.name == "ys")
    constant.CopyFrom(numpy_helper.from_array(np.float32(scale), "ys"))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(UserError, match="quantize the float model again, on other pictures"):
        load_onnx(tmp_path / "m.onnx")
