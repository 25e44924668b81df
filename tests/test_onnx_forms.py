"""One thing, as old and new files, converters and people write it: each is read, and computes what onnxruntime does."""

import numpy as np
import onnx
import pytest
from onnx import helper
from test_onnx_exporters import node, normal, saved
from test_onnx_import import assert_imported, constant, small

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx

SIXTH = np.float32(1 / 6)
VECTOR = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "v")]
MATRIX = {"w": normal(4, 5), "b": normal(1, 5)}
HALVED = {"s": np.float32(1), "t": np.float32(3), "z": np.float32(0), "k": np.float32(6), "i": SIXTH}
# Name: nodes, constants, what differs from `saved`'s defaults, and the kinds of the ops that are read.
FORMS = {
    "clip of opset 7": ([node("Clip", "x", min=0.1, max=0.5)], {}, {"opset": 7}, "act"),
    "clip without a limit": ([node("Clip", "x", max=0.5)], {}, {"opset": 10}, "act"),
    "pad of opset 7": ([node("Pad", "x", pads=[0, 0, 1, 2, 0, 0, 0, 1])], {}, {"opset": 7}, "pad"),
    "upsample of opset 7": ([node("Upsample", "x", scales=[1.0, 1.0, 2.0, 3.0])], {}, {"opset": 7}, "upsample"),
    "upsample of opset 9": ([node("Upsample", "x s")], {"s": np.float32([1, 1, 2, 3])}, {"opset": 9}, "upsample"),
    "resize of opset 10": ([node("Resize", "x s")], {"s": np.float32([1, 1, 2, 2])}, {"opset": 10}, "upsample"),
    "norm of opset 7": (
        [node("BatchNormalization", "x a a b c")], {"a": normal(4), "b": normal(4), "c": np.abs(normal(4)) + 1},
        {"opset": 7}, "conv",
    ),
    "dropout of opset 7": ([node("Relu", "x", "t"), node("Dropout", "t", ratio=0.3)], {}, {"opset": 7}, "act"),
    "dropout of opset 10": ([node("Relu", "x", "t"), node("Dropout", "t", ratio=0.3)], {}, {"opset": 10}, "act"),
    "gemm of opset 9": (
        [*VECTOR, node("Gemm", "v w b")], {"w": normal(4, 5), "b": normal(5)}, {"opset": 9, "rank": 2}, "gap conv",
    ),
    "softmax of opset 8": ([*VECTOR, node("Softmax", "v")], {}, {"opset": 8, "rank": 2}, "gap softmax"),
    "squeeze of opset 8": (
        [VECTOR[0], node("Squeeze", "p", axes=[2, 3])], {}, {"opset": 8, "rank": 2}, "gap",
    ),
    "alpha and beta": (
        [*VECTOR, node("Gemm", "v w b", alpha=0.5, beta=-2.0)], MATRIX, {"rank": 2}, "gap conv",
    ),
    "no beta": ([*VECTOR, node("Gemm", "v w b", beta=0.0)], MATRIX, {"rank": 2}, "gap conv"),
    "both transposed": (
        [*VECTOR, node("Transpose", "v", "u", perm=[1, 0]), node("Gemm", "u w b", transA=1, transB=1, alpha=2.0)],
        {"w": normal(5, 4), "b": normal(1)}, {"rank": 2}, "gap conv",
    ),
    "mean, rows then columns": (
        [node("ReduceMean", "x", "t", axes=[2], keepdims=0), node("ReduceMean", "t", axes=[2], keepdims=1)],
        {}, {"rank": 3, "shape": (1, 4, 6, 7)}, "gap",
    ),
    "mean, columns then rows": (
        [node("ReduceMean", "x a", "t"), node("ReduceMean", "t b", keepdims=0)],
        {"a": np.array([-1]), "b": np.array([-2])}, {"rank": 3, "shape": (1, 4, 6, 7), "opset": 18}, "gap",
    ),
    "mean of both, from behind": (
        [node("ReduceMean", "x", axes=[-1, -2], keepdims=0)], {}, {"rank": 2, "shape": (1, 4, 6, 7)}, "gap",
    ),
    "mean of the rows": ([node("ReduceMean", "x", axes=[2])], {}, {"shape": (1, 4, 6, 7)}, "avgpool"),
    "mean of nothing": (
        [node("Relu", "x", "t"), node("ReduceMean", "t", noop_with_empty_axes=1)], {}, {"opset": 18}, "act",
    ),
    "maximum of both": ([node("ReduceMax", "x", axes=[2, 3])], {}, {"shape": (1, 4, 6, 7)}, "maxpool"),
    "mean of a signal": (
        [node("Squeeze", "x a", "t"), node("GlobalAveragePool", "t", "p"), node("Squeeze", "p b")],
        {"a": np.array([2]), "b": np.array([2])}, {"rank": 2, "shape": (1, 4, 1, 7)}, "gap",
    ),
    "maximum of a signal": (
        [node("Squeeze", "x a", "t"), node("GlobalMaxPool", "t")],
        {"a": np.array([3])}, {"rank": 3, "shape": (1, 4, 7, 1)}, "maxpool",
    ),
    "identities of a constant": (
        [node("Identity", "w", "i"), node("Identity", "i", "j"), node("Conv", "x j")],
        {"w": normal(5, 4, 1, 1)}, {}, "conv",
    ),
    "a constant's node": (
        [helper.make_node("Constant", [], ["w"], value=constant("", normal(5, 4, 1, 1))), node("Conv", "x w")],
        {}, {"opset": 9}, "conv",
    ),
    "hard swish by hand": (
        [node("Add", "x t", "a"), node("Clip", "a z k", "b"), node("Mul", "x b", "c"), node("Div", "c k")],
        HALVED, {}, "act",
    ),
    "hard swish by hand, divided first": (
        [node("Add", "t x", "a"), node("Clip", "a z k", "b"), node("Mul", "b i", "c"), node("Mul", "c x")],
        HALVED, {}, "act",
    ),
    "hard swish of a hard sigmoid": (
        [node("HardSigmoid", "x", "a", alpha=1 / 6, beta=0.5), node("Mul", "x a")], {}, {}, "act",
    ),
    "functions of EEGNet and others": (
        [node("Elu", "x", "a"), node("Elu", "a", "b", alpha=0.5), node("Selu", "b", "c"), node("Abs", "c", "d"),
         node("Softplus", "d")],
        {}, {}, "act act act act act",
    ),
    "swish by hand": ([node("Sigmoid", "x", "a"), node("Mul", "a x")], {}, {}, "act"),
    "nearly hard swish": (
        [node("Add", "x s", "a"), node("Clip", "a z k", "b"), node("Mul", "x b", "c"), node("Div", "c k")],
        HALVED, {}, "conv mul conv",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_read(name, tmp_path):
    """The network gives onnxruntime's numbers, of the ops that it should be, and it is the same written and read."""
    nodes, constants, other, kinds = FORMS[name]
    model = assert_imported(saved(tmp_path / "m.onnx", nodes, constants, **other))
    assert [op.kind for op in model.graph.ops] == kinds.split()
    assert load_onnx(save_onnx(model, tmp_path / "again.onnx")).graph == model.graph


def test_a_function_that_is_read_on_the_way_stays_as_it_is(tmp_path):
    nodes = [node("Sigmoid", "x", "s"), node("Mul", "x s", "m"), node("Add", "m s")]
    model = assert_imported(saved(tmp_path / "m.onnx", nodes, {}))
    assert [op.kind for op in model.graph.ops] == ["act", "mul", "add"]


def test_old_files_list_their_constants_as_inputs(tmp_path):
    proto = small([node("Conv", "x w")], [constant("w", normal(4, 3, 1, 1))], opset=8)
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [4, 3, 1, 1]))
    proto.ir_version = 3
    onnx.save(proto, tmp_path / "m.onnx")
    assert [t.name for t in assert_imported(tmp_path / "m.onnx").graph.inputs] == ["x"]


def test_outputs_may_have_no_shape(tmp_path):
    proto = small([node("Conv", "x w")], [constant("w", normal(4, 3, 1, 1))])
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, tmp_path / "m.onnx")
    assert_imported(tmp_path / "m.onnx")


def beside(tmp_path, **entries):
    """A file whose weights lie in weights.bin; `entries` replace what it says of them."""
    path = tmp_path / "m.onnx"
    proto = small([node("Conv", "x w")], [constant("w", normal(4, 3, 1, 1))])
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    for key, value in entries.items():
        found = next((e for e in proto.graph.initializer[0].external_data if e.key == key), None)
        (found or proto.graph.initializer[0].external_data.add(key=key)).value = value
    path.write_bytes(proto.SerializeToString())
    return path


def test_constants_beside_the_file(tmp_path):
    assert_imported(beside(tmp_path))


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"location": "other.bin"}, "its constants are in the file other.bin, which is not beside it; copy it there"),
        ({"location": "../weights.bin"}, "names .*weights.bin.*, which leads out of the data's folder"),
        ({"location": "/etc/passwd"}, "which leads out of the data's folder"),
        ({"location": "."}, "is a folder"),
        ({"location": ""}, "expected the name of a file"),
        ({"offset": "40"}, "not a valid ONNX file|constant 'w' is broken"),
        ({"offset": "-4"}, "'w' is 48 bytes from -4 on of weights.bin"),
        ({"length": "12"}, "not a valid ONNX file|constant 'w' is broken"),
        ({"length": "many"}, "not a valid ONNX file"),
    ],
)
def test_constants_that_are_not_beside_the_file(entries, message, tmp_path):
    with pytest.raises(GraphError, match=message):
        load_onnx(beside(tmp_path, **entries))


NORM = [node("Conv", "x k", "c"), node("ReduceMean", "c", "m", axes=[1]), node("Sub", "c m", "y")]
INSTEAD = {
    "an old opset": ([node("Relu", "x")], 6, "opset 6, expected 7 or later: onnx.version_converter converts it"),
    "a norm written out": (NORM, 13, r"ReduceMean at 'm': over the axes \[1\] of .* as LayerNormalization does"),
    "gelu written out": ([node("Erf", "x", "e"), node("Mul", "x e")], 13, "Erf at 'e': a part of GELU"),
    "gelu": ([node("Gelu", "x")], 20, "Gelu at 'y': a part of GELU"),
    "layer normalisation": (
        [node("LayerNormalization", "x s")], 17, "LayerNormalization at 'y': normalises by the statistics of each",
    ),
    "statistics of positions": (
        [node("BatchNormalization", "x s s s s", spatial=0)], 7, "BatchNormalization at 'y': has statistics for each",
    ),
    "a root": ([node("Sqrt", "x")], 13, "Sqrt at .y.: part of a normalisation by each picture.s own statistics"),
    "sines": ([node("Sin", "x")], 13, r"Sin at 'y': not known: rewrite the model without it, or end it before with"),
}  # fmt: skip


@pytest.mark.parametrize("name", INSTEAD)
def test_what_to_do_instead(name, tmp_path):
    """The message names the node and the way out, in one line that is no list."""
    nodes, opset, message = INSTEAD[name]
    path = saved(tmp_path / "m.onnx", nodes, {"s": np.ones(6, np.float32), "k": normal(4, 4, 3, 3)}, opset=opset)
    with pytest.raises(UnsupportedOp, match=message) as caught:
        load_onnx(path)
    assert len(str(caught.value).removeprefix(str(path))) < 200


HUGE = np.array([1 << 20] * 3)


@pytest.mark.parametrize(
    "made, rank", [(node("Expand", "one huge", "t0"), 3), (node("Pad", "row far", "t0"), 1),
                   (node("ConstantOfShape", "huge", "t0"), 3)],
)  # fmt: skip
def test_a_constant_does_not_grow(made, rank, tmp_path):
    """A file of a few bytes makes no constant of gigabytes, not for one number of it."""
    constants = {"one": np.float32(1), "huge": HUGE, "row": np.zeros(3, np.float32), "far": np.array([0, 1 << 40]),
                 "first": np.array(0)}  # fmt: skip
    chosen = [node("Gather", f"t{i} first", f"t{i + 1}") for i in range(rank)]
    path = saved(tmp_path / "m.onnx", [made, *chosen, node("Add", f"x t{rank}")], constants)
    with pytest.raises(GraphError, match="makes a constant of"):
        load_onnx(path)


def test_int8_files_of_an_early_opset(tmp_path):
    """tf2onnx leaves the scales of channels out before opset 13, which makes no ONNX file."""
    scale = constant("s", np.float32(1)), constant("z", np.int8(0))
    for opset, inputs in ((9, "x s z"), (10, "t")):
        nodes = [node("QuantizeLinear", "x s z", "t"), node("DequantizeLinear", inputs)]
        (tmp_path / "m.onnx").write_bytes(small(nodes, scale, opset=opset).SerializeToString())
        with pytest.raises(GraphError, match=r"convert the model again with opset 13 or later \(tf2onnx: --opset 13\)"):
            load_onnx(tmp_path / "m.onnx")


def test_an_operator_that_came_later(tmp_path):
    """tf2onnx writes HardSwish into files of any opset."""
    proto = small([node("HardSwish", "x")], opset=13)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(GraphError, match="HardSwish came with opset 14 and the file says 13: convert the model again"):
        load_onnx(tmp_path / "m.onnx")
