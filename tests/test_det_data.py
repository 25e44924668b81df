"""Detection data: folders that are not there, pictures and boxes that are not right, and anchors of what is left."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import detection  # noqa: F401, before mmdet

# isort: split
import numpy as np
import pytest
from conftest import ROOT
from mmengine.config import Config
from PIL import Image

from detection.config.config import load_config
from detection.data.anchors import choose, cluster, dataset_sizes, iou, voc_sizes
from detection.data.data_files import check_dataset, check_folders
from detection.data.data_survey import survey
from detection.data.datasets import build_dataset, leaves
from detection.data.pictures import inspect
from nni_mcunet.core.errors import UserError

SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT / ".." / "shared"))
DIGITS = "configs/det/yolov3_digits.py"


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture(w: int = 60, h: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (h, w, 3), np.uint8))


def xml(boxes, size=(60, 40), folder: str = "", name: str = "one") -> str:
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><name>{name}</name><difficult>{d}</difficult><bndbox>"
        + "".join(f"<{c}>{v}</{c}>" for c, v in zip(corners, box, strict=True))
        + "</bndbox></object>"
        for *box, d in boxes
    )
    w, h = size
    return (
        f"<annotation><folder>{folder}</folder><size><width>{w}</width><height>{h}</height></size>{objects}"
        "</annotation>"
    )


GOOD = ((5, 5, 25, 30, 0),)


def voc(root: Path, items: dict, year: str = "VOC2007", split: str = "train") -> dict:
    """Write name -> (picture bytes, xml) in VOC's layout; gives the config of mmdet's data set."""
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / year / folder).mkdir(parents=True, exist_ok=True)
    for name, (data, text) in items.items():
        (root / year / f"JPEGImages/{name}.jpg").write_bytes(data)
        (root / year / f"Annotations/{name}.xml").write_text(text)
    (root / year / f"ImageSets/Main/{split}.txt").write_text("".join(f"{name}\n" for name in items))
    return dict(
        type="XMLDataset",
        data_root=str(root),
        ann_file=f"{year}/ImageSets/Main/{split}.txt",
        data_prefix=dict(sub_data_root=f"{year}/"),
        metainfo=dict(classes=("one", "two")),
        pipeline=[],
    )


def two(root: Path, **options) -> dict:
    return voc(root, {name: (encoded(picture()), xml(GOOD)) for name in ("a", "b")}, **options)


def refused(data: dict, *parts: str) -> None:
    with pytest.raises(UserError) as error:
        check_dataset(data)
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_voc_folder_that_is_whole(tmp_path):
    data = two(tmp_path)
    check_dataset(data)
    assert len(build_dataset(data)) == 2


def test_a_voc_folder_that_is_not(tmp_path):
    data, root = two(tmp_path / "devkit"), tmp_path / "devkit/VOC2007"
    refused(data | {"data_root": str(tmp_path / "none")}, f"no folder {tmp_path}/none", "VOC2007/Annotations/NAME.xml")
    refused(data | {"data_root": str(tmp_path)}, "found in", f"it is in {tmp_path}/devkit: set data_root to that")
    refused(data | {"data_root": str(root)}, "is missing", "found", f"it is in {tmp_path}/devkit")
    refused(data | {"ann_file": "VOC2007/ImageSets/Main/val.txt"}, "val.txt is missing", "train.txt")
    refused({k: v for k, v in data.items() if k != "data_prefix"}, "data_prefix.sub_data_root is not set")
    refused(data | {"metainfo": dict(classes=("cat",))}, "is of a class of metainfo.classes, cat; there are one")
    refused(data | {"type": "NoSuchData"}, "no data set type 'NoSuchData'", "custom_imports")
    (root / "JPEGImages/b.jpg").rename(root / "JPEGImages/b.png")
    refused(data, "1 of 2 pictures", "train.txt", "b.jpg (b.png is there)")
    (root / "Annotations/a.xml").write_text("<annotation>")
    refused(data, "a.xml: not XML")
    (root / "Annotations/a.xml").write_text(xml(GOOD).replace("ymax", "ymux"))
    refused(data, "a.xml: no annotation of VOC's format", "bndbox/xmin")
    (root / "Annotations/a.xml").unlink()
    refused(data, "1 of 2 annotations", "a.xml")
    shutil.rmtree(root / "Annotations")
    refused(data, "Annotations is missing", "found", "ImageSets/, JPEGImages/")
    (root / "ImageSets/Main/train.txt").write_text("\n")
    (root / "Annotations").mkdir()
    refused(data, "train.txt is empty", "name of a picture")


def test_wider_face_folders(tmp_path):
    data = dict(type="WIDERFaceDataset", data_root=str(tmp_path), ann_file="train.txt",
                data_prefix=dict(img="WIDER_train"), pipeline=[])  # fmt: skip
    (tmp_path / "WIDER_train/images/0--Parade").mkdir(parents=True)
    (tmp_path / "wider_face_split").mkdir()
    refused(data, "train.txt is missing", "WIDER_train/Annotations/NAME.xml", "official", "converted")
    (tmp_path / "train.txt").write_text("x\n")
    refused(data, "Annotations is missing", "EVENT/NAME.jpg", "images/")
    (tmp_path / "WIDER_train/Annotations").mkdir()
    (tmp_path / "WIDER_train/Annotations/x.xml").write_text(xml(GOOD, folder="0--Parade", name="face"))
    refused(data, "1 of 1 pictures", "WIDER_train/0--Parade/x.jpg")
    (tmp_path / "WIDER_train/0--Parade").mkdir()
    (tmp_path / "WIDER_train/0--Parade/x.jpg").write_bytes(encoded(picture()))
    check_dataset(data)
    assert build_dataset(data)[0]["img_path"] == str(tmp_path / "WIDER_train/0--Parade/x.jpg")


def test_coco_folders(tmp_path):
    data = dict(type="CocoDataset", data_root=str(tmp_path), ann_file="annotations/train.json",
                data_prefix=dict(img="images/"), metainfo=dict(classes=("one",)), pipeline=[])  # fmt: skip
    content = dict(
        images=[dict(id=1, file_name="a.jpg", width=60, height=40)],
        categories=[dict(id=7, name="one")],
        annotations=[dict(id=1, image_id=1, category_id=7, bbox=[5, 5, 20, 25], area=500, iscrowd=0)],
    )
    (tmp_path / "annotations").mkdir()
    listed = tmp_path / "annotations/train.json"
    refused(data, "train.json is missing", "COCO's JSON", "nothing")
    listed.write_text("{")
    refused(data, "train.json: not valid JSON")
    listed.write_text(json.dumps({k: v for k, v in content.items() if k != "categories"}))
    refused(data, "is not COCO's JSON", "'categories'", "images with id, file_name")
    listed.write_text(json.dumps(content))
    refused(data, f"no folder {tmp_path}/images")
    (tmp_path / "images").mkdir()
    refused(data, "1 of 1 pictures", "images/a.jpg")
    refused(data | {"metainfo": dict(classes=("one", "three"))}, "no category 'three'", "it has one")
    (tmp_path / "images/a.jpg").write_bytes(encoded(picture()))
    check_dataset(data)
    assert len(build_dataset(data)) == 1


def test_wrapped_data_sets_are_looked_into(tmp_path):
    """VOC07+12 as mmdet has it: a repeated concatenation; the message tells which part and where to get it."""
    parts = [two(tmp_path, year=year) for year in ("VOC2007", "VOC2012")]
    both = dict(type="ConcatDataset", ignore_keys=["dataset_type"], datasets=parts)
    wrapped = dict(type="MultiImageMixDataset", pipeline=[], dataset=dict(type="RepeatDataset", times=3, dataset=both))
    assert list(leaves(wrapped)) == parts
    config = Config(dict(train_dataloader=dict(dataset=wrapped), data_source="fetch it from there"))
    check_folders(config)
    built = build_dataset(both)
    assert [part.ann_file for part in leaves(built)] == [str(tmp_path / part["ann_file"]) for part in parts]
    (tmp_path / "VOC2012/JPEGImages/b.jpg").unlink()
    with pytest.raises(UserError, match=r"VOC2012/JPEGImages/b\.jpg; fetch it from there"):
        check_folders(config)


@pytest.mark.parametrize(
    "base, options",
    [("", {"data_root": "no/"}), ("data_root = 'no/'", {}), ("data_root = 'no/'\ndata_source = 'mine'", {}),
     ("", {f"{name}_dataloader.dataset.data_root": "no/" for name in ("train", "val", "test")})],
)  # fmt: skip
def test_advice_is_for_the_place_that_it_was_written_for(base, options, tmp_path, monkeypatch):
    """How to get the base's data does not help with one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.py").write_text(f"_base_ = '{ROOT / DIGITS}'\ndata_source = 'theirs'\n")
    (tmp_path / "mine.py").write_text(f"_base_ = './base.py'\n{base}\n")
    config = load_config("mine.py", options | {"model.backbone.arch": str(ROOT / "configs/arch/mcu_w50_r128.json")})
    with pytest.raises(UserError, match="no folder no") as error:
        check_folders(config)
    assert str(error.value).endswith("; mine") == ("mine" in base) and "theirs" not in str(error.value), error.value
    config = load_config("base.py", {"model.backbone.arch": str(ROOT / "configs/arch/mcu_w50_r128.json")})
    with pytest.raises(UserError, match=r"; theirs$"):
        check_folders(config)


BIG = encoded(picture(600, 400))
EXIF = Image.Exif()
EXIF[0x0112] = 6
UNUSUAL = {
    "rgb": (encoded(picture()), "RGB"),
    "grey": (encoded(picture().convert("L")), "grey"),
    "cmyk": (encoded(picture().convert("CMYK")), "CMYK"),
    "palette": (encoded(picture().convert("P"), "PNG"), "palette"),
    "alpha": (encoded(picture().convert("RGBA"), "PNG"), "alpha"),
    "sixteen": (encoded(Image.fromarray(np.full((40, 60), 40000, np.uint16)), "PNG"), "16-bit"),
    "appended": (encoded(picture()) + b"a camera's notes", "RGB"),
}
CORRUPT = {"half": BIG[: len(BIG) // 2], "nearly": BIG[:-20], "empty": b"", "text": b"no picture",
           "png": encoded(picture(), "PNG")[:-3000]}  # fmt: skip


def mmdet_reads(path: Path):
    import mmcv

    return mmcv.imfrombytes(path.read_bytes(), backend="cv2")


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_pictures_are_pictures(name, tmp_path):
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(UNUSUAL[name][0])
    assert inspect(path) == inspect(path, decode=True) == ((60, 40), UNUSUAL[name][1], False, None, False)
    image = mmdet_reads(path)
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8
    if name == "sixteen":
        assert (image == 40000 >> 8).all()


def test_the_size_is_that_of_the_decoded_picture(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(picture(), exif=EXIF))
    assert inspect(path) == ((40, 60), "RGB", True, None, True)
    assert mmdet_reads(path).shape == (60, 40, 3)


@pytest.mark.parametrize("name", CORRUPT)
def test_corrupt_pictures_are_found_without_decoding_all(name, tmp_path):
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(CORRUPT[name])
    assert inspect(path).fault and inspect(path, decode=True).fault


@pytest.fixture
def zoo(tmp_path) -> dict:
    """A data set with one of everything that goes wrong."""
    items = {name: (data, xml(GOOD)) for name, (data, _) in UNUSUAL.items()}
    items |= {
        "cut": (CORRUPT["half"], xml(GOOD, (600, 400))),
        "turned": (encoded(picture(), exif=EXIF), xml(GOOD)),
        "nothing": (encoded(picture()), xml(())),
        "flat": (encoded(picture()), xml((*GOOD, (9, 9, 9, 20, 0), (9, 9, 20, 9, 0)))),
        "beyond": (encoded(picture()), xml(((5, 5, 80, 30, 0), (5, 5, 9, 9, 1)))),
    }
    return voc(tmp_path, items)


def test_survey_counts_and_names(zoo):
    steps = [dict(type="LoadAnnotations", with_bbox=True), dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1))]
    found = survey(build_dataset(zoo | {"pipeline": steps, "filter_cfg": dict(filter_empty_gt=True)}))
    assert (found.pictures, len(found.labels), found.left_out, found.ignored) == (12, 14, 1, 1)
    assert found.kinds == {"RGB": 6, "grey": 1, "CMYK": 1, "palette": 1, "alpha": 1, "16-bit": 1}
    first = [(len(o), o[0].split(":")[0].rsplit("/")[-1]) for o in (found.corrupt, found.resized, found.outside)]
    assert first == [(1, "cut.jpg"), (1, "turned.jpg"), (1, "beyond.jpg")]
    assert len(found.flat) == 2 and len(found.empty) == 1
    line = found.line()
    for part in ("12 pictures, 14 boxes", "1 corrupt (first: ", "cut.jpg", "1 grey", "1 CMYK", "1 turned by EXIF",
                 "1 without objects", "2 boxes without area (dropped)"):  # fmt: skip
        assert part in line
    assert "(kept)" in survey(build_dataset(zoo)).line()  # the pipeline has no FilterAnnotations


def test_training_passes_over_a_corrupt_picture_the_same_each_time(zoo, caplog):
    """mmengine draws another from numpy's generator, which it seeds per worker."""
    steps = [dict(type="LoadPicture"), dict(type="LoadAnnotations", with_bbox=True),
             dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)), dict(type="PackDetInputs")]  # fmt: skip
    data = build_dataset(zoo | {"pipeline": steps, "filter_cfg": dict(filter_empty_gt=True)})
    names = [data.get_data_info(i)["img_id"] for i in range(len(data))]
    assert "nothing" not in names and "cut" in names

    def epoch(seed: int) -> list[str]:
        np.random.seed(seed)
        return [data[i]["data_samples"].img_id for i in range(len(data))]

    taken = {epoch(seed)[names.index("cut")] for seed in range(8)}
    assert epoch(0) == epoch(0) and len(taken) > 1 and "cut" not in taken
    boxes = data[names.index("flat")]["data_samples"].gt_instances.bboxes.tensor
    assert boxes.tolist() == [[4, 4, 24, 29]]
    with pytest.raises(AssertionError, match=r"failed to load image: .*cut\.jpg"):  # evaluation does not pass over it
        build_dataset(zoo | {"pipeline": [dict(type="LoadImageFromFile")], "test_mode": True})[names.index("cut")]


def test_anchors_of_planted_clusters():
    planted = np.array([(0.05, 0.07), (0.2, 0.1), (0.15, 0.4), (0.6, 0.55)])
    rng = np.random.default_rng(0)
    sizes = np.vstack([centre * rng.normal(1, 0.03, (200, 2)) for centre in planted])
    found = cluster(sizes, 4, seed=1)
    assert np.abs(found / planted - 1).max() < 0.01
    assert np.array_equal(found, cluster(sizes, 4, seed=1))


def test_iou_and_kmeans_are_the_plain_ones():
    rng = np.random.default_rng(1)
    sizes = rng.uniform(0.02, 0.9, (60, 2))
    anchors = cluster(sizes, 3)

    def plain(a, b) -> float:
        common = min(a[0], b[0]) * min(a[1], b[1])
        return common / (a[0] * a[1] + b[0] * b[1] - common)

    assert iou(sizes, anchors) == pytest.approx(np.array([[plain(s, a) for a in anchors] for s in sizes]))
    nearest = [max(range(3), key=lambda j: plain(s, anchors[j])) for s in sizes]
    for j in range(3):  # a fixed point: each centre is the mean of what is nearest to it
        assert anchors[j] == pytest.approx(np.mean([s for s, n in zip(sizes, nearest, strict=True) if n == j], axis=0))
    stretched = iou(sizes * [3, 0.5], anchors * [3, 0.5])
    assert stretched == pytest.approx(iou(sizes, anchors))  # hence fractions of the picture


def test_anchors_are_split_fine_to_coarse():
    found = choose(np.random.default_rng(0).uniform(0.02, 0.9, (500, 2)), 6, 2)
    areas = [w * h for scale in found.scales for w, h in scale]
    assert [len(scale) for scale in found.scales] == [3, 3] and areas == sorted(areas)
    with pytest.raises(UserError, match="give a multiple"):
        choose(np.ones((5, 2)), 5, 2)
    with pytest.raises(UserError, match="3 anchors of 1 different"):
        choose(np.ones((5, 2)), 3, 1)


def test_voc_boxes_from_folder_and_archive(zoo, tmp_path):
    """The same as mmdet's data set trains on: difficult ones and those without area are not in it."""
    expected = dataset_sizes(zoo)
    assert len(expected) == 11
    assert np.array_equal(voc_sizes(tmp_path, "train"), expected)
    with tarfile.open(tmp_path / "voc.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "VOC2007", "VOC2007")
    assert np.array_equal(voc_sizes(tmp_path / "voc.tar.xz", "train"), expected)
    with pytest.raises(UserError, match=r"no ImageSets/Main/test\.txt"):
        voc_sizes(tmp_path, "test")
    with pytest.raises(UserError, match="neither a folder nor a tar archive"):
        voc_sizes(tmp_path / "VOC2007/Annotations/rgb.xml")


def tool(name: str, *arguments, expect: int = 0) -> str:
    command = [sys.executable, f"tools/{name}.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_tools(zoo, tmp_path):
    values = {"data_root": tmp_path, "ann_file": zoo["ann_file"], "metainfo.classes": "one,two"}
    loaders = ("train", "val", "test")
    options = [f"{name}_dataloader.dataset.{key}={value}" for name in loaders for key, value in values.items()]
    text = tool("check_data", DIGITS, "--png", tmp_path / "sizes.png", "--cfg-options", *options, expect=1)
    assert text.count("12 pictures, 14 boxes") == 1  # the three loaders have one data set
    assert re.search(r"cut\.jpg: cannot be decoded", text) and re.search(r"one +14\n", text) and "  width, px " in text
    assert Image.open(tmp_path / "sizes.png").size[0] > 300
    text = tool("anchors", tmp_path, "--split", "train", "--scales", 1, "--number", 1, "--json", tmp_path / "a.json")
    w, h = dataset_sizes(zoo).mean(0).round(3)
    assert f"anchors=[[({w}, {h})]]," in text
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["boxes"] == 11 and found["scales"] == [[[w, h]]]


@pytest.mark.skipif(not (SHARED / "data/voc_annotations").is_dir(), reason=f"no {SHARED}/data/voc_annotations")
def test_voc07_boxes():
    sizes = voc_sizes(SHARED / "data/voc_annotations/VOC2007_Annotations_ImageSets.tar.xz", "trainval")
    assert len(sizes) == 12608  # the objects of VOC2007's trainval that are not difficult, as published
