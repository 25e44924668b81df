"""Post-process YOLOv3 in integers: the numpy twin of mcu_yolo.c, and the C tables it reads.

It reproduces mmdet's YOLOV3Head.predict_by_feat (objectness and class thresholds, decoding, class-wise NMS) directly on
the int8 prediction maps. Thresholds are comparisons of int8 values, so they are exact; coordinates are 1/16 pixel,
scores 1/32768. Where mmdet lets the `nms_pre` best by class score into NMS, this keeps the `candidates` best by final
score: a microcontroller has room for few. Where more come, those that NMS would drop go first (boxes.best).
"""

from dataclasses import dataclass

import numpy as np

from ...core.errors import UserError
from ...core.ir.box_channels import yolo
from ...core.types import Groups, PlainDict
from .boxes import (
    best,
    boxes_at,
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
class YoloMap:
    """One prediction map (h, w, anchors * (5 + classes)) int8; sigmoid (256,) int16 1/32768 and exp (256,) uint32
    1/65536 of each value; sizes (anchors, 2) int32 width and height in 1/256 pixel."""

    h: int
    w: int
    stride: int
    least_object: int
    least_class: int
    sigmoid: np.ndarray
    exp: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Yolo:
    """The fields of C's mcu_yolo. iou in 1/32768."""

    classes: int
    most: int
    candidates: int
    iou: int
    maps: tuple[YoloMap, ...]

    @classmethod
    def of(cls, meta: PlainDict, outputs: list[PlainDict], candidates: int | None = None) -> "Yolo":
        """Compute the integers. meta: detect.detector's and "anchors": [[[w, h], ...] per level] in pixels, "conf_thr";
        outputs: one a level. candidates: as candidates_of(meta) says unless given. Raises UserError for what does not
        fit together."""
        check_meta(meta, {"anchors", "conf_thr"})
        check_lengths(strides=meta["strides"], anchors=meta["anchors"], outputs=outputs)
        levels = zip(meta["strides"], meta["anchors"], outputs, strict=True)
        return cls(
            len(meta["classes"]),
            meta["max_per_img"],
            candidates or candidates_of(meta),
            iou_integer(meta),
            tuple(_map(meta, *level) for level in levels),
        )

    @staticmethod
    def groups(meta: PlainDict, channels: list[int]) -> list[Groups]:
        """Return the groups of each map's channels that may have a gain. channels: of each map."""
        return [yolo(len(anchors), c) for anchors, c in zip(meta["anchors"], channels, strict=True)]

    @staticmethod
    def likely(meta: PlainDict, maps: list[np.ndarray]) -> list[np.ndarray]:
        """Return for each real map (h, w, c) which boxes count, bool (h, w, anchors)."""
        logits = [m.reshape(*m.shape[:2], len(a), -1)[..., 4] for m, a in zip(maps, meta["anchors"], strict=True)]
        return [likely(logit) for logit in logits]

    def decode(self, maps: list[np.ndarray]) -> np.ndarray:
        """Decode boxes, an array of dtype BOX by falling score, from int8 maps of (h, w, anchors * (5 + classes)) each
        (any shape of that size); equal to C's mcu_yolo_boxes bit for bit."""
        found = np.concatenate([_candidates(m, p, self.classes) for m, p in zip(maps, self.maps, strict=True)])
        return nms(best(found, self.candidates, self.iou), self.most, self.iou)

    def to_c(self, prefix: str = "mcu") -> str:
        """Print the C: the tables, the mcu_yolo struct and detect(), for a file that includes the model's header."""
        parts, maps, own = ['#include "mcu_yolo.h"\n'], [], f"{prefix}_d"
        for i, m in enumerate(self.maps):
            parts.append(c_array(f"int16_t {own}{i}_sigmoid", m.sigmoid))
            parts.append(c_array(f"uint32_t {own}{i}_exp", m.exp))
            parts.append(c_array(f"int32_t {own}{i}_sizes", m.sizes))
            maps.append(
                f"    {{{m.h}, {m.w}, {m.stride}, {len(m.sizes)}, {m.least_object}, {m.least_class}, "
                f"{own}{i}_sigmoid, {own}{i}_exp, {own}{i}_sizes}},\n"
            )
        parts.append(
            f"static const mcu_yolo_map {own}_maps[{len(maps)}] = {{\n{''.join(maps)}}};\n"
            f"static const mcu_yolo {own} = {{{len(maps)}, {self.classes}, {self.most}, {self.candidates}, "
            f"{self.iou}, {own}_maps}};\n\n"
        )
        return "\n".join([*parts, c_detect(prefix, "mcu_yolo_boxes", own, len(maps))])


def _map(meta: PlainDict, stride: int, anchors: list[list[float]], output: PlainDict) -> YoloMap:
    check_output(output, len(anchors) * (5 + len(meta["classes"])), stride, "anchors * (5 + classes)")
    sizes = np.round(np.asarray(anchors, np.float64).reshape(-1, 2) * 256)
    if not 0 < sizes.min() <= sizes.max() < 2048 * 256:
        raise UserError(f"detector: an anchor of stride {stride} is not between 0 and 2048 pixels, the range of boxes")
    real, (gain,) = reals(output), gains_of(output, yolo(len(anchors), output["c"]))
    return YoloMap(
        output["h"],
        output["w"],
        stride,
        # mmdet keeps objectness >= conf_thr, but class scores > score_thr
        int(128 - (sigmoid(real) >= meta["conf_thr"]).sum()),
        int(128 - (sigmoid(real) > meta["score_thr"]).sum()),
        sigmoid_q15(real),
        np.minimum(np.round(2.0**16 * np.exp(np.minimum(real / gain, 20))), 2**32 - 1).astype(np.uint32),
        sizes.astype(np.int32),
    )


def _candidates(data: np.ndarray, m: YoloMap, classes: int) -> np.ndarray:
    """Return every box of one map that passes both thresholds, in the map's order."""
    data = np.asarray(data, np.int8).reshape(m.h, m.w, len(m.sizes), 5 + classes)
    keep = (data[..., 4:5] >= m.least_object) & (data[..., 5:] >= m.least_class)
    y, x, a, label = np.nonzero(keep)
    v = data[y, x, a].astype(np.int64) + 128
    sigmoids, exp, sizes = m.sigmoid.astype(np.int64), m.exp.astype(np.int64), m.sizes.astype(np.int64)
    cx, cy = (cell * m.stride * 16 + (sigmoids[v[:, i]] * m.stride + 2**10 >> 11) for i, cell in enumerate((x, y)))
    w, h = (np.minimum(sizes[a, i] * exp[v[:, 2 + i]] + 2**20 >> 21, 65535) for i in range(2))
    score = sigmoids[v[:, 4]] * sigmoids[v[np.arange(len(v)), 5 + label]] + 2**14 >> 15
    return boxes_at(cx, cy, w, h, score, label)
