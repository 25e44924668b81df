"""Read one annotation file of COCO's format, and name what is wrong in it (mmdet's own reader traces back)."""

import math
from pathlib import Path
from typing import Any, NamedTuple

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import Plain
from nni_mcunet.core.validate import check_names, read_json, short

LAYOUT = (
    "expected categories with id and name, images with id, file_name, width and height, annotations with id, "
    "image_id, category_id, bbox (4 numbers) and area"
)


class Coco(NamedTuple):
    """Hold an annotation file's content.

    names    of the categories, by id
    files    file_name of each picture
    objects  names of the categories that have an object
    flat     annotations whose box is less than a pixel wide or high, which mmdet leaves out
    """

    names: dict[int, str]
    files: list[str]
    objects: set[str]
    flat: int


def read_coco(path: Path) -> Coco:
    """Read a file. Raises UserError, with `path`, for what mmdet could not read and a name that leads out of the data's
    folder."""
    content = read_json(path)
    try:
        names = {_checked(c["id"], int, "a category's id"): c["name"] for c in content["categories"]}
        files = [_image(image) for image in _checked(content["images"], list, "images")]
        found, flat = set(), 0
        for note in content.get("annotations", ()):
            found.add(note["category_id"])
            hash((note["id"], note["image_id"]))  # an id that cannot be one is a TypeError
            flat += _is_flat(note)
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
    check_names(files, path)
    return Coco(names, files, objects, flat)


def _checked(value: Plain, kind: type, what: str) -> Plain:
    if type(value) is not kind:
        raise UserError(f"{what} is {short(value)}")
    return value


def _image(image: dict) -> str:
    hash(image["id"])
    sides = image["width"], image["height"]
    if not all(type(side) in (int, float) and side > 0 for side in sides):
        raise UserError(f"image {short(image['id'])} is of {short(sides)} pixels")
    return image["file_name"]


def _is_flat(note: dict) -> bool:
    box, area = note["bbox"], note["area"]
    numbers: list[Any] = [*box, area] if isinstance(box, list) and len(box) == 4 else [None]
    if not all(type(v) in (int, float) and math.isfinite(v) and abs(v) < 1e9 for v in numbers):
        raise UserError(
            f"an annotation of image {short(note['image_id'])} has the box {short(box)}, area {short(area)}"
        )
    return area <= 0 or box[2] < 1 or box[3] < 1
