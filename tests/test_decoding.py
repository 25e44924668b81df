"""Files that decode boxes themselves: they end at the maps that boxes are decoded from, and one line says so. Where it
is not clear that nothing but decoding is cut off, they are refused as before."""

import warnings

import numpy as np
import onnx
import pytest
from inprocess import command
from onnx import TensorProto, helper
from test_onnx_import import constant, counted_our_way, small
from theirs import run

from nni_mcunet.core.errors import CutWarning, UnsupportedOp
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.frontend.onnx import to_onnx

SIZE = 8


class Net:
    """Nodes on an image of 3 x 8 x 8 with random weights."""

    def __init__(self):
        self.nodes, self.constants, self.rng = [], [], np.random.default_rng(0)

    def node(self, kind: str, *inputs, outputs=1, **attributes):
        """Append a node called after its kind and number. Arrays among its inputs become constants."""
        stem = f"{kind.lower()}{len(self.nodes)}"
        names = [f"{stem}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, [self.value(v) for v in inputs], names, name=stem, **attributes))
        return names[0] if outputs == 1 else names

    def value(self, given) -> str:
        if isinstance(given, str):
            return given
        self.constants.append(constant(f"c{len(self.constants)}", np.asarray(given)))
        return self.constants[-1].name

    def conv(self, x: str, cin: int, cout: int, s: int = 1) -> str:
        weight = self.rng.normal(size=(cout, cin, 1, 1)).astype(np.float32)
        return self.node("Conv", x, weight, self.rng.normal(size=cout).astype(np.float32), strides=[s, s])

    def levels(self, cout: int) -> list[str]:
        """Maps of 8x8 and 4x4 behind one backbone."""
        stem = self.node("Relu", self.conv("x", 3, 6))
        return [self.conv(stem, 6, cout), self.conv(self.node("Relu", self.conv(stem, 6, 6, 2)), 6, cout)]

    def save(self, path, *outputs, kind=TensorProto.FLOAT) -> onnx.ModelProto:
        proto = small(self.nodes, self.constants, (1, 3, SIZE, SIZE), 18, ())
        proto.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in outputs)
        onnx.save(onnx.shape_inference.infer_shapes(proto), path)
        return proto


def yolov8(net: Net):
    """Rows of boxes and classes; a softmax over 4 distances a side, its expectation, anchors and strides."""
    boxes, classes = net.levels(16), net.levels(2)
    rows = [net.node("Reshape", m, [1, 16, -1]) for m in boxes], [net.node("Reshape", m, [1, 2, -1]) for m in classes]
    box, score = (net.node("Concat", *some, axis=-1) for some in rows)
    sides = net.node("Transpose", net.node("Reshape", box, [1, 4, 4, 80]), perm=[0, 2, 1, 3])
    weight = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)
    far = net.node("Reshape", net.node("Conv", net.node("Softmax", sides, axis=1), weight), [1, 4, 80])
    low, high = net.node("Split", far, outputs=2, axis=1, num_outputs=2)
    anchors = net.rng.normal(size=(1, 2, 80)).astype(np.float32)
    corners = net.node("Concat", net.node("Sub", anchors, low), net.node("Add", anchors, high), axis=1)
    boxes_out = net.node("Mul", corners, np.full((1, 80), 8, np.float32))
    return [net.node("Concat", boxes_out, net.node("Sigmoid", score), axis=1)], boxes + classes


def yolov5(net: Net):
    """Anchors by a Reshape and a Transpose; grids and anchors a level, then the rows of all."""
    rows, maps = [], net.levels(14)
    for m, side in zip(maps, (8, 4), strict=True):
        five = net.node("Transpose", net.node("Reshape", m, [1, 2, 7, side, side]), perm=[0, 1, 3, 4, 2])
        xy, wh, rest = net.node("Split", net.node("Sigmoid", five), [2, 2, 3], outputs=3, axis=4)
        xy = net.node(
            "Mul", net.node("Add", xy, net.rng.normal(size=(1, 2, side, side, 2)).astype(np.float32)), np.float32(8)
        )
        wh = net.node("Mul", net.node("Pow", wh, np.float32(2)), np.float32(5))
        rows.append(net.node("Reshape", net.node("Concat", xy, wh, rest, axis=4), [1, -1, 7]))
    return [net.node("Concat", *rows, axis=1)], maps


def yolox(net: Net):
    """A level's maps are joined along their channels first, two of them behind a sigmoid."""
    parts = [net.levels(n) for n in (4, 1, 3)]
    rows = []
    for box, one, some in zip(*parts, strict=True):
        joined = net.node("Concat", box, net.node("Sigmoid", one), net.node("Sigmoid", some), axis=1)
        rows.append(net.node("Reshape", joined, [0, 8, -1]))
    out = net.node("Transpose", net.node("Concat", *rows, axis=2), perm=[0, 2, 1])
    return [out], [m for level in zip(*parts, strict=True) for m in level]


def ssd(net: Net):
    """Rows by transposing first; a softmax over classes, an exponential of sizes, two outputs."""

    def rows(m: str, channels: int) -> str:
        return net.node("Reshape", net.node("Transpose", m, perm=[0, 2, 3, 1]), [1, -1, channels])

    scores, boxes = net.levels(4), net.levels(8)
    score = net.node("Softmax", net.node("Concat", *(rows(m, 2) for m in scores), axis=1), axis=2)
    box = net.node("Concat", *(rows(m, 4) for m in boxes), axis=1)
    size = net.node("Exp", net.node("Slice", box, [2], [4], [2]))
    return [score, net.node("Mul", size, net.rng.normal(size=(1, 160, 2)).astype(np.float32))], scores + boxes


def suppressed(net: Net):
    """Boxes of one level, sorted and suppressed inside the file."""
    box, score = net.levels(4)[0], net.levels(1)[0]
    rows = net.node("Transpose", net.node("Reshape", box, [1, 4, -1]), perm=[0, 2, 1])
    scores = net.node("Sigmoid", net.node("Reshape", score, [1, 1, -1]))
    kept = net.node("NonMaxSuppression", rows, scores, [10], np.float32([0.5]), np.float32([0.1]))
    return [net.node("Cast", kept, to=TensorProto.FLOAT)], [box, score]


def anchors(net: Net):
    """A level an output, its channels divided into anchors: what is trained, not deployed."""
    maps = net.levels(14)
    shaped = [net.node("Reshape", m, [1, 2, 7, side, side]) for m, side in zip(maps, (8, 4), strict=True)]
    return [net.node("Transpose", m, perm=[0, 1, 3, 4, 2]) for m in shaped], maps


def behind_a_product(net: Net):
    """Maps behind x * sigmoid(x) and behind a factor: both are the network's own."""
    one, two = net.levels(4)
    swish, scaled = net.node("Mul", one, net.node("Sigmoid", one)), net.node("Mul", two, np.float32(3))
    rows = [net.node("Reshape", m, [1, 4, -1]) for m in (swish, net.node("Exp", scaled))]
    return [net.node("Concat", *rows, axis=2)], [swish, scaled]


def with_another_output(net: Net):
    """An output that nothing decodes stays where it is, and so does a map that something else reads."""
    one, two = net.levels(4)
    shared = net.node("Sigmoid", two)
    features = net.conv(shared, 4, 5)
    rows = [net.node("Reshape", m, [1, 4, -1]) for m in (one, shared)]
    return [features, net.node("Concat", *rows, axis=2)], [features, one, shared]


def greatest(net: Net):
    """The greatest class of each position, as a segmenter names it."""
    scores = net.node("Sigmoid", net.levels(4)[0])
    return [net.node("Cast", net.node("ArgMax", scores, axis=1), to=TensorProto.FLOAT)], [scores]


def best(net: Net):
    """The five best classes and their numbers."""
    scores = net.node("Softmax", net.node("Flatten", net.node("GlobalAveragePool", net.levels(9)[0])))
    values, numbers = net.node("TopK", scores, [5], outputs=2)
    return [values, net.node("Cast", numbers, to=TensorProto.FLOAT)], [scores]


def logarithms(net: Net):
    """The end of PyTorch's MNIST example."""
    scores = net.node("Flatten", net.node("GlobalAveragePool", net.levels(9)[0]))
    return [net.node("LogSoftmax", scores, axis=1)], [scores]


DETECTORS = [yolov8, yolov5, yolox, ssd, suppressed, anchors, behind_a_product, with_another_output, greatest, best,
             logarithms]  # fmt: skip
# Files that do something else behind their maps than decode boxes.
DOES = {yolox: "arrange positions in rows", anchors: "arrange positions in rows", greatest: "score or choose classes",
        with_another_output: "arrange positions in rows", best: "score or choose classes",
        logarithms: "score or choose classes"}  # fmt: skip


@pytest.mark.parametrize("made", DETECTORS)
def test_ends_at_its_maps(made, tmp_path):
    """And computes them as the file does."""
    net = Net()
    outputs, maps = made(net)
    proto = net.save(tmp_path / "m.onnx", *outputs)
    does = DOES.get(made, "decode boxes")
    with pytest.warns(CutWarning, match=f"m.onnx ends at the maps .* what follows {does} and have no weights") as told:
        model = load_model(tmp_path / "m.onnx")
    assert len(told) == 1 and all(name in str(told[0].message) for name in model.graph.outputs)
    del proto.graph.output[:]
    proto.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in maps)
    image = np.random.default_rng(1).random((1, 3, SIZE, SIZE), np.float32)
    for ours, theirs in zip(run(to_onnx(model), image), run(proto, image), strict=True):
        np.testing.assert_allclose(counted_our_way(ours), counted_our_way(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("made", DETECTORS)
def test_named_outputs_are_not_cut(made, tmp_path):
    net = Net()
    outputs, maps = made(net)
    net.save(tmp_path / "m.onnx", *outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CutWarning)
        assert len(load_model(tmp_path / "m.onnx", outputs=maps[-1:]).graph.outputs) == 1
        with pytest.raises(UnsupportedOp):
            load_model(tmp_path / "m.onnx", outputs=outputs)


def positions_into_a_layer(net: Net):
    """A pyramid of positions in the middle of a classifier."""
    rows = net.node("Concat", *(net.node("Reshape", m, [1, 4, -1]) for m in net.levels(4)), axis=2)
    return net.node("MatMul", net.node("Reshape", rows, [1, 320]), net.rng.normal(size=(320, 3)).astype(np.float32))


def learnt_expectation(net: Net):
    """A convolution behind the join whose weights are not 0, 1, 2, 3."""
    rows = net.node("Concat", *(net.node("Reshape", m, [1, 4, -1, 1]) for m in net.levels(4)), axis=2)
    return net.conv(rows, 4, 1)


def normalised(net: Net):
    rows = net.node("Concat", *(net.node("Reshape", m, [1, 4, -1]) for m in net.levels(4)), axis=2)
    return net.node("LayerNormalization", rows, net.rng.normal(size=80).astype(np.float32))


def image_itself(net: Net):
    """One of the joined maps is the picture itself."""
    return net.node(
        "Concat", net.node("Reshape", net.levels(3)[0], [1, 3, -1]), net.node("Reshape", "x", [1, 3, -1]), axis=2
    )


def alone(net: Net):
    """An exponential is decoding only where something is."""
    return net.node("Exp", net.levels(4)[0])


def columns_for_rows(net: Net):
    """A map of other rows and columns: no anchors, and a map as before."""
    turned = net.node("Transpose", net.node("Reshape", net.levels(4)[0], [1, 4, 4, 2, 8]), perm=[0, 1, 3, 4, 2])
    return net.node("Reshape", turned, [1, 8, 8, 4])


@pytest.mark.parametrize(
    "made, words",
    [(positions_into_a_layer, "Concat at 'concat"), (learnt_expectation, "Concat at 'concat"),
     (normalised, "Concat at 'concat"), (image_itself, "Concat at 'concat"), (alone, "Exp at 'exp"),
     (columns_for_rows, "output 'reshape8_0' has the rows, columns and channels of")],
)  # fmt: skip
def test_what_is_no_decoding_stays_refused(made, words, tmp_path):
    net = Net()
    net.save(tmp_path / "m.onnx", made(net))
    with pytest.raises(UnsupportedOp, match=words):
        load_model(tmp_path / "m.onnx")


def test_a_file_that_is_quantised_ends_at_rounded_maps(tmp_path):
    """QuantizeLinear stands before the decoding and in it, as onnxruntime's quantizer leaves it."""
    net = Net()

    def rounded(x: str, scale: float = 0.05) -> str:
        at = np.float32(scale), np.int8(0)
        return net.node("DequantizeLinear", net.node("QuantizeLinear", x, *at), *at)

    weight = net.node(
        "DequantizeLinear", net.rng.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8), np.float32(0.01), np.int8(0)
    )
    image = rounded("x", 1 / 255)
    maps = [rounded(net.node("Conv", image, weight, strides=[s, s])) for s in (1, 2)]
    rows = [rounded(net.node("Reshape", rounded(net.node("Sigmoid", m), 1 / 256), [1, 4, -1])) for m in maps]
    net.save(tmp_path / "m.onnx", rounded(net.node("Concat", *rows, axis=2)))
    with pytest.warns(CutWarning):
        model = load_model(tmp_path / "m.onnx")
    assert [op.kind for op in model.graph.ops] == ["conv", "conv"]
    assert all(model.scales[name].scale == np.float32(0.05) for name in model.graph.outputs)


def test_commands_print_one_line(tmp_path, monkeypatch, capsys):
    net = Net()
    net.save(tmp_path / "m.onnx", *yolov8(net)[0])
    done = command(monkeypatch, capsys, "profile", tmp_path / "m.onnx", "--json")
    assert done.code == 0 and done.out.startswith("{"), done
    assert done.err.startswith(f"note: {tmp_path}/m.onnx ends at the maps ") and done.err.count("\n") == 1, done
