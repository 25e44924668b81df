"""Read one annotation file of COCO's format, and name what is wrong in it (mmdet's own reader traces back)."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.core.validate import check_name, check_names, read_json, short

LAYOUT = (
    "expected categories with id and name, images with id, file_name, width and height, annotations with image_id, "
    "category_id and bbox (4 numbers)"
)

SAID = {"flat": "a box without area", "outside": "a box wholly outside the picture"}


class Coco(NamedTuple):
    """Hold an annotation file's content.

    names    of the categories, by id
    files    file_name of each picture
    objects  names of the categories that have an object
    flat     a line for each box without area or less than a pixel wide or high, which mmdet leaves out
    outside  a line for each box wholly outside its picture, which mmdet leaves out, too
    """

    names: dict[int, str]
    files: list[str]
    objects: set[str]
    flat: list[str]
    outside: list[str]


def read_coco(path: Path, elsewhere: bool = False) -> Coco:
    """Read a file. Raises UserError, with `path`, for what mmdet could not read and a name that leads out of the data's
    folder. With `elsewhere` such names are read, too: they are paths of the machine that wrote the file."""
    content = read_json(path)
    try:
        names = {_checked(c["id"], int, "a category's id"): c["name"] for c in content["categories"]}
        _check_ids(content["categories"], "categories")
        files = [_image(image) for image in _checked(content["images"], list, "images")]
        _check_ids(content["images"], "images")
        images = {image["id"]: image for image in content["images"]}
        found: set[int] = set()
        left_out: dict[str, list[str]] = {"flat": [], "outside": []}
        for note in content.get("annotations", ()):
            found.add(note["category_id"])
            hash(note["image_id"])  # an id that cannot be one is a TypeError
            image = images.get(note["image_id"])
            if fault := _fault(note, image):
                name = "no image of the file" if image is None else image["file_name"]
                left_out[fault].append(f"{name}: {SAID[fault]}, {short(note['bbox'])}")
        objects = {names[of] for of in found}
        for name in names.values():
            _checked(name, str, "a category's name")
    except (AttributeError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {short(str(error))}"
        raise UserError(f"data: {path} is not COCO's JSON ({reason}); {LAYOUT}") from None
    except UserError as error:
        raise UserError(f"data: {path}: {error}; {LAYOUT}") from None
    if not files:
        raise UserError(f"data: {path} lists no image; {LAYOUT}")
    if elsewhere:
        for name in files:
            check_name(name, path)
    else:
        check_names(files, path)
    return Coco(names, files, objects, **left_out)


def _checked(value: Plain, kind: type, what: str) -> Plain:
    if type(value) is not kind:
        raise UserError(f"{what} is {short(value)}")
    return value


def _check_ids(items: list[PlainDict], what: str) -> None:
    """Raise UserError for an id that stands twice, as in files that were joined: an object would be of either."""
    known = set()
    for item in items:
        if item["id"] in known:
            raise UserError(f"two {what} have the id {short(item['id'])}: number them anew, and their objects, too")
        known.add(item["id"])


def _image(image: PlainDict) -> str:
    hash(image["id"])
    sides = image["width"], image["height"]
    if not all(type(side) in (int, float) and side > 0 for side in sides):
        raise UserError(f"image {short(image['id'])} is of {short(sides)} pixels")
    return image["file_name"]


def _fault(note: PlainDict, image: PlainDict | None) -> str:
    """Name the field of Coco for a box that mmdet leaves out; empty for one that it takes."""
    box = note["bbox"]
    area = note.get("area", 1)  # coco_names.py adds what is left out
    numbers: list[Any] = [*box, area] if isinstance(box, list) and len(box) == 4 else [None]
    if not all(type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e9 for v in numbers):
        raise UserError(
            f"an annotation of image {short(note['image_id'])} has the box {short(box)}, area {short(area)}"
        )
    if note.get("iscrowd") not in (None, 0, 1):
        raise UserError(f"an annotation of image {short(note['image_id'])} has iscrowd {short(note['iscrowd'])}")
    x, y, w, h = box
    if area <= 0 or w < 1 or h < 1:
        return "flat"
    beyond = image is not None and (min(x + w, image["width"]) <= max(x, 0) or min(y + h, image["height"]) <= max(y, 0))
    return "outside" if beyond else ""
