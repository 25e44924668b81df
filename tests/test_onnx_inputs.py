"""How an ONNX file counts its input: found from the operators behind, whatever the file calls its dimensions."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from test_onnx_exporters import NCHW, NHWC, node, normal
from test_onnx_import import constant
from theirs import run

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.model import Model

SHAPE = np.array([1, 1, 9, 8])
FILTERS = {"w": normal(5, 1, 3, 3)}
# Name: nodes, constants, the input's dimensions, and (h, w, c) of the network that is read.
FILES = {
    "a vector": ([node("Gemm", "x w")], {"w": normal(20, 3)}, ("n", 20), (1, 1, 20)),
    "a picture as a vector": (
        [node("Reshape", "x s", "t"), node("Conv", "t w")], {"s": SHAPE, **FILTERS}, (1, 72), (9, 8, 1),
    ),
    "colours as a vector": (
        [node("Mul", "x k", "u"), node("Reshape", "u s", "t"), node("Transpose", "t", "v", perm=NCHW),
         node("Conv", "v w")],
        {"k": np.float32(2), "s": np.array([-1, 9, 8, 3]), "w": normal(5, 3, 3, 3)}, ("n", 216), (9, 8, 3),
    ),
    "planes as a vector": (
        [node("Reshape", "x s", "t"), node("Conv", "t w")],
        {"s": np.array([-1, 3, 9, 8]), "w": normal(5, 3, 3, 3)}, (1, 216), (9, 8, 3),
    ),
    "one channel last": (
        [node("Reshape", "x s", "t"), node("Conv", "t w")], {"s": SHAPE, **FILTERS}, (1, 9, 8, 1), (9, 8, 1),
    ),
    "one channel left out": (
        [node("Unsqueeze", "x a", "t"), node("Conv", "t w")], {"a": np.array([1]), **FILTERS}, (1, 9, 8), (9, 8, 1),
    ),
    "a signal, channels last": (
        [node("Transpose", "x", "t", perm=[0, 2, 1]), node("Unsqueeze", "t a", "u"), node("Conv", "u w")],
        {"a": np.array([2]), "w": normal(4, 3, 1, 5)}, (1, 30, 3), (1, 30, 3),
    ),
    "a signal, channels first": (
        [node("Unsqueeze", "x a", "u"), node("Conv", "u w")],
        {"a": np.array([2]), "w": normal(4, 3, 1, 5)}, (1, 3, 30), (1, 30, 3),
    ),
    "Paddle's batch": ([node("Conv", "x w")], FILTERS, (-1, 1, 9, 8), (9, 8, 1)),
    "a batch by name": ([node("Conv", "x w")], FILTERS, ("batch", 1, 9, 8), (9, 8, 1)),
    "dense on pixels": ([node("MatMul", "x w", "t"), node("Transpose", "t", perm=NCHW)], {"w": normal(3, 5)},
                        (1, 9, 8, 3), (9, 8, 3)),
    "digits, flat": ([node("Flatten", "x", "t"), node("Gemm", "t w")], {"w": normal(72, 3)}, (1, 9, 8, 1), (9, 8, 1)),
}  # fmt: skip


def written(path, nodes, constants, dims, kind=TensorProto.FLOAT):
    """A file of one input with these dimensions and one output of unknown ones."""
    value, out = helper.make_tensor_value_info("x", kind, dims), helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(nodes, "g", [value], [out], [constant(n, v) for n, v in constants.items()])
    sets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
    return path


@pytest.mark.parametrize("name", FILES)
def test_the_layout_is_found(name, tmp_path):
    """The network computes what onnxruntime computes, the input's elements in the file's order."""
    nodes, constants, dims, expected = FILES[name]
    path = written(tmp_path / "m.onnx", nodes, constants, dims)
    model = load_onnx(path)
    assert isinstance(model, Model)
    image = model.graph.inputs[0]
    assert (image.h, image.w, image.c) == expected
    picture = np.random.default_rng(0).random(expected, np.float32)
    planes = name in ("planes as a vector", "a signal, channels first")
    given = picture.transpose(2, 0, 1) if planes else picture
    (theirs,) = run(onnx.load(path), given.reshape([d if type(d) is int and d > 0 else 1 for d in dims]))
    (ours,) = run(to_onnx(model), picture.transpose(2, 0, 1)[None])
    np.testing.assert_allclose(ours.ravel(), theirs.ravel(), rtol=1e-4, atol=1e-5)


def test_integers_before_the_transposition(tmp_path):
    """onnxruntime's quantiser turns the scaling of a TensorFlow picture into a product of integers, channels last."""
    rng = np.random.default_rng(0)
    constants = {
        "s": np.float32(0.02), "z": np.int8(0), "k": np.int8(50), "ks": np.float32(0.01), "wz": np.zeros(4, np.int8),
        "w": rng.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8), "ws": np.full(4, 0.01, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QLinearMul", ["x", "s", "z", "k", "ks", "z", "s", "z"], ["t"], domain="com.microsoft"),
        node("Transpose", "t", "u", perm=NCHW),
        node("QLinearConv", "u s z w ws wz s z"),
    ]
    model = load_onnx(written(tmp_path / "m.onnx", nodes, constants, (1, 9, 8, 3), TensorProto.INT8))
    image = model.graph.inputs[0]
    assert (image.h, image.w, image.c) == (9, 8, 3)


def test_what_no_layout_helps_is_said_of_the_one_that_was_read_furthest(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=NCHW), node("Conv", "t w", "u"), node("Sin", "u", "y")]
    with pytest.raises(UnsupportedOp, match="Sin at 'y'"):
        load_onnx(written(tmp_path / "m.onnx", nodes, {"w": normal(5, 3, 1, 1)}, (1, 9, 8, 3)))
    nodes = [node("Transpose", "x", "t", perm=NHWC), node("Conv", "t w")]
    with pytest.raises(UnsupportedOp, match=r"Conv at 'y': reads 't' of \[1, 8, 7, 9\]"):
        load_onnx(written(tmp_path / "m.onnx", nodes, FILTERS, (1, 9, 8, 7)))


@pytest.mark.parametrize(
    "dims, size, message",
    [
        ((4, 3, 9, 8), None, r"input 'x' has the shape \[4, 3, 9, 8\]; export it as fixed NCHW of batch 1"),
        ((1, 3, 9, 8, 2), None, r"has the shape \[1, 3, 9, 8, 2\]"),
        ((1, "c", 9, 8), None, r"has the shape \[1, 0, 9, 8\]"),
        ((1, 20), (4, 5), r"the input is fixed at \[1, 20\], not for pictures of \(4, 5\)"),
    ],
)
def test_inputs_of_no_layout(dims, size, message, tmp_path):
    with pytest.raises(GraphError, match=message):
        load_onnx(written(tmp_path / "m.onnx", [node("Relu", "x")], {}, dims), size)


def test_a_size_fixes_what_is_open_in_either_layout(tmp_path):
    nodes = [node("Transpose", "x", "t", perm=NCHW), node("Conv", "t w")]
    path = written(tmp_path / "m.onnx", nodes, {"w": normal(5, 3, 1, 1)}, (-1, -1, -1, 3))
    image = load_onnx(path, (6, 7)).graph.inputs[0]
    assert (image.h, image.w, image.c) == (6, 7, 3)
    with pytest.raises(GraphError, match="give the picture's size where height and width are open"):
        load_onnx(path)
