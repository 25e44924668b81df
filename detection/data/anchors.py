"""Find anchors for YOLO: k-means of the boxes' sizes with the distance 1 - IoU (YOLOv2, section 2, "dimension
clusters").

Sizes are fractions of the network's input, (w, h). Where a pipeline stretches a picture to it, each axis for itself,
these are the fractions of the picture, and the overlap of two centred boxes does not change when an axis is stretched:
the anchors hold at every resolution. A letterboxed picture leaves a part of the input empty, and the fractions are
smaller there.
"""

import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import short
from nni_mcunet.core.view import STRETCH, View

from .data_files import open_pictures
from .voc_xml import Annotation, read_annotation

RESTARTS = 10  # k-means ends in a local optimum: the best of so many starts is taken


class Anchors(NamedTuple):
    """Hold anchors and how well they fit.

    scales    per scale, fine to coarse: its (w, h)
    mean_iou  of each box with its best anchor
    recall    the share of boxes whose best anchor overlaps by at least a half, which GridAssigner asks of a positive
    boxes     how many boxes there were
    """

    scales: list[list[tuple[float, float]]]
    mean_iou: float
    recall: float
    boxes: int


def iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the (n, k) overlap of boxes (n, 2) and anchors (k, 2) that share their centre."""
    common = np.minimum(sizes[:, None], anchors[None]).prod(2)
    return common / (sizes.prod(1)[:, None] + anchors.prod(1)[None] - common)


def cluster(sizes: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """Return (k, 2) centres in rising order of area, the best of RESTARTS runs by mean IoU. Raises UserError for too
    few boxes."""
    kinds = len(np.unique(sizes, axis=0))
    if kinds < k:
        raise UserError(f"{k} anchors of {kinds} different box sizes: ask for fewer, or give more boxes")
    rng = np.random.default_rng(seed)
    runs = [_kmeans(sizes, _start(sizes, k, rng)) for _ in range(RESTARTS)]
    best = max(runs, key=lambda centres: iou(sizes, centres).max(1).mean())
    return best[np.argsort(best.prod(1), kind="stable")]


def _start(sizes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw first centres by k-means++: each further one with a probability that rises with its squared distance to the
    others."""
    centres = sizes[rng.integers(len(sizes))][None]
    while len(centres) < k:
        far = (1 - iou(sizes, centres).max(1)).clip(min=0) ** 2
        centres = np.vstack([centres, sizes[rng.choice(len(sizes), p=far / far.sum())]])
    return centres


def _kmeans(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Run Lloyd's iteration to a fixed point. The mean is not the minimiser of 1 - IoU, so the iteration may go round
    in a circle: it ends at the first division that was there before."""
    seen = set()
    while True:
        nearest = iou(sizes, centres).argmax(1)
        if nearest.tobytes() in seen:
            return centres
        seen.add(nearest.tobytes())
        count = np.bincount(nearest, minlength=len(centres))
        sums = np.stack([np.bincount(nearest, axis, len(centres)) for axis in sizes.T], 1)
        centres = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], centres)


def choose(sizes: np.ndarray, number: int, scales: int, seed: int = 0) -> Anchors:
    """Choose `number` anchors, as many on each of `scales` scales. Raises UserError where that does not come out
    even."""
    if number % scales:
        raise UserError(f"{number} anchors on {scales} scales: each scale of YOLOv3 has as many; give a multiple")
    centres = cluster(sizes, number, seed)
    best = iou(sizes, centres).max(1)
    groups = np.split(centres.round(3), scales)
    return Anchors(
        [[(float(w), float(h)) for w, h in group] for group in groups],
        float(best.mean()),
        float((best >= 0.5).mean()),
        len(sizes),
    )


def dataset_sizes(dataset: PlainDict, view: View = STRETCH, size: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Return the (n, 2) of the boxes that a data set of a config trains on (mmdet's: difficult and filtered ones are
    not), for an image of `size` (h, w) that sees the pictures by `view`."""
    data = open_pictures(dataset)
    infos = (data.get_data_info(i) for i in range(len(data)))
    boxes = ((info, item["bbox"]) for info in infos for item in info["instances"] if not item["ignore_flag"])
    sizes = [
        ((x2 - x1) / w, (y2 - y1) / h)
        for info, (x1, y1, x2, y2) in boxes
        for w, h in [spread_over((info["width"], info["height"]), view, size)]
    ]
    return _whole(np.array(sizes, float).reshape(-1, 2))


def spread_over(picture: tuple[int, int], view: View, size: tuple[int, int]) -> tuple[float, float]:
    """Return the (w, h) that an image of `size` (h, w) covers, in the pixels of a `picture` (w, h) that it sees."""
    (w, h), (high, wide) = picture, view.placed(picture[::-1], size)
    return w * size[1] / wide, h * size[0] / high


def voc_sizes(source: FilePath, split: str = "trainval") -> np.ndarray:
    """Return the (n, 2) of the boxes of a VOC folder or .tar(.xz) archive with */Annotations and
    */ImageSets/Main/SPLIT.txt, of all years that it holds. Difficult objects are left out, as mmdet's training does.
    Raises UserError for another layout."""
    sizes = []
    for note in _annotations(Path(source), split):
        boxes = note.boxes[~np.array(note.difficult, bool)]
        sizes.append((boxes[:, 2:] - boxes[:, :2]) / note.size)
    return _whole(np.concatenate([np.empty((0, 2)), *sizes]))


def _whole(sizes: np.ndarray) -> np.ndarray:
    return sizes[(sizes > 0).all(1)]  # a box without area has no overlap with anything


def _annotations(source: Path, split: str) -> Iterator[Annotation]:
    files = _archive(source) if source.is_file() else _folder(source)
    lists = [name for name in files if name.match(f"ImageSets/Main/{split}.txt")]
    if not lists:
        raise UserError(f"{source}: no ImageSets/Main/{split}.txt in it, beside Annotations/*.xml; is it VOC's layout?")
    for path in sorted(lists):
        folder = path.parents[2] / "Annotations"
        for name in files[path]().decode(errors="replace").split():
            xml = folder / f"{name}.xml"
            if xml not in files:
                raise UserError(f"{source}: {path} names {short(name)}, and there is no {xml}")
            note = read_annotation(files[xml](), xml)
            if note.size is None:
                raise UserError(f"{xml}: no size/width and size/height, of which the boxes are fractions")
            yield note


def _archive(source: Path) -> dict[Path, Callable[[], bytes]]:
    """Map each path to a function that reads it. An .xz cannot be read out of order: all is read, a few megabytes."""
    try:
        with tarfile.open(source) as archive:
            files = ((Path(m.name), archive.extractfile(m)) for m in archive if m.isfile())
            contents = {path: file.read() for path, file in files if file is not None}
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise UserError(f"{source}: neither a folder nor a tar archive ({' '.join(str(error).split())})") from None
    return {path: partial(bytes, data) for path, data in contents.items()}


def _folder(source: Path) -> dict[Path, Callable[[], bytes]]:
    files = [*source.rglob("ImageSets/Main/*.txt"), *source.rglob("Annotations/*.xml")]
    return {path: path.read_bytes for path in files}
