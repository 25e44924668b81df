"""Find objects in pictures, and draw them: with a trained detector, or with its int8 file as the board computes it.

mcunet detect out/mine/config.py work_dirs/mine/last.pth photos -o out/boxes       the float network
mcunet detect out/mine/board/model.int8.onnx photo.jpg another.png -o out/boxes    its C, compiled for this machine

The folder gets a drawn PNG of each picture and boxes.json, whose boxes are x1, y1, x2, y2 in the picture's own pixels.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import UserError
from ..core.file_sets import Files, Seal, free_folder, write_set
from ..core.types import Picture
from .argument_types import fraction
from .cfg_options import add_options

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..core.view import View

SEAL = Seal("boxes.json", "this run of mcunet detect was not written to its end\n")
SIDE = 1280  # pixels of a drawn picture's longer side, at most
Found = list[dict[str, Any]]  # name, score, box: x1, y1, x2, y2
Find = Callable[["Image"], Found]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help="config of the detector (.py), or its int8 file (.onnx)")
    parser.add_argument("files", nargs="+", help="the checkpoint (.pth) of a config; then pictures or folders")
    parser.add_argument("-o", "--out", required=True, help="folder to write")
    parser.add_argument("--score", type=fraction, default=0.3, help="of the boxes to draw and to list (default 0.3)")
    add_options(parser)


def main(args: argparse.Namespace) -> None:
    from ..core.progress import each
    from ..core.view import STRETCH
    from ..engine.run.pictures import list_pictures
    from ..pictures import PictureError, load
    from ..profiling.pictures import boxes_png

    out = free_folder(args.out)
    find, given = detector(args.network, args.files, args.cfg_options)
    pictures = [p for name in given for p in (list_pictures(name) if Path(name).is_dir() else [Path(name)])]
    if twice := [p.stem for p in pictures if sum(other.stem == p.stem for other in pictures) > 1]:
        raise UserError(f"two pictures are called {twice[0]}: give them in two runs, into two folders")
    files: Files = {}
    report, broken = [], []
    for path in each(pictures, "picture", "detecting"):
        try:
            image = load(path, STRETCH)
        except PictureError as error:
            broken.append(str(error))
            continue
        boxes = [box for box in find(image) if box["score"] >= args.score]
        report.append({"picture": str(path), "size": list(image.size), "boxes": boxes})
        files[f"{path.stem}.png"] = boxes_png(image, boxes, SIDE)
        print(f"{path}: " + (", ".join(f"{box['name']} {box['score']:.2f}" for box in boxes) or "nothing"))
    files["boxes.json"] = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if report:
        write_set(out, {"boxes": files}, SEAL)
    if broken:
        rest = f"; {out} has the {len(report)} others" if report else ""
        raise UserError(f"{len(broken)} of {len(pictures)} pictures cannot be read: {'; '.join(broken)}{rest}")


def detector(network: str, files: Sequence[str], options: dict[str, Any] | None) -> tuple[Find, list[str]]:
    """Return the function from a picture to its boxes, and those of `files` that are pictures. Raises UserError."""
    if network.endswith(".onnx"):
        from ..engine.int8_detector import compiled, load_int8_detector
        from ..engine.model import view_of

        model = load_int8_detector(network)
        image, names, detect = model.graph.inputs[0], model.meta["detector"]["classes"], compiled(model)
        return finder(detect, (image.h, image.w), names, view_of(model)), list(files)
    if not network.endswith(".py"):
        raise UserError(f"{network}: expected a detector's config (.py), or its int8 file (.onnx)")
    checkpoint, *pictures = files
    if not checkpoint.endswith(".pth") or not pictures:
        raise UserError(f"{network} is a config: give its checkpoint (.pth) next, then the pictures")
    from functools import partial

    from detection import detector_graph, float_boxes, load_detector

    found = load_detector(network, checkpoint, options)
    size = detector_graph(found)[0].resolution
    return finder(partial(float_boxes, found), size, found.dataset_meta["classes"], found.view), pictures


def finder(detect: Callable[[Picture], Any], size: tuple[int, int], names: Sequence[str], view: "View") -> Find:
    """Return the function from a picture of any size to its boxes, in its pixels, the best first. detect: of a picture
    (h, w, 3) of the network's `size`, as `view` sees it, see int8_detector.Detect."""
    from ..pictures import seen

    def find(image: "Image") -> Found:
        corners, scores, labels = detect(seen(image, size, view))
        scale = view.scale((image.height, image.width), size) * 2
        return [
            {
                "name": names[int(label)],
                "score": float(score),
                "box": [float(v * s) for v, s in zip(box, scale, strict=True)],
            }
            for score, label, box in sorted(zip(scores, labels, corners, strict=True), key=lambda found: -found[0])
        ]

    return find
