"""Other people's ONNX files: what is imported computes what onnxruntime computes, and what is not known is refused."""

import io
import re
import warnings

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT
from onnx import TensorProto, helper, numpy_helper
from theirs import run
from torch import nn

from nni_mcunet.core.errors import GraphError, UnsupportedOp, UserError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.engine.frontend.fuse import of_pixels
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.frontend.onnx.operators import NODES
from nni_mcunet.engine.frontend.onnx.quantized import QUANTIZED
from nni_mcunet.engine.model import Model
from nni_mcunet.engine.quant.ort_session import to_input


def export(net: nn.Module, path, size=(20, 28), opset=13, channels=3):
    """torch's own exporter."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1), nn.init.uniform_(module.running_var, 0.5, 2)
    file, image = io.BytesIO(), torch.rand(1, channels, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), image, file, dynamo=False, opset_version=opset, do_constant_folding=opset > 11)
    path.write_bytes(file.getvalue())
    return path


def counted_our_way(value: np.ndarray) -> np.ndarray:
    """Elements in the engine's order: a map by row, column, channel, all else as it is."""
    return value.transpose(0, 2, 3, 1).ravel() if value.ndim == 4 else value.ravel()


def assert_imported(path, image_shape=None):
    """The file and what load_onnx made of it give the same numbers; returns the model."""
    model, proto = load_onnx(path), onnx.load(path)
    tensor = model.graph.inputs[0]
    image = np.random.default_rng(0).random((1, tensor.c, tensor.h, tensor.w), np.float32)
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    theirs = run(proto, image if shape[1] == tensor.c else image.transpose(0, 2, 3, 1))
    for ours, other in zip(run(to_onnx(model), image), theirs, strict=True):
        np.testing.assert_allclose(counted_our_way(ours), counted_our_way(other), rtol=1e-4, atol=1e-4)
    return model


class Gate(nn.Module):
    """Squeeze-excite as torchvision writes it."""

    def __init__(self, c):
        super().__init__()
        self.down, self.up = nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)

    def forward(self, x):
        return x * nn.functional.hardsigmoid(self.up(torch.relu(self.down(nn.functional.adaptive_avg_pool2d(x, 1)))))


class Block(nn.Module):
    """An inverted residual with batch normalisation, squeeze-excite and a shortcut."""

    def __init__(self, c, act):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, 24, 1, bias=False), nn.BatchNorm2d(24), act,
            nn.Conv2d(24, 24, 5, padding=2, groups=24, bias=False), nn.BatchNorm2d(24), act,
            Gate(24), nn.Conv2d(24, c, 1, bias=False), nn.BatchNorm2d(c),
        )  # fmt: skip

    def forward(self, x):
        return x + self.body(x)


class Branches(nn.Module):
    """Joined, summed and multiplied maps, a pyramid, and both outputs."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.c = nn.Conv2d(16, 6, 1)

    def forward(self, x):
        fine, coarse = torch.relu(self.a(x)), nn.functional.leaky_relu(self.b(x), 0.1)
        up = nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
        both = self.c(torch.cat([fine, up], 1))
        return both * torch.sigmoid(both), nn.functional.relu6(fine + up), torch.tanh(coarse)


class Rows(nn.Module):
    """A detector's outputs: channels last, one row a cell."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, stride=4)

    def forward(self, x):
        y = self.conv(x).permute(0, 2, 3, 1)
        return y.reshape(1, -1, 5).sigmoid() if y.shape[-1] == 5 else y.reshape(1, -1, 10).sigmoid()


class Classifier(nn.Module):
    def __init__(self, spatial: bool):
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3, stride=2), nn.AdaptiveAvgPool2d(1)
        self.spatial, self.fc = spatial, nn.Linear(8 * 9 * 13 if spatial else 8, 5)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        y = self.conv(x)
        y = torch.flatten(y, 1) if self.spatial else y.mean((2, 3))
        return torch.softmax(self.norm(self.fc(y)), 1)


class Normalised(nn.Module):
    """Pixels normalised in the model, behind which a convolution is padded."""

    def __init__(self, padding):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=padding)
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1))

    def forward(self, x):
        return self.conv((x - self.mean) / self.std)


NETS = {
    "relu6": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), Block(8, nn.ReLU6()), nn.MaxPool2d(3, 2, 1)),
    "hswish": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Hardswish(), Block(8, nn.Hardswish())),
    "branches": Branches,
    "rows": Rows,
    "spatial": lambda: Classifier(True),
    "mean": lambda: Classifier(False),
    "grouped": lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 36, 3, groups=6)),
    "pads": lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, 4, 2), nn.Hardtanh(-0.5, 0.75)),
    "average": lambda: nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2, 1, 1, count_include_pad=False)),
    "ceil": lambda: nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(2, 2, 1, ceil_mode=True)),
    "norm first": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.PReLU()),
    "normalised": lambda: Normalised(0),
    "normalised, padded": lambda: Normalised(1),
}  # fmt: skip


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("name", NETS)
def test_torch_export(name, opset, tmp_path):
    assert_imported(export(NETS[name](), tmp_path / "m.onnx", opset=opset))


def test_what_a_kernel_does_at_once_is_one_op(tmp_path):
    model = load_onnx(export(NETS["relu6"](), tmp_path / "m.onnx"))
    kinds = [(op.kind, op.act, op.residual is not None) for op in model.graph.ops]
    assert kinds == [
        ("conv", None, False), ("conv", "relu6", False), ("conv", "relu6", False), ("gap", None, False),
        ("conv", "relu", False), ("conv", None, False), ("act", "hsigmoid", False), ("mul", None, False),
        ("conv", None, True), ("maxpool", None, False),
    ]  # fmt: skip
    assert len(load_onnx(export(NETS["normalised"](), tmp_path / "n.onnx")).graph.ops) == 1
    assert len(load_onnx(export(NETS["normalised, padded"](), tmp_path / "p.onnx")).graph.ops) == 2
    assert load_onnx(export(NETS["pads"](), tmp_path / "q.onnx")).graph.ops[0].pad == (2, 0, 3, 1)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kind", ["Conv", "MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [(11, 12), (7, 9)])
def test_auto_pad(mode, kind, size, tmp_path):
    """TensorFlow's SAME: the extra row at the end, or at the beginning."""
    rng = np.random.default_rng(0)
    weight = [numpy_helper.from_array(rng.normal(size=(4, 3, 4, 3)).astype(np.float32), "w")] if kind == "Conv" else []
    shape = {} if kind == "Conv" else {"kernel_shape": [4, 3]}
    node = helper.make_node(kind, ["x"] + ["w"] * len(weight), ["y"], auto_pad=mode, strides=[3, 2], **shape)
    onnx.save(small([node], weight, (1, 3, *size)), tmp_path / "m.onnx")
    assert_imported(tmp_path / "m.onnx")


def small(nodes, constants=(), shape=(1, 3, 8, 8), opset=13, outputs=("y",), kind=TensorProto.FLOAT):
    value = helper.make_tensor_value_info("x", kind, shape)
    outs = [helper.make_tensor_value_info(name, kind, ["a", "b", "c", "d"]) for name in outputs]
    graph = helper.make_graph(nodes, "g", [value], outs, list(constants))
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def constant(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


WEIGHT = constant("w", np.zeros((4, 3, 1, 1), np.float32))


def test_channels_last_input_is_read_as_it_is(tmp_path):
    """tf2onnx writes this: NHWC in, transposed at once."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["u"], strides=[2, 1]),
        helper.make_node("Transpose", ["u"], ["y"], perm=[0, 2, 3, 1]),
    ]
    weight = constant("w", np.random.default_rng(1).normal(size=(4, 3, 3, 2)).astype(np.float32))
    onnx.save(small(nodes, [weight], (1, 9, 8, 3)), tmp_path / "m.onnx")
    model, image = load_onnx(tmp_path / "m.onnx"), np.random.default_rng(0).random((1, 9, 8, 3), np.float32)
    (theirs,), (ours,) = run(onnx.load(tmp_path / "m.onnx"), image), run(to_onnx(model), image.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(ours.transpose(0, 2, 3, 1), theirs, rtol=1e-5, atol=1e-5)


def test_open_sizes_take_the_given_one(tmp_path):
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    onnx.save(small([node], [WEIGHT], ("n", 3, "h", "w")), tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="give the picture's size where height and width are open"):
        load_onnx(tmp_path / "m.onnx")
    assert load_onnx(tmp_path / "m.onnx", (10, 12)).graph.tensors["y"].w == 12
    onnx.save(small([node], [WEIGHT]), tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="the input is fixed at"):
        load_onnx(tmp_path / "m.onnx", (10, 12))


def conv(**attributes):
    return helper.make_node("Conv", ["x", "w"], ["y"], name="c", **attributes)


REFUSED = [
    ([helper.make_node("Sin", ["x"], ["y"], name="s")], [], "Sin at 's': not known: rewrite"),
    ([helper.make_node("MaxPool", ["x"], ["y"], name="m", kernel_shape=[2, 2], dilations=[2, 1])], [],
     "MaxPool at 'm': dilations .2, 1."),
    ([helper.make_node("Conv", ["x", "x"], ["y"], name="c")], [], "Conv at 'c': 'x' is not a constant"),
    ([helper.make_node("Transpose", ["x"], ["t"], name="t", perm=[0, 3, 2, 1]),
      helper.make_node("Relu", ["t"], ["y"])], [], "output 'y' has the rows, columns and channels of"),
    ([helper.make_node("Reshape", ["x", "s"], ["t"]), helper.make_node("Transpose", ["t"], ["u"], name="mixed",
      perm=[0, 3, 1, 2, 4]), helper.make_node("Reshape", ["u", "q"], ["v"]), helper.make_node("Relu", ["v"], ["y"])],
     [constant("s", [1, 3, 2, 4, 8]), constant("q", [1, 3, 8, 8])], "Reshape at .v.: gives .* in the order of no"),
    ([helper.make_node("Concat", ["x", "x"], ["y"], name="c", axis=2)], [], "Concat at 'c': joins maps along another"),
    ([helper.make_node("Div", ["x", "x"], ["y"], name="d")], [], "Div at 'd': of .* sums and products"),
    ([helper.make_node("Resize", ["x", "", "s"], ["y"], name="r", mode="linear")],
     [constant("s", np.float32([1, 1, 2, 2]))], "Resize at 'r': mode 'linear': use nearest"),
    ([helper.make_node("Pad", ["x", "p"], ["y"], name="p", mode="reflect")],
     [constant("p", [0, 0, 1, 1, 0, 0, 1, 1])], "Pad at 'p': mode 'reflect': pad with zeros"),
]  # fmt: skip


@pytest.mark.parametrize("nodes, constants, message", REFUSED, ids=[message[:24] for *_, message in REFUSED])
def test_refused_by_name(nodes, constants, message, tmp_path):
    onnx.save(small(nodes, constants), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedOp, match=message):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: p.opset_import[0].__setattr__("version", 6), "opset 6, expected 7 or later"),
        (lambda p: p.graph.initializer[0].CopyFrom(constant("w", np.full((4, 3, 1, 1), np.nan, np.float32))),
         "Conv at 'c': 'w' holds values that are not finite"),
        (lambda p: p.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, (1, 3, 40000, 8))),
         "'x' of 40000x8x3 is larger than any microcontroller"),
        (lambda p: p.graph.node.insert(0, helper.make_node("Conv", ["y", "w"], ["z"])), "not a valid ONNX file"),
        (lambda p: p.graph.output[0].__setattr__("name", "x"), "no layer stands between the input and the outputs"),
        (lambda p: p.graph.initializer[0].ClearField("raw_data"), "not a valid ONNX file|is broken"),
    ],
)  # fmt: skip
def test_what_no_exporter_writes_is_said(change, message, tmp_path):
    proto = small([conv()], [WEIGHT])
    change(proto)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises((GraphError, UnsupportedOp), match=message):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("net", ["pads", "normalised", "hswish"])
@pytest.mark.parametrize("mean", [(0, 0, 0), (10, 120, 90)])
def test_pixels_in_any_order_and_range(net, mean, tmp_path):
    """mmdet's data_preprocessor, folded: RGB / 255 in, the same numbers out."""
    model, std = load_onnx(export(NETS[net](), tmp_path / "m.onnx")), (1, 57, 60)
    picture = np.random.default_rng(0).integers(0, 256, (20, 28, 3))
    given = ((picture[..., ::-1] - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    pixels = of_pixels(model, mean, std, bgr=True)
    assert len(pixels.graph.ops) == len(model.graph.ops) + (mean != (0, 0, 0) and net != "normalised")
    for ours, theirs in zip(run(to_onnx(pixels), to_input(picture)), run(to_onnx(model), given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_pixels_that_cannot_be_swapped(tmp_path):
    model = load_onnx(export(NETS["average"](), tmp_path / "m.onnx"))
    with pytest.raises(UnsupportedOp, match="a pad reads BGR pixels; swap the channels in the model"):
        of_pixels(model, bgr=True)
    with pytest.raises(UserError, match="expected finite numbers, std above 0"):
        of_pixels(model, std=(1, 0, 1))


def test_pixels_that_are_added_cannot_be_swapped():
    """Swapped weights would leave the second reading, as a residual, in BGR."""
    weights = np.zeros((3, 3, 1, 1), np.float32), np.zeros(3, np.float32)
    for source in ("image", "a"):
        ops = Op("a", "conv", ("image",), 3), Op("b", "conv", (source,), 3, residual="image")
        graph = Graph("skip", (Tensor("image", 4, 4, 3),), ops, ("a", "b")).verify()
        with pytest.raises(UnsupportedOp, match="b: a conv reads BGR pixels; swap the channels in the model"):
            of_pixels(Model(graph, {"a": weights, "b": weights}), bgr=True)


def test_an_output_that_is_read_again_is_not_fused(tmp_path):
    nodes = [helper.make_node("Conv", ["x", "w"], ["z"], name="c"), helper.make_node("Relu", ["z"], ["y"], name="r")]
    onnx.save(small(nodes, [constant("w", np.ones((4, 3, 1, 1), np.float32))], outputs=("z", "y")), tmp_path / "m.onnx")
    graph = assert_imported(tmp_path / "m.onnx").graph
    assert [op.kind for op in graph.ops] == ["conv", "act"] and graph.outputs == ("c", "r")


def test_every_operator_is_documented():
    text = (ROOT / "docs/onnx.md").read_text()
    words = set(re.findall(r"\w+", text))
    assert not {*NODES, *QUANTIZED} - words
