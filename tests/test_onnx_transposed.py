"""Transposed convolutions in ONNX files: equal to onnxruntime, by phases that multiply no zero."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnxruntime.quantization import QuantFormat, QuantType
from programs import run_host
from test_onnx_import import assert_imported, constant, counted_our_way, export, small
from test_onnx_moves import FORMS, conv
from test_onnx_quantized import ours, quantized_file
from theirs import run
from torch import nn

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.quant.sqnr import report


def up(cin, cout, k, s, padding=0, **fields):
    return nn.ConvTranspose2d(cin, cout, k, s, padding, **fields)


NETS = {
    "2x2 s2": [conv(3, 4), up(4, 6, 2, 2)],
    "4x4 s2": [conv(3, 4), up(4, 6, 4, 2, 1)],
    "3x3 s2": [conv(3, 4), up(4, 6, 3, 2, 1, output_padding=1)],
    "normalised": [conv(3, 4), up(4, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 3)],
    "hard swish": [conv(3, 4), up(4, 6, 3, 2), nn.Hardswish()],
    "by groups": [conv(3, 4), up(4, 6, 4, 2, 1, groups=2)],
    "2x2 by groups": [conv(3, 4), up(4, 6, 2, 2, groups=2)],
    "of each channel": [conv(3, 4), up(4, 4, (3, 4), (2, 2), 1, groups=4), nn.ReLU6()],
    "stride 1": [conv(3, 4), up(4, 6, 3, 1, 1)],
    "uneven": [conv(3, 4), up(4, 5, (5, 2), (3, 1), (1, 0), output_padding=(2, 0))],
    "stride above the kernel": [conv(3, 4), up(4, 5, (2, 1), (3, 2))],
    "dilated": [conv(3, 4), up(4, 5, (3, 2), (2, 3), (2, 1), dilation=(3, 2))],
    "all cut": [conv(3, 4), up(4, 5, 2, 2, 2)],
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_torch_export(name, tmp_path):
    model = assert_imported(export(nn.Sequential(*NETS[name]), tmp_path / "m.onnx"))
    assert_imported(save_onnx(model, tmp_path / "again.onnx"))


def test_no_zero_is_multiplied(tmp_path):
    """Sixteen taps for each position of the input, and the clamp is the convolutions' own."""
    model = load_onnx(export(nn.Sequential(up(3, 5, 4, 2, 1), nn.ReLU()), tmp_path / "m.onnx"))
    assert model.graph.macs == 20 * 28 * 16 * 3 * 5
    assert [(op.kind, op.act) for op in model.graph.ops] == [("conv", "relu")] * 4 + [
        ("concat", None), ("depth_to_space", None)]  # fmt: skip
    model = load_onnx(export(nn.Sequential(up(3, 5, 2, 2), nn.ReLU()), tmp_path / "m.onnx"))
    assert [op.kind for op in model.graph.ops] == ["conv", "depth_to_space"]


@pytest.mark.parametrize("seed", range(40))
def test_random_ones(seed, tmp_path):
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2, 3]))
    c, cout = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    k, s, d = (rng.integers(1, most, 2).tolist() for most in (6, 5, 3))
    whole = [(k[i] - 1) * d[i] + 1 for i in (0, 1)]
    pads = [int(rng.integers(0, whole[i % 2])) for i in range(4)]
    fields = {"kernel_shape": k, "strides": s, "dilations": d, "group": groups, "pads": pads}
    added = [int(rng.integers(0, max(s[i], d[i]))) for i in (0, 1)]
    if seed % 3 == 0:
        fields["output_padding"] = added
    if seed % 5 == 1:
        fields["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        del fields["pads"]
        fields["dilations"] = [1, 1]
    weight = [constant("w", rng.normal(size=(c, cout // groups, *k)).astype(np.float32)),
              constant("b", rng.normal(size=cout).astype(np.float32))]  # fmt: skip
    onnx.save(small([helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], **fields)], weight, (1, c, 7, 9)),
              tmp_path / "m.onnx")  # fmt: skip
    try:
        theirs = run(onnx.load(tmp_path / "m.onnx"), np.zeros((1, c, 7, 9), np.float32))[0]
    except Exception:  # onnxruntime refuses it
        theirs = np.zeros((1, 0))
    if theirs.size:
        try:
            assert_imported(tmp_path / "m.onnx")
        except UnsupportedOp as error:
            assert "auto_pad" in fields and "cuts -" in str(error)


@pytest.mark.parametrize(
    "k, s, fields, message",
    [
        ((3, 3), (17, 16), {}, "stride .17, 16. makes 272 phases of the output, and up to 256 are known"),
        ((300, 1), (1, 1), {}, "windows up to .300, 1.: sides go to 255"),
        ((2, 2), (2, 2), {"output_shape": [40, 40]}, "cuts -.*positions off"),
        ((2, 2), (2, 2), {"pads": [9, 0, 9, 0]}, "cuts 9 and 9 of 16 positions off|not a valid ONNX"),
    ],
)
def test_refused_by_name(k, s, fields, message, tmp_path):
    weight = constant("w", np.zeros((3, 4, *k), np.float32))
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=list(s), **fields)
    onnx.save(small([node], [weight]), tmp_path / "m.onnx")
    with pytest.raises((GraphError, UnsupportedOp), match=message):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["2x2 s2", "4x4 s2", "normalised", "by groups", "of each channel", "uneven"])
def test_what_onnxruntime_quantises(name, tmp_path):
    form, activation, per_channel = FORMS["QDQ int8, per channel"]
    per_channel &= name != "by groups"  # which onnxruntime's quantiser cannot do a channel
    path = quantized_file(export(nn.Sequential(*NETS[name]), tmp_path / "m.onnx"), form, activation, per_channel)
    model = load_onnx(path)
    image = np.random.default_rng(5).random((1, 3, 20, 28), np.float32)
    (mine,), (theirs,), scale = ours(model, image), run(onnx.load(path), image), model.scales[model.graph.outputs[0]]
    assert np.abs(mine - counted_our_way(theirs)).max() / scale.scale <= 3.1


def test_left_in_float_it_is_refused(tmp_path):
    """onnxruntime's QOperator form leaves it so."""
    source = export(nn.Sequential(*NETS["4x4 s2"]), tmp_path / "m.onnx")
    path = quantized_file(source, QuantFormat.QOperator, QuantType.QUInt8, False)
    with pytest.raises(UnsupportedOp, match=r"ConvTranspose at '.*': is left in float between quantised layers"):
        load_onnx(path)


@pytest.mark.parametrize("name", ["4x4 s2", "normalised", "of each channel", "uneven"])
def test_calibrated_and_compiled(name, tmp_path):
    """The phases share a scale, patches give the bytes of the whole, and C those of the reference."""
    model = load_onnx(export(nn.Sequential(*NETS[name]), tmp_path / "m.onnx"))
    pictures = np.random.default_rng(0).integers(0, 256, (6, 20, 28, 3)).astype(np.uint8)
    int8 = calibrated(model, pictures)
    assert all(row.total > 25 for row in report(model, int8, pictures))
    for op in int8.graph.ops:
        if op.kind == "concat":
            assert len({int8.scales[n] for n in (op.name, *op.inputs)}) == 1
    again = load_onnx(save_onnx(int8, tmp_path / "int8.onnx"))
    image = (pictures[0].astype(int) - 128).astype(np.int8)
    (whole,) = reference.run(plan(int8.graph), int8, image).values()
    (other,) = reference.run(plan(again.graph), again, image).values()
    assert np.array_equal(whole, other)
    found = plan(int8.graph, Schedule((3, 2), len(int8.graph.ops)))
    (said,) = run_host(write_sources(found, int8, tmp_path / "c"), pictures[0])["outputs"]
    assert np.array_equal(said, whole.ravel())
