"""ONNX files that move channels and positions: what is imported computes what onnxruntime computes, and what the
convolution beside a move can do costs no op."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType
from test_onnx_import import assert_imported, constant, counted_our_way, export, small
from test_onnx_quantized import ours
from test_onnx_quantized import quantized_file as quantized
from theirs import run
from torch import nn
from torch.nn import functional as F

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.ir.kinds import SAME_SCALE
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.model import QuantModel


class Of(nn.Module):
    """A function of maps with layers by number."""

    def __init__(self, function, *layers):
        super().__init__()
        for layer in layers:
            if isinstance(layer, nn.PReLU):
                nn.init.uniform_(layer.weight, -0.5, 0.8)
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def conv(cin, cout, k=3, **fields):
    return nn.Conv2d(cin, cout, k, padding=k // 2, **fields)


def shuffled(x, groups):
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def megvii(x):
    """The two halves of a channel shuffle as the authors of ShuffleNetV2 write it."""
    n, c, h, w = x.shape
    x = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
    return x[0], x[1]


def focus(x):
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def csp(x, a, b, c):
    left, right = a(x).chunk(2, 1)
    return c(torch.cat([left, right, b(right)], 1))


NETS = {
    "split": (lambda x, a, b: [b(part) for part in a(x).split([2, 2, 2, 1], 1)[:3]], conv(3, 7), conv(2, 3)),
    "no-op slice": (lambda x, a: a(x[:, :, 0:20])[:, 0:9], conv(3, 4)),
    "csp": (csp, conv(3, 8), conv(4, 4), conv(12, 5)),
    "csp, clamped": (lambda x, a, b, c: csp(x, lambda v: torch.relu(a(v)), b, c), conv(3, 8), conv(4, 4), conv(12, 5)),
    "shuffle": (lambda x, a, b: b(shuffled(torch.sigmoid(a(x)), 4)), conv(3, 8), conv(8, 8, groups=8)),
    "shuffle, dense": (lambda x, a, b: b(shuffled(a(x), 2)), conv(3, 8), conv(8, 4)),
    "megvii": (lambda x, a, b: torch.cat([megvii(a(x))[0], b(megvii(a(x))[1])], 1), conv(3, 8), conv(4, 4, groups=2)),
    "gather": (lambda x, a: torch.sigmoid(a(x))[:, [3, 0, 0, 2]] + 1, conv(3, 5)),
    "repeated": (lambda x, a: a(torch.tanh(x)[:, [0, 0, 1, 2]]), conv(4, 3)),
    "blocks read twice": (lambda x, a: torch.relu(y := F.pixel_shuffle(a(x), 2)) + y, conv(3, 8)),
    "channels last": (lambda x, a: torch.sigmoid(a(x)).permute(0, 2, 3, 1)[..., 1::2].permute(0, 3, 1, 2), conv(3, 6)),
    "bgr": (lambda x, a: a(x[:, [2, 1, 0]]), conv(3, 4)),
    "flipped": (lambda x, a: a(torch.flip(x, [1])), conv(3, 4)),
    "one row": (lambda x, a: torch.sigmoid(a(x))[:, :, 3:4], conv(3, 4)),
    "steps of steps": (lambda x, a: torch.sigmoid(a(x))[:, :, 1::2, 2:][:, :, 1::3, 1::2], conv(3, 4)),
    "every third": (lambda x, a: torch.sigmoid(a(x))[:, 1:, 1:-2:3, 2::2], conv(3, 4)),
    "crop before a conv": (lambda x, a, b: b(torch.sigmoid(a(x))[:, :, 2:-1, 1:]), conv(3, 4), nn.Conv2d(4, 2, 3)),
    "crop before pads": (lambda x, a, b: b(torch.sigmoid(a(x))[:, :, 2:-1, 1:]), conv(3, 4), conv(4, 2)),
    "option A": (lambda x, a: torch.tanh(a(x))
                 + F.pad(torch.tanh(x)[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3)), conv(3, 8, stride=2)),
    "focus": (lambda x, a: torch.relu(a(focus(x))), conv(12, 6)),
    "three parts": (lambda x: torch.sigmoid(torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]], 1)),),
    "focus behind": (lambda x, a, b: b(focus(a(x))), conv(3, 4), conv(16, 6)),
    "focus only": (lambda x: torch.sigmoid(focus(x)),),
    "space to depth": (lambda x, a: a(F.pixel_unshuffle(x, 2)), conv(12, 5, 5, stride=1)),
    "pixel shuffle": (lambda x, a, b: b(F.pixel_shuffle(a(x), 2)), conv(3, 12), conv(3, 4)),
    "pixel shuffle, clamped": (lambda x, a: torch.relu(F.pixel_shuffle(a(x), 2)), conv(3, 16)),
    "uneven blocks": (lambda x, a: torch.sigmoid(a(x).reshape(1, 2, 3, 4, 20, 28).permute(0, 3, 4, 1, 5, 2)
                                                 .reshape(1, 4, 40, 84)), conv(3, 24)),
    "channels of blocks": (lambda x: torch.sigmoid(x.reshape(1, 3, 5, 4, 14, 2).permute(0, 3, 5, 1, 2, 4)
                                                   .reshape(1, 24, 5, 14)),),
    "dilated": (lambda x, a, b: b(torch.relu(a(x))), nn.Conv2d(3, 6, 3, padding=(3, 2), dilation=(3, 2)),
                nn.Conv2d(6, 6, (2, 1), groups=3, dilation=4, stride=2)),
    "slopes": (lambda x, a, b: b(a(x)), conv(3, 6), nn.PReLU(6)),
    "slopes of a vector": (lambda x, a, b, c: c(b(a(x).mean((2, 3)))), conv(3, 6), nn.Linear(6, 5), nn.PReLU(5)),
    "rows and columns repeated": (lambda x, a, b: b(a(x).repeat_interleave(3, 2).repeat_interleave(2, 3)), conv(3, 5),
                                  conv(5, 4)),
    "repeated channels last": (lambda x, a: torch.sigmoid(a(x)).permute(0, 2, 3, 1)[:, :, :, None].repeat(1, 1, 1, 2, 1)
                               .reshape(1, 20, 56, 6).permute(0, 3, 1, 2), conv(3, 6)),
    "a position spread": (lambda x, a: (y := torch.sigmoid(a(x))) + y.mean((2, 3), keepdim=True).expand(1, 6, 20, 28),
                          conv(3, 6)),
    "a row spread": (lambda x, a: (y := torch.sigmoid(a(x))) + y[:, :, 3:4].expand(-1, -1, 20, -1), conv(3, 6)),
    "channels spread": (lambda x, a: torch.sigmoid(x + a(x).expand(-1, 3, -1, -1)), conv(3, 1)),
    "spread gate": (lambda x, a, b: (y := a(x)) * torch.sigmoid(b(y.mean((2, 3)))).view(1, 6, 1, 1).expand_as(y),
                    conv(3, 6), nn.Linear(6, 6)),
    "enlarged factors": (lambda x, a: (y := torch.sigmoid(a(x))) * F.interpolate(F.max_pool2d(y, 2), scale_factor=2.0),
                         conv(3, 6)),
    "pairs": (lambda x, a: F.softmax(a(x).permute(0, 2, 3, 1).reshape(1, -1, 2), -1), conv(3, 8)),
    "a vector as a map": (lambda x, a, b, c: c(torch.relu(b(a(x).mean((2, 3)))).view(1, 5, 4, 6)), conv(3, 8),
                          nn.Linear(8, 120), nn.ConvTranspose2d(5, 3, 4, 2, 1)),
    "a vector as rows": (lambda x, a, b, c: c(b(a(x).mean((2, 3))).view(1, 5, 12))[:, :, None], conv(3, 8),
                         nn.Linear(8, 60), nn.Conv1d(5, 3, 3)),
    "channel pads": (lambda x, a: a(F.pad(x, (1, 0, 2, 1, 1, 2))), conv(6, 4)),
}  # fmt: skip
KINDS = {  # what is left of them
    "no-op slice": ["conv"], "split": ["conv"] * 6, "csp": ["conv"] * 3 + ["concat", "conv"],
    "csp, clamped": ["conv"] * 3 + ["concat", "conv"], "shuffle, dense": ["conv"] * 2,
    "shuffle": ["conv", "act", "take", "conv"], "bgr": ["conv"], "flipped": ["conv"],
    "crop before a conv": ["conv", "act", "conv"], "focus": ["conv"], "focus behind": ["conv"] * 2,
    "space to depth": ["conv"], "channels last": ["conv", "act", "take"],
    "pixel shuffle, clamped": ["conv", "depth_to_space"], "channel pads": ["conv"],
    "spread gate": ["conv", "gap", "conv", "act", "mul"], "pairs": ["conv", "depth_to_space", "softmax"],
    "a vector as rows": ["conv", "gap", "conv", "depth_to_space", "conv"],
    "rows and columns repeated": ["conv", "upsample", "conv"], "repeated channels last": ["conv", "act", "upsample"],
}  # fmt: skip


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", NETS)
def test_torch_export(name, opset, tmp_path):
    function, *layers = NETS[name]
    model = assert_imported(export(Of(function, *layers), tmp_path / "m.onnx", opset=opset))
    kinds = [op.kind for op in model.graph.ops]
    assert kinds == KINDS.get(name, kinds)
    again = tmp_path / "again.onnx"
    onnx.save(to_onnx(model), again)
    assert_imported(again)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode, tmp_path):
    nodes = [helper.make_node("SpaceToDepth", ["x"], ["s"], blocksize=4), helper.make_node("Sigmoid", ["s"], ["t"]),
             helper.make_node("DepthToSpace", ["t"], ["y"], blocksize=2, mode=mode)]  # fmt: skip
    onnx.save(small(nodes, shape=(1, 3, 8, 12)), tmp_path / "m.onnx")
    model = assert_imported(tmp_path / "m.onnx")
    assert [op.kind for op in model.graph.ops][-1] == "depth_to_space"


def test_slices_of_old(tmp_path):
    """Before opset 10 their ends are attributes."""
    nodes = [helper.make_node("Slice", ["x"], ["t"], starts=[1, -4], ends=[-1, 100], axes=[1, 3]),
             helper.make_node("Sigmoid", ["t"], ["y"])]  # fmt: skip
    onnx.save(small(nodes, shape=(1, 4, 8, 12), opset=9), tmp_path / "m.onnx")
    assert [op.kind for op in assert_imported(tmp_path / "m.onnx").graph.ops] == ["take", "act"]


def one(kind, constants=(), **attributes):
    names = [f"k{i}" for i in range(len(constants))]
    return [
        helper.make_node(kind, ["x", *names], ["t"], name="n", **attributes),
        helper.make_node("Relu", ["t"], ["y"]),
    ], [constant(name, np.array(value)) for name, value in zip(names, constants, strict=True)]


@pytest.mark.parametrize(
    "node, message",
    [
        (
            one("Conv", [np.zeros((4, 3, 9, 9), np.float32)], dilations=[40, 2], pads=[200] * 4),
            "Conv at 'n': dilated it has 12 windows of 321x17: sides go to 255",
        ),
        (
            one("Conv", [np.zeros((700, 3, 5, 5), np.float32)], dilations=[63, 63], pads=[200] * 4),
            "Conv at 'n': dilated .* weights to 67,108,864",
        ),
        (
            one("Conv", [np.zeros((4, 3, 3, 3), np.float32)], kernel_shape=[1, 2]),
            "Conv at 'n': kernel_shape .1, 2. and weights of .3, 3.|not a valid ONNX",
        ),
        (one("MaxPool", dilations=[2, 2], kernel_shape=[2, 2]), "MaxPool at 'n': dilations .2, 2. of a MaxPool"),
        (one("Pad", [[0, 0, 0, 0, 0, 1 << 40, 0, 0]]), "Pad at 'n': makes .* channels|not a valid ONNX"),
        (one("Slice", [[0], [0], [1]]), "Slice at 'n': makes .*0"),
        (one("Slice", [[7], [0], [2], [-1]]), "Slice at 'n': gives .1, 3, 7, 8. of rows, columns and channels"),
        (one("Gather", [[0, 2, 1]], axis=2), "Gather at 'n': gives .1, 3, 3, 8. of rows"),
        (one("Gather", [[0, 0, 1, 2]], axis=2), "Gather at 'n': gives .1, 3, 4, 8. of rows.* or enlargement"),
        (one("Tile", [[1, 1, 2, 1]]), "Tile at 'n': gives .1, 3, 16, 8. of rows"),
        (one("Tile", [[1, 1, 1 << 40, 1]]), "Tile at 'n': makes .* elements are followed|not a valid ONNX"),
        (one("Expand", [[1, 3, 9, 8]]), "Expand at 'n': spreads .1, 3, 8, 8. to .1, 3, 9, 8.|not a valid ONNX"),
        (one("Gather", [[[0, 1], [1, 2]]], axis=1), "Gather at 'n': indices|not a valid ONNX"),
        (one("Split", [[1, 1]], axis=1), "Split at 'n': parts of|not a valid ONNX"),
        (one("DepthToSpace", blocksize=2), "DepthToSpace at 'n': blocks of 2 of 3 channels|not a valid ONNX"),
        (one("SpaceToDepth", blocksize=3), "SpaceToDepth at 'n': blocks of 3 of 8x8|not a valid ONNX"),
    ],
)
def test_refused_by_name(node, message, tmp_path):
    onnx.save(small(*node), tmp_path / "m.onnx")
    with pytest.raises((GraphError, UnsupportedOp), match=message):
        load_onnx(tmp_path / "m.onnx")


def chained(rng, x, steps):
    """Nodes of random slices, shuffles and blocks, one behind the other; sizes stay whole."""
    nodes, constants, (c, h, w) = [], [], x

    def add(kind, values=(), **attributes):
        at = len(nodes)
        names = [f"k{at}_{i}" for i in range(len(values))]
        constants.extend(constant(n, np.array(v)) for n, v in zip(names, values, strict=True))
        nodes.append(helper.make_node(kind, [f"v{at}" if at else "x", *names], [f"v{at + 1}"], **attributes))

    for _ in range(steps):
        kind = rng.integers(6)
        if kind == 0 and c > 1:
            first, step = int(rng.integers(c)), int(rng.choice([1, 1, 2]))
            add("Slice", [[first], [c], [1], [step]])
            c = -(-(c - first) // step)
        elif kind == 1:
            places = rng.integers(-c, c, int(rng.integers(1, 7)))
            add("Gather", [places], axis=1)
            c = len(places)
        elif kind == 2 and h > 3 and w > 3:
            top, step = int(rng.integers(2)), int(rng.choice([1, 2]))
            add("Slice", [[top, 1], [h, w - 1], [2, 3], [step, 1]])
            h, w = -(-(h - top) // step), w - 2
        elif kind == 3 and h % 2 == w % 2 == 0:
            add("SpaceToDepth", blocksize=2)
            c, h, w = 4 * c, h // 2, w // 2
        elif kind == 4 and c % 4 == 0:
            add("DepthToSpace", blocksize=2, mode=str(rng.choice(["DCR", "CRD"])))
            c, h, w = c // 4, 2 * h, 2 * w
        elif kind == 5 and c % 2 == 0:
            add("Reshape", [[1, 2, c // 2, h, w]])
            add("Transpose", perm=[0, 2, 1, 3, 4])
            add("Reshape", [[1, c, h, w]])
    add("Sigmoid")
    nodes[-1].output[0] = "y"
    return nodes, constants


@pytest.mark.parametrize("seed", range(30))
def test_moves_behind_moves(seed, tmp_path):
    rng = np.random.default_rng(seed)
    c = int(rng.integers(1, 9))
    onnx.save(small(*chained(rng, (c, 12, 16), 4), shape=(1, c, 12, 16)), tmp_path / "m.onnx")
    kinds = [op.kind for op in assert_imported(tmp_path / "m.onnx").graph.ops]
    assert ("take", "take") not in pairwise(kinds)


FORMS = {
    "QDQ int8, per channel": (QuantFormat.QDQ, QuantType.QInt8, True),
    "QOperator uint8": (QuantFormat.QOperator, QuantType.QUInt8, False),
}
QUANTISED = ("split", "csp", "csp, clamped", "shuffle", "shuffle, dense", "megvii", "every third", "crop before a conv",
             "option A", "focus behind", "space to depth", "pixel shuffle", "uneven blocks", "dilated",
             "slopes", "channel pads", "focus", "focus only", "spread gate", "pairs")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", QUANTISED)
def test_what_onnxruntime_quantises(name, form, tmp_path):
    """Within a step an op of what onnxruntime computes."""
    function, *layers = NETS[name]
    path, (format, activation, per_channel) = export(Of(function, *layers), tmp_path / "m.onnx"), FORMS[form]
    quantised = quantized(path, form=format, activation=activation, per_channel=per_channel)
    model = load_onnx(quantised)
    assert isinstance(model, QuantModel)
    image = np.random.default_rng(5).random((1, 3, 20, 28), np.float32)
    for name_, mine, theirs in zip(
        model.graph.outputs, ours(model, image), run(onnx.load(quantised), image), strict=True
    ):
        steps = np.abs(mine - counted_our_way(theirs)) / model.scales[name_].scale
        most = sum(op.kind not in SAME_SCALE for op in model.graph.ops)
        assert steps.max() <= most + 0.1 and steps.mean() < 0.5, (steps.max(), steps.mean())


def test_parts_of_unlike_scales_of_what_has_none(tmp_path):
    """onnxruntime's quantiser gives the four parts of a picture a scale each, and the picture none: scales of one range
    are read (QUANTISED), others not."""
    function, *layers = NETS["focus"]
    path = quantized(export(Of(function, *layers), tmp_path / "m.onnx"), *FORMS["QDQ int8, per channel"])
    proto = onnx.load(path)
    sliced = [node.output[0] for node in proto.graph.node if node.op_type == "Slice"]
    last = [node for node in proto.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in sliced][-1]
    scale = next(value for value in proto.graph.initializer if value.name == last.input[1])
    scale.CopyFrom(constant(scale.name, 2 * numpy_helper.to_array(scale)))
    onnx.save(proto, path)
    with pytest.raises(UnsupportedOp, match="'x' has no scale of its own, only its maxima or some of its channels"):
        load_onnx(path)


def test_a_softmax_over_pairs_of_columns_is_refused(tmp_path):
    """They are no part of a position's channels."""
    path = export(Of(lambda x, a: F.softmax(a(x).reshape(1, -1, 2), -1), conv(3, 8)), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedOp, match=r"or over equal parts of them, is known; end the model before it \(--out"):
        load_onnx(path)


def test_blocks_that_begin_late(tmp_path):
    """Blocks of a cropped map are those of the crop, wherever it begins."""
    for first in (1, 2):
        net = Of(lambda x, first=first: torch.sigmoid(F.pixel_unshuffle(x[:, :, first : first + 4], 2)))
        assert_imported(export(net, tmp_path / f"{first}.onnx"))
        sliced = [
            helper.make_node("Slice", ["x", "b", "e", "a"], ["s"]), helper.make_node("Reshape", ["s", "p"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=[0, 3, 1, 2, 4]),
            helper.make_node("Reshape", ["t", "q"], ["u"]), helper.make_node("Sigmoid", ["u"], ["y"]),
        ]  # fmt: skip
        values = {"b": [first], "e": [first + 4], "a": [2], "p": [1, 3, 2, 2, 8], "q": [1, 6, 2, 8]}
        onnx.save(small(sliced, [constant(n, v) for n, v in values.items()]), tmp_path / "m.onnx")
        assert_imported(tmp_path / "m.onnx")


def test_a_slice_of_nothing_is_no_crash(tmp_path):
    """onnx's own inference of shapes ends the process there."""
    nodes, constants = one("Conv", [np.zeros((3, 3, 20, 1), np.float32)])
    nodes[1] = helper.make_node("Slice", ["t", "b", "e", "a"], ["y"])
    constants += [constant(n, [v]) for n, v in (("b", 0), ("e", 2), ("a", 2))]
    onnx.save(small(nodes, constants), tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="a 8x8 input leaves no output"):
        load_onnx(tmp_path / "m.onnx")
