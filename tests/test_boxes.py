"""The integer detectors: C equals its numpy twin bit for bit on random and adversarial maps (also under sanitizers),
and both find the boxes of a float decoder."""

import ctypes
import os

import numpy as np
import pytest
from faces import float_faces
from kernels import I16, I32, SANITIZED, at, kernel_library, run_sanitized

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.box_channels import of_channels
from nni_mcunet.engine import detect
from nni_mcunet.engine.detect.boxes import best, boxes_at, nms
from nni_mcunet.engine.detect.yolox import Yolox

EXTREMES = {"lowest": -128, "highest": 127, "equal": 0}


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    return kernel_library(tmp_path_factory.mktemp("kernels"))


def random_yolo(rng, anchors_each=None):
    """(meta, outputs, maps) with a few dozen objects on up to three levels."""
    classes, levels = int(rng.integers(1, 21)), int(rng.integers(1, 4))
    strides = [8, 16, 32][:levels]
    anchors = [rng.uniform(6, 90, (anchors_each or int(rng.integers(1, 4)), 2)).round(1).tolist() for _ in strides]
    outputs = [
        {
            "scale": float(rng.uniform(0.03, 0.09)),
            "zero_point": int(rng.integers(20, 60)),
            "h": 128 // t,
            "w": 160 // t,
            "c": len(a) * (5 + classes),
        }
        for t, a in zip(strides, anchors, strict=True)
    ]
    maps = []
    for a, o in zip(anchors, outputs, strict=True):
        real = rng.normal(-1, 1, (o["h"], o["w"], len(a), 5 + classes))
        real[..., 4:] = rng.normal(-4, 2, real[..., 4:].shape)
        q = np.clip(np.round(real / o["scale"]) + o["zero_point"], -128, 127).astype(np.int8)
        maps.append(q.reshape(o["h"], o["w"], -1))
    meta = {"type": "yolov3", "classes": [str(i) for i in range(classes)], "strides": strides, "anchors": anchors,
            "score_thr": 0.05, "conf_thr": 0.02, "nms_iou": 0.45, "max_per_img": 100}  # fmt: skip
    return meta, outputs, maps


def random_yolox(rng):
    """(meta, outputs, maps) of a YOLOX with one to three levels and a few dozen objects."""
    classes, levels = int(rng.integers(1, 21)), int(rng.integers(1, 4))
    strides, outputs, maps = [8, 16, 32][:levels], [], []
    for stride in strides:
        h, w = 128 // stride, 160 // stride
        for c, mean, spread in ((classes, -1, 2.0), (4, [0, 0, 1, 1], 1.0), (1, -2, 2.5)):
            o = {
                "scale": float(rng.uniform(0.02, 0.08)),
                "zero_point": int(rng.integers(-60, 60)),
                "h": h,
                "w": w,
                "c": c,
            }
            outputs.append(o)
            real = rng.normal(mean, spread, (h, w, c))
            maps.append(np.clip(np.round(real / o["scale"]) + o["zero_point"], -128, 127).astype(np.int8))
    meta = {"type": "yolox", "classes": [str(i) for i in range(classes)], "strides": strides, "score_thr": 0.05,
            "nms_iou": 0.45, "max_per_img": 100}  # fmt: skip
    return meta, outputs, maps


def random_faces(rng):
    """(meta, outputs, maps) of an S3FD with one to six levels and a few dozen faces."""
    levels = int(rng.integers(1, 7))
    strides = [4, 8, 16, 32, 64, 128][:levels]
    background = [3] + rng.integers(1, 4, levels - 1).tolist()
    outputs, maps = [], []
    for stride, b in zip(strides, background, strict=True):
        h, w = max(1, 96 // stride), max(1, 128 // stride)
        for c, mean, spread in ((1 + b, [-5] + [0] * b, 2.0), (4, [0] * 4, 1.5)):
            o = {
                "scale": float(rng.uniform(0.02, 0.08)),
                "zero_point": int(rng.integers(-60, 60)),
                "h": h,
                "w": w,
                "c": c,
            }
            real = rng.normal(mean, spread, (h, w, c))
            outputs.append(o)
            maps.append(np.clip(np.round(real / o["scale"]) + o["zero_point"], -128, 127).astype(np.int8))
    meta = {"type": "s3fd", "classes": ["face"], "strides": strides, "sizes": [4 * s for s in strides],
            "background": background, "variances": [0.1, 0.2], "score_thr": 0.05, "nms_iou": 0.3, "max_per_img": 100,
            "nms_pre": 1000}  # fmt: skip
    return meta, outputs, maps


def gained(rng, meta, outputs):
    """The outputs with gains from 1 to 20 of every group of channels that may have one."""
    groups = detect.TYPES[meta["type"]].groups(meta, [o["c"] for o in outputs])
    return [
        o | {"gains": of_channels(o["c"], own, rng.uniform(1, 20, len(own)).tolist())}
        for o, own in zip(outputs, groups, strict=True)
    ]


class CMap(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("h", "w", "stride", "anchors", "least_object", "least_class")]
    _fields_ += [(n, ctypes.c_void_p) for n in ("sigmoid", "exp", "sizes")]


class CGrid(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("stride", "first", "zp")]
    _fields_ += [("step", I32), ("half", ctypes.c_void_p)]


class CLevel(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("h", "w", "background", "least")]
    _fields_ += [("score", ctypes.c_void_p), ("grid", CGrid)]


class CFace(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("levels", "most", "candidates")]
    _fields_ += [("iou", I32), ("level", ctypes.c_void_p)]


class CYoloxLevel(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("h", "w", "least_object", "least_class")]
    _fields_ += [("object", ctypes.c_void_p), ("cls", ctypes.c_void_p), ("grid", CGrid)]


class CYolox(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("levels", "classes", "most", "candidates")]
    _fields_ += [("least", I32), ("iou", I32), ("level", ctypes.c_void_p)]


class CYolo(ctypes.Structure):
    _fields_ = [(n, I16) for n in ("maps", "classes", "most", "candidates")]
    _fields_ += [("iou", I32), ("map", ctypes.c_void_p)]


def c_grid(grid):
    return CGrid(grid.stride, grid.first, grid.zero_point, grid.step, at(grid.half))


def c_boxes(lib, params, maps, room=None):
    """List what the C finds, in a list with room for `room` boxes, by default as many as it has candidates."""
    if isinstance(params, detect.Yolo):
        parts = (CMap * len(params.maps))(*(
            CMap(m.h, m.w, m.stride, len(m.sizes), m.least_object, m.least_class, at(m.sigmoid), at(m.exp), at(m.sizes))
            for m in params.maps
        ))  # fmt: skip
        op = CYolo(len(parts), params.classes, params.most, params.candidates, params.iou, ctypes.addressof(parts))
        kernel = lib.mcu_yolo_boxes
    elif isinstance(params, Yolox):
        parts = (CYoloxLevel * len(params.levels))(*(
            CYoloxLevel(s.h, s.w, s.least_object, s.least_class, at(s.object), at(s.cls), c_grid(s.grid))
            for s in params.levels
        ))  # fmt: skip
        op = CYolox(len(parts), params.classes, params.most, params.candidates, params.least, params.iou,
                    ctypes.addressof(parts))  # fmt: skip
        kernel = lib.mcu_yolox_boxes
    else:
        parts = (CLevel * len(params.levels))(*(
            CLevel(s.h, s.w, s.background, s.least, at(s.score), c_grid(s.grid)) for s in params.levels
        ))  # fmt: skip
        op = CFace(len(parts), params.most, params.candidates, params.iou, ctypes.addressof(parts))
        kernel = lib.mcu_face_boxes
    boxes = np.zeros(room or params.candidates, detect.BOX)
    pointers = (ctypes.c_void_p * len(maps))(*map(at, maps))
    count = kernel(ctypes.byref(op), pointers, ctypes.c_void_p(at(boxes)), len(boxes))
    return boxes[:count]


@pytest.mark.parametrize("random", [random_yolo, random_yolox, random_faces])
@pytest.mark.parametrize("seed", range(20))
def test_c_equals_numpy(lib, random, seed):
    rng = np.random.default_rng(seed)
    meta, outputs, maps = random(rng)
    if seed % 2:
        outputs = gained(rng, meta, outputs)
    params = detect.detector(meta, outputs, int(rng.choice([7, 60, 1000])))
    want = params.decode(maps)
    assert len(want) > 0
    assert (c_boxes(lib, params, maps) == want).all()


@pytest.mark.parametrize("random", [random_yolo, random_yolox, random_faces])
@pytest.mark.parametrize("kind", [*EXTREMES, "extremes"])
@pytest.mark.parametrize(
    "changes", [{}, {"score_thr": 0.0, "nms_iou": 0.0}, {"score_thr": 1.0}, {"nms_iou": 1.0}], ids=str
)
def test_c_equals_numpy_at_the_limits(lib, random, kind, changes):
    """Every value the same (all scores tie, more than there is room for), or only -128 and 127 (boxes beyond int16);
    thresholds that all or none pass; steps so large that exp saturates; lists of one, and shorter than wanted."""
    rng = np.random.default_rng(0)
    meta, outputs, maps = random(rng)
    for m in maps:
        m[:] = EXTREMES[kind] if kind in EXTREMES else rng.choice([-128, 127], m.shape)
    for o in outputs:
        o["scale"] *= 20
    for candidates, room in ((1, 1), (160, 160), (160, 31), (5000, 5000)):
        params = detect.detector({**meta, **changes}, outputs, candidates)
        got = c_boxes(lib, params, maps, room)
        assert (got == detect.detector({**meta, **changes}, outputs, room).decode(maps)).all()
        assert len(got) == 0 or changes.get("score_thr") != 1.0


def test_many_boxes_on_few_objects_leave_room_for_a_rare_one():
    """Twenty boxes of falling score on each of thirty objects, and one of another class that is worse than all."""
    rng = np.random.default_rng(0)
    at = np.repeat(np.arange(30) * 400, 20) + rng.integers(-8, 8, 600)
    common = boxes_at(at, at, np.full(600, 100), np.full(600, 100), rng.integers(9000, 20000, 600), 1)
    rare = boxes_at(np.array([50]), np.array([900]), np.array([60]), np.array([60]), np.array([5000]), 0)
    for place in (0, 300, 600):
        found = np.concatenate((common[:place], rare, common[place:]))
        got = nms(best(found, 160, 15000), 100, 15000)
        assert len(got) == 31 and got[-1] == rare[0]
        assert (got == nms(best(found, 601, 15000), 100, 15000)).all()


@pytest.mark.parametrize("seed", range(8))
def test_faces_are_the_float_ones(seed):
    """The same anchors pass; corners within 1/16 pixel (two roundings of 1/32, one of a step), scores of 1/32768."""
    rng = np.random.default_rng(seed)
    meta, outputs, maps = random_faces(rng)
    if seed % 2:
        outputs = gained(rng, meta, outputs)
    meta.update(nms_iou=1.0, max_per_img=2000)
    corners, scores = float_faces(meta, outputs, maps)
    got = detect.detector(meta, outputs, candidates=10**6).decode(maps)
    assert len(got) == len(scores) > 20
    order = np.argsort(-np.minimum(np.round(scores * 2**15), 2**15 - 1), kind="stable")
    assert np.abs(got["score"] / 2**15 - scores[order]).max() <= 2**-15
    assert (
        np.abs(np.stack([got[n] for n in ("x1", "y1", "x2", "y2")], 1) / 16 - corners[order]).max()
        <= 1 / 16 + 255 / 2**21
    )


@pytest.mark.parametrize("seed", range(20))
def test_nms_is_the_greedy_one(seed):
    """Box by box against those kept so far, in exact fractions."""
    rng = np.random.default_rng(seed)
    boxes = np.zeros(60, detect.BOX)
    for low, high in (("x1", "x2"), ("y1", "y2")):
        boxes[low] = rng.integers(-200, 400, 60)
        boxes[high] = boxes[low] + rng.integers(0, 300, 60)
    boxes["score"], boxes["label"] = rng.integers(0, 50, 60), rng.integers(0, 2, 60)
    most, iou = int(rng.integers(1, 60)), int(rng.integers(0, 2**15))

    def overlap(a, b):
        w, h = (min(a[f"{k}2"], b[f"{k}2"]) - max(a[f"{k}1"], b[f"{k}1"]) for k in "xy")
        both = max(int(w), 0) * max(int(h), 0)
        either = sum((int(c["x2"]) - int(c["x1"])) * (int(c["y2"]) - int(c["y1"])) for c in (a, b)) - both
        return both * 2**15 > either * iou

    kept = []
    for box in sorted(boxes, key=lambda b: -int(b["score"])):
        if len(kept) < most and not any(k["label"] == box["label"] and overlap(k, box) for k in kept):
            kept.append(box)
    assert (nms(best(boxes, 60, iou), most, iou) == np.array(kept, detect.BOX)).all()


@pytest.mark.parametrize("kind", ["yolov3", "yolox"])
@pytest.mark.parametrize("seed", range(6))
def test_yolo_boxes_are_mmdets(seed, kind):
    """mmdet's head finds this in the dequantised maps: the same boxes within 0.07 pixel, scores within 1/1000."""
    pytest.importorskip("detection")  # it makes mmdet importable where mmcv has no compiled operators
    rng = np.random.default_rng(seed)
    meta, outputs, maps = random_yolo(rng, 3) if kind == "yolov3" else random_yolox(rng)
    meta.update({"conf_thr": 0.2, "score_thr": 0.2} if kind == "yolov3" else {"score_thr": 0.2})
    if seed % 2:
        outputs = gained(rng, meta, outputs)
    want = mmdet_boxes(meta, outputs, maps)
    got = detect.detector(meta, outputs, candidates=1000).decode(maps)
    corners = np.stack([got[n] for n in ("x1", "y1", "x2", "y2")], 1) / 16
    assert len(want[0]) > 5
    for i, (box, score, label) in enumerate(zip(*want, strict=True)):
        near = (np.abs(corners - box).max(1) <= 0.07) & (got["label"] == label)
        last = i == 99  # of max_per_img: equal scores may trade places there
        assert last or (np.abs(got["score"][near] / 2**15 - score) < 1e-3).any()
    assert len(got) == len(want[0])


def mmdet_boxes(meta, outputs, maps):
    """(boxes (n, 4), scores, labels) that mmdet's head finds in the dequantised maps."""
    import torch
    from mmdet.models.dense_heads import YOLOV3Head, YOLOXHead
    from mmengine.config import ConfigDict

    real = [(m - float(o["zero_point"])) * o["scale"] / o.get("gains", 1.0) for m, o in zip(maps, outputs, strict=True)]
    preds = [torch.from_numpy(r.astype(np.float32).transpose(2, 0, 1)[None]) for r in real]
    cfg = ConfigDict({k: meta[k] for k in ("score_thr", "conf_thr", "max_per_img") if k in meta})
    cfg.update(nms_pre=1000, nms=dict(type="nms", iou_threshold=meta["nms_iou"]))
    n, classes = len(meta["strides"]), len(meta["classes"])
    if meta["type"] == "yolox":
        head = YOLOXHead(classes, 1, 1, strides=meta["strides"])
        found = head.predict_by_feat(preds[::3], preds[1::3], preds[2::3], [{}], cfg)[0][: meta["max_per_img"]]
    else:
        head = YOLOV3Head(
            classes, [1] * n, [1] * n, featmap_strides=meta["strides"],
            anchor_generator=dict(type="YOLOAnchorGenerator", base_sizes=meta["anchors"], strides=meta["strides"]),
        )  # fmt: skip
        found = head.predict_by_feat(preds, [{}], cfg)[0]
    return [found[k].detach().numpy() for k in ("bboxes", "scores", "labels")]


@pytest.mark.parametrize("random", [random_yolo, random_yolox, random_faces])
def test_gains_are_one_for_each_group(random):
    rng = np.random.default_rng(0)
    meta, outputs, _ = random(rng)
    outputs = gained(rng, meta, outputs)
    at = next(i for i, o in enumerate(outputs) if max(o["gains"]) > 1)
    sound = outputs[at]["gains"]
    detect.detector(meta, outputs)
    for damaged in (sound[:-1], [*sound, 1.0], [], sound[:3] + [sound[3] + 1] + sound[4:], [2.0] * len(sound),
                    [-v if v > 1 else v for v in sound], [np.inf if v > 1 else v for v in sound]):  # fmt: skip
        if damaged != [2.0] * 4:  # which a map of boxes only may have
            wrong = [o | {"gains": damaged} if i == at else o for i, o in enumerate(outputs)]
            with pytest.raises(UserError, match="gains of its maps are not one for each group"):
                detect.detector(meta, wrong)


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED in os.environ, reason="this is the sanitized run")
def test_under_sanitizers():
    run_sanitized(__file__, "equals_numpy")


@pytest.mark.parametrize("change", [
    {"nms": 1}, {"type": "ssd"}, {"max_per_img": 0}, {"max_per_img": 9999}, {"strides": [8] * 9}, {"nms_iou": 45},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("random", [random_yolo, random_yolox, random_faces])
def test_detector_refuses_wrong_data(random, change):
    meta, outputs, _ = random(np.random.default_rng(0))
    with pytest.raises(UserError, match="detector: "):
        detect.detector({**meta, **change}, outputs)


def test_a_yolox_says_what_does_not_fit():
    meta, outputs, _ = random_yolox(np.random.default_rng(1))
    with pytest.raises(UserError, match=r"1 box_maps|box_maps.*object_maps"):
        detect.detector(meta, outputs[:-1])
    for i, what in enumerate(("the classes", "dx, dy, log width and log height", "an object's logit")):
        with pytest.raises(UserError, match=f"stride 8 has 77 channels, {what} are"):
            detect.detector(meta, [dict(o, c=77) if j == i else o for j, o in enumerate(outputs)])
    with pytest.raises(UserError, match=r"stride 8 are .*expected equal sizes"):
        detect.detector(meta, [dict(outputs[0], h=3), *outputs[1:]])
    with pytest.raises(UserError, match="conf_thr is missing or unknown; a yolox has the keys"):
        detect.detector({**meta, "conf_thr": 0.5}, outputs)


def test_a_cell_has_its_best_class():
    """The first of equals; a box of the second is of another cell."""
    output = {"scale": 0.05, "zero_point": 0, "h": 1, "w": 2}
    outputs = [output | {"c": 3}, output | {"c": 4}, output | {"c": 1}]
    meta = {"type": "yolox", "classes": ["a", "b", "c"], "strides": [16], "score_thr": 0.3, "nms_iou": 0.5,
            "max_per_img": 9}  # fmt: skip
    maps = [np.array(v, np.int8) for v in ([50, 90, 90, 40, 20, 30], [10, 10, 0, 0, 0, 0, 14, 0], [100, 60])]
    got = detect.detector(meta, outputs).decode(maps)
    assert got["label"].tolist() == [1, 0]
    width = round(8 * 16 * np.exp(0.7))
    assert got[0].tolist()[:4] == (0, 0, 256, 256)  # half a cell on from the corner, as large as a cell
    assert got[1].tolist()[:4] == (256 - width, -128, 256 + width, 128)


def test_detector_says_what_does_not_fit():
    meta, outputs, _ = random_faces(np.random.default_rng(1))
    with pytest.raises(UserError, match="unknown type 'ssd'; known are yolov3, yolox, s3fd"):
        detect.detector({**meta, "type": "ssd"}, outputs)
    with pytest.raises(UserError, match=r"class_maps.*box_maps"):
        detect.detector(meta, outputs[:-1])
    with pytest.raises(UserError, match=r"stride 4 has 4 channels, a face and its backgrounds are 3"):
        detect.detector({**meta, "background": [2, *meta["background"][1:]]}, outputs)
    with pytest.raises(UserError, match="0 backgrounds"):
        detect.detector({**meta, "background": [0, *meta["background"][1:]]}, [dict(outputs[0], c=1), *outputs[1:]])
    with pytest.raises(UserError, match="one class"):
        detect.detector({**meta, "classes": ["a", "b"]}, outputs)
    far = [dict(o, h=600) for o in outputs]
    with pytest.raises(UserError, match="beyond 2047 pixels"):
        detect.detector(meta, far)
