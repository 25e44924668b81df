"""PyTorch in one call: mcu.compile(module, samples, board=..., out=...), whose firmware answers as the module does."""

import copy
import functools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch_nets import NETS, Mobile, net

import nni_mcunet as mcu
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.lower import reference

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SHAPE = 3, 32, 24


def samples(n=24, shape=SHAPE, seed=1):
    """Smooth pictures as floats 0..1 of whole pixels."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, shape[0], 4, 3, generator=rng)
    found = nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return torch.round(255 * found) / 255


def db(wanted, found):
    """The SQNR of an answer."""
    wanted, found = np.asarray(wanted, float), np.asarray(found, float)
    return 10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum())


@functools.cache
def mobile():
    """The classifier, and what load() makes of it: to export it takes a second or two."""
    return net("mobile"), mcu.load(net("mobile"), size=SHAPE[1:])


def leaves(answer):
    return (
        list(answer.values()) if isinstance(answer, dict) else list(answer) if isinstance(answer, tuple) else [answer]
    )


@pytest.fixture(scope="module", params=NETS)
def compiled(request, tmp_path_factory):
    module, out = net(request.param), tmp_path_factory.mktemp(request.param) / "fw"
    return module, mcu.compile(module, samples(), board="stm32f412", out=out)


def test_the_firmware_answers_as_the_module(compiled):
    module, fw = compiled
    for x in samples(3, seed=2):
        with torch.no_grad():
            answer = leaves(module(x[None]))
        run = fw.run(x)
        assert [v.shape for v in run.named.values()] == [tuple(a.shape) for a in answer]
        assert all(v.dtype == np.float32 for v in run.named.values())
        for wanted, found in zip(answer, run.named.values(), strict=True):
            assert db(wanted, found) > 18, (db(wanted, found), wanted, found)
        q = np.moveaxis(np.round(255 * x.numpy()) - 128, 0, -1).astype(np.int8)
        whole = reference.run(plan(fw.network.graph), fw.network.model, q)
        for name, q in zip(fw.network.graph.outputs, run.outputs, strict=True):
            assert np.array_equal(whole[name].reshape(-1), q)
    assert set(fw.sqnr) == set(run.named) and min(fw.sqnr.values()) > 18
    assert fw.plan.arena == fw.arena and "reads (byte - 0) / 255" in str(fw)
    for same in (
        x.numpy(),
        x[None],
        x[None].numpy().astype(np.float64),
        np.moveaxis(255 * x.numpy(), 0, -1).round().astype(np.uint8),
    ):
        assert all(map(np.array_equal, fw.run(same).outputs, run.outputs))


def test_outputs_and_layers_have_the_module_s_names(compiled):
    module, fw = compiled
    kind = type(module).__name__
    assert fw.network.graph.name == kind == fw.network.source
    assert list(fw.run(samples(1)[0]).named) == {
        "Mobile": ["classifier_1"], "Heads": ["fine", "coarse"], "Residual": ["fc", "tanh"]
    }[kind]  # fmt: skip
    names = {op.name for op in fw.network.graph.ops}
    assert (
        names
        >= {
            "Mobile": {"stem_0", "features_0_dw_0", "features_1_se_excite", "classifier_1"},
            "Heads": {"low_0", "high_0", "fine"},
            "Residual": {"conv1", "conv2", "fc"},
        }[kind]
    )


def test_the_module_stays_as_it_was(tmp_path, capfd):
    module = net("mobile")
    module.stem[1].train()
    module.classifier[0].train()
    module.classifier[1].weight.grad = torch.ones(5, 12)
    module.stem[0].weight.requires_grad_(False)
    before = copy.deepcopy(module)
    with pytest.warns(UserWarning, match="Mobile is in training mode: compiled as in eval mode"):
        fw = mcu.compile(module, samples(), board="stm32f412", out=tmp_path / "fw")
    for (name, part), old in zip(module.named_modules(), before.modules(), strict=True):
        assert part.training == old.training == (name in ("stem.1", "classifier.0"))
    for (name, p), old in zip(module.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(p, old) and p.requires_grad == old.requires_grad and p.device == old.device, name
    assert torch.equal(module.classifier[1].weight.grad, torch.ones(5, 12)) and module.classifier[1].bias.grad is None
    assert all(map(torch.equal, module.buffers(), before.buffers()))
    assert capfd.readouterr().out == ""
    evaluated = mcu.quantize(mobile()[1], samples())
    assert fw.network.model.scales == evaluated.model.scales
    assert mcu.quantize(net("mobile").double(), samples().double()).model.scales == evaluated.model.scales


class Normalised(nn.Module):
    """A module that reads what another one reads, times std plus mean."""

    def __init__(self, module, mean, std):
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) / 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) / 255)

    def forward(self, x):
        return self.module(x * self.std + self.mean)


def normalised(x, mean=MEAN, std=STD):
    return (255 * x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


@pytest.mark.parametrize("bgr", [False, True])
def test_mean_and_std_say_how_floats_come_from_pixels(bgr, tmp_path):
    """bgr: the first channel that the module reads is the picture's last."""
    module = net("mobile") if bgr else Normalised(net("mobile"), MEAN, STD).eval()
    x = samples()
    eaten = normalised(x)
    fw = mcu.compile(module, eaten, board="stm32f412", out=tmp_path / "fw", mean=MEAN, std=STD, bgr=bgr)
    run = fw.run(eaten[0])
    picture = np.moveaxis(np.round(255 * x[0].numpy()).astype(np.uint8), 0, -1)
    picture = np.ascontiguousarray(picture[..., ::-1]) if bgr else picture
    assert np.array_equal(fw.run(picture).outputs[0], run.outputs[0])
    with torch.no_grad():
        assert db(module(eaten[:1]), next(iter(run.named.values()))) > 18
    assert f"reads (byte - {MEAN}) / {STD}" in str(fw) and ("in BGR" in str(fw)) == bgr


def test_samples_of_every_kind(tmp_path):
    module, x = mobile()[0], samples(6)
    pictures = np.moveaxis(np.round(255 * x.numpy()).astype(np.uint8), 1, -1)
    (tmp_path / "photos").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"photos/{i}.png")
    labelled = torch.utils.data.TensorDataset(x, torch.zeros(6))
    kinds = {
        "tensor": x, "array": x.numpy(), "list": list(x), "batches": [x[:4], x[4:]], "generator": (a for a in x),
        "pictures": pictures, "bytes": torch.round(255 * x).to(torch.uint8), "dataset": labelled,
        "loader": torch.utils.data.DataLoader(labelled, batch_size=4), "pairs": [(a, 0) for a in x],
        "folder": tmp_path / "photos", "files": sorted((tmp_path / "photos").iterdir()),
    }  # fmt: skip
    loaded = mobile()[1]
    first = mcu.quantize(loaded, x, method="minmax")
    for kind, given in kinds.items():
        found = mcu.quantize(loaded, given, method="minmax")
        assert found.model.scales == first.model.scales and found.pictures == 6, kind
    assert mcu.quantize(loaded, x, images=3).pictures == 3
    assert mcu.quantize(loaded, kinds["loader"], images=5).pictures == 5
    for kind in ("bytes", "loader", "folder"):  # whose first says what the module reads, or does not
        size = SHAPE[1:] if kind == "folder" else None
        assert mcu.quantize(module, kinds[kind], size=size, method="minmax").model.scales == first.model.scales


def test_load_and_profile_a_module():
    grey = mcu.load(net("mobile", channels=1), size=(32, 24))
    assert grey.kind == "float" and grey.image == (32, 24, 1) and "Mobile (float): 32x24x1" in str(grey)
    assert "peak" in str(mcu.profile(grey, board="stm32f412"))
    program = torch.export.export(mobile()[0], (torch.zeros(1, *SHAPE),))
    assert mcu.load(program).graph.ops == mobile()[1].graph.ops


class Branch(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Bessel(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)


class Cumulative(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 1)


class Two(nn.Module):
    def forward(self, left, right):
        return left + right


class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.conv(x), "text"


def around(module):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(nn.ReLU(), module))


class State(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.conv, self.state = nn.Conv1d(3, 4, 3), kind(4, 5, batch_first=True)

    def forward(self, x):
        return self.state(self.conv(x).transpose(1, 2))[0]


class Historic(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.kept = self.conv.weight * 2

    def forward(self, x):
        return self.conv(x)


X = samples(4)
REFUSED = {
    "a branch": (around(Branch()), X, {}, r"at '1\.1' \(test_modules\.py, line \d+: return x if x\.sum.*take"),
    "no ONNX": (around(Bessel()), X, {}, r"bessel_j0 at '1\.1' has no counterpart in ONNX"),
    "no kernel": (around(Cumulative()), X, {}, r"CumSum at '1\.1\.cumsum'"),
    "a GRU": (State(nn.GRU), torch.rand(4, 3, 9), {}, "State: GRU at 'state' keeps a state .* end the network before"),
    "an LSTM first": (nn.LSTM(8, 4), X, {}, "LSTM keeps a state"),
    "two inputs": (Two(), X, {}, r"Two\.forward reads left, right: expected one tensor"),
    "text": (Text(), X, {}, "Text returns more than tensors"),
    "channels": (around(nn.Identity()), X[:, :1], {}, r"at '0'.*input of \(1, 1, 32, 24\): .*to have 3 channels"),
    "a history": (Historic(), X, {}, "Historic cannot be copied"),
    "no samples": (net("mobile"), None, {}, "which picture does Mobile read"),
    "no size": (net("mobile"), "photos", {}, r"which picture does Mobile read\? Give samples, or size"),
    "only a size": (mobile, None, {}, "Mobile is float: .* or give samples"),
    "rows": (net("mobile"), torch.zeros(5, 8), {}, "compiled for pictures"),
    "words": (mobile, ["a", 3], {}, "no such file: a"),
    "a number": (net("mobile"), 3, {}, "pictures is 3"),
    "-1..1": (mobile, 2 * X - 1, {}, r"pixels -2\d\d\.\.2\d\d,.*mean=127\.5, std=127\.5 for -1\.\.1"),
    "0..255": (mobile, 255 * X, {}, r"mean=0, std=1 for 0\.\.255"),
    "others": (mobile, 9 * X, {"mean": 0, "std": 60}, "give the mean and std with which the samples were made"),
    "not finite": (mobile, X / 0, {}, "not finite"),
    "torchvision's": (mobile, X, {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
                      r"give mean=\[123\.675, 116\.28, 103\.53\], std=\[58\.395, 57\.12, 57\.375\]"),
    "two means": (mobile, X, {"mean": [1, 2], "std": 9}, "has 2 numbers"),
    "two sizes": (mobile, [X[0], X[0, :, :8]], {}, r"a sample of \(3, 8, 24\).*reads \(3, 32, 24\)"),
    "no board": (mobile, X, {"board": None}, "board is missing"),
    "no out": (mobile, X, {"out": None}, "out is missing"),
}  # fmt: skip


def test_a_module_of_vectors(tmp_path):
    """Samples (n, features), or (features,) each; and the exported program of the same."""
    torch.manual_seed(0)
    module, given = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), torch.rand(8, 20)
    program = torch.export.export(module, (given[:1],))
    for source, some in ((module, given), (module, list(given)), (program, given)):
        fw = mcu.compile(source, some, board="stm32f412", out=tmp_path / "fw")
        with torch.no_grad():
            want = module(given[:1]).numpy()
        for one in (given[0], given[:1]):
            (got,) = fw.run(one).named.values()
            assert got.shape == (1, 3) and np.abs(got - want).max() < 0.02
    bytes_ = fw.run((given[0].numpy() * 255).round().astype(np.uint8))
    assert np.array_equal(bytes_.outputs[0], fw.run(given[0]).outputs[0])
    assert mcu.load(module, size=(1, 1)).image == (1, 1, 20)


def test_a_state_behind_the_end_is_none(tmp_path):
    fw = mcu.compile(
        State(nn.GRU).eval(), torch.rand(4, 3, 9), board="stm32f412", out=tmp_path / "fw", outputs=["conv"]
    )
    assert fw.network.graph.outputs == ("conv",)


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what, tmp_path, monkeypatch, capfd):
    module, given, more, words = REFUSED[what]
    module = mobile()[1] if module is mobile else module.eval()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mcu.UserError, match=words) as caught:
        mcu.compile(module, given, **{"board": "stm32f412", "out": "fw"} | more)
    said = capfd.readouterr()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000 and not (tmp_path / "fw").exists()
    assert said.out == "" and "torch" not in said.err


def test_the_int8_network_s_call_keeps_its_places(tmp_path):
    """board and out come first where there are no samples to give."""
    int8 = mcu.quantize(mobile()[1], X)
    fw = mcu.compile(int8, "stm32f412", tmp_path / "a")
    assert mcu.compile(int8, "F412", out=tmp_path / "b").facts == fw.facts
    assert mcu.compile(int8, board=fw.board, out=tmp_path / "c").facts == fw.facts
    assert mcu.compile(net("mobile"), X, "stm32f412", tmp_path / "d").facts == fw.facts
    path = int8.save(tmp_path / "model.int8.onnx")
    again = mcu.compile(path, "stm32f412", tmp_path / "e")
    assert all(map(np.array_equal, again.run(X[0]).outputs, fw.run(X[0]).outputs))
    assert again.run(X[0]).named["classifier_1"].shape == (1, 1, 5)
    with pytest.raises(mcu.UserError, match=r"Mobile is int8 already, and its channels .* leave out bgr"):
        mcu.compile(int8, board="F412", out=tmp_path / "f", bgr=True)
    with pytest.raises(mcu.UserError, match="--mean and --std make -1 to 1 of a picture, and the file's input holds 0"):
        mcu.compile(path, board="F412", out=tmp_path / "f", mean=127.5, std=127.5)


def test_a_float_file_takes_samples_too(tmp_path):
    float32 = mobile()[1]
    path = float32.save(tmp_path / "model.onnx")
    fw = mcu.compile(path, X, board="stm32f412", out=tmp_path / "fw")
    assert fw.network.model.scales == mcu.quantize(float32, X).model.scales and fw.sqnr
    with torch.no_grad():
        assert db(net("mobile")(X[:1]), fw.run(X[0]).named["classifier_1"]) > 15


def test_without_onnxscript_one_line_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(mcu.UserError, match="pip install onnxscript"):
        mcu.load(Mobile().eval(), size=(32, 24))
