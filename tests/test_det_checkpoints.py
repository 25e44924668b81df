"""Checkpoints: none runs code, wherever it comes from, and a training goes on from the one that it wrote last."""

import os
import pickle
import re
import shutil
import sys
import time
import types
import urllib.error
from argparse import Namespace
from pathlib import Path

import detection

# isort: split
import mmengine.runner.checkpoint as mmengines
import pytest
import torch
from conftest import ROOT
from mmengine.hub import get_model  # noqa: F401, mmengine's other door uses the same loaders
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from detection import check_resumable, latest_checkpoint, load_config, load_detector, load_from_local, read_checkpoint
from nni_mcunet.cli.main import main
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.search.supernet import fit
from nni_mcunet.search.supernet.training import load_weights

SPEC = mobilenet_v2(96, 0.35, 10)
DIGITS = "configs/det/yolov3_digits.py"
ADDRESSES = {
    "": "{file}",
    "http://": "http://example.org/w/{name}",
    "https://": "https://example.org/w/{name}",
    r"(\S+\:)?s3://": "s3://bucket/{name}",
    r"(\S+\:)?petrel://": "cluster:petrel://bucket/{name}",
    "pavi://": "pavi://models/{name}",
    "modelzoo://": "modelzoo://net",
    "torchvision://": "torchvision://net",
    "open-mmlab://": "open-mmlab://net",
    "openmmlab://": "openmmlab://net",
    "mmcls://": "mmcls://net",
}


class Payload:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """world(prefix, file) -> the address under which mmengine finds that file, everything fetched from this folder."""
    file = tmp_path / "served.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, to, *a, **k: shutil.copy(file, to))
    url = {"net": "https://example.org/zoo/served.pth"}
    for function in ("get_torchvision_models", "get_external_models", "get_mmcls_models"):
        monkeypatch.setattr(mmengines, function, lambda: url)
    monkeypatch.setattr(mmengines, "get_deprecated_model_names", dict)
    backend = types.SimpleNamespace(get=lambda path: file.read_bytes())
    monkeypatch.setattr(mmengines, "get_file_backend", lambda *a, **k: backend)
    cloud = types.SimpleNamespace(name="served.pth", download=lambda to: shutil.copy(file, to))
    pavi = types.ModuleType("pavi")
    pavi.modelcloud = types.SimpleNamespace(get=lambda path: cloud)
    monkeypatch.setitem(sys.modules, "pavi", pavi)
    return lambda prefix, content: (
        torch.save(content, file),
        ADDRESSES[prefix].format(file=file, name=file.name),
    )[1]


def test_every_prefix_is_known_here():
    assert ADDRESSES.keys() == CheckpointLoader._schemes.keys()


@pytest.mark.parametrize("prefix", ADDRESSES)
@pytest.mark.parametrize("door", ["ours", "mmengine's", "load_from", "init_cfg"])
def test_no_checkpoint_runs_code(prefix, door, world, tmp_path):
    """The payload stays asleep behind every prefix, and what is refused is one line."""
    address = world(prefix, {"state_dict": Payload(tmp_path / "ran")})
    doors = {
        "ours": lambda: read_checkpoint(address),
        "mmengine's": lambda: CheckpointLoader.load_checkpoint(address, map_location="cpu"),
        "load_from": lambda: load_checkpoint(torch.nn.Linear(1, 1), address),
        "init_cfg": lambda: BaseModule(dict(type="Pretrained", checkpoint=address)).init_weights(),
    }
    with pytest.raises(UserError, match="no checkpoint this project loads") as error:
        doors[door]()
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(error.value) and "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1" in str(error.value)
    assert "code that loading would run" in str(error.value) and "likely succeed" not in str(error.value)


@pytest.mark.parametrize("prefix", ADDRESSES)
def test_every_prefix_loads_mmengines_checkpoints(prefix, world):
    """With what mmengine itself pickles."""
    content = {
        "state_dict": {"backbone.weight": torch.ones(1, 1)},
        "message_hub": {"log_scalars": {"loss": HistoryBuffer([1.0], [1])}},
    }
    found = read_checkpoint(world(prefix, content))
    assert torch.equal(*found["state_dict"].values(), torch.ones(1, 1))
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") is None


def test_who_trusts_a_file_may_run_it(world, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    read_checkpoint(world("https://", {"state_dict": Payload(tmp_path / "ran")}))
    assert (tmp_path / "ran").exists()


def test_what_cannot_be_fetched_is_one_line(world, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise urllib.error.HTTPError("https://example.org/x.pth", 404, "Not Found", None, None)

    world("", {})
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(UserError, match=r"https://example\.org/x\.pth cannot be fetched .*404"):
        read_checkpoint("https://example.org/x.pth")
    monkeypatch.setitem(sys.modules, "pavi", None)
    with pytest.raises(UserError, match="pavi://x cannot be fetched"):
        read_checkpoint("pavi://x")
    with pytest.raises(UserError, match=r"torchvision://none is no checkpoint .*none"):
        read_checkpoint("torchvision://none")
    with pytest.raises(FileNotFoundError) as error:
        read_checkpoint(tmp_path / "none.pth")
    assert error.value.filename == str(tmp_path / "none.pth")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps([1]), b"\x80\x02}q\x01(U\x01aX"])
def test_damaged_files_are_one_line(content, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pth (is no checkpoint|holds)"):
        read_checkpoint(path)


def test_a_cut_file_is_not_said_to_want_trust(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:2000])
    with pytest.raises(UserError) as error:
        load_from_local(tmp_path / "x.pth")
    assert "TORCH_FORCE" not in str(error.value)


def test_a_folder_is_no_missing_file(tmp_path):
    with pytest.raises(IsADirectoryError) as error:
        read_checkpoint(tmp_path)
    assert error.value.filename == str(tmp_path)
    with pytest.raises(UserError, match=r"is a folder: expected a config file \(\.py\)"):
        load_config(tmp_path)


def test_a_backbone_begins_with_weights_from_anywhere(world, monkeypatch):
    monkeypatch.chdir(ROOT)
    donor = load_detector(DIGITS).backbone
    address = world("https://", donor.state_dict())
    model = load_detector(DIGITS, options={"model.backbone.init_cfg": dict(type="Pretrained", checkpoint=address)})
    model.init_weights()
    assert all(torch.equal(model.backbone.state_dict()[k], v) for k, v in donor.state_dict().items())


def saved(path: Path, epoch: int, date: float, **meta) -> Path:
    torch.save({"meta": dict(epoch=epoch, iter=10 * epoch, **meta), "message_hub": {}, "state_dict": {}}, path)
    os.utime(path, (date, date))
    return path


def test_a_restored_older_checkpoint_is_not_the_latest(tmp_path):
    for date, epoch in enumerate((9, 12, 10, 8)):  # 8 was copied back last
        saved(tmp_path / f"epoch_{epoch}.pth", epoch, date)
    assert latest_checkpoint(tmp_path).name == "epoch_12.pth"
    saved(tmp_path / "iter_125.pth", 12.5, 0)
    assert latest_checkpoint(tmp_path).name == "iter_125.pth"
    assert latest_checkpoint(tmp_path, 100).name == "epoch_10.pth" and latest_checkpoint(tmp_path, 7) is None


def test_an_older_training_in_the_same_folder_is_not_gone_on_with(tmp_path):
    """Fifty epochs last week, four today: mmengine has written when into each."""
    saved(tmp_path / "epoch_50.pth", 50, 9, time="20260102_101010")
    saved(tmp_path / "epoch_4.pth", 4, 1, time="20260109_101010")
    saved(tmp_path / "epoch_2.pth", 2, 5, time="20260109_101010")
    assert latest_checkpoint(tmp_path).name == "epoch_4.pth"


def test_weights_are_not_gone_on_from(tmp_path):
    saved(tmp_path / "epoch_3.pth", 3, 0)
    torch.save({"state_dict": {}}, tmp_path / "epoch_7.pth")
    assert latest_checkpoint(tmp_path).name == "epoch_3.pth"
    with pytest.raises(UserError, match=r"epoch_7\.pth holds weights and not the state of a training"):
        check_resumable(tmp_path / "epoch_7.pth", ("a",))
    names = saved(tmp_path / "epoch_9.pth", 9, 0, dataset_meta=dict(classes=("b", "a")))
    check_resumable(names, ("b", "a"))
    with pytest.raises(UserError, match="the same classes in another order"):
        check_resumable(names, ("a", "b"))


@pytest.mark.parametrize("how", ["--resume", "resume=True"])
def test_what_train_resumes(how, tmp_path, monkeypatch, capsys):
    """The flag and mmengine's own option alike; mmengine would read last_checkpoint, which a kill leaves empty."""
    monkeypatch.chdir(ROOT)
    from nni_mcunet.cli.train import apply

    flags = dict(launcher="none", amp=False, auto_scale_lr=False, resume="auto" if how == "--resume" else None)
    cfg = load_config(DIGITS, {"resume": True} if how != "--resume" else None, tmp_path)
    apply(Namespace(**flags), cfg)
    assert cfg.resume is False and cfg.load_from is None  # nothing there yet: a new run
    assert capsys.readouterr().err == f"warning: {tmp_path} holds no checkpoint to resume: a new training begins\n"
    (tmp_path / "last_checkpoint").write_text("")
    saved(tmp_path / "epoch_12.pth", 12, 0), saved(tmp_path / "epoch_8.pth", 8, 1)
    cfg.resume = how != "--resume"
    apply(Namespace(**flags), cfg)
    assert cfg.resume is True and cfg.load_from == str(tmp_path / "epoch_12.pth") and not capsys.readouterr().err
    cfg.load_from = None
    apply(Namespace(**flags | {"resume": str(tmp_path / "epoch_8.pth")}), cfg)
    assert cfg.load_from == str(tmp_path / "epoch_8.pth")
    with pytest.raises(SystemExit), exit_on_user_error():
        apply(Namespace(**flags | {"resume": str(tmp_path / "none.pth")}), cfg)


class Training:
    """Stand in for mmdet's: epochs that are each a checkpoint, and Ctrl-C behind the last of them, or the end."""

    def __init__(self, folder, epochs=2, stopped=False, day="01"):
        self.work_dir, self.epochs, self.stopped, self.day = str(folder), epochs, stopped, day
        self.iter = 10 * epochs

    def from_cfg(self, cfg):
        return self

    def train(self):
        (Path(self.work_dir) / "20260101_000000").mkdir(exist_ok=True)
        for epoch in range(1, self.epochs + 1):
            path = Path(self.work_dir) / f"epoch_{epoch}.pth"
            saved(path, epoch, time.time(), time=f"202601{self.day}_00000{epoch}")
        if self.stopped:
            raise KeyboardInterrupt


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """train(*flags, **of a Training) -> what `mcunet train` says on stderr, in one work dir."""
    monkeypatch.chdir(ROOT)
    folder = tmp_path / "w"
    monkeypatch.setattr(detection, "prepare", lambda *words: load_config(DIGITS, None, folder))

    def train(*flags, **training):
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(detection, "WorkDirRunner", Training(folder, **training))
        main(["train", DIGITS, *flags])
        return capsys.readouterr().err.replace(f"{folder}/", "")

    def stopped(*flags, **training):
        with pytest.raises(SystemExit) as end:
            train(*flags, **training, stopped=True)
        assert end.value.code == 130
        return capsys.readouterr().err.replace(f"{folder}/", "")

    train.stopped, train.folder = stopped, folder
    return train


def test_an_earlier_training_is_not_lost(train):
    """last.pth of each: the first training's, then the second's; one that goes on to its end anew is the same file."""
    assert train() == ""
    first = (train.folder / "last.pth").read_bytes()
    assert train("--resume") == "" and len(list(train.folder.glob("last*.pth"))) == 1
    assert train(epochs=3, day="02") == "note: last.pth of the training before is kept as last.previous.pth\n"
    second = (train.folder / "last.pth").read_bytes()
    assert train(day="03") == "note: last.pth of the training before is kept as last.previous2.pth\n"
    kept = [(train.folder / f"last.previous{number}.pth").read_bytes() for number in ("", "2")]
    assert kept == [first, second] and (train.folder / "last.pth").read_bytes() not in kept


def test_a_training_that_ctrl_c_stops_says_how_it_goes_on(train):
    assert train.stopped(epochs=0) == "stopped before its first checkpoint: it begins anew\n"
    assert train.stopped() == "stopped: the same command with --resume goes on from epoch_2.pth\n"
    said = train.stopped(epochs=0)  # begins anew, and has written none of what is there
    assert re.fullmatch(
        r"warning: \S+/w holds an unfinished training and this one begins anew: --resume goes on from epoch_2\.pth\n"
        r"stopped before its first checkpoint: it begins anew\n",
        said,
    )
    assert train.stopped("--resume", epochs=0) == "stopped: the same command with --resume goes on from epoch_2.pth\n"
    assert "holds an unfinished training" in train(epochs=4, day="02")
    assert train(epochs=4, day="02") == ""  # that one was finished
    (train.folder / "last.pth").write_bytes(b"")
    assert "holds an unfinished training" in train(epochs=5, day="03")


def test_detection_loads_nothing_else():
    """Every torch.load of the product says weights_only, but for the one under the allow-list."""
    sources = [
        p for folder in ("detection", "nni_mcunet", "tools", "benchmarks") for p in (ROOT / folder).rglob("*.py")
    ]
    loads = [line.strip() for p in sources for line in p.read_text().splitlines() if "torch.load(" in line]
    assert len(loads) > 2
    assert [line for line in loads if "weights_only=True" not in line] == [
        "return torch.load(path, map_location=map_location)"
    ]
    assert detection.load_from_local is load_from_local


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}q\x00", b"\x80\x02X"], ids=str)
def test_a_file_of_others_is_no_checkpoint(data, tmp_path):
    """PyTorch's own words would be its advice to trust the file, a number, or nothing."""
    (tmp_path / "x.pth").write_bytes(data)
    whole = tmp_path / "whole.pth"
    torch.save({"a": torch.zeros(99)}, whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:900])
    for path in (tmp_path / "x.pth", tmp_path / "cut.pth"):
        for load in (read_checkpoint, fit.load_checkpoint, lambda path: load_weights(SPEC, path)):
            with pytest.raises(UserError) as error:
                load(path)
            said = str(error.value)
            assert "it is empty, cut, or no file that torch.save has written" in said or "more than tensors" in said, (
                said
            )
            assert "weights_only" not in said


def test_a_checkpoint_without_a_step_says_what_it_lacks(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"it holds a dict without identity, step, net"):
        fit.load_checkpoint(tmp_path / "x.pth")
