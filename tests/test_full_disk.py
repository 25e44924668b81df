"""A disk that is full or read-only, a file where a folder should be: one line that names what the user named."""

import ast
import errno
import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from inprocess import command, refused

from nni_mcunet.core import files
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.search.data import digit_scenes as digits

WRITERS = ("write_text", "write_bytes", "savefig", "imwrite", "touch")
ALLOWED = {  # file -> why it does not write through files.py
    "nni_mcunet/core/files.py": "it is files.py",
    "nni_mcunet/cli/digits.py": "thousands of small files in a folder that is renamed when all are there",
}


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A folder with a small classifier's arch.json, weights.pth, picture.png, m.onnx and m.int8.onnx."""
    import cv2

    folder = tmp_path_factory.mktemp("network")
    spec = ArchSpec("small", (32, 32), 8, ((Block(3, 2, 8, 8),), (Block(3, 1, 16, 8),)), head=16, classes=10)
    spec.save(folder / "arch.json")
    torch.manual_seed(0)
    torch.save(Net(build_graph(spec)).state_dict(), folder / "weights.pth")
    (folder / "pictures").mkdir()
    for i in range(2):
        picture = digits.scene(np.random.default_rng(i), (32, 32), "train")[0]
        cv2.imwrite(str(folder / f"pictures/{i}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def models(network) -> Path:
    from nni_mcunet.engine.frontend.onnx import save_onnx
    from nni_mcunet.engine.model import Model
    from nni_mcunet.engine.quant.post_training import calibrated
    from nni_mcunet.engine.run.pictures import list_pictures, load_picture

    graph = build_graph(ArchSpec.load(network / "arch.json"))
    net = Net(graph).eval()
    net.load_state_dict(torch.load(network / "weights.pth"))
    model = Model(graph.folded(), net.folded_weights())
    save_onnx(model, network / "m.onnx")
    pictures = [load_picture(path, (32, 32)) for path in list_pictures(network / "pictures")]
    save_onnx(calibrated(model, pictures), network / "m.int8.onnx")
    return network


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    """{"full": folder, "read-only": folder} of two small disks, one without room, one mounted read-only."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("full", "read-only")}
    mounted = []
    try:
        for folder in folders.values():
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
            if done.returncode:
                pytest.skip(f"no disk can be mounted here ({done.stderr.decode().strip()})")
            mounted.append(folder)
        fill(folders["full"])
        subprocess.run(["mount", "-o", "remount,ro", folders["read-only"]], check=True)
        yield folders
    finally:
        for folder in mounted:
            subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC


TOOLS = {  # name of a case -> (tool, its arguments: {n} the network's folder, {d} the disk; what the message names)
    "export": (["export", "{n}/arch.json", "{n}/weights.pth", "-o", "{d}/m.onnx"], "{d}/m.onnx"),
    "quantize": (["quantize", "{n}/m.onnx", "--calib", "{n}/pictures", "-o", "{d}/q.onnx"], "{d}/q.onnx"),
    "generate": (["generate", "{n}/m.int8.onnx", "--board", "f412", "-o", "{d}/c"], "{d}/c"),
    "profile --json": (["profile", "{n}/arch.json", "--json", "{d}/p.json"], "{d}/p.json"),
    "profile --png": (["profile", "{n}/arch.json", "--png", "{d}/p.png"], "{d}/p.png"),
    "inspect --png": (["inspect", "{n}/m.int8.onnx", "--layer", "stem", "--png", "{d}/l.png"], "{d}/l.png"),
    "make_digits": (["make_digits", "--out", "{d}/digits", "--train", "2", "--val", "1"], "{d}/digits"),
    "train_supernet": (["train_supernet", "--largest", "1", "--shared", "1", "--batch", "2", "--out", "{d}/s.pth"],
                       "{d}/s"),
    "finetune": (["finetune", "{n}/arch.json", "{n}/weights.pth", "--steps", "1", "--batch", "2", "--out", "{d}/f.pth"],
                 "{d}/f"),
    "pretrain": (["pretrain", "{n}/arch.json", "--steps", "1", "--batch", "2", "--out", "{d}/p.pth"], "{d}/p"),
}  # fmt: skip


@pytest.mark.parametrize("disk", ["full", "read-only"])
@pytest.mark.parametrize("case", TOOLS)
def test_a_command_names_what_the_user_named(case, disk, models, disks, monkeypatch, capsys):
    arguments, named = TOOLS[case]
    where = {"n": models, "d": disks[disk]}
    before = sorted(os.listdir(disks[disk]))
    done = command(monkeypatch, capsys, *(word.format(**where) for word in arguments))
    refused(done, "No space left on device" if disk == "full" else "Read-only file system", named.format(**where))
    assert "/." not in done.err.split("error: ")[1], "a temporary file's name means nothing to the user"
    left = set(os.listdir(disks[disk])) - set(before)
    assert not [name for name in left if name.startswith(".")], left


def test_a_file_is_whole_or_as_it_was(disks, tmp_path, monkeypatch):
    old = disks["full"] / "filler"
    size = old.stat().st_size
    with pytest.raises(UserError, match=f"cannot write {old}: No space left on device; make room"):
        write_atomic(old, bytes(1 << 20))
    assert old.stat().st_size == size and not [n for n in os.listdir(disks["full"]) if n.startswith(".")]
    monkeypatch.setattr(files.os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    (tmp_path / "x").write_text("old")
    with pytest.raises(UserError, match=r"cannot write .*/x: Input/output error"):
        write_atomic(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old" and os.listdir(tmp_path) == ["x"]


def test_a_place_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path, words in (
        (tmp_path, f"cannot write {tmp_path}: it is a folder"),
        (tmp_path / "file/x/y.json", f"{tmp_path}/file is a file, not a folder"),
        (tmp_path / ("x" * 300), "File name too long"),
        ("/proc/none/x.json", "cannot be made"),
        ("", "it is a folder"),
    ):
        with pytest.raises(UserError) as error:
            write_atomic(path, "new")
        assert words in str(error.value)
    assert (tmp_path / "file").read_text() == "mine" and os.listdir(tmp_path) == ["file"]
    assert write_atomic(tmp_path / ("x" * 250), "new").read_text() == "new"


def test_links_and_devices_are_written_through(tmp_path):
    """A rename onto them would put a file in the device's place."""
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"
    null, full = tmp_path / "null", tmp_path / "full"
    for path, minor in (
        (null, 3),
        (full, 7),
    ):  # not the real ones, which a broken writer would replace
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        except PermissionError:
            pytest.skip("devices need root")
    (tmp_path / "to null").symlink_to(null)
    write_atomic(tmp_path / "to null", "new")
    assert (tmp_path / "to null").is_symlink() and null.is_char_device()
    with pytest.raises(UserError, match="full: No space left on device"):
        write_atomic(full, "new")


def test_everything_is_written_through_files():
    """A writer in place leaves half a file on a full disk, and an error that names none."""
    sources = [p for top in ("nni_mcunet", "detection", "tools") for p in sorted((ROOT / top).rglob("*.py"))]
    found = set()
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITERS:
                found.add(str(path.relative_to(ROOT)))
    assert found == set(ALLOWED)
