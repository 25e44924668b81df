"""Write the digit scenes as a data set in VOC's layout: OUT/VOC2007/{JPEGImages,Annotations,ImageSets/Main}.

    python tools/make_digits.py --out out/digits --train 3000 --val 300 --size 128

A scene's seed is (--seed, split, number): the same arguments give the same files. The image sets are taken away first
and written last, so a folder that has them is whole; after an interruption run it again (seconds).
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from nni_mcunet.core.errors import UserError, exit_on_user_error, writing
from nni_mcunet.core.files import write_atomic
from nni_mcunet.digits import CLASSES, scene

OBJECT = """ <object><name>{name}</name><difficult>0</difficult>
  <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
"""
ANNOTATION = """<annotation><filename>{name}.jpg</filename>
 <size><width>{w}</width><height>{h}</height><depth>3</depth></size>
{objects}</annotation>
"""


def annotation(name: str, size: int, boxes, labels) -> str:
    """VOC's XML: pixels count from 1 and the last one is inside, where `scene` counts from 0 and it is outside."""
    objects = (
        OBJECT.format(int(x1) + 1, int(y1) + 1, int(x2), int(y2), name=CLASSES[label])
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True)
    )
    return ANNOTATION.format(name=name, w=size, h=size, objects="".join(objects))


def write_scene(root: Path, name: str, seed, size: int, split: str) -> None:
    image, boxes, labels = scene(np.random.default_rng(seed), (size, size), split)
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    with writing(root):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg.tobytes())
        (root / "Annotations" / f"{name}.xml").write_text(annotation(name, size, boxes, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/digits"))
    parser.add_argument("--train", type=int, default=3000, help="training scenes")
    parser.add_argument("--val", type=int, default=300, help="validation scenes, of digits never seen in training")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.size < 32 or min(args.train, args.val) < 1:
        raise UserError("--size of at least 32 and --train, --val of at least 1 are wanted")
    root = args.out / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stale in (root / "ImageSets" / "Main").glob("*.txt"):
        stale.unlink()
    sets = {s: [f"{s}_{i:06d}" for i in range(n)] for s, n in (("train", args.train), ("val", args.val))}
    for s, (split, names) in enumerate(sets.items()):
        for i, name in enumerate(tqdm(names, desc=f"{split} scenes")):
            write_scene(root, name, (args.seed, s, i), args.size, split)
    sets |= {"trainval": sets["train"] + sets["val"], "test": sets["val"]}
    for name, names in sets.items():
        write_atomic(root / "ImageSets" / "Main" / f"{name}.txt", "\n".join(names) + "\n")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
