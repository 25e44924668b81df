"""Augment as S3FD does, by mmdet transforms: crops that contain a face. Colour and flip are mmdet's own.

Both give a picture of a fixed `size` (w, h) and draw from numpy's global generator, as mmdet's transforms do. A face is
kept when its centre is inside, cut off at the border.
"""

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import autocast_box_type

from nni_mcunet.core.types import PlainDict

from ..data.crops import TRIES, centres_inside, keep_inside


def cut(results: PlainDict, window: Sequence[int], size: tuple[int, int], ignore_below: float) -> PlainDict:
    """Cut out the picture inside `window` (x1, y1, x2, y2 integers, may reach beyond the picture: black there) at
    `size` (w, h), with its faces; faces of a side under `ignore_below` pixels are marked as ignored."""
    x1, y1, x2, y2 = window
    image = mmcv.imcrop(results["img"], np.array([x1, y1, x2 - 1, y2 - 1]))
    h, w = results["img"].shape[:2]
    left, top, right, bottom = max(-x1, 0), max(-y1, 0), max(x2 - w, 0), max(y2 - h, 0)
    image = mmcv.impad(image, padding=(left, top, right, bottom))
    results["img"] = mmcv.imresize(image, size)
    results["img_shape"] = (size[1], size[0])
    scale = size[0] / (x2 - x1), size[1] / (y2 - y1)
    results["scale_factor"] = scale
    keep_inside(results, window)
    boxes = results["gt_bboxes"]
    boxes.translate_((-x1, -y1))
    boxes.rescale_(scale)
    boxes.clip_(results["img_shape"])
    small = np.minimum(boxes.widths.numpy(), boxes.heights.numpy()) < ignore_below
    results["gt_ignore_flags"] = results["gt_ignore_flags"] | small
    return results


@TRANSFORMS.register_module()
class FaceCrop(BaseTransform):
    """Cut S3FD's patches: with probability 1/5 the largest window of the size's shape, else one of `sides` times that,
    both at a random place. One with a face is looked for in 50 tries (a picture without a face takes the first).

    size          (w, h) of the result; a square one gives S3FD's square patches of [0.3, 1] of the short side
    ignore_below  see `cut`
    """

    def __init__(
        self,
        size: tuple[int, int],
        sides: tuple[float, float] = (0.3, 1.0),
        whole: float = 0.2,
        ignore_below: float = 0,
    ) -> None:
        self.size, self.sides, self.whole, self.ignore_below = (size[0], size[1]), sides, whole, ignore_below

    @autocast_box_type()
    def transform(self, results: PlainDict) -> PlainDict:
        """Cut a window out of the picture, see `cut`."""
        h, w = results["img"].shape[:2]
        for _ in range(TRIES):
            window = self._window(h, w)
            if not len(results["gt_bboxes"]) or centres_inside(results["gt_bboxes"], window).any():
                break
        return cut(results, window, self.size, self.ignore_below)

    def _window(self, h: int, w: int) -> tuple[int, int, int, int]:
        share = 1 if np.random.rand() < self.whole else np.random.uniform(*self.sides)
        per_pixel = share * min(w / self.size[0], h / self.size[1])
        cw, ch = (max(round(per_pixel * side), 1) for side in self.size)
        x, y = np.random.randint(w - cw + 1), np.random.randint(h - ch + 1)
        return x, y, x + cw, y + ch


@TRANSFORMS.register_module()
class DataAnchorSampling(BaseTransform):
    """Sample as PyramidBox does (Tang et al. 2018, section 3.3): a random face is brought to a random side near one of
    the anchors up to one above its own, so that small faces are made of large ones; the window contains the face.

    size          (w, h) of the result
    anchors       sides of the anchors, rising
    ignore_below  see `cut`
    """

    def __init__(
        self, size: tuple[int, int], anchors: Sequence[int] = (16, 32, 64, 128, 256, 512), ignore_below: float = 0
    ) -> None:
        self.size, self.anchors, self.ignore_below = (size[0], size[1]), anchors, ignore_below

    @autocast_box_type()
    def transform(self, results: PlainDict) -> PlainDict:
        """Cut a window around a random face, see `cut`; the whole picture where there is none."""
        boxes, (h, w) = results["gt_bboxes"], results["img"].shape[:2]
        if not len(boxes):
            return cut(results, (0, 0, w, h), self.size, self.ignore_below)
        x1, y1, x2, y2 = boxes.tensor[np.random.randint(len(boxes))].tolist()
        side = max((x2 - x1) * (y2 - y1), 1) ** 0.5
        nearest = int(np.abs(np.log2(self.anchors) - np.log2(side)).argmin())
        target = self.anchors[np.random.randint(min(nearest + 1, len(self.anchors) - 1) + 1)]
        high = min(target * 2, 2 * side)  # never enlarged more than twice
        wanted = np.random.uniform(min(target / 2, high), high)
        cw, ch = (max(round(length * side / wanted), 1) for length in self.size)
        x, y = _place(x1, x2, cw, w), _place(y1, y2, ch, h)
        return cut(results, (x, y, x + cw, y + ch), self.size, self.ignore_below)


def _place(low: float, high: float, length: int, picture: int) -> int:
    """Return the begin of a random interval of `length` that contains [low, high], as far as it can within the picture
    or, where it is longer, around it; where [low, high] is longer its middle."""
    if high - low > length:
        return round((low + high - length) / 2)
    least, most = sorted((0, picture - length))
    first, last = max(high - length, least), min(low, most)
    return round(np.random.uniform(first, max(first, last)))
