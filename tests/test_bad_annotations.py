"""Annotations of strangers (COCO, VOC, WIDER FACE) that are damaged or set a trap: one line each, within seconds."""

import copy
import json
import logging
import tarfile

import detection  # noqa: F401, before mmdet

# isort: split
import numpy as np
import pytest
from conftest import ROOT
from inprocess import command, refused
from test_bad_files import ODD, changed, message, places
from test_det_data import GOOD, encoded, picture, two, voc, xml

from detection.config.config import load_config
from detection.data.anchors import voc_sizes
from detection.data.data_files import check_dataset, open_pictures
from detection.data.data_survey import survey
from detection.data.datasets import build_dataset
from detection.data.voc_xml import read_annotation
from detection.faces.widerface import read_results, read_truth
from detection.faces.widerface_data import read_faces
from detection.training.learning_curve import scalars
from nni_mcunet.core.errors import UserError

NOTE = xml(GOOD)
LAUGHS = "".join(f'<!ENTITY l{i} "' + f"&l{i - 1};" * 10 + '">' for i in range(1, 10))
TRAPS = {
    "billion laughs": (f'<!DOCTYPE a [<!ENTITY l0 "lol">{LAUGHS}]><annotation>&l9;</annotation>', "entities"),
    "a file": ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>', "entities"),
    "encoding": ('<?xml version="1.0" encoding="nope"?><annotation/>', "not XML"),
    "a codec that is no encoding": ('<?xml version="1.0" encoding="base64"?><annotation/>', "not XML"),
    "encoding of many bytes": ('<?xml version="1.0" encoding="utf-7"?><annotation/>', "multi-byte"),
    "cut": (NOTE[:-20], "not XML"),
    "empty": ("", "not XML"),
    "NUL": (NOTE.replace("one", "o\0e"), "not XML"),
    "deep": ("<a>" * 20_000, "not XML"),
    "nan": (NOTE.replace("<xmin>5", "<xmin>nan"), "nan"),
    "inf": (NOTE.replace("<ymax>30", "<ymax>inf"), "inf"),
    "overflow": (NOTE.replace("<ymax>30", "<ymax>1e999"), "inf"),
    "huge": (NOTE.replace("<ymax>30", "<ymax>1e30"), "1e+30"),
    "long number": (NOTE.replace("<width>60", "<width>" + "6" * 5000), "size/width"),
    "no width": (NOTE.replace("<width>60", "<width>0"), "size/width is 0"),
    "negative height": (NOTE.replace("<height>40", "<height>-4"), "size/height is -4"),
    "no name": (NOTE.replace("<name>one", "<name>"), "name is empty"),
    "no box": (NOTE.replace("bndbox", "box"), "no annotation of VOC's format"),
    "another root": ("<foo/>", "its root is <foo>"),
    "difficult": (NOTE.replace("<difficult>0", "<difficult>no"), "an object's difficult is 'no', no integer"),
    "difficult, empty": (NOTE.replace("<difficult>0", "<difficult>"), "an object's difficult is '', no integer"),
    "half a pixel": (NOTE.replace("<width>60", "<width>60.5"), "size/width is '60.5', no integer"),
}


@pytest.mark.parametrize("text, words", TRAPS.values(), ids=TRAPS)
def test_an_xml_that_cannot_be_is_one_line(text, words):
    found = message(read_annotation, text.encode(), "a.xml")
    assert found.startswith("a.xml: ") and words in found


def test_a_box_without_area_is_the_survey_s_to_count():
    assert read_annotation(xml([(9, 9, 9, 9, 0)]).encode(), "a.xml").boxes.tolist() == [[9, 9, 9, 9]]
    assert read_annotation(NOTE.encode("utf-16"), "a.xml").names == ["one"]


def test_the_anchors_of_a_bad_folder_are_one_line(tmp_path, monkeypatch, capsys):
    voc(tmp_path, {"a": (encoded(picture()), NOTE.replace("<width>60", "<width>0"))})
    refused(command(monkeypatch, capsys, "anchors", tmp_path, "--split", "train"), "a.xml", "size/width is 0")
    voc(tmp_path, {"a": (encoded(picture()), NOTE.replace("size>", "sizes>"))})
    refused(command(monkeypatch, capsys, "anchors", tmp_path, "--split", "train"), "a.xml", "no size/width")
    with tarfile.open(tmp_path / "whole.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "VOC2007", "VOC2007")
    data = (tmp_path / "whole.tar.xz").read_bytes()
    for length in (0, 10, len(data) // 2):
        (tmp_path / "cut.tar.xz").write_bytes(data[:length])
        assert "cut.tar.xz" in message(voc_sizes, tmp_path / "cut.tar.xz", "train")
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_text("\n")
    assert len(voc_sizes(tmp_path, "train")) == 0


@pytest.mark.parametrize("name", ["../b", "/etc/passwd", "x/../../b"])
def test_a_list_does_not_lead_out_of_the_data(name, tmp_path):
    data = two(tmp_path)
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_text(f"a\n{name}\n")
    assert "leads out" in message(check_dataset, data)


def test_a_list_of_another_encoding_is_one_line(tmp_path):
    data = two(tmp_path)
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_bytes(b"caf\xe9\n")
    assert "train.txt is no UTF-8 text" in message(check_dataset, data)


@pytest.fixture
def coco(tmp_path):
    """(data set's config, its content, a function that writes a content)."""
    data = dict(type="CocoDataset", data_root=str(tmp_path), ann_file="train.json", data_prefix=dict(img="images/"),
                metainfo=dict(classes=("one",)), pipeline=[])  # fmt: skip
    content = dict(
        images=[dict(id=1, file_name="a.jpg", width=60, height=40)],
        categories=[dict(id=7, name="one")],
        annotations=[dict(id=1, image_id=1, category_id=7, bbox=[5, 5, 20, 25], area=500, iscrowd=0)],
    )
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(encoded(picture()))
    return data, content, lambda value: (tmp_path / "train.json").write_text(json.dumps(value))


def test_every_odd_value_in_coco_is_refused_before_mmdet_reads_it(coco, capsys):
    data, content, write = coco
    write(content)
    assert len(open_pictures(data)) == 1
    refusals = 0
    for at in places(content):
        for odd in ODD[::2]:
            write(changed(content, at, odd))
            try:
                check_dataset(data)
            except UserError as error:
                assert "\n" not in str(error) and len(str(error)) < 1200, at
                refusals += 1
                continue
            found = build_dataset(data | {"serialize_data": False})  # whatever passes is what mmdet reads, too
            assert len(found) <= 1, at
    assert refusals > 100


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c["images"][0].update(file_name="../a.jpg"), "leads out"),
        (lambda c: c["images"][0].update(file_name="/etc/passwd"), "leads out"),
        (lambda c: c["images"][0].update(width=0), "(0, 40) pixels"),
        (lambda c: c["images"].clear(), "lists no image"),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, float("nan"), 25]), "NaN"),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, 1e30, 25]), "1e+30"),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, 20]), "[5, 5, 20]"),
        (lambda c: c["annotations"][0].pop("bbox"), "'bbox'"),
        (lambda c: c["annotations"][0].update(area=None), "area None"),
        (lambda c: c["annotations"][0].update(iscrowd="0"), "iscrowd '0'"),
        (lambda c: c["annotations"][0].update(category_id=8), "8"),
        (lambda c: c["categories"][0].update(name=None), "name is None"),
    ],
)
def test_what_is_wrong_in_coco_is_named(change, words, coco):
    data, content, write = coco
    content = copy.deepcopy(content)
    change(content)
    write(content)
    found = message(check_dataset, data)
    assert words in found and "train.json" in found


def test_boxes_that_coco_s_reader_leaves_out_are_counted(coco, monkeypatch):
    data, content, write = coco
    (w, h), boxes = (content["images"][0][side] for side in ("width", "height")), ([5, 5, 0, 9], [5, 5, 9, -1])
    flat = [dict(content["annotations"][0], id=i, bbox=box) for i, box in enumerate(boxes, 2)]
    away = [dict(content["annotations"][0], id=i, bbox=box) for i, box in enumerate(([w, 5, 9, 9], [-9, 0, 9, 9]), 4)]
    near = dict(content["annotations"][0], id=6, bbox=[w - 1, h - 1, 9, 9])
    write(content | {"annotations": [*content["annotations"], *flat, *away, near]})
    said = []
    monkeypatch.setattr("detection.data.data_files.tell", lambda text, *args: said.append((text, *args)))
    check_dataset(data)
    assert [level for *_, level in said] == [logging.WARNING] * 2
    assert "2 boxes without area left out, the first is in " in said[0][0]
    assert (
        f"2 boxes wholly outside the picture left out, the first is in {content['images'][0]['file_name']}"
        in said[1][0]
    )
    line = survey(build_dataset(data)).line()  # as of VOC's files
    assert "3 boxes beyond the picture (first: " in line and "2 boxes without area (dropped)" in line
    write(content | {"annotations": [*content["annotations"], flat[0], away[0]]})
    said.clear()
    check_dataset(data)
    assert "1 box without area left out" in said[0][0] and "1 box wholly outside" in said[1][0]


def test_the_pictures_to_calibrate_on_are_looked_for_first(coco, tmp_path, monkeypatch, capsys):
    data, content, write = coco
    write(changed(content, ("annotations", 0, "bbox"), "x"))
    (tmp_path / "c.py").write_text(
        f"_base_ = {str(DIGITS)!r}\ntrain_dataloader = dict(dataset=dict(_delete_=True, **{data!r}))\n"
        "val_dataloader = test_dataloader = train_dataloader\n"
        f"data_root = {str(tmp_path)!r}\nmetainfo = dict(classes=('one',))\n"
    )
    refused(command(monkeypatch, capsys, "anchors", tmp_path / "c.py"), "train.json", "'x'")


FACE = "1 1 9 9 0 0 0 0 0 0\n"


@pytest.mark.parametrize(
    "text, words",
    [
        ("../../etc/x.jpg\n1\n" + FACE, "line 1"),
        ("a/b.jpg\n1\n" + FACE + "/etc/x.jpg\n1\n" + FACE, "line 4"),
        ("a/b.jpg\n1\n" + "9" * 30 + " 1 1 1 0 0 0 0 0 0\n", "no face of 10 integers"),
        ("a/b.jpg\n" + "9" * 5000 + "\n" + FACE, "not the number of faces"),
        ("a/b.jpg\n99999999\n" + FACE, "1 of 99999999 faces"),
        ("a/b.jpg\n1\n--5 1 1 1 0 0 0 0 0 0\n", "no face of 10 integers"),
        ("a/b.jpg\n1\n\u0665 1 1 1 0 0 0 0 0 0\n", "no face of 10 integers"),
        ("a/b.jpg\n1\nnan 1 1 1 0 0 0 0 0 0\n", "no face of 10 integers"),
        ("x" * 10**6 + "\n1\n", "file whole"),
    ],
)
def test_a_text_of_wider_face_that_cannot_be_is_one_line(text, words, tmp_path):
    (tmp_path / "faces.txt").write_text(text)
    found = message(read_faces, tmp_path / "faces.txt")
    assert words in found and "faces.txt" in found


def test_other_bytes_of_wider_face_are_one_line(tmp_path):
    (tmp_path / "faces.txt").write_bytes(b"a/\xe9.jpg\n0\n" + FACE.encode())
    assert "faces.txt is no UTF-8 text" in message(read_faces, tmp_path / "faces.txt")
    for data in (b"", b"MATLAB", bytes(10**5)):
        for setting in ("easy", "medium", "hard"):
            (tmp_path / f"wider_{setting}_val.mat").write_bytes(data)
        assert "wider_easy_val.mat" in message(read_truth, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["b\ninf\n1 2 3 4 .5\n", "b\nnan\n", "b\n1\n1 2 3 4 inf\n", "b\n1\n1 2 3\n", "b\n" + "9" * 5000 + "\n", "", "b"],
)
def test_a_result_that_cannot_be_is_one_line(text, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").write_text(text)
    assert "b.txt" in message(read_results, tmp_path, [("a", "b")])


@pytest.mark.parametrize("text", ["{", "raise OSError", "import none_such", "a = b'\\xff", "\0", "x = " + "(" * 5000])
def test_a_config_that_cannot_be_read_is_one_line(text, tmp_path):
    (tmp_path / "c.py").write_text(text)
    assert "c.py" in message(load_config, tmp_path / "c.py")


DIGITS = ROOT / "configs/det/yolov3_digits.py"
ONLY = "train_dataloader = dict(dataset=dict(_delete_=True, {}))"
SHAPES = {  # what a config says besides the digits' -> where it is wrong
    "train_dataloader = None": "no train_dataloader.dataset",
    "train_dataloader = 5": "train_dataloader is 5: expected a dict",
    "train_dataloader = dict(dataset=dict(_delete_=True))": "train_dataloader.dataset.type is None",
    "train_dataloader = dict(dataset=dict(ann_file=5))": "ann_file is 5: expected text",
    "train_dataloader = dict(dataset=dict(data_root=5))": "data_root is 5",
    "train_dataloader = dict(dataset=dict(data_prefix=5))": "data_prefix is 5",
    "train_dataloader = dict(dataset=dict(data_prefix=dict(sub_data_root=5)))": "data_prefix.sub_data_root is 5",
    "train_dataloader = dict(dataset=dict(metainfo=5))": "metainfo is 5",
    "train_dataloader = dict(dataset=dict(pipeline=5))": "pipeline is 5",
    ONLY.format("type='ConcatDataset', datasets=[5]"): "datasets[0] is 5: expected a dict",
    ONLY.format("type='ConcatDataset', datasets=5"): "not a config that mmengine reads",
    ONLY.format("type='RepeatDataset', dataset=5"): "dataset.dataset is 5: expected a dict",
    "model = 5": "model is 5: expected a dict",
    "model = dict(bbox_head=[])": "model.bbox_head is []: expected a dict",
    "train_dataloader = dict(dataset=None)": "train_dataloader.dataset is None: expected a dict",
    "model = None": "no model.backbone.arch",
    "raise SystemExit(0)": "not a config that mmengine reads: SystemExit",
    "model = dict(backbone=5)": "model.backbone is 5",
    "model = dict(backbone=dict(arch=5))": "model.backbone.arch is 5",
}


@pytest.mark.parametrize("text, words", SHAPES.items())
def test_a_config_of_another_shape_is_one_line(text, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "c.py").write_text(f"_base_ = {str(DIGITS)!r}\n{text}\n")
    refused(command(monkeypatch, capsys, "anchors", tmp_path / "c.py"), "c.py", words)


def test_a_list_without_an_object_is_one_line(coco):
    data, content, write = coco
    write(content | {"annotations": []})
    assert "has an object: there is nothing to learn or to find" in message(check_dataset, data)


def test_a_loader_without_workers_keeps_none():
    config = load_config(DIGITS, {"train_dataloader.num_workers": 0})
    assert config.train_dataloader.persistent_workers is False and config.val_dataloader.persistent_workers


@pytest.mark.parametrize("option", ["model.backbone.arch.x", "model.type.x.y"])
def test_options_that_do_not_fit_are_one_line(option):
    assert "--cfg-options" in message(load_config, DIGITS, {option: 1})


def test_a_log_that_was_cut_short_is_drawn(tmp_path):
    (tmp_path / "t/vis_data").mkdir(parents=True)
    row = '{"loss": 1.0, "epoch": 1, "iter": 1, "step": 1}\n'
    log = tmp_path / "t/vis_data/scalars.json"
    log.write_text(row + row.replace("1.0", "NaN") + '{"loss": 2.')
    training, evaluations = scalars(tmp_path)
    assert [r["loss"] for r in training] == [1.0, None] and not evaluations
    for damage in ("null\n", "{\n" + row, '{"step": "x"}\n', "[" * 10**5 + "\n"):
        log.write_text(row + damage)
        assert "scalars.json" in message(scalars, tmp_path)


@pytest.mark.parametrize("name", ["coco_deep.json", "coco_latin.json"])
def test_coco_files_that_went_wrong(name, shared, coco):
    if not (shared / "cases/files" / name).is_file():
        pytest.skip(f"no {shared}/cases/files/{name}")
    data, _, _ = coco
    assert name in message(check_dataset, data | {"ann_file": str(shared / "cases/files" / name)})


@pytest.mark.parametrize("name", ["wider_hugenum.txt", "wider_latin.txt", "wider_traverse.txt"])
def test_texts_that_went_wrong(name, shared):
    if not (shared / "cases/files" / name).is_file():
        pytest.skip(f"no {shared}/cases/files/{name}")
    assert name in message(read_faces, shared / "cases/files" / name)


@pytest.mark.parametrize("name", ["xml_badenc.xml", "xml_nanbox.xml", "xml_width0.xml", "result_inf.txt"])
def test_annotations_and_results_that_went_wrong(name, shared, tmp_path):
    path = shared / "cases/files" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    if name.endswith(".xml"):
        assert name in message(read_annotation, path.read_bytes(), path)
    else:
        (tmp_path / "a").mkdir()
        (tmp_path / "a/b.txt").write_bytes(path.read_bytes())
        assert "b.txt" in message(read_results, tmp_path, [("a", "b")])


def test_the_samples_are_right_but_for_the_trap():
    assert np.array_equal(read_annotation(NOTE.encode(), "a.xml").boxes, [[5, 5, 25, 30]])


@pytest.mark.parametrize("words", [["foo"], ["a=1", "b=[1,(2]"]])
@pytest.mark.parametrize("tool", ["check_data", "deploy", "train", "test", "export", "compare_boxes", "quantize"])
def test_options_that_are_no_pairs_are_one_line(tool, words, monkeypatch, capsys):
    given = [DIGITS] if tool in ("check_data", "train", "quantize") else [DIGITS, "x.pth"]
    done = command(monkeypatch, capsys, tool, *given, "--cfg-options", *words)
    assert done.code == 2 and "expected KEY=VALUE pairs" in done.err.splitlines()[-1], done
