"""A config and its data are known again: a change of anything that a result depends on shows."""

import json
import shutil

import pytest
from conftest import ROOT
from PIL import Image

from detection import identity, load_config
from nni_mcunet.cli.main import main

DIGITS = "configs/det/yolov3_digits.py"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a config that inherits, an architecture and scenes of digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [])
    main(["digits", "--out", "data", "--train", "3", "--val", "2", "--size", "32"])
    shutil.copy(ROOT / "configs/arch/mcu_w50_r128.json", "arch.json")
    (tmp_path / "base.py").write_text(
        f"_base_ = '{ROOT / DIGITS}'\nmodel = dict(backbone=dict(arch='arch.json'))\n"
        "data_root = 'data/'\ntrain_dataloader = dict(dataset=dict(data_root='data/'))\n"
        "val_dataloader = dict(dataset=dict(data_root='data/'))\ntest_dataloader = val_dataloader\n"
    )
    (tmp_path / "mine.py").write_text("_base_ = './base.py'\n")
    return tmp_path


def found(**options):
    return identity(load_config("mine.py", options))


def changed(before, **options) -> list[str]:
    now = found(**options)
    return [key for part in now for key in now[part] if now[part][key] != before[part].get(key)]


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_changes_nothing(place):
    before = found()
    edit(place / "base.py", "data_root", "# a comment\ndata_root")
    shutil.copy("mine.py", "other.py")
    assert identity(load_config("other.py")) == before == found(work_dir="elsewhere")
    assert found(expected=dict(map50=0.5)) == before


def test_every_change_shows(place):
    sets, before = place / "data/VOC2007", found()
    assert changed(before, **{"model.test_cfg.score_thr": 0.5}) == ["model"]
    edit(place / "base.py", "dict(arch=", "dict(out_indices=(1, 3), arch=")  # the file that it inherits
    assert changed(before) == ["model"]
    edit(place / "base.py", "out_indices=(1, 3), ", "")
    edit(place / "arch.json", '"name": "', '"name": "x')
    assert changed(before) == ["model"]
    edit(place / "arch.json", '"name": "x', '"name": "')
    assert changed(before) == []
    train, test = "data/VOC2007/ImageSets/Main/train.txt", "data/VOC2007/ImageSets/Main/val.txt"
    edit(sets / "Annotations/val_000001.xml", "<xmin>", "<xmin>1")
    assert changed(before) == [test]
    edit(sets / "Annotations/val_000001.xml", "<xmin>1", "<xmin>")
    (place / train).write_text("train_000000\ntrain_000001\n")
    assert changed(before) == [train]
    before = found()
    picture = bytearray((sets / "JPEGImages/val_000000.jpg").read_bytes())
    picture[-10] ^= 1
    (sets / "JPEGImages/val_000000.jpg").write_bytes(picture)
    assert changed(before) == [test]
    Image.new("RGB", (32, 32)).save(sets / "JPEGImages/train_000001.jpg")
    assert changed(before) == [train, test]


def test_what_a_metric_reads_counts(place):
    (place / "truth.json").write_text(json.dumps({"images": []}))
    evaluator = {"test_evaluator.ann_file": "truth.json"}
    options = evaluator | {"test_evaluator.type": "CocoMetric"}
    before = identity(load_config("mine.py", options))
    (place / "truth.json").write_text(json.dumps({"images": [], "info": 1}))
    now = identity(load_config("mine.py", options))
    assert [k for k in now["data"] if now["data"][k] != before["data"][k]] == ["truth.json"]
