"""mmdet's commands: our tools with its flags, several processes, a run that was killed, and its own tools."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import detection

# isort: split
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config

from detection import latest_checkpoint, load_config
from detection.mmdet_tools import find_tool, with_config
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block

DIGITS = "configs/det/yolov3_digits.py"


def start(*command) -> subprocess.Popen:
    env = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return subprocess.Popen([str(c) for c in command], cwd=ROOT, env=env, text=True, **pipes)


def run(*command, expect: int = 0) -> str:
    process = start(*command)
    text = process.communicate(timeout=600)[0]
    assert process.returncode == expect, text[-4000:]
    return text


def python(*command, expect: int = 0) -> str:
    return run(sys.executable, *command, expect=expect)


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list:
    """A small network and 64 pictures: what --cfg-options needs for a run of seconds."""
    folder = tmp_path_factory.mktemp("digits")
    python("tools/make_digits.py", "--out", folder, "--train", 64, "--val", 16, "--size", 96)
    blocks = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),), (Block(3, 2, 72, 40),),
              (Block(3, 1, 120, 48),))  # fmt: skip
    arch = ArchSpec("small_r96", 96, 16, blocks).save(folder / "arch.json")
    data = [f"{loader}_dataloader.dataset.data_root={folder}" for loader in ("train", "val", "test")]
    return ["--cfg-options", f"model.backbone.arch={arch}", "train_dataloader.batch_size=16", *data]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--amp"], "there is no GPU here"),
        (["--auto-scale-lr", "auto_scale_lr.base_batch_size=0"], "base_batch_size"),
    ],
)
def test_flags_that_cannot_be_met_are_one_line(flags, message, options, tmp_path):
    if "--amp" in flags and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    text = python("tools/train.py", DIGITS, "--work-dir", tmp_path / "w", flags[0], *options, *flags[1:], expect=2)
    assert message in text.splitlines()[-1] and "Traceback" not in text


def test_hooks_and_tensorboard_by_options(options, tmp_path):
    """EMA, pictures of detections, TensorBoard and the scaled learning rate, without a config of one's own."""
    text = python(
        "tools/train.py", DIGITS, "--work-dir", tmp_path, "--auto-scale-lr", *options,
        "train_cfg.max_epochs=1", "train_cfg.val_interval=1", "default_hooks.ema.type=EMAHook",
        "default_hooks.visualization.draw=True", "default_hooks.visualization.interval=1",
        "visualizer.vis_backends.0.type=TensorboardVisBackend", "auto_scale_lr.base_batch_size=32",
    )  # fmt: skip
    assert "64 pictures" in text and "nothing amiss" in text
    assert "epoch 1 of 1: pascal_voc/mAP " in text and "mmengine" not in text and "Hooks will be" not in text
    (log,) = tmp_path.glob("*/*.log")
    assert "LR is set based on batch size of 32" in log.read_text() and "Hooks will be" in log.read_text()
    assert list(tmp_path.rglob("events.out.tfevents.*"))
    saved = detection.load_from_local(tmp_path / "last.pth")
    assert "ema_state_dict" in saved
    weights = [saved[key][f"{prefix}backbone.layers.stem.conv.weight"]
               for key, prefix in (("state_dict", ""), ("ema_state_dict", "module."))]  # fmt: skip
    assert not torch.equal(*weights)


def plain_config(folder: Path) -> Path:
    """The digits without random pictures: what a resumed run cannot repeat is the state of the workers' generators."""
    path = folder / "plain.py"
    path.write_text(f"""
_base_ = "{ROOT / DIGITS}"
train_dataloader = dict(dataset=dict(pipeline=[
    dict(type="LoadPicture"), dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(96, 96), keep_ratio=False), dict(type="PackDetInputs")]))
default_hooks = dict(checkpoint=dict(interval=1))
train_cfg = dict(max_epochs=6, val_interval=100)
""")
    return path


def test_the_newest_whole_checkpoint(tmp_path):
    """A kill leaves mmengine's files half written: what is passed over is what does not load."""
    assert latest_checkpoint(tmp_path) is None
    for epoch in (2, 9, 10):
        torch.save({"meta": {"epoch": epoch}}, tmp_path / f"epoch_{epoch}.pth")
        os.utime(tmp_path / f"epoch_{epoch}.pth", (epoch, epoch))
    torch.save({}, tmp_path / "last.pth")
    (tmp_path / "last_checkpoint").write_text("")
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch_10.pth"
    whole = (tmp_path / "epoch_10.pth").read_bytes()
    (tmp_path / "epoch_10.pth").write_bytes(whole[: len(whole) // 2])
    assert latest_checkpoint(tmp_path) == tmp_path / "epoch_9.pth"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(options, tmp_path):
    command = [sys.executable, "tools/train.py", plain_config(tmp_path), *options, "--work-dir"]
    run(*command, tmp_path / "whole")
    process = start(*command, tmp_path / "killed")
    while not (tmp_path / "killed/epoch_2.pth").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed/last.pth").exists()
    text = run(*command, tmp_path / "killed", "--resume")
    assert re.search(r"goes on behind epoch [1-5] of 6", text)
    whole, killed = (detection.load_from_local(tmp_path / name / "last.pth") for name in ("whole", "killed"))
    assert killed["meta"]["epoch"] == 6
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, killed["state_dict"][name]), name


@pytest.mark.slow
def test_two_processes(options, tmp_path):
    """Over gloo where there is no GPU: each takes half of the pictures, and one of them writes."""
    text = run("tools/dist_train.sh", DIGITS, 2, "--work-dir", tmp_path, *options, "train_cfg.max_epochs=1",
               "train_cfg.val_interval=1", "--verbose")  # fmt: skip
    assert "Distributed training: True" in text and "GPU number: 2" in text
    assert re.search(r"Epoch\(train\) +\[1\]\[2/2\]", text)  # 64 pictures, 16 at a time, 2 processes
    one = python("tools/test.py", DIGITS, tmp_path / "last.pth", "--work-dir", tmp_path / "one", *options)
    assert "pascal_voc/mAP" in one


@pytest.mark.slow
def test_mmdets_own_tools(options, tmp_path):
    tool = [sys.executable, "-m", "detection.mmdet_tools"]
    run(*tool, "train", DIGITS, "--work-dir", tmp_path, *options, "train_cfg.max_epochs=1")
    flags = ["--work-dir", tmp_path, "--tta", "--show-dir", "show", "--out", tmp_path / "found.pkl"]
    text = run(*tool, "test", DIGITS, tmp_path / "epoch_1.pth", *flags, *options)
    assert "pascal_voc/mAP" in text and (tmp_path / "found.pkl").exists()
    assert len(list(tmp_path.glob("*/show/*.jpg"))) == 16
    run(*tool, "browse_dataset", DIGITS, "--not-show", "--output-dir", tmp_path / "seen", *options)
    assert len(list((tmp_path / "seen").glob("*.jpg"))) == 64
    log = next(tmp_path.glob("*/vis_data/scalars.json"))
    run(*tool, "analyze_logs", "plot_curve", log, "--keys", "loss", "--out", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_config_for_mmdets_tools_is_whole(tmp_path, monkeypatch):
    """The plug-in's part is done: mmengine without it reads the same config out of it."""
    monkeypatch.chdir(ROOT)
    arguments = [DIGITS, "x.pth", "--cfg-options", "model.backbone.arch=configs/arch/mcu_w50_r160.json", "--tta"]
    path, *rest = with_config(arguments, tmp_path)
    assert rest == arguments[1:] and Path(path).name == "yolov3_digits.py"
    config = Config.fromfile(path)
    resizes = [step["scale"] for step in config.test_dataloader.dataset.pipeline if step["type"] == "Resize"]
    assert resizes == [(160, 160)] and config.work_dir == "work_dirs/yolov3_digits"
    assert with_config(["plot_curve", "log.json"], tmp_path) == ["plot_curve", "log.json"]
    assert "/mot/" not in str(find_tool("browse_dataset"))
    with pytest.raises(UserError, match=r"no tool 'trian'; it has .*train"):
        find_tool("trian")


def test_mim_finds_tools_and_configs():
    """`mim train nni_mcunet yolov3_bccd.py` runs PACKAGE/.mim/tools/train.py on a config below PACKAGE/.mim/configs."""
    package = ROOT / "nni_mcunet/.mim"
    assert (package / "tools/train.py").is_file() and (package / DIGITS).is_file()


def test_an_installed_config_finds_its_architecture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not in the repository
    config = load_config(ROOT / DIGITS)
    assert json.loads(Path(config.model.backbone.arch).read_text())["name"] == "mcu_w50_r128"
