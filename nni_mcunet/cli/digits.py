"""Write the digit scenes as a data set in VOC's layout: OUT/VOC2007/{JPEGImages,Annotations,ImageSets/Main}.

    mcunet digits --out out/digits --train 3000 --val 300 --size 128

A scene's seed is (--seed, split, number): the same arguments give the same files. OUT/VOC2007 appears when it is whole;
after an interruption run it again (seconds). A data set that is there is never written over.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UserError, writing
from ..core.file_sets import locked, named_folder

if TYPE_CHECKING:
    import numpy as np

MADE = "digits.json"  # says with which arguments
OBJECT = """ <object><name>{name}</name><difficult>0</difficult>
  <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
"""
ANNOTATION = """<annotation><filename>{name}.jpg</filename>
 <size><width>{w}</width><height>{h}</height><depth>3</depth></size>
{objects}</annotation>
"""


def annotation(name: str, size: int, boxes: "np.ndarray", labels: "np.ndarray") -> str:
    """Return VOC's XML: pixels count from 1 and the last one is inside, where `scene` counts from 0 and it is
    outside."""
    from ..search.data.digit_scenes import CLASSES

    objects = (
        OBJECT.format(int(x1) + 1, int(y1) + 1, int(x2), int(y2), name=CLASSES[label])
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True)
    )
    return ANNOTATION.format(name=name, w=size, h=size, objects="".join(objects))


def write_scene(root: Path, name: str, seed: tuple[int, ...], size: int, split: str) -> None:
    """Write one picture and its boxes."""
    import cv2
    import numpy as np

    from ..search.data.digit_scenes import scene

    image, boxes, labels = scene(np.random.default_rng(seed), (size, size), split)
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    (root / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg.tobytes())
    (root / "Annotations" / f"{name}.xml").write_text(annotation(name, size, boxes, labels))


def write_all(root: Path, train: int, val: int, size: int, seed: int) -> None:
    """Write the whole data set, into a folder that is not there yet."""
    from ..core.progress import each

    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    sets = {s: [f"{s}_{i:06d}" for i in range(n)] for s, n in (("train", train), ("val", val))}
    for s, (split, names) in enumerate(sets.items()):
        for i, name in enumerate(each(names, "scene", f"{split} scenes")):
            write_scene(root, name, (seed, s, i), size, split)
    sets |= {"trainval": sets["train"] + sets["val"], "test": sets["val"]}
    for name, names in sets.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(names) + "\n")
    (root / MADE).write_text(json.dumps({"train": train, "val": val, "size": size, "seed": seed}) + "\n")


def is_made(root: Path, wanted: dict[str, int]) -> bool:
    """Say whether the data set with these arguments is there. Raises UserError for all else but an empty folder."""
    if not os.path.lexists(root) or (root.is_dir() and not root.is_symlink() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MADE).read_text())
        other = [f"--{key} {int(found[key])}" for key in wanted if found[key] != wanted[key]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{root} is there and was not made by this command: give another --out") from None
    if other:
        raise UserError(f"{root} is there, made with {' '.join(other)}: delete it, or give another --out")
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="out/digits", help="folder for VOC2007 (default out/digits)")
    parser.add_argument("--train", type=int, default=3000, help="training scenes (default 3000)")
    parser.add_argument(
        "--val", type=int, default=300, help="validation scenes, of digits never seen in training (default 300)"
    )
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (default 128)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes (default 0)")


def main(args: argparse.Namespace) -> None:
    if args.size < 32 or min(args.train, args.val) < 1:
        raise UserError(
            f"--size {args.size} --train {args.train} --val {args.val}: expected a size of at least 32 and one or more "
            "scenes of each kind"
        )
    out, arguments = named_folder(args.out), {k: vars(args)[k] for k in ("train", "val", "size", "seed")}
    root, part = out / "VOC2007", out / ".VOC2007.part"
    if is_made(root, arguments):
        print(f"{root} is there, made with the same arguments")
        return
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        shutil.rmtree(part, ignore_errors=True)  # of an interrupted run
        try:
            with writing(root):
                write_all(part, **arguments)
                part.replace(root)
        finally:
            shutil.rmtree(part, ignore_errors=True)
