"""A folder of labelled pictures becomes a detector's config, whatever program labelled it: mcunet new-detector."""

import json
import re
import shlex
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from detection import config_graph, load_config
from detection.config.picture_fit import picture_view
from detection.data.anchors import dataset_sizes
from detection.data.data_files import check_folders
from detection.own_data.coco_text import coco_text, kept_names
from detection.own_data.new_config import shapes, sizes, training
from detection.own_data.read_folder import read_folder
from detection.own_data.splits import divided
from nni_mcunet.cli.main import run
from nni_mcunet.core import model_zoo
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.view import STRETCH, View

NAMES = ("bolt", "nut, M6")
# name of a picture, its (w, h), its boxes: label, corners
ITEMS = [
    ("a", (80, 60), [(0, (8, 6, 40, 30)), (1, (40, 30, 72, 54))]),
    ("b", (64, 64), [(1, (0, 0, 32, 16))]),
    ("c d", (60, 80), []),
    ("é", (80, 60), [(0, (16, 12, 48, 36))]),
    ("e", (80, 60), [(0, (4, 6, 12, 36))]),
    ("f", (80, 60), [(1, (4, 6, 12, 36))]),
]


def picture(folder, name, size, ending=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32(str(folder / name).encode())  # a copy is told by its bytes
    image = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    (folder / f"{name}{ending}").write_bytes(cv2.imencode(ending, image)[1].tobytes())


def xml(size, boxes):
    objects = "".join(
        f"<object><name>{NAMES[label]}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2) in boxes
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"


def yolo(size, boxes):
    (w, h), lines = size, []
    for label, (x1, y1, x2, y2) in boxes:
        lines.append(f"{label} {(x1 + x2) / 2 / w} {(y1 + y2) / 2 / h} {(x2 - x1) / w} {(y2 - y1) / h}")
    return "\n".join(lines) + "\n"


def coco(items, ending=".jpg"):
    images, notes = [], []
    for name, (w, h), boxes in items:
        images.append({"id": len(images), "file_name": name + ending, "width": w, "height": h})
        for label, (x1, y1, x2, y2) in boxes:
            notes.append({"id": len(notes), "image_id": images[-1]["id"], "category_id": label + 5,
                          "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})  # fmt: skip
    categories = [{"id": 4, "name": "parts"}, *({"id": 5 + i, "name": name} for i, name in enumerate(NAMES))]
    return json.dumps({"images": images, "annotations": notes, "categories": categories})


def voc_devkit(root, items):
    for name, size, boxes in items:
        picture(root / "JPEGImages", name, size)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text(xml(size, boxes))


def voc_flat(root, items):
    for name, size, boxes in items:
        picture(root, name, size, ".png")
        (root / f"{name}.xml").write_text(xml(size, boxes))


def coco_one(root, items):
    for name, size, _ in items:
        picture(root / "images", name, size)
    (root / "annotations.json").write_text(coco(items))


def yolo_flat(root, items):
    for name, size, boxes in items:
        picture(root, name, size, ".bmp")
        if boxes:
            (root / f"{name}.txt").write_text(yolo(size, boxes))
    (root / "classes.txt").write_text("\n".join(NAMES))


def yolo_folders(root, items):
    for name, size, boxes in items:
        picture(root / "images", name, size)
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text(yolo(size, boxes))
    (root / "data.yaml").write_text(yaml.safe_dump({"names": dict(enumerate(NAMES)), "path": "/elsewhere"}))


FORMS = {"voc": voc_devkit, "voc flat": voc_flat, "coco": coco_one, "yolo flat": yolo_flat, "yolo": yolo_folders}


def found_in(folder):
    return {
        item.path.stem: (item.size, [(box.name, tuple(round(v, 3) for v in box.corners)) for box in item.boxes])
        for items in folder.splits.values()
        for item in items
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_format_says_the_same(tmp_path, form):
    FORMS[form](tmp_path, ITEMS)
    folder = read_folder(tmp_path)
    assert folder.format == form.split()[0] and folder.classes == NAMES and list(folder.splits) == [""]
    assert found_in(folder) == {
        name: (size, [(NAMES[label], tuple(map(float, box))) for label, box in boxes]) for name, size, boxes in ITEMS
    }


@pytest.mark.parametrize("form", FORMS)
def test_some_of_the_classes(tmp_path, form):
    """Pictures of other classes stay, without objects; the labels are in the order that was asked for."""
    FORMS[form](tmp_path, ITEMS)
    folder = read_folder(tmp_path)
    folder.keep(("nut, M6",))
    assert folder.classes == ("nut, M6",) and folder.notes[-1] == "3 objects of other classes left out: bolt 3"
    found = {name: [box[0] for box in boxes] for name, (_, boxes) in found_in(folder).items()}
    assert found == {name: ["nut, M6"] * sum(label for label, _ in boxes) for name, _, boxes in ITEMS}
    for classes, message in (
        (("nut", "bolt"), "no object is a 'nut' here; there are nut, M6"),
        (("nut, M6",) * 2, "twice"),
    ):
        with pytest.raises(UserError, match=message):
            folder.keep(classes)


def test_classes_of_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    yolo_folders(tmp_path / "parts", many(20))
    board = ["--board", "stm32f412", "-o", "out/mine", "--size", "96", "96"]
    run("new-detector", ["parts", *board, "--classes", '"nut, M6", bolt'])
    cfg = load_config("out/mine/config.py")
    assert cfg.metainfo.classes == ("nut, M6", "bolt") and "left out" not in capsys.readouterr().out
    run("new-detector", ["parts", *board, "--classes", "bolt"])
    assert load_config("out/mine/config.py").model.bbox_head.num_classes == 1
    said = capsys.readouterr().out
    assert "1 class: bolt" in said and "of other classes left out: nut, M6" in said
    with pytest.raises(UserError, match="no object is a 'screw' here"):
        run("new-detector", ["parts", *board, "--classes", "screw"])


@pytest.mark.parametrize("ways", ["voc", "coco", "yolo", "yolo yaml", "imagesets"])
def test_splits_that_a_folder_names(tmp_path, ways):
    """Roboflow's folders, whose data.yaml says ../train/images, and VOC's lists."""
    parts = {"train": ITEMS[:3], "valid": ITEMS[3:5], "test": ITEMS[5:]}
    for part, items in parts.items():
        if ways == "imagesets":
            voc_devkit(tmp_path, items)
            (tmp_path / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{name}\n" for name, *_ in items if " " not in name)
            (tmp_path / f"ImageSets/Main/{part.replace('valid', 'val')}.txt").write_text(lines)
        elif ways == "voc":
            voc_flat(tmp_path / part, items)
        elif ways == "coco":
            for name, size, _ in items:
                picture(tmp_path / part, name, size)
            (tmp_path / part / "_annotations.coco.json").write_text(coco(items))
        else:
            yolo_folders(tmp_path / part, items)
            (tmp_path / part / "data.yaml").unlink()
    if ways.startswith("yolo"):
        places = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
        content = {"names": list(NAMES)} | (places if ways == "yolo yaml" else {})
        (tmp_path / "data.yaml").write_text(json.dumps(content))
    found = divided(read_folder(tmp_path), str(tmp_path), {})
    names = {split: sorted(item.path.stem for item in items) for split, items in found.items()}
    expected = {"train": ["a", "b", "c d"], "val": ["e", "é"], "test": ["f"]}
    assert names == (expected | {"train": ["a", "b"]} if ways == "imagesets" else expected)


@pytest.mark.parametrize("form", ["voc", "coco", "yolo"])
def test_pictures_of_two_splits_are_of_the_first(tmp_path, form):
    """A data.yaml whose val is its train, as Ultralytics' smallest data sets have it, is said to be so."""
    items = [(f"p{i}", (80, 60), [(i % 2, (8, 6, 40, 30))]) for i in range(8)]
    if form == "voc":
        voc_devkit(tmp_path, items)
        (tmp_path / "ImageSets/Main").mkdir(parents=True)
        for split in ("train", "val"):
            (tmp_path / f"ImageSets/Main/{split}.txt").write_text("".join(f"p{i}\n" for i in range(8)))
    elif form == "coco":
        for name, size, _ in items:
            picture(tmp_path / "images", name, size)
        for split in ("train", "val"):
            (tmp_path / f"instances_{split}.json").write_text(coco(items))
    else:
        yolo_folders(tmp_path, items)
        content = {"names": list(NAMES), "train": "images", "val": "images"}
        (tmp_path / "data.yaml").write_text(json.dumps(content))
    folder = read_folder(tmp_path)
    assert [note for note in folder.notes if "names 8 pictures for train and for val: taken for train" in note]
    found = divided(folder, str(tmp_path), {})
    stems = {split: {item.path.stem for item in pictures} for split, pictures in found.items()}
    assert len(stems["train"]) == 6 and len(stems["val"]) == 2 and not stems["train"] & stems["val"]
    assert "no picture for validation: a fifth of those for train is drawn" in folder.lines(found)


def many(number):
    return [(f"p{i}", (80, 60), [(int(i == 3 or i == 7), (8, 6, 40, 30))]) for i in range(number)]


def test_a_draw_is_kept_and_has_every_class(tmp_path):
    voc_devkit(tmp_path, many(20))
    first = divided(read_folder(tmp_path), str(tmp_path), {}, seed=1)
    assert 3 <= len(first["val"]) <= 5 and not {i.path for i in first["val"]} & {i.path for i in first["train"]}
    for items in first.values():
        assert {box.name for item in items for box in item.boxes} == set(NAMES)
    for split, items in first.items():
        (tmp_path / f"{split}.json").write_text(coco_text(items, NAMES, tmp_path))
    kept = kept_names(tmp_path)
    for split in first:
        (tmp_path / f"{split}.json").unlink()
    voc_devkit(tmp_path, many(30))
    second = divided(read_folder(tmp_path), str(tmp_path), kept, seed=2)
    for split, items in first.items():
        assert {item.path for item in items} <= {item.path for item in second[split]}
    assert sum(map(len, second.values())) == 30


def test_anchors_depend_on_the_boxes_not_on_the_run(tmp_path, monkeypatch):
    """A second run into the folder keeps the draw, and with another length of training the anchors, too: a checkpoint
    of the first one would be decoded by others."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    corners = [(*rng.integers(0, 20, 2), *rng.integers(30, 60, 2)) for _ in range(40)]
    voc_devkit(tmp_path / "parts", [(f"p{i}", (80, 60), [(i % 2, box)]) for i, box in enumerate(corners)])
    words = ["parts", "--board", "stm32f412", "--size", "96", "96", "-o", "out/mine", "--epochs"]
    anchors = []
    for epochs in ("10", "3"):
        run("new-detector", [*words, epochs])
        anchors.append(load_config("out/mine/config.py").model.bbox_head.anchors)
    assert anchors[0] == anchors[1] and len(anchors[0][0]) == 3


REFUSED = {
    "LabelMe": ({"a.json": '{"shapes": [], "imagePath": "a.jpg"}'}, "LabelMe"),
    "a table": ({"labels.csv": "a.jpg,1,2,3,4"}, "is a table"),
    "no label": ({}, "no labels that are known; expected VOC"),
    "no names": ({"a.txt": "0 0.5 0.5 0.1 0.1"}, "no file names them"),
    "a class too many": ({"a.txt": "2 0.5 0.5 0.1 0.1", "classes.txt": "x\ny"}, "class 2, and there are 2 names"),
    "pixels": ({"a.txt": "0 10 10 30 30", "classes.txt": "x"}, "line 1.*expected shares"),
    "words": ({"a.txt": "bolt 0.1 0.1 0.1 0.1", "classes.txt": "x"}, "line 1.*expected five numbers"),
    "four numbers": ({"a.txt": "0 0.1 0.1 0.1", "classes.txt": "x"}, "expected class, x, y, width, height"),
    "a class twice": ({"a.txt": "0 0.5 0.5 0.1 0.1", "classes.txt": "x\nx"}, "stands twice"),
    "nothing labelled": ({"a.txt": "", "classes.txt": "x"}, "no labelled object"),
    "two formats": ({"a.txt": "0 0.5 0.5 0.1 0.1", "classes.txt": "x", "a.xml": xml((8, 8), [])}, "--format voc"),
    "key points": (
        {"a.txt": "0 0.5 0.5 0.1 0.1 0.4 0.4 1", "data.yaml": "names: [x]\nkpt_shape: [1, 3]"},
        "key points",
    ),
    "names with a gap": ({"a.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": "names: {0: x, 2: y}"}, "0: NAME, 1: NAME"),
    "another number of classes": (
        {"a.txt": "0 0.5 0.5 0.1 0.1", "data.yaml": "names: [x, y]\nnc: 3"},
        "data.yaml: nc is 3, and names has 2",
    ),
    "no XML": ({"a.xml": "<ann"}, "a.xml: not XML.*; expected VOC's XML files"),
    "XML of others": ({"a.xml": "<project/>"}, "a.xml: no annotation.*; expected VOC's XML files"),
    "a broken JSON": ({"a.json": '{"images": ['}, "a.json.*; expected VOC's XML files"),
    "a broken one first": ({"a.xml": "broken", "b.xml": xml((8, 8), [])}, "a.xml: not XML"),
    "no annotation": ({"a.xml": "<annotation><object/></annotation>"}, "a.xml: no annotation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path, case):
    files, message = REFUSED[case]
    picture(tmp_path, "a", (80, 60))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


# --- folders as strangers have them: read as they are meant, or left out with a word


def turned(root, form):
    """Pictures that EXIF turns, labelled as they lie in the file."""
    FORMS[form](root, many(6))
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in [*root.rglob("*.jpg")][:5]:
        Image.new("RGB", (80, 60)).save(path, exif=exif)


def upside_down(root, form):
    """The size does not tell whether the labels are of the turned picture."""
    FORMS[form](root, many(6))
    exif = Image.Exif()
    exif[0x0112] = 3
    for path in root.rglob("*.jpg"):
        Image.open(path).save(path, exif=exif)


def resized(root, form):
    FORMS[form](root, many(6))
    picture(root / "images" if form == "coco" else root / "JPEGImages", "p0", (160, 120))


def cut_short(root, form):
    FORMS[form](root, many(6))
    path = next(root.rglob("p0.*g"))
    path.write_bytes(path.read_bytes()[:200])


def without_labels(root, form):
    FORMS[form](root, many(6))
    picture(root / ("images" if form != "voc" else "JPEGImages"), "more", (80, 60))


def lists_with_blanks(root, _):
    voc_devkit(root, [(f"a b {i}", size, boxes) for i, (_, size, boxes) in enumerate(many(6))])
    (root / "ImageSets/Main").mkdir(parents=True)
    for split, numbers in {"train": range(4), "val": range(4, 6)}.items():
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"a b {i}\n" for i in numbers))


def named_inside(root, _):
    for i, (_, size, boxes) in enumerate(many(6)):
        picture(root / "images", f"IMG {i}", size)
        text = xml(size, boxes).replace("<size>", f"<filename>IMG {i}.jpg</filename><path>C:\\IMG {i}.jpg</path><size>")
        (root / f"{i:04}.xml").write_text(text)


def in_two_folders(root, _):
    """COCO's layout, with the same names in both splits."""
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        for name, size, _ in many(6):
            picture(root / split, name, size)
        (root / f"annotations/instances_{split}2017.json").write_text(coco(many(6)))


def in_any_order(root, _):
    """COCO's ids fall, one object is a crowd, one picture and one object's image are not there."""
    coco_one(root, many(6))
    content = json.loads((root / "annotations.json").read_text())
    for part, key in (("images", "id"), ("annotations", "image_id")):
        for item in content[part]:
            item[key] = 900 - 7 * item[key]
    content["annotations"][0]["iscrowd"] = 1
    content["images"].append({"id": 1, "file_name": "gone.jpg", "width": 8, "height": 8})
    content["annotations"].append(content["annotations"][1] | {"id": 77, "image_id": 2})
    (root / "annotations.json").write_text(json.dumps(content))


def windows_paths(root, _):
    coco_one(root, many(6))
    path = root / "annotations.json"
    path.write_text(path.read_text().replace('"p', '"D:\\\\x\\\\images\\\\p'))


def upper_case(root, form):
    FORMS[form](root, many(6))
    for path in [*root.rglob("p*.jpg"), *root.rglob("p*.txt")]:
        path.rename(path.with_suffix(path.suffix.upper()))


def labels_elsewhere(root, _):
    yolo_folders(root, many(6))
    (root / "labels/p0.txt").rename(root / "p0.txt")


def quoted_numbers(root, _):
    yolo_folders(root, many(6))
    (root / "data.yaml").write_text("names: {'0': bolt, '1': 'nut, M6'}")


def linked(root, _):
    yolo_folders(root.with_name("elsewhere"), many(6))
    for name in ("images", "labels", "data.yaml"):
        (root / name).symlink_to(root.with_name("elsewhere") / name)
    (root / "images/back").symlink_to(root)


def odd_pixels(root, _):
    voc_flat(root, many(6))
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80))
    Image.fromarray(pixels.astype(np.uint8)).save(root / "p0.png")
    Image.fromarray((pixels * 257).astype(np.uint16)).save(root / "p1.png")
    Image.fromarray(np.dstack([pixels] * 4).astype(np.uint8)).save(root / "p2.png")


def spelled_differently(root, _):
    voc_flat(root, many(6))
    (root / "p1.xml").write_text((root / "p1.xml").read_text().replace("bolt", "Bolt "))


STRANGE = {  # name -> (how it is made, of which format, pictures that are taken, a part of a note; "": none at all)
    "turned, VOC": (turned, "voc", 1, "5 pictures left out.*turned by its EXIF, its labels are of 80x60"),
    "turned, COCO": (turned, "coco", 1, "5 pictures left out.*turned by its EXIF, its labels are of 80x60"),
    "turned, YOLO": (turned, "yolo", 6, "5 pictures turned by EXIF, whose labels must be of the turned one: look at"),
    "turned upside down, VOC": (upside_down, "voc", 6, "6 pictures turned by EXIF.*p0.jpg"),
    "turned upside down, COCO": (upside_down, "coco", 6, "6 pictures turned by EXIF.*p0.jpg"),
    "resized, VOC": (resized, "voc", 5, "1 picture left out.*160x120, its labels are of 80x60"),
    "resized, COCO": (resized, "coco", 5, "1 picture left out.*160x120, its labels are of 80x60"),
    "cut short, VOC": (cut_short, "voc flat", 5, "1 picture left out.*p0.png"),
    "cut short, COCO": (cut_short, "coco", 5, "1 picture left out.*p0.jpg"),
    "cut short, YOLO": (cut_short, "yolo", 5, "1 picture that nothing can read.*p0.jpg"),
    "without labels, VOC": (without_labels, "voc", 6, "1 picture without an XML file, left out.*more.jpg"),
    "without labels, COCO": (without_labels, "coco", 6, "1 picture that no JSON lists, left out.*more.jpg"),
    "without labels, YOLO": (without_labels, "yolo", 7, "1 picture without a text file, taken as without.*more.jpg"),
    "lists with blanks": (lists_with_blanks, "", 6, ""),
    "named inside": (named_inside, "", 6, ""),
    "in two folders": (in_two_folders, "", 12, ""),
    "in any order": (in_any_order, "", 6, "1 object of a picture that the JSON does not list.*of image 2 in"),
    "paths of Windows": (windows_paths, "", 6, ""),
    "upper case": (upper_case, "yolo", 6, ""),
    "labels elsewhere": (labels_elsewhere, "", 6, "1 text file of no picture.*p0.txt"),
    "quoted numbers": (quoted_numbers, "", 6, ""),
    "linked": (linked, "", 6, ""),
    "odd pixels": (odd_pixels, "", 6, ""),
    "spelled differently": (spelled_differently, "", 6, "the classes 'Bolt' and 'bolt' are spelled differently"),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_strangers_have(tmp_path, case):
    make, form, taken, note = STRANGE[case]
    (tmp_path / "photos").mkdir()
    make(tmp_path / "photos", form)
    folder = read_folder(tmp_path / "photos")
    items = [item for items in folder.splits.values() for item in items]
    assert len(items) == taken and len({item.path for item in items}) == taken
    if make is not turned:
        assert all(item.size == (80, 60) for item in items)
        boxes = [box.corners for item in items for box in item.boxes]
        assert boxes and all(box == pytest.approx((8, 6, 40, 30)) for box in boxes)
    notes = [text for text in folder.notes if "categories without an object" not in text]
    assert any(re.search(note, text) for text in notes) if note else not notes, notes


def test_outlines_and_boxes_beyond_the_picture(tmp_path):
    picture(tmp_path, "a", (100, 100))
    (tmp_path / "classes.txt").write_text("x")
    (tmp_path / "a.txt").write_text("0 0.1 0.2 0.3 0.2 0.2 0.6\n0 0.95 0.5 0.2 0.2\n0 0.5 0.5 0.001 0.2\n")
    folder = read_folder(tmp_path)
    assert found_in(folder)["a"][1] == [("x", (10, 20, 30, 60)), ("x", (85, 40, 100, 60))]
    assert folder.notes == [
        f"1 box beyond the picture by more than a pixel, clipped, the first is {tmp_path}/a.jpg",
        f"1 box less than a pixel wide or high in their picture, the first in {tmp_path}/a.jpg",
    ]


def test_places_of_data_yaml_that_hold_no_picture_are_named(tmp_path):
    """A path of another machine, a folder that is not there, and one without pictures: the split is not silently
    another."""
    for name in ("a", "b"):
        picture(tmp_path / "images", name, (80, 60))
        (tmp_path / "images" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2")
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.yaml").write_text("names: [x]\nnc: 1\ntrain: images\nval: [../valid/images, empty]\n")
    folder = read_folder(tmp_path)
    assert {split: len(items) for split, items in folder.splits.items()} == {"train": 2}
    assert folder.notes == [
        "data.yaml says val: ../valid/images, where no picture is",
        "data.yaml says val: empty, where no picture is",
    ]
    (tmp_path / "data.yaml").write_text("names: [x]\nnc:\ntrain: /home/me/set/images\n")
    assert read_folder(tmp_path).notes == ["data.yaml says train: /home/me/set/images, where no picture is"]


def test_length_of_a_training():
    for pictures in (1, 10, 40, 292, 1697, 100_000):
        length = training(pictures)
        steps = length.epochs * -(-pictures // length.batch)
        assert 24 <= length.epochs <= 200 and 1 <= length.warm_up <= steps / 20 + 1 and length.interval <= length.epochs
    assert training(292).epochs * 37 >= 1850
    assert vars(training(40, 20)) == {"batch": 8, "epochs": 20, "interval": 2, "warm_up": 5, "steps": 100}
    assert training(8, 1).warm_up == 1


def test_the_shape_of_the_pictures(tmp_path):
    voc_devkit(tmp_path, [("a", (200, 100), []), ("b", (200, 100), [(0, (0, 0, 50, 50))]), ("c", (10, 90), [])])
    items = read_folder(tmp_path).splits[""]
    assert shapes(items)[0] == (160, 320) and shapes(items)[-1] == (64, 96)
    assert sizes(items).tolist() == [[0.25, 0.5]]


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The config that the command writes for 20 pictures, in a folder with odd letters."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "m 'y' ü"
    yolo_folders(root, many(20))
    run("new-detector", [str(root), "--board", "stm32f412", "-o", "out/mine", "--size", "96", "128"])
    return tmp_path / "out/mine/config.py"


def test_a_training_begins_with_the_zoos_weights(tmp_path, monkeypatch, capsys):
    """With those of the architecture, unless others or none are named."""
    monkeypatch.chdir(tmp_path)
    voc_devkit(tmp_path / "photos", many(20))
    name = model_zoo.weights_for("mcunet_in3")
    path = str(model_zoo.weights_file(name).resolve())
    for weights, said, begun in (
        ([], f"from {name}", path),
        (["--weights", name], "from ", path),
        (["--weights", "none"], "from random weights", None),
    ):
        run("new-detector", ["photos", "--board", "stm32f412", "--size", "96", "96", *weights])
        printed = capsys.readouterr()
        assert said in printed.out
        note = f"{name} was trained on BCCD, 292 / 72 photographs: a metric of pictures that are among them is too good"
        assert (note in printed.err) == (not weights)  # who names it knows
        found = load_config(str(tmp_path / "out/photos_stm32f412/config.py")).model.backbone.get("init_cfg")
        assert (found and found["checkpoint"]) == begun


def test_the_printed_commands_can_be_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    voc_devkit(tmp_path / "my photos", many(20))
    run("new-detector", ["my photos", "--board", "stm32f412", "--size", "96", "96", "--epochs", "7"])
    said, notes = capsys.readouterr()
    assert "after so few steps a detector finds little or nothing" in notes
    assert "ms a picture (estimated)" in said and "training: 7 epochs of 15 pictures in batches of 8, 14 steps" in said
    lines = [shlex.split(line) for line in said.splitlines() if line.startswith("  mcunet ")]
    assert load_config(lines[0][2]).train_cfg.max_epochs == 7
    assert [words[1] for words in lines] == ["check-data", "train", "deploy"]
    assert {words[2] for words in lines} == {"out/my photos_stm32f412/config.py"} and Path(lines[0][2]).is_file()


def test_the_config_is_one_of_mmdets(config, capsys):
    cfg = load_config(str(config))
    check_folders(cfg)
    assert cfg.model.bbox_head.num_classes == 2 and cfg.train_dataloader.dataset.metainfo.classes == NAMES
    assert cfg.train_dataloader.dataset.pipeline[4] == {"type": "Resize", "scale": (128, 96), "keep_ratio": False}
    assert len(dataset_sizes(cfg.train_dataloader.dataset)) + len(dataset_sizes(cfg.val_dataloader.dataset)) == 20
    with pytest.raises(SystemExit) as end:
        run("check-data", [str(config)])
    assert end.value.code == 0, capsys.readouterr().out


def test_a_letterboxed_detector(tmp_path, monkeypatch):
    """Its anchors are shares of the image, of which a picture of another shape leaves a part empty."""
    monkeypatch.chdir(tmp_path)
    yolo_folders(tmp_path / "parts", many(20))  # of 80x60 pixels, boxes of 32x24
    words = ["parts", "--board", "stm32f412", "--size", "96", "96"]
    run("new-detector", [*words, "-o", "out/mine", "--fit", "letterbox"])
    run("new-detector", [*words, "-o", "out/other"])
    mine, other = (load_config(f"out/{name}/config.py") for name in ("mine", "other"))
    assert (picture_view(mine), picture_view(other)) == (View(pad=114), STRETCH)
    assert other.model.bbox_head.anchors == [[(0.4, 0.4)]] and mine.model.bbox_head.anchors == [[(0.4, 0.3)]]
    assert mine.train_dataloader.dataset.pipeline[4].type == "LetterboxResize"


def test_a_yolox_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yolo_folders(tmp_path / "photos", many(8))
    run("new-detector", ["photos", "--board", "stm32f412", "-o", "out/x", "--size", "96", "96", "--head", "yolox"])
    cfg = load_config("out/x/config.py")
    assert cfg.model.type == "MCUNetYOLOX" and "anchors" not in cfg.model.bbox_head
    assert "anchors" not in Path("out/x/config.py").read_text()
    assert config_graph(cfg).outputs[:3] == ("yolox0_cls", "yolox0_box", "yolox0_obj")
    check_folders(cfg)


@pytest.mark.parametrize(
    ("sram", "flash", "message"),
    [
        (12_000, 900_000, r"needs [\d,]{6,} bytes of sram, 7,904 are there; give a smaller picture \(--size H W\), or "
                          r"another board \(mcunet boards lists them\)$"),
        (900_000, 90_000, r"needs [\d,]{6,} bytes of flash, [\d,]{6,} are there; give another board \(mcunet boards"),
    ],
)  # fmt: skip
def test_a_board_that_is_too_small_is_one_line(sram, flash, message, tmp_path, monkeypatch):
    """A smaller picture needs less SRAM, and as much flash."""
    monkeypatch.chdir(tmp_path)
    voc_devkit(tmp_path / "photos", many(8))
    text = f"name: tiny\ncore: cortex-m4\nclock_hz: 1000000\nsram: {sram}\nflash: {flash}\nreserved_sram: 4096\n"
    (tmp_path / "tiny.yml").write_text(text)
    message = rf"tiny: no detector of ours fits: the smallest tried, mcu_w50_r160 at 96x96, {message}"
    with pytest.raises(UserError, match=message):
        run("new-detector", ["photos", "--board", "tiny.yml", "-o", "out/x", "--size", "96", "96"])
    assert not Path("out/x").exists()
