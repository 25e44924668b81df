"""Post-process S3FD in integers: the numpy twin of mcu_face.c, and the C tables it reads.

One square anchor in the middle of each cell of each level (Zhang et al. 2017, section 3.1). The softmax of a face and
its strongest background (max-out) is the sigmoid of their difference, and two int8 values of one map differ by a whole
number of steps: the threshold is a comparison of integers, exact, and the score a table of that number. Half sizes are
a table of the box map's values, in 1/16 pixel, one a level. No float and no copy of a map anywhere.

Where mmdet lets the `nms_pre` best of each level into NMS, this lets in the `candidates` best of all: the same boxes as
long as no more than so many pass the threshold, else those of the lowest scores are missing.
"""

from dataclasses import dataclass

import numpy as np

from ...core.errors import UserError
from ...core.ir.box_channels import BOX_MAP
from ...core.types import Groups, PlainDict
from .boxes import (
    Grid,
    best,
    c_array,
    c_detect,
    candidates_of,
    check_lengths,
    check_meta,
    check_output,
    gains_of,
    iou_integer,
    likely,
    nms,
    reals,
    sigmoid,
    sigmoid_q15,
)


@dataclass(frozen=True)
class FaceLevel:
    """One level: maps (h, w, 1 + background) and (h, w, 4) int8. least: the difference face - max(background) that
    passes; score (256 - least,) int16 1/32768 of the differences from `least` on; grid of the anchors' centres."""

    h: int
    w: int
    background: int
    least: int
    score: np.ndarray
    grid: Grid


@dataclass(frozen=True)
class Face:
    """The fields of C's mcu_face. iou in 1/32768."""

    most: int
    candidates: int
    iou: int
    levels: tuple[FaceLevel, ...]

    @classmethod
    def of(cls, meta: PlainDict, outputs: list[PlainDict], candidates: int | None = None) -> "Face":
        """Compute the integers. meta: detect.detector's and "sizes": [side of the anchor in pixels], "background":
        [channels], one per level, "variances": [of the centre, of the size]; outputs: class and box map of each level
        in turn. candidates: as candidates_of(meta) says unless given. Raises UserError for what does not fit
        together."""
        check_meta(meta, {"sizes", "background", "variances"})
        if len(meta["classes"]) != 1:
            raise UserError(f"detector: an s3fd has one class, the face; {len(meta['classes'])} are given")
        check_lengths(
            strides=meta["strides"], sizes=meta["sizes"], background=meta["background"],
            class_maps=outputs[::2], box_maps=outputs[1::2],
        )  # fmt: skip
        levels = zip(meta["strides"], meta["sizes"], meta["background"], outputs[::2], outputs[1::2], strict=True)
        return cls(
            meta["max_per_img"],
            candidates or candidates_of(meta),
            iou_integer(meta),
            tuple(_level(meta, *level) for level in levels),
        )

    @staticmethod
    def groups(meta: PlainDict, channels: list[int]) -> list[Groups]:
        """Return the groups of each map's channels that may have a gain: class and box map of each level in turn."""
        return [(), BOX_MAP] * (len(channels) // 2)

    @staticmethod
    def likely(meta: PlainDict, maps: list[np.ndarray]) -> list[np.ndarray]:
        """Return for each real map (h, w, c) which boxes count, bool (h, w, 1)."""
        leads = [cls[..., :1] - cls[..., 1:].max(-1, keepdims=True) for cls in maps[::2]]
        return [likely(leads[i // 2]) for i in range(len(maps))]

    def decode(self, maps: list[np.ndarray]) -> np.ndarray:
        """Decode boxes, an array of dtype BOX by falling score, from the class and box map of each level in turn, int8
        (any shape of their size); equal to C's mcu_face_boxes bit for bit."""
        levels = zip(self.levels, maps[::2], maps[1::2], strict=True)
        found = np.concatenate([_candidates(*level) for level in levels])
        return nms(best(found, self.candidates, self.iou), self.most, self.iou)

    def to_c(self, prefix: str = "mcu") -> str:
        """Print the C: the tables, the mcu_face struct and detect(), for a file that includes the model's header."""
        parts, levels, own = ['#include "mcu_face.h"\n'], [], f"{prefix}_d"
        for i, level in enumerate(self.levels):
            parts.append(c_array(f"int16_t {own}{i}_score", level.score))
            half, grid = level.grid.to_c(f"{own}{i}_half")
            parts.append(half)
            levels.append(f"    {{{level.h}, {level.w}, {level.background}, {level.least}, {own}{i}_score, {grid}}},\n")
        parts.append(
            f"static const mcu_face_level {own}_levels[{len(levels)}] = {{\n{''.join(levels)}}};\n"
            f"static const mcu_face {own} = {{{len(levels)}, {self.most}, {self.candidates}, {self.iou}, "
            f"{own}_levels}};\n"
        )
        return "\n".join([*parts, c_detect(prefix, "mcu_face_boxes", own, 2 * len(levels))])


def _level(meta: PlainDict, stride: int, size: float, background: int, cls: PlainDict, box: PlainDict) -> FaceLevel:
    check_output(cls, 1 + background, stride, "a face and its backgrounds")
    check_output(box, 4, stride, "dx, dy, dw and dh")
    if background < 1 or not 0 < size < 2048 or (cls["h"], cls["w"]) != (box["h"], box["w"]):
        raise UserError(
            f"detector: at stride {stride} there are {background} backgrounds, an anchor of {size} pixels and maps of "
            f"{cls['h']}x{cls['w']} and {box['h']}x{box['w']}: expected at least 1, up to 2047 and equal sizes"
        )
    scores = sigmoid(cls["scale"] * np.arange(-255, 256))
    least = int(256 - (scores > meta["score_thr"]).sum())
    real, (centre, growth) = reals(box), meta["variances"]
    offset_gain, size_gain = gains_of(box, BOX_MAP)
    sizes = size * np.exp(np.minimum(real / size_gain * growth, 20))
    return FaceLevel(
        cls["h"],
        cls["w"],
        background,
        least,
        sigmoid_q15(cls["scale"] * np.arange(min(least, 255), 256)),
        Grid.of(stride, 8 * stride, box, size * centre / offset_gain, sizes),
    )


def _candidates(level: FaceLevel, cls: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return every face of one level that passes the threshold, in the map's order."""
    cls = np.asarray(cls, np.int8).reshape(level.h, level.w, 1 + level.background).astype(np.int64)
    lead = cls[..., 0] - cls[..., 1:].max(-1)
    y, x = np.nonzero(lead >= level.least)
    v = np.asarray(box, np.int8).reshape(level.h, level.w, 4)[y, x]
    return level.grid.boxes(v, y, x, level.score[lead[y, x] - level.least], 0)
