"""A classifier's way to its end: finetune, finetune --qat, quantize, test, all on the data and by the view of its
search. Pictures here are PNG of three classes by colour, which a tiny network learns in a few steps."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from inprocess import command, refused
from PIL import Image

import nni_mcunet as mcu
from nni_mcunet.api.data_sets import DataSet, training_pictures
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.qat import OBSERVE
from nni_mcunet.core.view import View
from nni_mcunet.engine.model import class_names
from nni_mcunet.engine.run.pictures import list_pictures, load_picture
from nni_mcunet.search.data import open_data

SIZE = (32, 40)
BLOCKS = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16), Block(3, 1, 32, 16)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures of three classes, and an architecture with weights that have seen none."""
    folder, rng = tmp_path_factory.mktemp("way"), np.random.default_rng(0)
    for i in range(48):
        name = "rgb"[i % 3]
        (folder / "photos/train" / name).mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 160, (44, 60, 3), np.uint8)
        noise[..., i % 3] += 40
        Image.fromarray(noise).save(folder / f"photos/train/{name}/{i}.png")
    spec = ArchSpec("tiny", SIZE, 8, BLOCKS, head=16, classes=3, view=View(0.875))
    spec.save(folder / "best.json")
    torch.manual_seed(0)
    torch.save(Net(build_graph(spec)).state_dict(), folder / "best.pth")
    return folder


@pytest.fixture
def data(made):
    return {"kind": "folder", "root": str(made / "photos"), "held_out": 9, "workers": 0, "calibration": [1, 8]}


def test_from_finetune_to_the_c_on_the_pictures_that_judge(made, data, tmp_path, monkeypatch, capsys):
    """Float is what finetune prints, QAT and PTQ are what their own commands give, the C is the int8 file's."""
    arch, words = made / "best.json", ("--data", json.dumps(data))
    how = ("--steps", OBSERVE + 8, "--batch", 8, "--lr", 0.05)
    floats, qat = tmp_path / "tuned.pth", tmp_path / "qat.pth"
    said = command(monkeypatch, capsys, "finetune", arch, made / "best.pth", *words, *how, "--out", floats)
    assert said.code == 0, said.err
    assert command(monkeypatch, capsys, "finetune", arch, floats, *words, *how, "--qat", "--out", qat).code == 0
    done = command(
        monkeypatch, capsys, "test", arch, floats, "--qat", qat, *words, "--calib-images", 16,
        "--out-json", tmp_path / "found.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found) == {"float", "ptq", "ptq_c", "qat", "qat_c"}
    assert f"{found['float']:.3f}" == said.out.split("after:  held-out ")[1].split()[0]
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0][-3:] == ["seen", "by", "crop:0.875"] and "9 held_out pictures" in done.out
    assert ["float", f"{found['float']:.4f}", "-"] in lines
    assert ["int8,", "PTQ", f"{found['ptq']:.4f}", f"{found['ptq_c']:.4f}"] in lines

    float_model = mcu.load(arch, floats)
    for name, int8 in (
        ("ptq", mcu.quantize(float_model, data, images=16)),
        ("qat", mcu.quantize(float_model, qat=qat)),
    ):
        for backend, key in (("onnxruntime", name), ("c", f"{name}_c")):
            assert mcu.accuracy(int8, data, backend=backend).share == found[key]  # no test set: the held-out


def test_the_folders_names_reach_the_c(made, data, tmp_path, monkeypatch, capsys):
    """finetune -> export -> quantize -> generate -> run: the classes are called what the folders are."""
    run = lambda *words: command(monkeypatch, capsys, *words)  # noqa: E731
    photos, tuned = ("--data", json.dumps(data)), tmp_path / "tuned.pth"
    steps = ("--steps", 2, "--batch", 8, "--out", tuned)
    assert run("finetune", made / "best.json", made / "best.pth", *photos, *steps).code == 0
    assert run("export", made / "best.json", tuned, "-o", tmp_path / "m.onnx").code == 0
    words = ("--calib", photos[1], "--images", 8, "-o", tmp_path / "m.int8.onnx")
    assert run("quantize", tmp_path / "m.onnx", *words).code == 0
    mcu.compile(tmp_path / "m.int8.onnx", "stm32f412", tmp_path / "fw")
    source = (tmp_path / "fw/mcu_model.c").read_text()
    assert 'mcu_class_names[MCU_CLASSES] = {\n    "b",\n    "g",\n    "r",\n};' in source
    assert "#define MCU_CLASSES 3\n" in (tmp_path / "fw/mcu_model.h").read_text()
    found = mcu.run(tmp_path / "fw", np.zeros((*SIZE, 3), np.uint8))
    assert {row["class"]: row["name"] for row in found.top} == {0: "b", 1: "g", 2: "r"} and not found.detector
    assert str(found).startswith(f"class {found.top[0]['class']} {found.top[0]['name']}: logit ")
    assert mcu.run(tmp_path / "fw", np.zeros((*SIZE, 3), np.uint8), classes=["x", "y", "z"]).top[0]["name"] in "xyz"
    model = mcu.load(tmp_path / "m.int8.onnx").int8_model()
    for odd in (["b", "g"], "bgr", [1, 2, 3], None):  # no names of these classes: none at all
        assert class_names(replace(model, meta={**model.meta, "classes": odd})) == []


def test_of_weights_that_were_trained_for_int8_nothing_is_calibrated(made, data, tmp_path, monkeypatch, capsys):
    arch = made / "best.json"
    words = ("--data", json.dumps(data), "--steps", OBSERVE + 6, "--batch", 8, "--out", tmp_path / "qat.pth")
    assert command(monkeypatch, capsys, "finetune", arch, made / "best.pth", *words, "--qat").code == 0
    found = mcu.accuracies(arch, tmp_path / "qat.pth", data)
    assert list(found.rows) == ["float", "qat"] and found.calibrated == 0 and "PTQ" not in str(found)
    with pytest.raises(mcu.UserError, match="both trained for int8"):
        mcu.accuracies(arch, tmp_path / "qat.pth", data, qat=tmp_path / "qat.pth")
    with pytest.raises(mcu.UserError, match="held_out 9, these have 8"):
        mcu.accuracies(arch, tmp_path / "qat.pth", data | {"held_out": 8})


def test_weights_that_do_not_say_how_they_were_judged_are_seen_by_the_data_s_view(made, data, tmp_path):
    spec = json.loads((made / "best.json").read_text())
    del spec["view"]
    (tmp_path / "bare.json").write_text(json.dumps(spec))
    with pytest.warns(UserWarning, match="does not say on which pictures"):
        found = mcu.accuracies(tmp_path / "bare.json", made / "best.pth", data | {"keep": 0.5}, images=3)
    assert {row.view for pair in found.rows.values() for row in pair if row} == {"crop:0.5"}


def test_what_calibrates_does_not_judge(made, data, tmp_path, monkeypatch, capsys):
    """--calib with a search's data: the pictures that train, by the model's view; the same bytes from Python."""
    mcu.load(made / "best.json", made / "best.pth").save(tmp_path / "m.onnx")
    model = mcu.load(tmp_path / "m.onnx").float_model()
    opened = open_data(data)
    found = [p.tobytes() for p in training_pictures(opened, model, 100)]
    paths = {split: [path for path, _ in opened.source.splits[split]] for split in ("train", "held_out")}
    seen = {split: {load_picture(p, SIZE, View(0.875)).tobytes() for p in paths[split]} for split in paths}
    assert len(found) == 39 and set(found) == seen["train"] and not seen["held_out"] & set(found)
    words = ("quantize", tmp_path / "m.onnx", "--images", 13)
    ours = mcu.quantize(tmp_path / "m.onnx", data, images=13).save(tmp_path / "python.onnx")
    done = command(monkeypatch, capsys, *words, "--calib", json.dumps(data), "-o", tmp_path / "calib.onnx")
    assert done.code == 0 and "calibrated on 13 pictures" in done.out, done.err
    assert (tmp_path / "calib.onnx").read_bytes() == ours.read_bytes()
    short = f"folder:{made / 'photos'}"
    assert command(monkeypatch, capsys, *words, "--calib", short, "-o", tmp_path / "short.onnx").code == 0


def test_folders_by_class_calibrate(made, tmp_path):
    files = list_pictures(made / "photos/train")
    assert len(files) == 48 and [p.parent.name for p in files] == sorted("rgb" * 16)
    mcu.load(made / "best.json", made / "best.pth").save(tmp_path / "m.onnx")
    assert mcu.quantize(tmp_path / "m.onnx", made / "photos/train", images=6).pictures == 6


def test_a_data_set_is_no_file():
    """A path that exists is a path, whatever its name; a kind is one of those that the search knows."""
    assert DataSet.of("folder:x") and DataSet.of("digits") and DataSet.of("{kind: digits}") and DataSet.of({})
    assert DataSet.of("photos") is None and DataSet.of("C:x") is None and DataSet.of("tests") is None


WRONG = {
    "no data": ((), "--data says on which pictures"),
    "a detector's flag": (("--tta", "--data", "digits"), "--tta is for a detector's config"),
    "other classes": (("--data", "digits"), "the data's 10 classes"),
    "no such split": (("--data", "{data}", "--split", "x"), "there is no x set"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line(case, made, data, monkeypatch, capsys):
    words, message = WRONG[case]
    words = [json.dumps(data) if word == "{data}" else word for word in words]
    if "digits" in words:  # the architecture's view would be said first
        words = [word if word != "digits" else "{kind: digits, held_out: 20, test: 20}" for word in words]
    done = command(monkeypatch, capsys, "test", made / "best.json", made / "best.pth", *words)
    refused(done, message)
    assert command(monkeypatch, capsys, "test", "configs/det/yolov3_digits.py", "x.pth", "--split", "test").code == 2
