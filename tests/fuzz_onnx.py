"""ONNX files for fuzz.py: small networks, what may be wrong with a file, and onnxruntime to compare with."""

from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from damage import FLOATS, NUMBERS, loaded, pick
from nets import any_graph, random_graph, random_model
from onnx import helper, numpy_helper
from theirs import run

from nni_mcunet.engine.frontend.onnx import to_onnx
from nni_mcunet.engine.model import Model, QuantModel

SUFFIX, REFERENCE = ".onnx", "onnxruntime"


@cache
def files() -> list[bytes]:
    """Float, QDQ and QLinear networks that together have every kind of op."""
    found = [qlinear(), *(transposed(groups) for groups in (1, 2)), sequence(), phases()]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        channels = (3, 3, 1, 2, 4)[seed % 5]
        graph = any_graph(rng, 4, channels) if seed % 2 else random_graph(rng, 4, (9 + seed % 7, 12), image=channels)
        model = random_model(rng, graph)
        weights = {
            name: tuple(v.astype(np.float32) for v in (w.weight * w.scale[:, None, None, None], w.bias * w.scale / 255))
            for name, w in model.weights.items()
        }
        found += [to_onnx(model), to_onnx(Model(graph, weights))]
    return [proto.SerializeToString() for proto in found]


def transposed(groups: int) -> onnx.ModelProto:
    """A shuffle, a dilated and a transposed convolution, blocks of positions and slopes a channel, in floats."""
    rng = np.random.default_rng(groups)
    values = {"w": rng.normal(size=(4, 4, 2, 2)), "u": rng.normal(size=(4, 4 // groups, 4, 4)), "b": rng.normal(size=4),
              "p": rng.normal(size=(4, 1, 1))}  # fmt: skip
    shapes = {"divided": [1, 2, 2, 6, 8], "whole": [1, 4, 6, 8], "first": [0, 1], "last": [4, 9], "axes": [1, 3]}
    nodes = [
        helper.make_node("Reshape", ["x", "divided"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["t", "whole"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"], dilations=[2, 1], pads=[1, 0, 1, 1]),
        helper.make_node("PRelu", ["c", "p"], ["a"]),
        helper.make_node("ConvTranspose", ["a", "u", "b"], ["d"], strides=[2, 1], pads=[1, 2, 1, 1], group=groups),
        helper.make_node("Slice", ["d", "first", "last", "axes"], ["e"]),
        helper.make_node("DepthToSpace", ["e"], ["f"], blocksize=2, mode="CRD"),
        helper.make_node("Split", ["f"], ["g", "h"], axis=2),
        helper.make_node("Add", ["g", "h"], ["y"]),
    ]
    constants = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in values.items()]
    constants += [numpy_helper.from_array(np.array(v), name) for name, v in shapes.items()]
    sides = {"x": [1, 4, 6, 8], "y": [1, 1, 12, 14]}
    ends = [helper.make_tensor_value_info(name, 1, shape) for name, shape in sides.items()]
    graph = helper.make_graph(nodes, "transposed", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def sequence() -> onnx.ModelProto:
    """A sequence as tf2onnx writes it: padded, a map of one row, of one column, enlarged, and one row again."""
    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=(4, 3, 1, 3)), "u": rng.normal(size=(5, 4, 3, 1)),
              "pads": np.array([0, 2, 0, 0, 1, 0]), "one": np.array([1]), "two": np.array([1, 1, 1, 2]),
              "turned": np.array([1, 4, 7, 1]), "long": np.array([1, 5, 1, 14])}  # fmt: skip
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "one"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["c", "w"], ["d"], strides=[1, 2]),
        helper.make_node("Reshape", ["d", "turned"], ["e"]),
        helper.make_node("Conv", ["e", "u"], ["f"], pads=[1, 0, 1, 0]),
        helper.make_node("Tile", ["f", "two"], ["g"]),
        helper.make_node("Reshape", ["g", "long"], ["h"]),
        helper.make_node("Split", ["h"], ["i", "j"], axis=3),
        helper.make_node("Add", ["i", "j"], ["y"]),
    ]
    return _model("sequence", nodes, values, {"x": [1, 12, 3], "y": [1, 5, 1, 7]})


def phases() -> onnx.ModelProto:
    """A dilated convolution as tf2onnx writes it: of the phases of a map."""
    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=(4, 3, 3, 3)), "pads": np.array([0, 0, 2, 1, 0, 0, 2, 3]),
              "first": np.array([0, 1]), "last": np.array([7, 12]), "axes": np.array([2, 3])}  # fmt: skip
    turn = {"perm": [1, 0, 2, 3]}
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], **turn),
        helper.make_node("SpaceToDepth", ["b"], ["c"], blocksize=2),
        helper.make_node("Transpose", ["c"], ["d"], **turn),
        helper.make_node("Conv", ["d", "w"], ["e"]),
        helper.make_node("Transpose", ["e"], ["f"], **turn),
        helper.make_node("DepthToSpace", ["f"], ["g"], blocksize=2),
        helper.make_node("Slice", ["g", "first", "last", "axes"], ["h"]),
        helper.make_node("Transpose", ["h"], ["y"], **turn),
    ]
    return _model("phases", nodes, values, {"x": [1, 3, 8, 10], "y": [1, 4, 7, 9]})


def _model(name: str, nodes: list, values: dict, sides: dict) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(end, 1, shape) for end, shape in sides.items()]
    values = {key: v.astype(np.float32) if v.dtype.kind == "f" else v for key, v in values.items()}
    constants = [numpy_helper.from_array(value, constant) for constant, value in values.items()]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def qlinear() -> onnx.ModelProto:
    """onnxruntime's own operators: a convolution, a sum, a mean and a fully connected layer in integers."""
    rng = np.random.default_rng(0)
    values = {
        "s": np.float32(0.02), "z": np.int8(-3), "t": np.float32(0.05), "u": np.int8(10), "none": np.int8(0),
        "w": rng.integers(-127, 128, (3, 3, 3, 3)).astype(np.int8), "ws": np.float32([0.01, 0.02, 0.005]),
        "wz": np.zeros(3, np.int8), "b": rng.integers(-900, 900, 3).astype(np.int32),
        "m": rng.integers(-127, 128, (3, 5)).astype(np.int8), "shape": np.array([1, 3]),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "t", "u", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QLinearAdd", ["c", "t", "u", "q", "s", "z", "t", "z"], ["a"], domain="com.microsoft"),
        helper.make_node("QLinearGlobalAveragePool", ["a", "t", "z", "s", "u"], ["g"], domain="com.microsoft"),
        helper.make_node("Reshape", ["g", "shape"], ["f"]),
        helper.make_node("QLinearMatMul", ["f", "s", "u", "m", "s", "none", "t", "z"], ["o"]),
        helper.make_node("DequantizeLinear", ["o", "t", "z"], ["y"]),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info("x", 1, [1, 3, 8, 10]), helper.make_tensor_value_info("y", 1, [1, 5])]
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in values.items()]
    graph = helper.make_graph(nodes, "qlinear", ends[:1], ends[1:], constants)
    sets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


# Damages of a model (rng, proto): in place.
WORDS = """Conv Relu Clip Add Mul Sub Div Sigmoid HardSwish HardSigmoid LeakyRelu MaxPool AveragePool GlobalAveragePool
ReduceMean Concat Pad Reshape Flatten Transpose Softmax Gemm MatMul Identity Squeeze Unsqueeze Resize Shape Constant
QuantizeLinear DequantizeLinear QLinearConv QLinearAdd QLinearMatMul BatchNormalization PRelu Cast Expand Tile If Loop
ConstantOfShape Gather Slice Split Upsample ConvTranspose
SpaceToDepth DepthToSpace"""
OPS = WORDS.split()
ATTRIBUTES = {
    "auto_pad": ("SAME_UPPER", "SAME_LOWER", "VALID"), "dilations": ([2, 2],), "group": (2, 0), "ceil_mode": (1,),
    "axis": (-1, 0, 7), "strides": ([0, 1], [2, 1]), "pads": ([1, 0, 2, 1], [-1, 0, 0, 0]), "alpha": (0.3,),
    "count_include_pad": (1,), "axes": ([2, 3], [9]), "keepdims": (0,), "perm": ([0, 2, 3, 1], [0, 0, 0, 0]),
    "blocksize": (3, 0, 1), "mode": ("DCR", "linear"), "output_padding": ([1, 0], [9, 9]), "output_shape": ([12, 10],),
}  # fmt: skip
METADATA = ("", "[]", "{", "null", '{"blocks": {"b0_conv": -1}}', '{"blocks": 3}', '{"blocks": {"b0_conv": "x"}}',
            '{"detector": {"type": "yolov3"}}', '{"detector": 7}')  # fmt: skip


def value_names(proto) -> list[str]:
    graph = proto.graph
    return [n for node in graph.node for n in (*node.input, *node.output)] + [t.name for t in graph.initializer]


def rewire(rng, proto):
    """An input becomes another value: cycles, constants as maps, maps as constants."""
    node = pick(rng, [n for n in proto.graph.node if n.input])
    node.input[rng.integers(len(node.input))] = pick(rng, [*value_names(proto), "", "nobody"])


def rename_output(rng, proto):
    node = pick(rng, proto.graph.node)
    node.output[0] = pick(rng, value_names(proto))


def lose(rng, proto):
    graph = proto.graph
    items = pick(rng, [items for items in (graph.initializer, graph.node, graph.input, graph.output) if len(items)])
    del items[rng.integers(len(items))]


def shuffle(rng, proto):
    a, b = rng.integers(len(proto.graph.node), size=2)
    copies = [onnx.NodeProto.FromString(proto.graph.node[i].SerializeToString()) for i in (a, b)]
    proto.graph.node[a].CopyFrom(copies[1]), proto.graph.node[b].CopyFrom(copies[0])


def twice(rng, proto):
    proto.graph.node.insert(int(rng.integers(len(proto.graph.node) + 1)), pick(rng, proto.graph.node))


def operator(rng, proto):
    pick(rng, proto.graph.node).op_type = pick(rng, OPS)


def insert(rng, proto):
    """A node between a value and the one that reads it."""
    node = pick(rng, [n for n in proto.graph.node if n.input])
    at, name = int(rng.integers(len(node.input))), f"inserted{rng.integers(1 << 30)}"
    others = [pick(rng, value_names(proto)) for _ in range(rng.integers(3))]
    index = list(proto.graph.node).index(node)
    proto.graph.node.insert(index, helper.make_node(pick(rng, OPS), [node.input[at], *others], [name]))
    proto.graph.node[index + 1].input[at] = name


def attribute(rng, proto):
    node = pick(rng, [n for n in proto.graph.node if n.attribute])
    found = pick(rng, node.attribute)
    if found.ints:
        found.ints[rng.integers(len(found.ints))] = pick(rng, NUMBERS)
    elif found.type == onnx.AttributeProto.INT:
        found.i = pick(rng, NUMBERS)
    elif found.type == onnx.AttributeProto.FLOAT:
        found.f = pick(rng, FLOATS)
    elif found.type == onnx.AttributeProto.STRING:
        found.s = pick(rng, [b"", b"SAME_UPPER", b"linear", b"half_pixel", b"\xff\xfe"])


def more_attribute(rng, proto):
    name = pick(rng, ATTRIBUTES)
    node = pick(rng, proto.graph.node)
    if name not in {a.name for a in node.attribute}:
        node.attribute.append(helper.make_attribute(name, pick(rng, ATTRIBUTES[name])))


def shape(rng, proto):
    value = pick(rng, [*proto.graph.input, *proto.graph.output])
    if value.type.tensor_type.shape.dim:
        pick(rng, value.type.tensor_type.shape.dim).dim_value = int(pick(rng, NUMBERS))


def dimensions(rng, proto):
    """A constant says another shape than its data have."""
    tensor = pick(rng, proto.graph.initializer)
    if tensor.dims:
        tensor.dims[rng.integers(len(tensor.dims))] = int(pick(rng, NUMBERS))


def element_type(rng, proto):
    if rng.random() < 0.7:
        pick(rng, proto.graph.initializer).data_type = int(rng.integers(25))
    else:
        pick(rng, [*proto.graph.input, *proto.graph.output]).type.tensor_type.elem_type = int(rng.integers(25))


def constant(rng, proto):
    """Values of a constant: NaN weights, absurd scales, zero points, another shape."""
    tensor = pick(rng, proto.graph.initializer)
    try:
        value = np.array(numpy_helper.to_array(tensor))
    except Exception:  # damaged before
        return
    if value.dtype.kind == "f" and value.size:
        flat = value.reshape(-1)
        flat[rng.integers(flat.size)] = pick(rng, FLOATS)
        if rng.random() < 0.3:
            value = value * np.float32(pick(rng, (1e-20, 1e-6, 1e6, 1e20)))
    elif value.size:
        value.reshape(-1)[rng.integers(value.size)] = np.array(pick(rng, NUMBERS)).astype(value.dtype)
    if rng.random() < 0.3:
        value = pick(rng, [value.reshape(-1), value[None], value.astype(np.float64), value.astype(np.int64), value[:0]
                           if value.ndim else value.reshape(1), np.repeat(value.reshape(-1), 2)])  # fmt: skip
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), tensor.name))


def versions(rng, proto):
    if rng.random() < 0.5:
        pick(rng, proto.opset_import).version = int(pick(rng, (*NUMBERS, 9, 11, 12, 13, 17, 21, 23)))
    else:
        pick(rng, proto.graph.node).domain = pick(rng, ("com.microsoft", "ai.onnx", "nobody", "ai.onnx.ml"))


def metadata(rng, proto):
    for entry in proto.metadata_props:
        entry.value = pick(rng, (*METADATA, entry.value[:40]))


def names(rng, proto):
    node = pick(rng, proto.graph.node)
    node.name = pick(rng, ["", "for", "*/ int x; /*", '"', "a" * 5000, "\n#error", pick(rng, proto.graph.node).name])
    proto.graph.name = pick(rng, [proto.graph.name, "*/ boom", ""])


DAMAGES = (rewire, rename_output, lose, shuffle, twice, operator, insert, attribute, more_attribute, shape, dimensions,
           element_type, constant, constant, versions, metadata, names)  # fmt: skip


def damaged(rng, data: bytes, count: int) -> tuple[list[str], bytes]:
    """The names of `count` damages or fewer, and the file with them."""
    proto, done = onnx.ModelProto.FromString(data), []
    for _ in range(count):
        damage = pick(rng, DAMAGES)
        with suppress(LookupError), np.errstate(all="ignore"):
            damage(rng, proto)
            done.append(damage.__name__)
    return done, proto.SerializeToString()


def compared(path: Path) -> str:
    """ "same", "other" or why it was not compared."""
    model, cut = loaded(path)
    if cut:
        return "cut"
    proto = onnx.load(path)
    tensor = model.graph.inputs[0]
    image = np.random.default_rng(0).random((1, tensor.c, tensor.h, tensor.w), np.float32)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    given = image if shape[1] == tensor.c else image.transpose(0, 2, 3, 1)
    try:
        theirs = run(proto, given.reshape(shape) if np.prod(shape) == given.size else given)
    except Exception:  # whatever onnxruntime has against it
        return "onnxruntime refuses it"
    steps = {n: model.scales[n].scale if isinstance(model, QuantModel) else None for n in model.graph.outputs}
    for name, ours, other in zip(model.graph.outputs, run(to_onnx(model), image), theirs, strict=True):
        a, b = ((v.transpose(0, 2, 3, 1) if v.ndim == 4 else v).ravel().astype(np.float64) for v in (ours, other))
        if not np.isfinite(b).all() or np.abs(b).max() > 1e12:
            return "onnxruntime overflows"
        step = steps[name] or max(1e-6, 1e-3 * np.abs(b).max())
        if a.shape != b.shape or (np.abs(a - b) > 2.5 * step).mean() > 0.02:
            return "other"
    return "same"
