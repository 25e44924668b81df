"""Decode boxes and suppress doubles by standard ONNX operators behind the maps, for users of onnxruntime. This module
writes the tail and takes it off again, and knows nothing of the network in front.

A file with boxes has three outputs instead of the maps, the boxes of one picture by falling score:

    boxes   (n, 4) float32   x1, y1, x2, y2 in pixels of the network's input, not clipped to it
    scores  (n,)   float32
    labels  (n,)   int64

They are mmdet's own boxes: the same thresholds, nms_pre best (of all levels for YOLOv3, of each for S3FD, of YOLOX
all), class-wise NMS and max_per_img, in float32. The tail uses operators of opset 13. The maps' names stand in the
file's metadata, so that load_onnx reads the network of such a file as it reads one without boxes.
"""

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ....core.errors import GraphError, UserError
from ....core.types import PlainDict
from ....core.validate import parse_json

MAPS_KEY = "mcunet_maps"
PREFIX = "post_"  # of all names in the tail
Maps: TypeAlias = list[tuple[str, list[int]]]  # name and shape (1, c, h, w) of each map of the detector


class _Tail:
    """Append operators: tail.Add(a, b) returns the name of the sum, or names where it has several outputs. Arrays
    become constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        def add(*inputs: Any, outputs: int = 1, **attributes: Any) -> str | list[str]:
            stem = f"{PREFIX}{len(self.nodes)}_{kind.lower()}"
            names = [f"{stem}_{i}" for i in range(outputs)]
            values = [v if isinstance(v, str) else self.constant(np.asarray(v)) for v in inputs]
            self.nodes.append(helper.make_node(kind, values, names, name=stem, **attributes))
            return names[0] if outputs == 1 else names

        return add

    def constant(self, value: np.ndarray) -> str:
        """Append a constant; return its name."""
        self.constants.append(numpy_helper.from_array(value, f"{PREFIX}constant_{len(self.constants)}"))
        return self.constants[-1].name

    def slice(self, x: str, first: int, last: int) -> str:
        """Append x[..., first:last]."""
        return self.Slice(x, [first], [last], [-1])

    def rows(self, x: str, channels: int, shape: tuple[int, int]) -> str:
        """Append a map (1, anchors * channels, h, w) as (h * w * anchors, channels)."""
        split = self.Transpose(self.Reshape(x, [-1, channels, *shape]), perm=[2, 3, 0, 1])
        return self.Reshape(split, [-1, channels])

    def corners(self, centre: str, half: str) -> str:
        """Append boxes (n, 4) of their centres and half their sizes, each (n, 2)."""
        return self.Concat(self.Sub(centre, half), self.Add(centre, half), axis=-1)


def with_boxes(proto: onnx.ModelProto, meta: PlainDict) -> onnx.ModelProto:
    """Return a model whose outputs are the maps of the detector `meta` (as detect.detector takes it), with the tail
    behind them. Raises UserError for a type that has none."""
    kind = meta.get("type", "yolov3")
    if kind not in TAILS:
        raise UserError(f"detector: unknown type '{kind}'; known are {', '.join(TAILS)}")
    maps = [(v.name, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in proto.graph.output]
    tail = _Tail()
    boxes, scores, labels = TAILS[kind](tail, meta, maps)
    _suppress(tail, meta, boxes, scores, labels)
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    result.graph.node.extend(tail.nodes)
    result.graph.initializer.extend(tail.constants)
    del result.graph.output[:]
    result.graph.output.extend([
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
    ])  # fmt: skip
    result.metadata_props.add(key=MAPS_KEY, value=json.dumps(maps))
    return result


def without_boxes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model up to its maps; one that has no tail as it is. Raises GraphError for metadata that name no
    map."""
    entry = next((p for p in proto.metadata_props if p.key == MAPS_KEY), None)
    if entry is None:
        return proto
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    made = {name for node in proto.graph.node for name in node.output}
    try:
        maps = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in parse_json(entry.value, f"metadata '{MAPS_KEY}'", GraphError)
        ]
    except (TypeError, ValueError) as error:
        raise GraphError(f"metadata '{MAPS_KEY}' does not name the detector's maps ({error}); export again") from None
    absent = [m.name for m in maps if m.name not in made]
    if absent:
        raise GraphError(f"metadata '{MAPS_KEY}' names '{absent[0]}', which no node writes; export again")
    for items, own in (
        (result.graph.node, [n for n in proto.graph.node if not n.name.startswith(PREFIX)]),
        (result.graph.initializer, [c for c in proto.graph.initializer if not c.name.startswith(PREFIX)]),
        (result.graph.output, maps),
    ):
        del items[:]
        items.extend(own)
    return result


def _most(meta: PlainDict, count: int) -> int:
    """Tell how many of `count` are looked at."""
    return min(meta.get("nms_pre", count), count)


def _yolo(tail: _Tail, meta: PlainDict, maps: Maps) -> tuple[str, str, str]:
    """Append boxes (k, 4), scores (k,) and labels (k,) of the nms_pre best pairs of an anchor and a class by class
    score; the score of those below a threshold is 0."""
    classes = len(meta["classes"])
    corners, lead, classwise = [], [], []
    for (name, (_, _, h, w)), stride, anchors in zip(maps, meta["strides"], meta["anchors"], strict=True):
        rows = tail.rows(name, 5 + classes, (h, w))
        y, x, _ = np.indices((h, w, len(anchors)), np.float32).reshape(3, -1)
        cells, sizes = np.stack([x, y], 1), np.tile(np.asarray(anchors, np.float32), (h * w, 1))
        centre = tail.Mul(tail.Add(tail.Sigmoid(tail.slice(rows, 0, 2)), cells), np.float32(stride))
        corners.append(tail.corners(centre, tail.Mul(tail.Exp(tail.slice(rows, 2, 4)), sizes / 2)))
        lead.append(tail.Sigmoid(tail.slice(rows, 4, 5)))
        classwise.append(tail.Sigmoid(tail.slice(rows, 5, 5 + classes)))
    boxes, objects, kinds = (tail.Concat(*parts, axis=0) for parts in (corners, lead, classwise))
    known = tail.GreaterOrEqual(objects, np.float32(meta["conf_thr"]))
    passes = tail.And(known, tail.Greater(kinds, np.float32(meta["score_thr"])))
    by_class = tail.Reshape(tail.Where(passes, kinds, np.float32(0)), [-1])
    pairs = classes * sum(h * w * len(a) for (_, (_, _, h, w)), a in zip(maps, meta["anchors"], strict=True))
    scores, pair = tail.TopK(by_class, [_most(meta, pairs)], outputs=2)
    anchor, label = tail.Div(pair, np.int64(classes)), tail.Mod(pair, np.int64(classes))
    scores = tail.Mul(scores, tail.Gather(tail.Reshape(objects, [-1]), anchor))
    return tail.Gather(boxes, anchor), scores, label


def _yolox(tail: _Tail, meta: PlainDict, maps: Maps) -> tuple[str, str, str]:
    """Append boxes (k, 4), scores (k,) and labels (k,) of every cell; the score of those below the threshold is 0."""
    boxes, scores, labels = [], [], []
    for (cls, (_, classes, h, w)), (box, _), (obj, _), stride in zip(
        maps[::3], maps[1::3], maps[2::3], meta["strides"], strict=True
    ):
        logits, rows, size = tail.rows(cls, classes, (h, w)), tail.rows(box, 4, (h, w)), np.float32(stride)
        y, x = np.indices((h, w), np.float32).reshape(2, -1)
        centre = tail.Mul(tail.Add(tail.slice(rows, 0, 2), np.stack([x, y], 1)), size)
        boxes.append(tail.corners(centre, tail.Mul(tail.Exp(tail.slice(rows, 2, 4)), size / 2)))
        sure = tail.Mul(
            tail.Sigmoid(tail.ReduceMax(logits, axes=[1], keepdims=0)), tail.Reshape(tail.Sigmoid(obj), [-1])
        )
        scores.append(tail.Where(tail.GreaterOrEqual(sure, np.float32(meta["score_thr"])), sure, np.float32(0)))
        labels.append(tail.ArgMax(logits, axis=1, keepdims=0))
    return tail.Concat(*boxes, axis=0), tail.Concat(*scores, axis=0), tail.Concat(*labels, axis=0)


def _face(tail: _Tail, meta: PlainDict, maps: Maps) -> tuple[str, str, str]:
    """Append boxes (k, 4), scores (k,) and labels (k,) of the nms_pre best anchors of each level; the score of those
    below the threshold is 0."""
    boxes, scores = [], []
    v0, v1 = meta["variances"]
    levels = zip(maps[::2], maps[1::2], meta["strides"], meta["sizes"], meta["background"], strict=True)
    for (cls, (_, _, h, w)), (box, _), stride, size, background in levels:
        lead = tail.rows(cls, 1 + background, (h, w))
        worst = tail.ReduceMax(tail.slice(lead, 1, 1 + background), axes=[1], keepdims=1)
        score = tail.Reshape(tail.Sigmoid(tail.Sub(tail.slice(lead, 0, 1), worst)), [-1])
        score = tail.Where(tail.Greater(score, np.float32(meta["score_thr"])), score, np.float32(0))
        best, anchor = tail.TopK(score, [_most(meta, h * w)], outputs=2)
        y, x = np.indices((h, w), np.float32).reshape(2, -1)
        centres = (np.stack([x, y], 1) + np.float32(0.5)) * np.float32(stride)
        rows = tail.rows(box, 4, (h, w))
        centre = tail.Add(tail.Mul(tail.slice(rows, 0, 2), np.float32(v0 * size)), centres)
        half = tail.Mul(tail.Exp(tail.Mul(tail.slice(rows, 2, 4), np.float32(v1))), np.float32(size / 2))
        boxes.append(tail.Gather(tail.corners(centre, half), anchor))
        scores.append(best)
    count = sum(_most(meta, h * w) for _, (_, _, h, w) in maps[::2])
    return tail.Concat(*boxes, axis=0), tail.Concat(*scores, axis=0), tail.constant(np.zeros(count, np.int64))


TAILS = {"yolov3": _yolo, "yolox": _yolox, "s3fd": _face}


def _suppress(tail: _Tail, meta: PlainDict, boxes: str, scores: str, labels: str) -> None:
    """Append class-wise NMS of the scores above 0, then the max_per_img best: the outputs boxes, scores, labels."""
    most = np.int64(meta["max_per_img"])
    of_class = tail.Equal(tail.Unsqueeze(labels, [0]), np.arange(len(meta["classes"]))[:, None])
    by_class = tail.Where(of_class, tail.Unsqueeze(scores, [0]), np.float32(0))  # (classes, k)
    found = tail.NonMaxSuppression(
        tail.Unsqueeze(boxes, [0]),
        tail.Unsqueeze(by_class, [0]),
        [most],
        np.array([meta["nms_iou"]], np.float32),
        np.array([0], np.float32),
    )  # (n, 3): picture, class, box
    kept = tail.Reshape(tail.slice(found, 2, 3), [-1])
    count = tail.Min(tail.Shape(kept), [most])
    best, order = tail.TopK(tail.Gather(scores, kept), count, outputs=2)
    index = tail.Gather(kept, order)
    for kind, inputs, output in (
        ("Gather", [boxes, index], "boxes"), ("Identity", [best], "scores"), ("Gather", [labels, index], "labels"),
    ):  # fmt: skip
        tail.nodes.append(helper.make_node(kind, inputs, [output], name=f"{PREFIX}{output}"))
