"""Detector post-processing in integers: the numpy twin of mcu_yolo.c, and the C tables it reads.

It reproduces mmdet's YOLOV3Head.predict_by_feat (objectness and class thresholds, decoding, class-wise NMS) directly on
the int8 prediction maps. Thresholds are comparisons of int8 values, so they are exact; coordinates are 1/16 pixel,
scores 1/32768. Where mmdet lets the `nms_pre` best by class score into NMS, this lets in the `candidates` best by final
score: a microcontroller has room for few, and those are the ones that can end up on top.
"""

from dataclasses import dataclass

import numpy as np

from ..core.errors import UserError

BOX = np.dtype([(name, np.int16) for name in ("x1", "y1", "x2", "y2", "score", "label")])  # C's mcu_box
MOST_BOXES = 160  # C's MCU_MOST_BOXES
_KEYS = {"classes", "strides", "anchors", "score_thr", "conf_thr", "nms_iou", "max_per_img"}
_OPTIONAL = {"type", "nms_pre"}
_CODES = np.arange(-128, 128)


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
    """What C's mcu_yolo holds. iou in 1/32768."""

    classes: int
    most: int
    candidates: int
    iou: int
    maps: tuple[YoloMap, ...]


def yolo_params(meta: dict, outputs: list[dict], candidates: int = MOST_BOXES) -> Yolo:
    """Integers of a detector.

    meta: {"classes": [names], "strides": [...], "anchors": [[[w, h], ...] per scale], "score_thr", "conf_thr",
    "nms_iou", "max_per_img"} and, optionally, "type" ("yolov3") and "nms_pre", which limits the candidates further;
    outputs: {"scale", "zero_point", "h", "w"} per scale in the same order. Raises UserError for wrong keys or lengths.
    """
    wrong = sorted((set(meta) - _OPTIONAL) ^ _KEYS)
    if wrong or meta.get("type", "yolov3") != "yolov3":
        what = ", ".join(wrong) or f"type '{meta['type']}'"
        raise UserError(f"detector: {what} is missing or unknown; a yolov3 has the keys {', '.join(sorted(_KEYS))}")
    scales = (meta["strides"], meta["anchors"], outputs)
    if len({len(s) for s in scales}) != 1:
        raise UserError("detector: {} strides, {} lists of anchors and {} outputs".format(*map(len, scales)))
    if not 0 < meta["max_per_img"] <= MOST_BOXES:
        raise UserError(f"detector: max_per_img {meta['max_per_img']}; from 1 to {MOST_BOXES} is wanted")
    maps = []
    for stride, anchors, out in zip(*scales, strict=True):
        real = yolo_reals(out["scale"], out["zero_point"])
        # mmdet keeps objectness >= conf_thr, but class scores > score_thr
        object_ok = 1 / (1 + np.exp(-real)) >= meta["conf_thr"]
        class_ok = 1 / (1 + np.exp(-real)) > meta["score_thr"]
        sizes = np.round(np.asarray(anchors, np.float64).reshape(-1, 2) * 256)
        if not 0 < sizes.min() <= sizes.max() < 2048 * 256 or stride * max(out["h"], out["w"]) > 2047:
            raise UserError(
                f"detector: anchors or maps of stride {stride} reach beyond 2047 pixels, the range of boxes"
            )
        maps.append(
            YoloMap(
                out["h"], out["w"], stride,
                int(128 - object_ok.sum()), int(128 - class_ok.sum()),
                *yolo_tables(out["scale"], out["zero_point"]), sizes.astype(np.int32),
            )
        )  # fmt: skip
    iou = round(meta["nms_iou"] * 2**15)
    candidates = min(candidates, meta.get("nms_pre", candidates))
    return Yolo(len(meta["classes"]), meta["max_per_img"], candidates, iou, tuple(maps))


def yolo_reals(scale: float, zero_point: int) -> np.ndarray:
    """(256,) float64: what the int8 values -128..127 mean."""
    return scale * (_CODES - zero_point).astype(np.float64)


def yolo_tables(scale: float, zero_point: int) -> tuple[np.ndarray, np.ndarray]:
    """sigmoid (256,) int16 in 1/32768 and exp (256,) uint32 in 1/65536 of the int8 values -128..127, saturated."""
    real = yolo_reals(scale, zero_point)
    sigmoid = np.minimum(np.round(2**15 / (1 + np.exp(-real))), 2**15 - 1)
    exp = np.minimum(np.round(2.0**16 * np.exp(np.minimum(real, 20))), 2**32 - 1)
    return sigmoid.astype(np.int16), exp.astype(np.uint32)


def decode(maps: list[np.ndarray], params: Yolo) -> np.ndarray:
    """Boxes, an array of dtype BOX by falling score, from int8 maps of (h, w, anchors * (5 + classes)) each (any shape
    of that size); equal to C's mcu_yolo_boxes bit for bit."""
    found = np.concatenate([_candidates(m, p, params.classes) for m, p in zip(maps, params.maps, strict=True)])
    found = found[np.argsort(-found["score"].astype(np.int32), kind="stable")][: params.candidates]
    kept: list[int] = []
    for i in range(len(found)):
        if len(kept) == params.most:
            break
        same = found[[j for j in kept if found["label"][j] == found["label"][i]]]
        if not _overlaps(same, found[i], params.iou).any():
            kept.append(i)
    return found[kept]


def _candidates(data: np.ndarray, m: YoloMap, classes: int) -> np.ndarray:
    """Every box of one map that passes both thresholds, in the map's order."""
    data = np.asarray(data, np.int8).reshape(m.h, m.w, len(m.sizes), 5 + classes)
    keep = (data[..., 4:5] >= m.least_object) & (data[..., 5:] >= m.least_class)
    y, x, a, label = np.nonzero(keep)
    v = data[y, x, a].astype(np.int64) + 128
    sigmoid, exp, sizes = m.sigmoid.astype(np.int64), m.exp.astype(np.int64), m.sizes.astype(np.int64)
    boxes = np.zeros(len(y), BOX)
    for axis, (cell, low, high) in enumerate(((x, "x1", "x2"), (y, "y1", "y2"))):
        centre = cell * m.stride * 16 + (sigmoid[v[:, axis]] * m.stride + 2**10 >> 11)
        half = np.minimum(sizes[a, axis] * exp[v[:, 2 + axis]] + 2**20 >> 21, 65535)
        boxes[low] = np.clip(centre - half, -32768, 32767)
        boxes[high] = np.clip(centre + half, -32768, 32767)
    boxes["score"] = sigmoid[v[:, 4]] * sigmoid[v[np.arange(len(v)), 5 + label]] + 2**14 >> 15
    boxes["label"] = label
    return boxes


def _area(x1, y1, x2, y2):
    return np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)


def _overlaps(boxes: np.ndarray, box: np.void, iou: int) -> np.ndarray:
    """(n,) bool: intersection / union > iou / 32768."""
    a = [boxes[k].astype(np.int64) for k in ("x1", "y1", "x2", "y2")]
    b = [np.int64(box[k]) for k in ("x1", "y1", "x2", "y2")]
    both = _area(*(np.maximum(p, q) for p, q in zip(a[:2], b[:2], strict=True)),
                 *(np.minimum(p, q) for p, q in zip(a[2:], b[2:], strict=True)))  # fmt: skip
    return both << 15 > (_area(*a) + _area(*b) - both) * iou


def yolo_c(params: Yolo) -> str:
    """C text: the tables, the mcu_yolo struct and mcu_detect(), for a file that includes mcu_model.h."""
    parts, maps = [], []
    for i, m in enumerate(params.maps):
        parts.append(_array(f"static const int16_t yolo{i}_sigmoid[256]", m.sigmoid))
        parts.append(_array(f"static const uint32_t yolo{i}_exp[256]", m.exp))
        parts.append(_array(f"static const int32_t yolo{i}_sizes[{m.sizes.size}]", m.sizes.ravel()))
        maps.append(
            f"    {{{m.h}, {m.w}, {m.stride}, {len(m.sizes)}, {m.least_object}, {m.least_class}, "
            f"yolo{i}_sigmoid, yolo{i}_exp, yolo{i}_sizes}},\n"
        )
    reads = ", ".join(f"mcu_output({i})" for i in range(len(maps)))
    parts.append(
        f"static const mcu_yolo_map yolo_maps[{len(maps)}] = {{\n{''.join(maps)}}};\n"
        f"static const mcu_yolo yolo = {{{len(maps)}, {params.classes}, {params.most}, {params.candidates}, "
        f"{params.iou}, yolo_maps}};\n\n"
        "int mcu_detect(mcu_box *boxes, int most) {\n"
        f"    const int8_t *const maps[{len(maps)}] = {{{reads}}};\n"
        "    return mcu_yolo_boxes(&yolo, maps, boxes, most);\n}\n"
    )
    return "\n".join(parts)


def _array(declaration: str, values: np.ndarray, per_line: int = 12) -> str:
    values = [str(v) for v in values]
    lines = [", ".join(values[i : i + per_line]) for i in range(0, len(values), per_line)]
    return f"{declaration} = {{\n    " + ",\n    ".join(lines) + "};\n"
