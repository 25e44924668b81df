"""Compute boxes in integers: the numpy twin of mcu_boxes.c, and what the detectors' descriptions have in common."""

from collections.abc import Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...core.errors import UserError
from ...core.ir.box_channels import of_channels
from ...core.types import Groups, PlainDict

BOX = np.dtype([(name, np.int16) for name in ("x1", "y1", "x2", "y2", "score", "label")])  # C's mcu_box
LEAST_ROOM, MOST_KEPT = 160, 2048
LIKELY = float(np.log(0.05 / 0.95))  # an object's logit at 5 %
CODES = np.arange(-128, 128)
KEYS = {"classes", "strides", "score_thr", "nms_iou", "max_per_img"}
Whole = NDArray[np.int64] | np.int64  # of many boxes, or of one
_OPTIONAL = {"type", "nms_pre"}


def candidates_of(meta: PlainDict) -> int:
    """Say how many of the best boxes are kept for NMS: 1.6 for each that is kept in the end, 160 at least, nms_pre at
    most. A program needs room for so many (C's MCU_MOST_BOXES, 12 bytes each)."""
    room = max(LEAST_ROOM, meta["max_per_img"] * 8 // 5)
    return min(room, meta.get("nms_pre", room))


def check_meta(meta: PlainDict, keys: set[str]) -> None:
    """Raise UserError for missing and unknown keys, and numbers out of bounds."""
    wrong = sorted((set(meta) - _OPTIONAL) ^ (KEYS | keys))
    if wrong:
        known = ", ".join(sorted(KEYS | keys))
        raise UserError(f"detector: {', '.join(wrong)} is missing or unknown; a {meta['type']} has the keys {known}")
    if not 0 < meta["max_per_img"] <= MOST_KEPT:
        raise UserError(f"detector: max_per_img is {meta['max_per_img']}: expected 1 to {MOST_KEPT}")
    if not 0 <= meta["nms_iou"] <= 1:
        raise UserError(f"detector: nms_iou is {meta['nms_iou']}: expected 0 to 1")


def check_lengths(**lists: Sized) -> None:
    """Raise UserError unless all have one item per scale."""
    if len({len(items) for items in lists.values()}) != 1:
        raise UserError(f"detector: {', '.join(f'{len(v)} {k}' for k, v in lists.items())}: expected one per scale")


def check_output(output: PlainDict, channels: int, stride: int, what: str) -> None:
    """Raise UserError for a map of another depth, or one that reaches beyond the 2047 pixels of an int16."""
    if output["c"] != channels:
        raise UserError(f"detector: the map of stride {stride} has {output['c']} channels, {what} are {channels}")
    if stride * max(output["h"], output["w"]) > 2047:
        raise UserError(f"detector: a map of stride {stride} reaches beyond 2047 pixels, the range of boxes")


def iou_integer(meta: PlainDict) -> int:
    """Return the overlap that NMS allows, in 1/32768."""
    return round(meta["nms_iou"] * 2**15)


def reals(output: PlainDict) -> np.ndarray:
    """Return (256,) float64: what the int8 values -128..127 mean."""
    return output["scale"] * (CODES - output["zero_point"]).astype(np.float64)


def gains_of(output: PlainDict, groups: Groups) -> list[float]:
    """Return the gain of each group of a map's channels, 1 for one without. Raises UserError unless all channels of a
    group have the same, and those outside 1."""
    given = output.get("gains", [1.0] * output["c"])
    if len(given) == output["c"]:
        found = [float(given[group[0]]) for group in groups]
        if list(given) == of_channels(output["c"], groups, found) and all(0 < v < np.inf for v in found):
            return found
    raise UserError("detector: the gains of its maps are not one for each group of channels that decoding scales")


def likely(logits: np.ndarray) -> np.ndarray:
    """Tell of which cells the box counts: bool, of an object's logits. Elsewhere no training bounds its numbers."""
    return logits >= LIKELY


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


def sigmoid_q15(x: np.ndarray) -> np.ndarray:
    """Compute the sigmoid in 1/32768, int16, saturated."""
    return np.minimum(np.round(2**15 * sigmoid(x)), 2**15 - 1).astype(np.int16)


def boxes_at(cx: Whole, cy: Whole, w: Whole, h: Whole, score: Whole, label: Whole | int) -> np.ndarray:
    """Make (n,) BOX from centres and half sizes in 1/16 pixel, int64 (n,): mcu_box_at."""
    boxes = np.zeros(np.size(cx), BOX)
    for centre, half, low, high in ((cx, w, "x1", "x2"), (cy, h, "y1", "y2")):
        boxes[low] = np.clip(centre - half, -32768, 32767)
        boxes[high] = np.clip(centre + half, -32768, 32767)
    boxes["score"], boxes["label"] = score, label
    return boxes


@dataclass(frozen=True)
class Grid:
    """The fields of C's mcu_grid: boxes by offsets from a grid of cells. stride in pixels; first, the first cell's
    point, in 1/16 pixel; step of one value in 2^-20 pixel; half (256,) uint16 in 1/16 pixel, of a size's value."""

    stride: int
    first: int
    zero_point: int
    step: int
    half: np.ndarray

    @classmethod
    def of(cls, stride: int, first: int, box: PlainDict, pixels: float, sizes: np.ndarray) -> "Grid":
        """Compute the integers. pixels: an offset of 1 in the map `box`; sizes: (256,) pixels of the values."""
        step = min(round(2**20 * pixels * box["scale"]), 2**31 - 1)
        half = np.minimum(np.round(8 * sizes), 65535).astype(np.uint16)
        return cls(stride, first, box["zero_point"], step, half)

    def boxes(self, v: np.ndarray, y: Whole, x: Whole, score: Whole, label: Whole | int) -> np.ndarray:
        """Make (n,) BOX of the values (n, 4) int8 of the cells (y, x): mcu_box_of_cell."""
        v, half = v.astype(np.int64), self.half.astype(np.int64)
        cx, cy = (
            cell * self.stride * 16 + self.first + ((v[:, i] - self.zero_point) * self.step + 2**15 >> 16)
            for i, cell in enumerate((x, y))
        )
        return boxes_at(cx, cy, half[v[:, 2] + 128], half[v[:, 3] + 128], score, label)

    def to_c(self, table: str) -> tuple[str, str]:
        """Print the table of sizes under this name, and the struct's initialiser."""
        text = f"{{{self.stride}, {self.first}, {self.zero_point}, {self.step}, {table}}}"
        return c_array(f"uint16_t {table}", self.half), text


def best(boxes: np.ndarray, candidates: int, iou: int) -> np.ndarray:
    """Return the best by falling score, equals in their order: mcu_boxes_add of each. From the first that finds no room
    on, no two of a label overlap by more than `iou`: many boxes on one object leave room for others."""
    first = boxes[:candidates]
    kept = first[np.argsort(-first["score"].astype(np.int32), kind="stable")]
    for box in boxes[candidates:]:
        if len(first):
            kept, first = nms(kept, candidates, iou), first[:0]
        better, covers = kept["score"] >= box["score"], (kept["label"] == box["label"]) & _overlaps(kept, box, iou)
        if (better & covers).any():
            continue
        kept = kept[~covers]
        if len(kept) == candidates and kept["score"][-1] >= box["score"]:
            continue
        kept = kept[: candidates - 1]
        kept = np.insert(kept, int((kept["score"] >= box["score"]).sum()), box)
    return kept


def nms(boxes: np.ndarray, most: int, iou: int) -> np.ndarray:
    """Suppress greedily within each label, boxes that fall by score; iou in 1/32768: mcu_boxes_nms."""
    kept: list[int] = []
    free = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if free[i] and len(kept) < most:
            kept.append(i)
            rest = boxes[i + 1 :]
            free[i + 1 :] &= (rest["label"] != boxes["label"][i]) | ~_overlaps(rest, boxes[i], iou)
    return boxes[kept]


def _area(x1: Whole, y1: Whole, x2: Whole, y2: Whole) -> Whole:
    return np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)


def _overlaps(boxes: np.ndarray, box: np.void, iou: int) -> np.ndarray:
    """Return (n,) bool: intersection / union > iou / 32768."""
    a = [boxes[k].astype(np.int64) for k in ("x1", "y1", "x2", "y2")]
    b = [np.int64(box[k]) for k in ("x1", "y1", "x2", "y2")]
    both = _area(*(np.maximum(p, q) for p, q in zip(a[:2], b[:2], strict=True)),
                 *(np.minimum(p, q) for p, q in zip(a[2:], b[2:], strict=True)))  # fmt: skip
    return both << 15 > (_area(*a) + _area(*b) - both) * iou


def c_array(declaration: str, values: np.ndarray, per_line: int = 12) -> str:
    """Print a constant array in C: `declaration` without its length, the values in rows."""
    words = [str(v) for v in np.asarray(values).ravel()]
    lines = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
    return f"static const {declaration}[{len(words)}] = {{\n    " + ",\n    ".join(lines) + "};\n"


def c_detect(prefix: str, kind: str, name: str, maps: int) -> str:
    """Print a model's detect() in C: `kind` on the struct `name` and the model's outputs."""
    reads = ", ".join(f"{prefix}_output({i})" for i in range(maps))
    return (
        f"int {prefix}_detect(mcu_box *boxes, int most) {{\n"
        f"    const int8_t *const maps[{maps}] = {{{reads}}};\n"
        f"    return {kind}(&{name}, maps, boxes, most);\n}}\n"
    )
