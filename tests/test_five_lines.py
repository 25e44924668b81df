"""From a folder of pictures to boxes out of the emulated firmware: the lines of docs/detectors.md, typed as they stand,
on 50 photographs of blood cells in each format, and the lines that mcunet new-detector prints."""

import json
import re
import shlex
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import yaml

from detection.own_data.read_folder import read_folder
from nni_mcunet.cli.main import run
from nni_mcunet.core.plan.picture_source import CAMERA_LINES

DOCS = Path(__file__).parents[1] / "docs/detectors.md"
SECTION = re.compile(r"## From your own pictures\n\n```\n(.*?)```", re.DOTALL)
EPOCH = ["--cfg-options", "train_cfg.max_epochs=1"]


def documented():
    """The typed lines."""
    found = SECTION.search(DOCS.read_text())
    assert found
    return found[1].splitlines()


def xml(item, ending):
    objects = "".join(
        f"<object><name>{b.name}</name><bndbox><xmin>{b.corners[0] + 1:.0f}</xmin><ymin>{b.corners[1] + 1:.0f}</ymin>"
        f"<xmax>{b.corners[2]:.0f}</xmax><ymax>{b.corners[3]:.0f}</ymax></bndbox></object>"
        for b in item.boxes
    )
    w, h = item.size
    size = f"<filename>{item.path.stem}{ending}</filename><size><width>{w}</width><height>{h}</height></size>"
    return f"<annotation>{size}{objects}</annotation>"


def voc(root, items, classes):
    for item in items:
        save(item, root / "JPEGImages", ".jpg")
        write(root / "Annotations" / f"{item.path.stem}.xml", xml(item, ".jpg"))


def flat_voc(root, items, classes):
    for item in items:
        save(item, root, ".bmp")
        write(root / f"{item.path.stem}.xml", xml(item, ".bmp"))


def coco(root, items, classes):
    images, notes = [], []
    for at, item in enumerate(items):
        save(item, root / "images", ".png")
        images.append({"id": at, "file_name": f"{item.path.stem}.png", "width": item.size[0], "height": item.size[1]})
        for box in item.boxes:
            x1, y1, x2, y2 = box.corners
            notes.append({"id": len(notes), "image_id": at, "category_id": classes.index(box.name), "iscrowd": 0,
                          "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    write(root / "labels.json", json.dumps({"images": images, "annotations": notes, "categories": categories}))


def yolo(root, items, classes):
    for item in items:
        save(item, root / "images", ".png")
        (w, h), lines = item.size, []
        for box in item.boxes:
            x1, y1, x2, y2 = box.corners
            middle, sides = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h), ((x2 - x1) / w, (y2 - y1) / h)
            lines.append(" ".join(map(str, (classes.index(box.name), *middle, *sides))))
        write(root / "labels" / f"{item.path.stem}.txt", "\n".join(lines) + "\n")
    write(root / "data.yaml", yaml.safe_dump({"names": list(classes)}))


def save(item, folder, ending):
    folder.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / f"{item.path.stem}{ending}"), cv2.imread(str(item.path)))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


FORMS = {"VOC, JPEG": voc, "flat VOC, BMP": flat_voc, "COCO, PNG": coco, "YOLO, PNG": yolo}


@pytest.fixture
def photos(tmp_path, monkeypatch, shared):
    """Make the folder `photos` of a form, with so many photographs, and work beside it."""
    monkeypatch.chdir(tmp_path)

    def make(form, number):
        folder = read_folder(shared / "data/bccd/BCCD")
        items = sorted((item for part in folder.splits.values() for item in part), key=lambda item: item.path)
        FORMS[form](tmp_path / "photos", items[:number], folder.classes)
        return SimpleNamespace(count=sum(len(item.boxes) for item in items[:number]))

    return make


@pytest.mark.parametrize("form", FORMS)
def test_the_first_line_prints_those_that_follow(photos, form, capsys):
    """And it reads the same objects from every format."""
    made, (first, *follow) = photos(form, 10), documented()
    assert 3 <= 1 + len(follow) <= 5
    run("new-detector", [*shlex.split(first)[2:], "--size", "96", "128"])
    printed = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  mcunet ")]
    printed = [line for line in printed if "check-data" not in line]
    assert printed == follow
    parts = [json.loads(Path(f"out/mine/{split}.json").read_text()) for split in ("train", "val")]
    assert sum(len(part["images"]) for part in parts) == 10
    assert sum(len(part["annotations"]) for part in parts) == made.count


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_from_pictures_to_boxes_of_the_firmware(photos, form, capsys):
    """The typed lines, with one epoch of training: the C leaves room for the source of the first."""
    photos(form, 50)
    seconds = []
    for line in documented():
        words, begun = shlex.split(line), time.monotonic()
        run(words[1], [*words[2:], *(EPOCH if words[1] == "train" else [])])
        seconds.append(time.monotonic() - begun)
    report = json.loads(Path("out/mine/board/report.json").read_text())
    board = json.loads(Path("out/mine/board/stm32f412.json").read_text())
    plan = json.loads(Path("out/mine/board/stm32f412/plan.json").read_text())
    assert plan["arena_bytes"] + plan["callback_bytes"]["lines"] + CAMERA_LINES <= plan["arena_limit"]
    assert report["boards"]["stm32f412"]["arena_bytes"] == plan["arena_bytes"] and isinstance(board["boxes"], list)
    assert Path("out/mine/board/stm32f412.png").is_file()
    with capsys.disabled():
        print(f"\n{form}: {', '.join(f'{s:.0f}' for s in seconds)} seconds")
