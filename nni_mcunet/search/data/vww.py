"""Read Visual Wake Words (Chowdhery et al. 2019): is there a person in the picture?

It is derived from COCO 2014 or 2017 as the public scripts do, create_visualwakewords_annotations.py (pyvww) and
build_visualwakewords_data_lib.py (tensorflow/models):

- label 1 if any annotation of the category "person" has `area` / (width * height) > 0.005. Their `area` is the
  annotation's, that of the mask, and crowds count like any other annotation.
- test: the pictures of train and val whose ids are in mscoco_minival_ids.txt (tensorflow/models,
  research/object_detection/data), about 8,000; train: all others, about 115,000.

ROOT/annotations/instances_{train,val}YEAR.json and mscoco_minival_ids.txt, ROOT/{train,val}YEAR/*.jpg.
"""

from pathlib import Path

from ...core.types import PlainDict
from ...core.validate import check_names, file_text, read_json, short
from .pictures import Pictures, read_picture, split_off
from .source import DataError, natural, wanted

# crop: a smaller one often loses the person
OPTIONS = {"held_out": 5000, "crop": [0.5, 1.0], "jitter": 0.4, "keep": 0.875, "seed": 0}
AREA = 0.005
IDS = "mscoco_minival_ids.txt"
LAYOUT = (
    "annotations/instances_train2014.json, annotations/instances_val2014.json (or 2017), "
    f"annotations/{IDS} (tensorflow/models, research/object_detection/data), train2014/*.jpg, val2014/*.jpg"
)


def open_vww(root: Path, options: PlainDict) -> Pictures:
    """Open COCO's folder as Visual Wake Words. Raises DataError."""
    annotations = wanted(root / "annotations", LAYOUT, root)
    year = next((y for y in ("2014", "2017") if (annotations / f"instances_train{y}.json").exists()), "2014")
    minival = read_ids(wanted(annotations / IDS, LAYOUT, root))
    train: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
    for part in ("train", "val"):
        pictures = wanted(root / f"{part}{year}", LAYOUT, root)
        for number, name, label in read_labels(wanted(annotations / f"instances_{part}{year}.json", LAYOUT, root)):
            (test if number in minival else train).append((str(pictures / name), label))
    if not test:
        raise DataError(
            f"data: no picture of {annotations}/instances_*{year}.json is among the ids of {annotations / IDS}"
        )
    held_out, seed = natural(options["held_out"], "held_out", low=1), natural(options["seed"], "seed")
    splits = split_off(train, held_out, seed) | {"test": test}
    return Pictures(splits, read_picture, 2, options)


def read_ids(path: Path) -> set[int]:
    """Read the ids of the minival pictures, one a line. Raises DataError."""
    try:
        return {int(line) for line in file_text(path, kind=DataError).split()}
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"data: {path}: expected a picture's id on each line ({short(str(error))})") from None


def read_labels(path: Path) -> list[tuple[int, str, int]]:
    """List (id, file name, 1 with a person or 0) of every picture of a COCO annotation file, in its order. Raises
    DataError."""
    coco = read_json(path, DataError)
    try:
        person = next(c["id"] for c in coco["categories"] if c["name"] == "person")
        least = {image["id"]: AREA * image["width"] * image["height"] for image in coco["images"]}
        positive = {
            a["image_id"]
            for a in coco["annotations"]
            if a["category_id"] == person and a["area"] > least[a["image_id"]]
        }
        found = [(image["id"], image["file_name"], int(image["id"] in positive)) for image in coco["images"]]
    except (AttributeError, KeyError, TypeError, StopIteration) as error:
        reason = f"{type(error).__name__}: {short(str(error))}"
        raise DataError(f"data: {path} is no COCO annotation of instances with persons ({reason})") from None
    check_names((name for _, name, _ in found), path, DataError)
    return found
