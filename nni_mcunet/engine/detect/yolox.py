"""Post-process YOLOX in integers: the numpy twin of mcu_yolox.c, and the C tables it reads.

One prediction a cell, of three maps (Ge et al. 2021): it reproduces mmdet's YOLOXHead.predict_by_feat. A cell has its
best class; its score is that class's sigmoid times the object's, in 1/32768. A logit so low that no score could pass
ends a cell early: nearly all cells end at one byte of the object map. Where mmdet lets every box that passes the
threshold into NMS, this lets in the `candidates` best.
"""

import math
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
class YoloxLevel:
    """One level: maps (h, w, classes), (h, w, 4) and (h, w, 1) int8. least_object, least_class: values without which no
    score passes; object (128 - least_object,) and cls (128 - least_class,) int16: sigmoids from these on, 1/32768; of a
    threshold that no value passes, one number each."""

    h: int
    w: int
    least_object: int
    least_class: int
    object: np.ndarray
    cls: np.ndarray
    grid: Grid


@dataclass(frozen=True)
class Yolox:
    """The fields of C's mcu_yolox. least and iou in 1/32768."""

    classes: int
    most: int
    candidates: int
    least: int
    iou: int
    levels: tuple[YoloxLevel, ...]

    @classmethod
    def of(cls, meta: PlainDict, outputs: list[PlainDict], candidates: int | None = None) -> "Yolox":
        """Compute the integers. meta: detect.detector's, nothing else; outputs: class, box and object map of each level
        in turn. candidates: as candidates_of(meta) says unless given. Raises UserError for what does not fit
        together."""
        check_meta(meta, set())
        maps = [outputs[i::3] for i in range(3)]
        check_lengths(strides=meta["strides"], class_maps=maps[0], box_maps=maps[1], object_maps=maps[2])
        return cls(
            len(meta["classes"]),
            meta["max_per_img"],
            candidates or candidates_of(meta),
            math.ceil(meta["score_thr"] * 2**15),
            iou_integer(meta),
            tuple(_level(meta, *level) for level in zip(meta["strides"], *maps, strict=True)),
        )

    @staticmethod
    def groups(meta: PlainDict, channels: list[int]) -> list[Groups]:
        """Return the groups of each map's channels that may have a gain: class, box and object map of each level."""
        return [(), BOX_MAP, ()] * (len(channels) // 3)

    @staticmethod
    def likely(meta: PlainDict, maps: list[np.ndarray]) -> list[np.ndarray]:
        """Return for each real map (h, w, c) which boxes count, bool (h, w, 1)."""
        return [likely(maps[i - i % 3 + 2]) for i in range(len(maps))]

    def decode(self, maps: list[np.ndarray]) -> np.ndarray:
        """Decode boxes, an array of dtype BOX by falling score, from the class, box and object map of each level in
        turn, int8 (any shape of their size); equal to C's mcu_yolox_boxes bit for bit."""
        levels = zip(self.levels, maps[::3], maps[1::3], maps[2::3], strict=True)
        found = np.concatenate([self._candidates(*level) for level in levels])
        return nms(best(found, self.candidates, self.iou), self.most, self.iou)

    def _candidates(self, level: YoloxLevel, cls: np.ndarray, box: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Return every box of one level that passes the threshold, in the map's order."""
        shape = (level.h, level.w)
        cls = np.asarray(cls, np.int8).reshape(*shape, self.classes).astype(np.int64)
        sure = np.asarray(objects, np.int8).reshape(shape).astype(np.int64)
        labels, lead = cls.argmax(-1), cls.max(-1)
        y, x = np.nonzero((sure >= level.least_object) & (lead >= level.least_class))
        product = (
            level.object[sure[y, x] - level.least_object].astype(np.int64)
            * level.cls[lead[y, x] - level.least_class].astype(np.int64)
        )  # fmt: skip
        score = product + 2**14 >> 15
        passes = score >= self.least
        y, x = y[passes], x[passes]
        v = np.asarray(box, np.int8).reshape(*shape, 4)[y, x]
        return level.grid.boxes(v, y, x, score[passes], labels[y, x])

    def to_c(self, prefix: str = "mcu") -> str:
        """Print the C: the tables, the mcu_yolox struct and detect(), for a file that includes the model's header."""
        parts, levels, own = ['#include "mcu_yolox.h"\n'], [], f"{prefix}_d"
        for i, level in enumerate(self.levels):
            half, grid = level.grid.to_c(f"{own}{i}_half")
            parts.append(c_array(f"int16_t {own}{i}_object", level.object))
            parts.append(c_array(f"int16_t {own}{i}_cls", level.cls))
            parts.append(half)
            levels.append(
                f"    {{{level.h}, {level.w}, {level.least_object}, {level.least_class}, {own}{i}_object, "
                f"{own}{i}_cls, {grid}}},\n"
            )
        parts.append(
            f"static const mcu_yolox_level {own}_levels[{len(levels)}] = {{\n{''.join(levels)}}};\n"
            f"static const mcu_yolox {own} = {{{len(levels)}, {self.classes}, {self.most}, {self.candidates}, "
            f"{self.least}, {self.iou}, {own}_levels}};\n"
        )
        return "\n".join([*parts, c_detect(prefix, "mcu_yolox_boxes", own, 3 * len(levels))])


def _level(meta: PlainDict, stride: int, cls: PlainDict, box: PlainDict, objects: PlainDict) -> YoloxLevel:
    check_output(cls, len(meta["classes"]), stride, "the classes")
    check_output(box, 4, stride, "dx, dy, log width and log height")
    check_output(objects, 1, stride, "an object's logit")
    sizes = {(o["h"], o["w"]) for o in (cls, box, objects)}
    if len(sizes) != 1:
        raise UserError(f"detector: the maps of stride {stride} are {sorted(sizes)}: expected equal sizes")
    offset_gain, size_gain = gains_of(box, BOX_MAP)
    tables = {}
    for name, output in (("object", objects), ("cls", cls)):
        real = reals(output)
        least = int(128 - (sigmoid(real) >= meta["score_thr"]).sum())
        tables[name] = least, sigmoid_q15(real)[min(least, 127) + 128 :]
    return YoloxLevel(
        cls["h"],
        cls["w"],
        tables["object"][0],
        tables["cls"][0],
        tables["object"][1],
        tables["cls"][1],
        Grid.of(stride, 0, box, stride / offset_gain, stride * np.exp(np.minimum(reals(box) / size_gain, 20))),
    )
