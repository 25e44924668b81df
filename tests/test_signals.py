"""Signals (1, channels, positions): what torch's one-dimensional layers export is read as maps of one row; and where a
module's outputs end and how they are counted."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from theirs import run
from torch import nn
from torch.nn import functional as F

import nni_mcunet as mcu
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.lower import reference


class Net(nn.Module):
    """Every operator that has a window."""

    def __init__(self, transposed=True):
        super().__init__()
        self.transposed = transposed
        torch.manual_seed(0)
        self.a, self.norm = nn.Conv1d(6, 8, 5, 2, 2), nn.BatchNorm1d(8)
        self.b, self.c = nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=8), nn.Conv1d(8, 12, 1)
        self.up, self.last = nn.ConvTranspose1d(12, 4, 4, 2, 1), nn.Linear(4, 5)
        nn.init.uniform_(self.norm.running_var, 0.5, 2)

    def forward(self, x):
        x = F.avg_pool1d(torch.max_pool1d(torch.relu(self.norm(self.a(x))), 2), 3, 1, 1)
        x = F.interpolate(self.c(torch.relu(self.b(F.pad(x, (1, 0))))), scale_factor=2)
        if not self.transposed:  # which QOperator files leave in floats
            return x
        return self.last(F.adaptive_avg_pool1d(y := self.up(x), 1).flatten(1)), y


def exported(path, opset=17, transposed=True):
    torch.onnx.export(
        Net(transposed).eval(), (torch.zeros(1, 6, 64),), path, dynamo=False, opset_version=opset, input_names=["x"]
    )
    return path


@pytest.mark.parametrize("opset", [9, 11, 17])
def test_a_signal_is_a_map_of_one_row(opset, tmp_path):
    model, x = load_onnx(exported(tmp_path / "m.onnx", opset)), np.random.default_rng(0).normal(size=(1, 6, 64))
    session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    found = session.run(None, {model.graph.inputs[0].name: x.astype(np.float32)[:, :, None]})
    with torch.no_grad():
        for got, want in zip(found, Net().eval()(torch.tensor(x).float()), strict=True):
            np.testing.assert_allclose(got.ravel(), want.numpy().ravel(), atol=1e-5)


def test_what_onnxruntime_quantises(tmp_path):
    """Each output within two steps nearly everywhere."""
    given = [np.random.default_rng(seed).normal(size=(1, 6, 64)).astype(np.float32) for seed in range(4)]
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        path = tmp_path / "m.onnx"
        source = exported(tmp_path / "float.onnx", transposed=form is QuantFormat.QDQ)
        quantize_static(source, path, Samples(given), quant_format=form, per_channel=True)
        model, theirs = load_onnx(path), run(path, given[0])
        image = model.scales[model.graph.inputs[0].name].quantize(given[0].transpose(0, 2, 1))
        ours = reference.run(plan(model.graph), model, image)
        for name, want in zip(model.graph.outputs, theirs, strict=True):
            got = model.scales[name].dequantize(ours[name])[0].T
            steps = np.abs(got - want.reshape(got.shape)) / model.scales[name].scale
            assert (steps <= 2.1).mean() > 0.99 and steps.mean() < 0.5, (name, steps.max(), steps.mean())


class Samples(CalibrationDataReader):
    def __init__(self, given):
        self.left = [{"x": one} for one in given]

    def get_next(self):
        return self.left.pop() if self.left else None


def test_a_module_of_signals(tmp_path):
    """Samples (n, channels, positions), and answers in the module's shapes."""
    torch.manual_seed(0)
    module, samples = (
        nn.Sequential(nn.Conv1d(6, 8, 5, 2, 2), nn.ReLU(), nn.Conv1d(8, 4, 3)).eval(),
        torch.rand(8, 6, 64),
    )
    fw = mcu.compile(module, samples, board="stm32f412", out=tmp_path / "fw")
    with torch.no_grad():
        want = module(samples[:1]).numpy()
    (got,) = fw.run(samples[0]).named.values()
    assert got.shape == want.shape and np.abs(got - want).max() < 0.02 * np.abs(want).max()
    assert np.array_equal(fw.run(samples[:1]).outputs[0], fw.run(samples[0, :, None]).outputs[0])
    assert mcu.load(module, size=(1, 64)).image == (1, 64, 6)


class Last(nn.Module):
    """A map with its channels last."""

    def __init__(self, channels):
        super().__init__()
        self.first, self.layer = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return self.layer(torch.relu(self.first(x))).permute(0, 2, 3, 1)


def test_channels_last_that_no_shape_tells(tmp_path):
    """(1, 4, 4, 4) may be either; what the shape tells is given in it."""
    samples = torch.rand(4, 3, 8, 8)
    with pytest.raises(
        mcu.UserError, match=r"output 'layer' of \[1, 4, 4, 4\] counts its channels last, which its shape"
    ):
        mcu.compile(Last(4).eval(), samples, board="stm32f412", out=tmp_path / "fw")
    module = Last(5).eval()
    fw = mcu.compile(module, samples, board="stm32f412", out=tmp_path / "fw")
    (got,) = fw.run(samples[0]).named.values()
    with torch.no_grad():
        np.testing.assert_allclose(got, module(samples[:1]).numpy(), atol=0.02)


class Column(nn.Module):
    """A signal whose positions are rows: (1, c, positions, 1)."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv1d(6, 4, 3), nn.Conv2d(4, 3, (3, 1))

    def forward(self, x):
        return self.last(self.conv(x)[..., None])


def test_a_column_comes_in_its_own_shape(tmp_path):
    module, samples = Column().eval(), torch.rand(4, 6, 16)
    fw = mcu.compile(module, samples, board="stm32f412", out=tmp_path / "fw")
    (got,) = fw.run(samples[0]).named.values()
    with torch.no_grad():
        np.testing.assert_allclose(got, module(samples[:1]).numpy(), atol=0.03)


def test_a_module_ends_at_a_layer(tmp_path):
    module, samples = Last(5).eval(), torch.rand(4, 3, 8, 8)
    fw = mcu.compile(module, samples, board="stm32f412", out=tmp_path / "fw", outputs=["first"])
    with torch.no_grad():
        want = module.first(samples[0]).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(fw.run(samples[0]).named["first"], want, atol=0.02)
    with pytest.raises(mcu.UserError, match="Last has no layer or tensor 'zzz' to end at; its last are"):
        mcu.load(module, size=(8, 8), outputs=["zzz"])
