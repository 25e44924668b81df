"""Read folders of pictures by class: any ImageFolder, and ImageNet's layout.

folder    ROOT/train/CLASS/*.jpg. With both ROOT/val and ROOT/test, val judges and test has the final figures. With only
          one of them, that one is the test set, and what judges is split off the training set: a fifth of it, or
          5,000 pictures where that is fewer, unless held_out says how many
imagenet  ROOT/train/nXXXXXXXX/*.JPEG and ROOT/val/nXXXXXXXX/*.JPEG (the 50,000 pictures of the final figures)
"""

import os
import re
from pathlib import Path

from ...core.types import PlainDict
from ...pictures import suffixes
from .pictures import Pictures, read_picture, split_off
from .source import DataError, natural, wanted

MOST_HELD_OUT = 5000  # by default
FOLDER = {"held_out": None, "crop": [0.08, 1.0], "jitter": 0.4, "keep": 0.875, "seed": 0}  # keep: 224 of 256
IMAGENET = FOLDER | {"held_out": 10000}


def open_folder(root: Path, options: PlainDict) -> Pictures:
    """Open any folder of class folders, kind `folder`. Writes the number of `held_out` pictures into the options, which
    identify the data, where they leave it open. Raises DataError."""
    layout = "train/CLASS/*.jpg and, if there are any, val/CLASS/*.jpg and test/CLASS/*.jpg"
    train = wanted(root / "train", layout, root)
    classes = class_names(train)
    others = {name: pictures_of(root / name, classes) for name in ("val", "test") if (root / name).is_dir()}
    items = pictures_of(train, classes)
    if options["held_out"] is None:
        few = len(others) < 2 and len(items) < 5 * MOST_HELD_OUT
        options["held_out"] = max(1, len(items) // 5) if few else MOST_HELD_OUT
    if len(others) == 2:
        splits = {"train": items, "held_out": others["val"], "test": others["test"]}
    else:
        splits = _split(items, options)
        if others:
            splits["test"] = next(iter(others.values()))
    return Pictures(splits, read_picture, len(classes), options, classes)


def open_imagenet(root: Path, options: PlainDict) -> Pictures:
    """Open ImageNet's layout, kind `imagenet`. Raises DataError."""
    layout = "train/nXXXXXXXX/*.JPEG and val/nXXXXXXXX/*.JPEG"
    train, val = (wanted(root / name, layout, root) for name in ("train", "val"))
    classes = class_names(train)
    odd = [name for name in classes if not re.fullmatch(r"n\d{8}", name)]
    if odd:
        raise DataError(
            f"data: {train}/{odd[0]} is no class of ImageNet (nXXXXXXXX); for other folders use kind: folder"
        )
    if not any(entry.is_dir() for entry in os.scandir(val)):
        raise DataError(
            f"data: {val} is flat: sort its pictures into a folder a class (val/nXXXXXXXX/*.JPEG), as the widespread "
            "script valprep.sh does"
        )
    splits = _split(pictures_of(train, classes), options) | {"test": pictures_of(val, classes)}
    return Pictures(splits, read_picture, len(classes), options)


def _split(items: list[tuple[str, int]], options: PlainDict) -> dict[str, list[tuple[str, int]]]:
    held_out, seed = natural(options["held_out"], "held_out", low=1), natural(options["seed"], "seed")
    return split_off(items, held_out, seed)


def class_names(folder: Path) -> list[str]:
    """List the names of a folder's class folders, sorted. Raises DataError for fewer than two."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(names) < 2:
        raise DataError(f"data: {folder} has {len(names)} class folders: expected two or more")
    return names


def pictures_of(folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """List (path, class index), sorted, of the folders in `folder`, each of which must be one of `classes`. Raises
    DataError."""
    items = []
    for name in class_names(folder):
        if name not in classes:
            raise DataError(f"data: {folder}/{name} is a class that train/ does not have")
        files = sorted(f.path for f in os.scandir(folder / name) if f.name.lower().endswith(suffixes()))
        if not files:
            raise DataError(f"data: {folder}/{name} has no picture ({' '.join(suffixes())})")
        items += [(path, classes.index(name)) for path in files]
    return items
