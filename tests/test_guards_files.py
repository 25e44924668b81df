"""Try what single lines of the ONNX reader guard against, each seen by no other test once: see mutants.py."""

import numpy as np
import onnx
import pytest
from nets import random_model
from onnx import helper
from test_guards_plan import equal_in_c
from test_onnx_import import assert_imported, constant, small

from nni_mcunet.core.errors import GraphError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx

RNG = np.random.default_rng(0)
FACTORS = {"gain": [1, -2, 3, 0.5], "shift": [1, 2, -3, 4], "mean": [0.5, 0, 1, -1], "var": [1, 2, 3, 4]}
GIVEN = [
    constant("w1", RNG.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32)),
    constant("w2", RNG.normal(0, 0.5, (4, 4, 1, 1)).astype(np.float32)),
    *(constant(name, np.float32(values)) for name, values in FACTORS.items()),
]


def node(kind, inputs, output, **fields):
    return helper.make_node(kind, inputs.split(), [output], name=f"n_{output}", **fields)


FIRST = node("Conv", "x w1", "c", pads=[1, 1, 1, 1])
TWICE_READ = {  # another reading of what a pass would fuse away
    "a sum's own clamp": [FIRST, node("Relu", "c", "r"), node("Add", "c r", "y")],
    "a clamp's shortcut": [FIRST, node("Relu", "c", "r"), node("Conv", "r w2", "d"), node("Add", "r d", "y")],
    "a sum with itself": [FIRST, node("Add", "c c", "y")],
    "a sum before another": [FIRST, node("Conv", "c w2", "d"), node("Add", "c d", "e"), node("Mul", "e d", "y")],
    "a factor behind": [FIRST, node("BatchNormalization", "c gain shift mean var", "b"), node("Add", "b c", "y")],
    "a factor before": [FIRST, node("Relu", "c", "r"), node("BatchNormalization", "r gain shift mean var", "b"),
                        node("Conv", "b w2", "d"), node("Mul", "d b", "y")],
    "a pad": [FIRST, node("Pad", "c pads", "p"), node("Conv", "p w2", "d"), node("Add", "d p", "y")],
}  # fmt: skip


@pytest.mark.parametrize("nodes", TWICE_READ.values(), ids=TWICE_READ)
def test_what_is_read_twice_is_not_fused(nodes, tmp_path):
    given = [*GIVEN, constant("pads", [0, 0, 1, 0, 0, 0, 0, 2])]
    onnx.save(small(nodes, given), tmp_path / "m.onnx")
    assert_imported(tmp_path / "m.onnx")


def test_a_map_with_the_scale_of_its_maxima_is_no_output(tmp_path):
    """Nobody rounds the convolution's map: its pool is what the file rounds. As an output it has no scale."""
    ops = Op("c", "conv", ("image",), 4), Op("m", "maxpool", ("c",), 4, (2, 2), (2, 2), block=1)
    graph = Graph("pooled", (Tensor("image", 8, 8, 3),), ops, ("m",)).verify()
    proto = to_onnx(random_model(np.random.default_rng(0), graph))
    kept = [n for n in proto.graph.node if not {"c.q", "c"} & set(n.output)]
    for node in kept:
        node.input[:] = ["c.f" if name == "c" else name for name in node.input]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    onnx.save(proto, tmp_path / "m.onnx")
    assert load_onnx(tmp_path / "m.onnx").graph.outputs == ("m",)
    proto.graph.output.append(helper.make_tensor_value_info("c.f", onnx.TensorProto.FLOAT, [1, 4, 8, 8]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="'c' has no scale of its own, only its maxima or some of its channels"):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("batch", [2, 8, 10**9])
def test_a_batch_is_refused(batch, tmp_path):
    """The engine runs one picture; 0 and a name stand for an open one."""
    graph = [node("Conv", "x w1", "y")]
    onnx.save(small(graph, GIVEN, (batch, 3, 8, 8)), tmp_path / "m.onnx")
    with pytest.raises(GraphError, match=f"'x' has the shape .{batch}, 3, 8, 8.; export it as fixed NCHW of batch 1"):
        load_onnx(tmp_path / "m.onnx")
    for one in (1, "n"):
        onnx.save(small(graph, GIVEN, (one, 3, 8, 8)), tmp_path / "m.onnx")
        assert load_onnx(tmp_path / "m.onnx").graph.tensors["x"].h == 8


PARTS = ("w", "x", "y", "border", "table", "table0", "table1")


@pytest.mark.parametrize("order", [1, -1])
def test_names_that_another_s_constants_have_in_c(order, tmp_path):
    """A network whose layers are called as what belongs to the first one may be called in C."""
    nodes, x, c = [], "x", 3
    names = ["n", *(f"n_{part}" for part in PARTS)][::order]
    kinds = ["Conv", "AveragePool", "Tanh", "Concat", "Conv", "MaxPool", "Tanh", "Concat"]
    for at, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        fields = {"Concat": {"axis": 1}, "Tanh": {}}.get(kind, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})
        given = {"Concat": [x, x], "Conv": [x, f"w{c}"]}.get(kind, [x])
        c = {"Concat": 2 * c, "Conv": 4}.get(kind, c)
        x = f"t{at}" if at < len(PARTS) else "y"
        nodes.append(helper.make_node(kind, given, [x], name=name, **fields))
    onnx.save(
        small(nodes, [constant(f"w{n}", np.zeros((4, n, 3, 3), np.float32)) for n in (3, 8)]), tmp_path / "m.onnx"
    )
    graph = load_onnx(tmp_path / "m.onnx").graph
    assert equal_in_c(graph, tmp_path / "c", Schedule((2, 2), len(graph.ops)), halo="cache")
