"""A small face detector for the tests, made by hand, and S3FD's decoding in plain float64."""

import numpy as np

from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.engine.model import Model, quantize
from nni_mcunet.engine.quant.ort_session import ranges


def face_model(h, w, scales, score_thr, seed=0, max_per_img=100, nms_iou=0.3, bias=-4.0):
    """(int8 model, picture): a stem, a stride-2 convolution a scale, and face{i}_cls, face{i}_box on each."""
    rng, outputs = np.random.default_rng(seed), []
    background = [3] + [1] * (scales - 1)
    ops, x = [Op("stem", "conv", ("image",), 6, (3, 3), (2, 2), (1, 1, 1, 1), act="relu6", block=0)], "stem"
    for i in range(scales):
        ops.append(Op(f"s{i}", "conv", (x,), 6, (3, 3), (2, 2), (1, 1, 1, 1), act="relu6", block=i + 1))
        x = f"s{i}"
    for i, b in enumerate(background):
        for part, channels in (("cls", 1 + b), ("box", 4)):
            name = f"face{i}_{part}"
            ops.append(Op(name, "conv", (f"s{i}",), channels, (3, 3), (1, 1), (1, 1, 1, 1), block=scales + i + 1))
            outputs.append(name)
    graph = Graph("faces", (Tensor("image", h, w, 3),), tuple(ops), tuple(outputs)).verify()
    weights = {}
    for op in ops:
        shape = (op.cout, graph.input_of(op).c, *op.k)
        values = rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape), rng.normal(0, 0.3, op.cout)
        if op.name.endswith("cls"):
            values[1][0] += bias
        weights[op.name] = tuple(v.astype(np.float32) for v in values)
    meta = {"type": "s3fd", "classes": ["face"], "strides": [4 << i for i in range(scales)],
            "sizes": [16 << i for i in range(scales)], "background": background, "variances": [0.1, 0.2],
            "score_thr": score_thr, "nms_pre": 1000, "nms_iou": nms_iou, "max_per_img": max_per_img}  # fmt: skip
    pictures = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for _ in range(2)]
    model = Model(graph, weights, {"detector": meta})
    return quantize(model, ranges(model, pictures)), pictures[0]


def float_faces(meta, outputs, maps):
    """Corners (n, 4) and scores of every anchor above the threshold, in the maps' order, in float64 from the meta."""
    corners, scores = [], []
    v0, v1 = meta["variances"]
    for i, (stride, side) in enumerate(zip(meta["strides"], meta["sizes"], strict=True)):
        cls, box = ((m.astype(np.float64) - o["zero_point"]) * o["scale"] / o.get("gains", 1.0)
                    for m, o in zip(maps[2 * i : 2 * i + 2], outputs[2 * i : 2 * i + 2], strict=True))  # fmt: skip
        for y, x in np.ndindex(cls.shape[:2]):
            e = np.exp([cls[y, x, 0], cls[y, x, 1:].max()])
            if (score := e[0] / e.sum()) > meta["score_thr"]:
                dx, dy, dw, dh = box[y, x]
                cx, cy = (x + 0.5) * stride + dx * v0 * side, (y + 0.5) * stride + dy * v0 * side
                w, h = side * np.exp(dw * v1), side * np.exp(dh * v1)
                corners.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
                scores.append(score)
    return np.array(corners).reshape(-1, 4), np.array(scores)
