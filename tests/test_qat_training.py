"""Quantisation-aware training as a user has it: a classifier by finetune, a detector by a hook in its config; and that
it repairs what quantisation breaks."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits
from test_testing import tool as run_tool
from torch.nn import functional as F

from detection import load_detector, load_from_local
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.qat import OBSERVE, fake_quantize, freeze, learnt_ranges, learnt_weights
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model, Scale
from nni_mcunet.engine.quant.ort_session import to_input
from nni_mcunet.engine.quant.post_training import calibrated, learnt
from nni_mcunet.search.data import open_data
from nni_mcunet.search.supernet.fit import Recipe, load_checkpoint
from nni_mcunet.search.supernet.training import finetune, load_weights

BLOCKS = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16), Block(5, 1, 32, 16)), (Block(3, 2, 48, 24),))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's: uint8 (1797, 8, 8, 3) and labels; the first 1,200 are for training."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    pictures = (data.images[order] * (255 / 16)).round().astype(np.uint8)
    return pictures[..., None].repeat(3, -1), torch.from_numpy(data.target[order])


def learn(net: Net, digits, steps: int, freeze_at: int | None = None, lr: float = 0.01) -> Net:
    pictures, labels = digits
    optimizer, rng = torch.optim.Adam(net.parameters(), lr), np.random.default_rng(1)
    net.train()
    for step in range(steps):
        if step == freeze_at:
            freeze(net)
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        batch = rng.integers(0, 1200, 64)
        loss = F.cross_entropy(net(torch.from_numpy(to_input(pictures[batch])))[0].flatten(1), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def test_training_repairs_what_quantisation_breaks(digits):
    """Channels of very unlike ranges in one tensor, which no calibration helps by itself: a network with the float
    one's accuracy is there, and training finds it."""
    chain = (("a", 16, 1, 1), ("b", 16, 16, 1), ("c", 24, 1, 1), ("d", 24, 24, 2), ("e", 32, 1, 1))
    ops, last = [], "image"
    for name, cout, groups, stride in chain:
        k = 1 if name in "ce" else 3
        ops.append(Op(name, "conv", (last,), cout, (k, k), (stride,) * 2, (k // 2,) * 4, groups, "relu", norm=True))
        last = name
    ops += [Op("pool", "gap", ("e",), 32), Op("fc", "conv", ("pool",), 10)]
    graph = Graph("digits", (Tensor("image", 8, 8, 3),), tuple(ops), ("fc",)).verify()
    torch.manual_seed(0)
    net, rng = learn(Net(graph), digits, 150), np.random.default_rng(0)
    with torch.no_grad():
        for one, after in zip("abcd", "bcde", strict=True):
            bn, weight = net.layers[one].bn, net.layers[after].conv.weight
            factor = torch.from_numpy(np.exp(rng.uniform(-3, 3, len(bn.weight)))).float()
            bn.weight.mul_(factor), bn.bias.mul_(factor)
            weight.div_(factor[:, None, None, None] if after in "bd" else factor[:, None, None])
    pictures, labels = digits[0][1200:1500], digits[1][1200:1500].numpy()

    def accuracy(model) -> float:
        whole, inputs = plan(model.graph), (pictures.astype(int) - 128).astype(np.int8)
        found = [reference.run(whole, model, x)["fc"].argmax() for x in inputs]
        return float((np.array(found) == labels).mean())

    with torch.no_grad():
        wanted = float((net(torch.from_numpy(to_input(pictures)))[0].flatten(1).argmax(1).numpy() == labels).mean())
    model = Model(graph.folded(), net.folded_weights())
    without = accuracy(calibrated(model, digits[0][:64], equalize=False))
    fake_quantize(net)
    state = learn(net, digits, 120, freeze_at=100).state_dict()
    trained = accuracy(learnt(model, learnt_weights(state), learnt_ranges(state)))
    assert wanted > 0.9 and without < wanted - 0.1 and trained > wanted - 0.03, (wanted, without, trained)


@pytest.fixture
def tool(monkeypatch, capsys):
    """tool(name, *arguments): run tools/NAME.py here; what it wrote on stderr when it is expected to end with 2."""
    monkeypatch.chdir(ROOT)

    def tool(name, *arguments, expect=0):
        run_tool(monkeypatch, name, *arguments, expect=expect)
        return capsys.readouterr().err

    return tool


# --- classifiers: tools/finetune.py --qat

DATA = {"kind": "digits", "held_out": 20, "test": 20, "calibration": [2, 32]}


def test_finetuning_resumes_exactly(tmp_path):
    spec = ArchSpec("tiny_r32", 32, 8, BLOCKS, head=32, classes=10)
    torch.manual_seed(0)
    net = Net(build_graph(spec))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    recipe, data = Recipe(largest=OBSERVE + 8, shared=0, batch=8, lr=0.02), open_data(DATA)

    def tuned(path, progress=None):
        return finetune(spec, load_weights(spec, tmp_path / "net.pth"), recipe, data, path, 1, progress, qat=True)

    def killed(step, loss):
        if step == killed.at:
            raise KeyboardInterrupt

    whole = tuned(tmp_path / "a.ckpt").state_dict()
    for killed.at in (5, OBSERVE + 2, recipe.steps - 1):  # observing, simulating, frozen
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "b.ckpt", killed)
    assert load_checkpoint(tmp_path / "b.ckpt")["step"] == killed.at - 1
    again = tuned(tmp_path / "b.ckpt").state_dict()
    assert whole["quant.frozen"] and all(torch.equal(value, again[key]) for key, value in whole.items())
    torch.save(whole, tmp_path / "qat.pth")
    assert load_weights(spec, tmp_path / "qat.pth").eval().quant.active
    with pytest.raises(UserError, match="another"):
        finetune(spec, load_weights(spec, tmp_path / "net.pth"), recipe, data, tmp_path / "b.ckpt")
    for change, message in (
        ({"amp": True}, "half precision"),
        ({"largest": 5}, "5 steps are too few.*give --steps 40 or more"),
    ):
        with pytest.raises(UserError, match=message):
            finetune(spec, net, replace(recipe, **change), data, tmp_path / "c.ckpt", qat=True)


def test_a_classifier_from_the_command_line(tmp_path, tool):
    """finetune --qat, export, quantize --qat: the int8 file has what was learnt."""
    spec = ArchSpec("tiny_r32", 32, 8, BLOCKS, head=32, classes=10)
    spec.save(tmp_path / "arch.json")
    torch.save(Net(build_graph(spec)).state_dict(), tmp_path / "net.pth")
    data = "{kind: digits, held_out: 20, test: 20, calibration: [1, 8]}"
    tool(
        "finetune",
        tmp_path / "arch.json",
        tmp_path / "net.pth",
        "--qat",
        "--steps",
        OBSERVE + 6,
        "--batch",
        8,
        "--data",
        data,
    )
    state = load_from_local(tmp_path / "net_qat.pth", "cpu")
    tool("export", tmp_path / "arch.json", tmp_path / "net_qat.pth", "-o", tmp_path / "m.onnx")
    tool("quantize", tmp_path / "m.onnx", "--qat", tmp_path / "net_qat.pth", "-o", tmp_path / "m.int8.onnx")
    model, quant = load_onnx(tmp_path / "m.int8.onnx"), load_weights(spec, tmp_path / "net_qat.pth").quant
    for name in learnt_ranges(state):
        scale, zero_point = quant.scale(name)
        assert model.scales[name] == Scale(scale.item(), zero_point.item())
    error = tool("quantize", tmp_path / "m.onnx", "--qat", tmp_path / "net.pth", "-o", tmp_path / "x.onnx", expect=2)
    assert "no range of 'stem': it is not of quantisation-aware training" in error


# --- detectors: QATHook in a config

FLOAT = "configs/det/yolov3_digits.py"


@pytest.fixture
def work(tmp_path, tool):
    """Scenes of digits, a random float detector float.pth, and qat.py: a config without random pictures, 4 batches an
    epoch, frozen in the last of 6."""
    tool("make_digits", "--out", tmp_path / "digits", "--train", 32, "--val", 6, "--size", 64)
    blocks = (*BLOCKS, (Block(3, 2, 72, 40),), (Block(3, 1, 120, 48),))
    arch = ArchSpec("test_r64", 64, 8, blocks).save(tmp_path / "arch.json")
    torch.manual_seed(0)
    model = load_detector(FLOAT, options={"model.backbone.arch": str(arch)})
    torch.save({"state_dict": model.state_dict()}, tmp_path / "float.pth")
    loaders = "\n".join(
        f"{name}_dataloader = dict(num_workers=0, persistent_workers=False, batch_size=8, "
        f"dataset=dict(data_root={str(tmp_path / 'digits')!r}{more}))"
        for name, more in (("train", ", pipeline=pipeline"), ("val", ""), ("test", ""))
    )
    (tmp_path / "float.py").write_text(f"""
_base_ = {str(ROOT / FLOAT)!r}
model = dict(backbone=dict(arch={str(arch)!r}))
pipeline = [dict(type="LoadPicture"), dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(64, 64), keep_ratio=False), dict(type="PackDetInputs")]
{loaders}
""")
    (tmp_path / "qat.py").write_text("""
_base_ = "./float.py"
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=9))
train_cfg = dict(max_epochs=6, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=0.0003))
custom_hooks = [dict(type="QATHook", freeze_epoch=5, outputs=(-6, 6))]
""")
    return tmp_path


def state(path: Path) -> dict[str, torch.Tensor]:
    return load_from_local(path, "cpu")["state_dict"]


@pytest.mark.slow
def test_a_detector_is_trained_tested_and_deployed(work, tool):
    """Statistics and ranges stand still from the epoch on; a resumed run ends in the same bits; all tools use what the
    checkpoint has learnt."""
    tool("train", work / "qat.py", "--work-dir", work / "whole", "--cfg-options", f"load_from={work / 'float.pth'}")
    last, before, frozen = (state(work / f"whole/{name}.pth") for name in ("last", "epoch_4", "epoch_5"))
    still = [key for key in last if key.endswith(("running_mean", "running_var")) or "quant." in key]
    assert all(torch.equal(last[key], frozen[key]) for key in still if not key.endswith("frozen"))
    assert any(not torch.equal(before[key], frozen[key]) for key in still)
    assert not torch.equal(last["neck.layers.neck1_lat.conv.weight"], frozen["neck.layers.neck1_lat.conv.weight"])
    assert last["backbone.quant.frozen"] and not frozen["backbone.quant.frozen"]
    assert last["bbox_head.net.quant.batches"] == 20 > OBSERVE

    resumed = work / "resumed"
    resumed.mkdir()
    shutil.copy(work / "whole/epoch_4.pth", resumed)
    tool("train", work / "qat.py", "--work-dir", resumed, "--resume", resumed / "epoch_4.pth")
    again = state(resumed / "last.pth")
    assert last.keys() == again.keys() and all(torch.equal(value, again[key]) for key, value in last.items())

    tool("export", work / "qat.py", work / "whole/last.pth", "-o", work / "m.onnx")
    tool("quantize", work / "m.onnx", "--qat", work / "whole/last.pth", "-o", work / "m.int8.onnx")
    from nni_mcunet.bridge import int8  # the way of `mcunet test` and `mcunet compare-boxes`

    model, other = load_onnx(work / "m.int8.onnx"), int8(work / "float.py", work / "whole/last.pth", None, 0)
    ranges = learnt_ranges(last)
    for op in model.graph.ops:
        assert model.scales[op.name] == other.scales[op.name]
        assert op.name not in ranges or model.scales[op.name] == Scale.of_range(*ranges[op.name])
    for name, ours in model.weights.items():
        assert all(np.array_equal(getattr(ours, of), getattr(other.weights[name], of)) for of in vars(ours))
    assert all(ranges[name][0] >= -6 and ranges[name][1] <= 6 for name in model.graph.outputs)
    found = []
    for config, backend in (("qat", "float"), ("float", "float"), ("float", "int8")):
        tool("test", work / f"{config}.py", work / "whole/last.pth", "--backend", backend,
             "--work-dir", work / "test", "--out-json", work / "found.json")  # fmt: skip
        found.append(json.loads((work / "found.json").read_text()))
    assert found[0] == found[1] and found[2].keys() == found[0].keys()


@pytest.mark.slow
def test_two_processes_and_averaged_weights(work):
    """Each process sees half of the pictures; what is saved has the ranges, of EMA's copy as well."""
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PORT": "29731"}
    options = [f"load_from={work / 'float.pth'}", "train_dataloader.batch_size=4", "default_hooks.ema.type=EMAHook"]
    command = ["tools/dist_train.sh", work / "qat.py", "2", "--work-dir", work / "two", "--cfg-options", *options]
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    saved = load_from_local(work / "two/last.pth", "cpu")
    ranges, copied = learnt_ranges(saved["state_dict"]), learnt_ranges(saved["ema_state_dict"])
    assert saved["state_dict"]["backbone.quant.frozen"] and saved["state_dict"]["backbone.quant.batches"] == 20
    assert ranges == copied and all(low < high for low, high in ranges.values())


def test_what_the_hook_refuses(work, tool):
    def refused(*options):
        command = ("train", work / "qat.py", "--work-dir", work / "w", "--cfg-options", *options)
        return tool(*command, expect=2)

    load = f"load_from={work / 'float.pth'}"
    assert "goes on from a trained float detector" in refused("randomness.seed=0")
    assert "freeze_epoch is 6: expected 1 to 5" in refused(load, "custom_hooks.0.freeze_epoch=6")
    assert "observed in the first 16" in refused(load, "custom_hooks.0.freeze_epoch=4")
    assert "does not hold the weights" in refused(load, "neck.width=16", "model.neck.width=16")
    assert "mean 0, std 255" in refused(load, "model.data_preprocessor.std=[1,1,1]")
