"""Which picture a label means, and which of several label files is meant: never another one without a word."""

import json

import detection  # noqa: F401, before mmdet

# isort: split
import pytest
from mmdet.datasets.api_wrappers import COCO
from pycocotools.cocoeval import COCOeval
from test_own_data import NAMES, coco, found_in, many, picture, voc_devkit, xml, yolo_folders

from detection.data.coco_json import read_coco
from detection.own_data.coco_text import kept_names
from detection.own_data.read_folder import read_folder
from detection.own_data.splits import divided
from nni_mcunet.core.errors import UserError

BOX = [(0, (8, 6, 40, 30))]
OTHER = [(1, (0, 0, 32, 16))]


def notes(folder):
    return [note for note in folder.notes if "categories without" not in note]


def two_cameras(root, name, ending=".jpg"):
    """Pictures of one name in two folders, the first with BOX, the second with OTHER, in one JSON."""
    items = [(name.format(1), (80, 60), BOX), (name.format(2), (80, 60), OTHER)]
    for camera in (1, 2):
        picture(root / f"images/cam{camera}", "0001", (80, 60))
    (root / "annotations").mkdir()
    (root / "annotations/instances_default.json").write_text(coco(items, ending))


@pytest.mark.parametrize(
    "name",
    [
        "cam{}/0001",
        "cam{}\\0001",
        "D:\\set\\cam{}\\0001",
        "photos/cam{}/0001",
        "/home/ann/set/cam{}/0001",
        "../images/cam{}/0001",
    ],
)
def test_folders_in_a_name_tell_pictures_of_one_name_apart(tmp_path, name):
    two_cameras(tmp_path, name)
    (items,) = read_folder(tmp_path).splits.values()
    assert {item.path.parent.name: item.boxes[0].name for item in items} == {"cam1": NAMES[0], "cam2": NAMES[1]}


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside"])
def test_a_name_never_means_a_file_outside_the_folder(tmp_path, name):
    root = tmp_path / "set"
    picture(root, "a", (80, 60))
    picture(tmp_path, "outside", (80, 60))
    (root / "all.json").write_text(coco([("a", (80, 60), BOX), (name, (80, 60), BOX)]))
    folder = read_folder(root)
    assert found_in(folder).keys() == {"a"}
    assert notes(folder)[0].startswith("1 picture that the folder does not have")


@pytest.mark.parametrize("pictures, labels", [("images", "labels"), ("Images", "Labels"), ("JPEGImages", "labels")])
def test_the_folders_of_yolo_in_any_case(tmp_path, pictures, labels):
    for split in ("train", "val"):
        picture(tmp_path / pictures / split, f"a_{split}", (80, 60))
        (tmp_path / labels / split).mkdir(parents=True)
        (tmp_path / labels / split / f"a_{split}.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    (tmp_path / "data.yaml").write_text("names: [cell]\n")
    folder = read_folder(tmp_path)
    assert {split: [len(item.boxes) for item in items] for split, items in folder.splits.items()} == {
        "train": [1],
        "val": [1],
    }
    assert not notes(folder)


def test_two_names_that_lead_to_one_picture_lead_to_none(tmp_path):
    two_cameras(tmp_path, "cam{}/0001")
    (tmp_path / "images/cam2/0001.jpg").unlink()
    (tmp_path / "images/cam1/0001.jpg").rename(tmp_path / "images/0001.jpg")
    with pytest.raises(UserError, match=r"2 pictures that the folder does not have, the first is 'cam1/0001\.jpg'"):
        read_folder(tmp_path)


def test_a_picture_of_another_split_is_another_picture(tmp_path):
    for split, boxes in (("train", BOX), ("valid", OTHER)):
        picture(tmp_path / split, "b", (80, 60))
        items = [("a", (80, 60), BOX), ("b", (80, 60), boxes)]
        (tmp_path / split / "_annotations.coco.json").write_text(coco(items))
    picture(tmp_path / "train", "a", (80, 60))
    folder = read_folder(tmp_path)
    assert {split: len(items) for split, items in folder.splits.items()} == {"train": 2, "val": 1}
    assert notes(folder) == [
        f"1 picture that the folder does not have, the first is 'a.jpg' of {tmp_path}/valid/_annotations.coco.json"
    ]


def test_a_picture_in_the_json_twice_has_the_objects_of_both(tmp_path):
    picture(tmp_path, "a", (80, 60))
    picture(tmp_path, "b", (80, 60))
    items = [("a", (80, 60), BOX), ("a", (80, 60), [*BOX, *OTHER]), ("b", (80, 60), BOX)]
    (tmp_path / "all.json").write_text(coco(items))
    folder = read_folder(tmp_path)
    assert {name: len(boxes) for name, (_, boxes) in found_in(folder).items()} == {"a": 2, "b": 1}
    assert len(folder.splits[""]) == 2
    assert notes(folder) == [f"1 picture listed twice, with the objects of both, the first is {tmp_path}/a.jpg"]


def test_a_json_of_all_splits_leaves_the_pictures_folders(tmp_path):
    items = [(f"{split}/p{i}", *item[1:]) for split in ("train", "test") for i, item in enumerate(many(2))]
    for split in ("train", "test"):
        for i in range(2):
            picture(tmp_path / split, f"p{i}", (80, 60))
    (tmp_path / "annotations.json").write_text(coco(items))
    assert {split: len(found) for split, found in read_folder(tmp_path).splits.items()} == {"train": 2, "test": 2}


def test_the_masks_of_voc_are_not_its_pictures(tmp_path):
    voc_devkit(tmp_path, many(3))
    for i in range(3):
        path = tmp_path / f"Annotations/p{i}.xml"
        path.write_text(path.read_text().replace("<size>", f"<filename>p{i}.jpg</filename><size>"))
        for kind in ("SegmentationClass", "SegmentationObject"):
            picture(tmp_path / kind, f"p{i}", (80, 60), ".png")
    (items,) = read_folder(tmp_path).splits.values()
    assert {item.path.parent.name for item in items} == {"JPEGImages"} and len(items) == 3


def test_the_nearest_of_two_xml_files_is_meant(tmp_path):
    """A picture of train was taken away, and its XML file left: it is not that of the picture in photos."""
    picture(tmp_path / "photos", "a", (80, 60))
    (tmp_path / "photos/a.xml").write_text(xml((80, 60), OTHER))
    (tmp_path / "another").mkdir()
    (tmp_path / "another/a.xml").write_text(xml((80, 60), BOX))
    folder = read_folder(tmp_path)
    assert found_in(folder)["a"][1] == [(NAMES[1], OTHER[0][1])] and len(folder.splits[""]) == 1
    assert folder.notes == [f"1 XML file without a picture, the first is {tmp_path}/another/a.xml"]
    (tmp_path / "third").mkdir()
    (tmp_path / "photos/a.xml").rename(tmp_path / "third/a.xml")
    with pytest.raises(UserError, match=r"a.jpg: both .*a.xml and .*a.xml may be its labels: remove one of them"):
        read_folder(tmp_path)


def test_two_pictures_of_one_text_file(tmp_path):
    yolo_folders(tmp_path, many(3))
    picture(tmp_path / "images", "p1", (80, 60), ".png")
    with pytest.raises(UserError, match=r"p1.txt: both .*p1.jpg and .*p1.png may be its picture: remove one of them"):
        read_folder(tmp_path)


def test_two_text_files_of_one_picture(tmp_path):
    yolo_folders(tmp_path, many(3))
    text = (tmp_path / "labels/p1.txt").read_text()
    (tmp_path / "images/p1.txt").write_text(text)
    assert len(found_in(read_folder(tmp_path))["p1"][1]) == 1
    (tmp_path / "images/p1.txt").write_text(text * 2)
    with pytest.raises(UserError, match=r"p1.jpg: both .*images/p1.txt and .*labels/p1.txt may be its labels"):
        read_folder(tmp_path)


def test_a_folder_of_many_json_files(tmp_path):
    for i in range(25):
        picture(tmp_path, f"p{i}", (80, 60))
        (tmp_path / f"task{i}.json").write_text(coco([(f"p{i}", (80, 60), BOX)]))
    assert len(read_folder(tmp_path).splits[""]) == 25
    (tmp_path / "task24.json").write_text('{"images": [')
    assert any(
        "1 JSON file that cannot be read, left out, the first is" in note for note in read_folder(tmp_path).notes
    )


DOUBLE = {
    "images": "two images have the id 0",
    "categories": "two categories have the id 5",
}


@pytest.mark.parametrize("part", DOUBLE)
def test_an_id_that_stands_twice_is_refused(tmp_path, part):
    """Two files, each counted from 0, that were joined: each picture would have the objects of both."""
    picture(tmp_path, "a", (80, 60))
    picture(tmp_path, "b", (80, 60))
    content = json.loads(coco([("a", (80, 60), BOX), ("b", (80, 60), OTHER)]))
    content[part][-1]["id"] = content[part][-2]["id"]
    (tmp_path / "all.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=DOUBLE[part]):
        read_folder(tmp_path)


# --- the names of YOLO's classes, the lists of pictures, the divisions


def yolo(root, names=NAMES, **settings):
    yolo_folders(root, many(4))
    (root / "data.yaml").write_text(json.dumps({"names": list(names)} | settings))
    return root


def test_two_files_that_name_the_classes_differently(tmp_path):
    yolo(tmp_path)
    (tmp_path / "custom.yaml").write_text(json.dumps({"names": list(NAMES), "nc": 2}))
    assert read_folder(tmp_path).classes == NAMES
    (tmp_path / "custom.yaml").write_text(json.dumps({"names": list(NAMES[::-1])}))
    with pytest.raises(UserError, match=r"data.yaml and .*custom.yaml name the classes differently: remove one"):
        read_folder(tmp_path)
    (tmp_path / "custom.yaml").unlink()
    (tmp_path / "labels/classes.txt").write_text("\n".join(NAMES[::-1]))
    folder = read_folder(tmp_path)
    assert folder.classes == NAMES
    assert folder.notes == [f"{tmp_path}/labels/classes.txt names other classes than data.yaml, whose names are taken"]
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "images/classes.txt").write_text(NAMES[1])  # labelImg's, of a folder with this class only
    assert read_folder(tmp_path).classes == NAMES[::-1]
    (tmp_path / "images/classes.txt").write_text(NAMES[0])
    with pytest.raises(UserError, match=r"classes.txt and .*classes.txt name the classes differently"):
        read_folder(tmp_path)


@pytest.mark.parametrize("names", ["[no, mask]", "{0: 1.10, 1: b}", "[a, null]"])
def test_a_name_that_yaml_takes_for_no_text(tmp_path, names):
    yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(f"names: {names}\n")
    with pytest.raises(UserError, match=r"which YAML does not take for text: write it in quotes"):
        read_folder(tmp_path)


def test_a_blank_line_counts_as_a_class(tmp_path):
    yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes(b"\xef\xbb\xbfbolt\r\n nut, M6 \r\n\r\n")
    assert read_folder(tmp_path).classes == NAMES
    (tmp_path / "classes.txt").write_text("bolt\n\nnut, M6\n")
    with pytest.raises(UserError, match=r"classes.txt, line 2: empty, and it counts as a class"):
        read_folder(tmp_path)


def lists(root, train, val):
    (root / "train.txt").write_text(train)
    (root / "val.txt").write_text(val)


@pytest.mark.parametrize("ending", ["\n", " \r\n"])
@pytest.mark.parametrize("path", ["./images/{}/0.jpg", "data\\images\\{}\\0.jpg", "/elsewhere/images/{}/0.jpg"])
@pytest.mark.parametrize("yaml", [True, False])
def test_lists_of_pictures(tmp_path, path, ending, yaml):
    """data.yaml's, or Darknet's and CVAT's beside obj.names; two pictures have one name."""
    for camera in ("one", "two"):
        picture(tmp_path / "images" / camera, "0", (80, 60))
        (tmp_path / "labels" / camera).mkdir(parents=True)
        (tmp_path / "labels" / camera / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    lists(tmp_path, path.format("one") + ending, path.format("two") + ending)
    if yaml:
        (tmp_path / "data.yaml").write_text(json.dumps({"names": ["x"], "train": ["train.txt"], "val": "val.txt"}))
    else:
        (tmp_path / "obj.names").write_text("x\n")
    found = read_folder(tmp_path)
    assert {split: items[0].path.parent.name for split, items in found.splits.items()} == {"train": "one", "val": "two"}
    assert not found.notes


def test_path_of_data_yaml_goes_first(tmp_path):
    yolo_folders(tmp_path / "v2/train", many(3))
    yolo_folders(tmp_path / "train", many(4))
    for folder in ("v2/train", "train"):
        (tmp_path / folder / "data.yaml").unlink()
    (tmp_path / "data.yaml").write_text(json.dumps({"path": "v2", "train": "train\\images", "names": list(NAMES)}))
    folder = read_folder(tmp_path)
    assert len(folder.splits["train"]) == 3 and folder.notes == ["4 pictures that data.yaml does not name"]


def test_lists_of_voc_with_dots_blanks_and_two_years(tmp_path):
    names = {"VOC2007": ["a.b", "a.c", "a"], "VOC2012": ["x 1", "x", "y_jpg.rf.0"]}
    for year, stems in names.items():
        voc_devkit(tmp_path / year, [(stem, *many(1)[0][1:]) for stem in stems])
        main = tmp_path / year / "ImageSets/Main"
        main.mkdir(parents=True)
        (main / "train.txt").write_text(f"JPEGImages/{stems[0]}.jpg Annotations/{stems[0]}.xml\n" if year[-1] == "7"
                                        else f"{stems[0]}\n")  # fmt: skip
        (main / "val.txt").write_text(f"{stems[1]}{' 1' * (year[-1] == '7')}\n{stems[2]}\n")
    folder = read_folder(tmp_path)
    found = {split: sorted(item.path.stem for item in items) for split, items in folder.splits.items()}
    assert found == {"train": ["a.b", "x 1"], "val": ["a", "a.c", "x", "y_jpg.rf.0"]} and not folder.notes


def test_exchanged_corners_and_padded_names(tmp_path):
    voc_devkit(tmp_path, [("a", (80, 60), BOX), ("b", (80, 60), BOX)])
    path = tmp_path / "Annotations/a.xml"
    text = path.read_text().replace("<name>bolt", "<name>\r\n  bolt ")
    path.write_text(text.replace("xmin>", "?>").replace("xmax>", "xmin>").replace("?>", "xmax>"))
    folder = read_folder(tmp_path)
    assert folder.classes == ("bolt",) and found_in(folder)["a"] == found_in(folder)["b"]
    assert folder.notes == [f"1 box with exchanged corners, set right, the first is {tmp_path}/JPEGImages/a.jpg"]


def test_objects_that_nothing_learns(tmp_path):
    voc_devkit(tmp_path, [("a", (80, 60), BOX)])
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    with pytest.raises(UserError, match="no labelled object but difficult ones in it"):
        read_folder(tmp_path)


def split_in(folder, root):
    found = divided(folder, str(root), {})
    return {split: {item.path.stem for item in items} for split, items in found.items()}


@pytest.mark.parametrize("only", ["test", "valid"])
def test_pictures_of_one_split_that_is_not_train(tmp_path, only):
    yolo_folders(tmp_path / only, many(10))
    folder = read_folder(tmp_path)
    found = split_in(folder, tmp_path)
    assert len(found["train"]) in (7, 8) and len(found["val"]) in (2, 3) and found.keys() == {"train", "val"}
    assert "none for train: they are divided anew" in "".join(folder.notes)


def test_copies_are_drawn_together(tmp_path):
    """Roboflow writes three augmented copies of a picture; others copy a file."""
    names = [f"p{i}_jpg.rf.{i:031x}{j}" for i in range(10) for j in range(3)]
    yolo_folders(tmp_path / "train", [(name, (80, 60), BOX if i % 3 else OTHER) for i, name in enumerate(names)])
    yolo_folders(tmp_path / "train", [(f"q{i}", (80, 60), BOX) for i in range(4)])
    for i in (1, 2, 3):
        (tmp_path / f"train/images/q{i}.jpg").write_bytes((tmp_path / "train/images/q0.jpg").read_bytes())
    found = split_in(read_folder(tmp_path), tmp_path)
    parts = [{name.split("_")[0].rstrip("0123456789") if name[0] == "q" else name.split("_")[0] for name in names}
             for names in found.values()]  # fmt: skip
    assert not parts[0] & parts[1] and 5 <= len(found["val"]) <= 10 and sum(map(len, found.values())) == 34


def test_a_copy_in_another_split_is_left_out(tmp_path):
    for split, number in (("train", 4), ("valid", 3)):
        yolo_folders(tmp_path / split, [(f"{split}{i}", (80, 60), BOX) for i in range(number)])
    (tmp_path / "valid/images/valid1.jpg").write_bytes((tmp_path / "train/images/train3.jpg").read_bytes())
    folder = read_folder(tmp_path)
    assert split_in(folder, tmp_path)["val"] == {"valid0", "valid2"}
    assert "1 picture for val left out: the same bytes are one for train" in "".join(folder.notes)


def test_a_class_that_a_split_lacks_is_named(tmp_path):
    yolo_folders(tmp_path / "train", [("a", (80, 60), BOX)])
    yolo_folders(tmp_path / "valid", [("b", (80, 60), [*BOX, *OTHER])])
    folder = read_folder(tmp_path)
    divided(folder, str(tmp_path), {})
    assert folder.notes == ["no object of nut, M6 in the pictures for train"]


def test_an_id_of_an_object_is_its_place(tmp_path):
    """Roboflow counts from 0, which pycocotools takes for no object; joined files have some twice; many lack area."""
    content = json.loads(coco([("a", (80, 60), BOX), ("b", (80, 60), OTHER)]))
    for note in content["annotations"]:
        note["id"] = 0
        del note["area"]
    path = tmp_path / "all.json"
    path.write_text(json.dumps(content))
    assert read_coco(path).files == ["a.jpg", "b.jpg"]
    found = COCO(str(path))
    assert [note["bbox"] for note in found.load_anns(found.get_ann_ids(img_ids=[0]))] == [[8, 6, 32, 24]]
    boxes = [{key: note[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
             for note in content["annotations"]]  # fmt: skip
    judged = COCOeval(found, found.loadRes(boxes), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[0] == pytest.approx(1)


def test_a_json_of_another_in_the_folder_to_write(tmp_path):
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(UserError, match="not of mcunet new-detector: give a new folder"):
        kept_names(tmp_path)


def test_what_our_commands_wrote_is_no_label(tmp_path):
    """mcunet new-detector . writes into ./out, and a second run finds its own train.json there."""
    yolo(tmp_path)
    for folder in ("out/mine", "out/boxes"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mcunet_files.json").write_text("{}")
    (tmp_path / "out/mine/train.json").write_text(coco([("images/p0", (80, 60), BOX)]))
    picture(tmp_path / "out/boxes", "p0", (80, 60), ".png")
    folder = read_folder(tmp_path)
    assert folder.format == "yolo" and not folder.notes and len(folder.splits[""]) == 4


def test_a_json_of_all_beside_one_of_a_split(tmp_path):
    """The pictures of val are not trained on because another file names all."""
    items = many(6)
    for name, size, _ in items:
        picture(tmp_path, name, size)
    (tmp_path / "all.json").write_text(coco(items))
    (tmp_path / "val.json").write_text(coco(items[4:]))
    assert split_in(read_folder(tmp_path), tmp_path) == {"train": {"p0", "p1", "p2", "p3"}, "val": {"p4", "p5"}}


def test_pictures_to_judge_but_none_to_learn(tmp_path):
    for split in ("valid", "test"):
        yolo_folders(tmp_path / split, [(f"{split}{i}", (80, 60), BOX) for i in range(2)])
    message = "no picture for train, 2 for val and 2 for test: call the folder or the list of those to learn train"
    with pytest.raises(UserError, match=message):
        divided(read_folder(tmp_path), str(tmp_path), {})
