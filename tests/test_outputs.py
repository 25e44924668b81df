"""The names that commands are given to write: a slip never costs a file."""

import io
import os
import runpy
import sys

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT
from nets import block_graph, random_model
from onnx import TensorProto, helper
from PIL import Image

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.outputs import check_outputs, marked
from nni_mcunet.engine.frontend.onnx import save_onnx
from nni_mcunet.profiling.pictures import sweep_figure


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Products of the commands, and files that are none."""
    folder = tmp_path_factory.mktemp("made")
    graph = block_graph(np.random.default_rng(0), (12, 12), 2)
    save_onnx(random_model(np.random.default_rng(0), graph), folder / "ours.onnx")
    sweep_figure({"x": {(p, n): (1.0, 0.0) for p in range(1, 9) for n in range(1, 9)}}, folder / "ours.png")
    np.savez_compressed(file := io.BytesIO(), np.zeros(3))
    (folder / "ours.npz").write_bytes(marked(file.getvalue()))
    write_json(folder / "ours.json", {"board": "stm32f412", "stack_bytes": 1, "crc32": [1], "boxes": []})
    (folder / "empty.onnx").touch()
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    proto = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), producer_name="pytorch")
    onnx.save(proto, folder / "theirs.onnx")
    Image.new("RGB", (8, 8)).save(folder / "photo.png")
    np.savez(folder / "data.npz", x=np.zeros(3))
    mobilenet_v2(96, 0.35, 10).save(folder / "arch.json")
    write_json(folder / "coco.json", {"images": [], "annotations": [], "categories": []})
    write_json(folder / "board.json", {"name": "x", "core": "cortex-m4", "clock_hz": 1, "sram": 1, "flash": 1})
    (folder / "half.json").write_text("{")
    return folder


@pytest.mark.parametrize("name", ["ours.onnx", "ours.png", "ours.npz", "ours.json", "empty.onnx", "new.onnx", "N.PNG"])
def test_products_are_replaced(made, name):
    check_outputs({"-o": (made / name, os.path.splitext(name.lower())[1])}, made / "arch.json", None)


@pytest.mark.parametrize(
    "name", ["theirs.onnx", "photo.png", "data.npz", "arch.json", "coco.json", "board.json", "half.json"]
)
def test_files_of_others_are_not(made, name):
    with pytest.raises(UserError, match=rf"-o .*{name} is there and no product of this command"):
        check_outputs({"-o": (made / name, os.path.splitext(name)[1])})


OURS = {
    "profile": {"name": "x", "peak_bytes_per_layer": 1, "peak_bytes_per_patch": 1, "blocks": []},
    "rows": [{"name": "a", "kind": "conv", "total": 40.0, "own": 41.0}],
    "metrics": {"map50": 0.5, "pascal_voc/mAP": 0.5},
    "anchors": {"scales": [], "mean_iou": 0.7, "recall": 1.0, "boxes": 3},
    "agreement": {"config": "c.py", "images": 3, "score": {}},
}
THEIRS = {
    "package": {"name": "my-app", "dependencies": {}},
    "list": [1, 2],
    "labels": {"cat": 0, "dog": 1},
    "results": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}],
    "notebook": {"cells": [], "metadata": {}, "nbformat": 4},
    "annotations": {"annotations": [], "categories": []},
    "nothing": [],
    "text": "x",
}


@pytest.mark.parametrize("what", OURS)
def test_reports_are_replaced(what, tmp_path):
    check_outputs({"--json": (write_json(tmp_path / "a.json", OURS[what]), ".json")})


@pytest.mark.parametrize("what", THEIRS)
def test_json_of_others_is_not(what, tmp_path):
    with pytest.raises(UserError, match=r"a\.json is there and no product of this command"):
        check_outputs({"--json": (write_json(tmp_path / "a.json", THEIRS[what]), ".json")})


def test_slips(made, tmp_path, monkeypatch):
    os.link(made / "ours.onnx", tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to(made / "ours.onnx")
    (tmp_path / "folder.onnx").mkdir()
    monkeypatch.chdir(made)
    for name, words in (
        ("", "-o '' is no file"),
        (" ", "is no file"),
        (tmp_path, "is no file"),
        (tmp_path / "folder.onnx", "is no file"),
        (f"{tmp_path}/new.onnx/", "is no file"),
        (made / "arch.json", r"ends in \.onnx"),
        (made / "noending", r"ends in \.onnx"),
        (made / "../made0/ours.onnx", "which would be lost"),
        ("ours.onnx", "which would be lost"),
        (tmp_path / "hard.onnx", "which would be lost"),
        (tmp_path / "soft.onnx", "which would be lost"),
    ):
        with pytest.raises(UserError, match=words):
            check_outputs({"-o": (name, ".onnx")}, made / "ours.onnx")
    with pytest.raises(UserError, match=r"--layers and --png both name .*a\.png"):
        check_outputs({"--png": ("a.png", ".png"), "--layers": (made / "a.png", ".png")})
    check_outputs({"--json": ("/dev/null", ".json"), "-o": (None, ".onnx")})


def test_each_command_looks_first(made, tmp_path, monkeypatch, capsys):
    """Before its work, whatever it is: the files that stand there stay."""

    def command(name, *words):  # in this process, which imports mmdet only once
        monkeypatch.setattr("sys.argv", [name, *map(str, words)])
        runpy.run_path(str(ROOT / f"tools/{name}.py"), run_name="__main__")

    monkeypatch.setattr("sys.path", [*sys.path, str(ROOT / "tools")])
    monkeypatch.chdir(ROOT)
    spec = ArchSpec.load(made / "arch.json")
    torch.save(Net(build_graph(spec)).state_dict(), tmp_path / "w.pth")
    arch, model, pth = made / "arch.json", made / "ours.onnx", tmp_path / "w.pth"
    config, photo = "configs/det/yolov3_digits.py", made / "photo.png"
    before = {p: p.read_bytes() for folder in (made, tmp_path) for p in folder.iterdir()}
    board = ["--board", "stm32f412", "--emulate", "--picture"]
    for words in (
        ["export", arch, pth, "-o", pth],
        ["quantize", model, "--calib", made, "-o", model],
        ["quantize", model, "--calib", made, "-o", made / "new.onnx", "--report", arch],
        ["profile", arch, "--png", model],
        ["profile", arch, "--json", arch],
        ["inspect", model, "--layer", "b0", "--png", photo],
        ["run_board", made, *board, photo, "--png", photo],
        ["run_board", made, *board, photo, "--layers", model],
        ["run_board", made, *board, photo, "--npz", made / "data.npz"],
        ["finetune", arch, pth, "--out", pth],
        ["pretrain", arch, "--out", pth],
        ["train_supernet", "--out", arch],
        ["anchors", config, "--json", made / "coco.json"],
        ["check_data", config, "--png", photo],
        ["compare_boxes", config, pth, "--json", arch],
        ["test", config, pth, "--out-json", arch],
        ["test", config, pth, "--out", pth],
    ):
        with pytest.raises(SystemExit) as end:
            command(*words)
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.startswith("error: -") and said.count("\n") == 1 and "give " in said, words
    assert {p: p.read_bytes() for p in before} == before


FOLDERS = {"digits", "tables", "train", "deploy", "detector_table", "steps"}


def test_no_command_forgets_to_look():
    """A command that takes the name of a file to write hands it to check_outputs; folders have their own rules."""
    for path in sorted((ROOT / "nni_mcunet/cli").glob("*.py")):
        text = path.read_text()
        if "write_json" in text or "write_atomic" in text or "save_onnx" in text:
            assert "check_outputs(" in text or path.stem in FOLDERS, path.name
