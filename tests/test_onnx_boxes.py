"""ONNX with post-processing: onnxruntime's boxes are mmdet's, or a plain reference's; the network is read back."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT
from faces import face_model, float_faces

from detection import detector_graph, detector_meta, detector_weights, load_detector
from nni_mcunet.core.errors import GraphError, UserError
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.frontend.onnx.boxes import MAPS_KEY
from nni_mcunet.engine.model import Model, quantize
from nni_mcunet.engine.quant.ort_session import ranges, session, to_input


def boxes_of(path, picture):
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [v.name for v in run.get_outputs()] == ["boxes", "scores", "labels"]
    return run.run(None, {"image": to_input(picture)})


@pytest.fixture(scope="module")
def yolo():
    """(mmdet's detector of seeded random weights that finds boxes of many classes, its Model, a picture)"""
    torch.manual_seed(0)
    monkey = pytest.MonkeyPatch()
    monkey.chdir(ROOT)
    detector = load_detector("configs/det/yolov3_digits.py")
    monkey.undo()
    _, _, graph = detector_graph(detector)
    picture = np.random.default_rng(0).integers(0, 256, (*detector.spec.resolution, 3)).astype(np.uint8)
    with torch.no_grad():
        (maps,) = detector.forward(torch.from_numpy(to_input(picture)), None, mode="tensor")
        for conv, found in zip(detector.bbox_head.convs_pred, maps, strict=True):
            conv.weight.mul_(1 / found.std(dim=(0, 2, 3))[:, None, None, None])
            conv.bias.copy_(-(found - conv.bias[None, :, None, None]).mean((0, 2, 3)) / found.std(dim=(0, 2, 3)))
    model = Model(graph.folded(), detector_weights(detector), {"detector": detector_meta(detector)})
    return detector, model, picture


@pytest.mark.parametrize(
    "changes", [{}, {"nms_pre": 30}, {"score_thr": 0.4, "conf_thr": 0.3, "max_per_img": 7}], ids=str
)
def test_yolo_boxes_are_mmdets(yolo, changes, tmp_path):
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict

    detector, model, picture = yolo
    model = Model(model.graph, model.weights, {"detector": {**model.meta["detector"], **changes}})
    boxes, scores, labels = boxes_of(save_onnx(model, tmp_path / "m.onnx", boxes=True), picture)
    size = dict(img_shape=picture.shape[:2], ori_shape=picture.shape[:2], scale_factor=(1.0, 1.0))
    detector.bbox_head.test_cfg = ConfigDict({**detector.test_cfg, **changes})
    with torch.no_grad():
        (sample,) = detector.predict(torch.from_numpy(to_input(picture)), [DetDataSample(metainfo=size)])
    found = sample.pred_instances
    assert len(boxes) == len(scores) == len(labels) == len(found) > 5 and len(np.unique(labels)) > 1
    assert np.abs(boxes - found.bboxes.numpy()).max() < 1e-3
    assert np.abs(scores - found.scores.numpy()).max() < 1e-5 and (labels == found.labels.numpy()).all()


def greedy(corners, scores, iou, most):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        low, high = np.maximum(corners[kept, :2], corners[i, :2]), np.minimum(corners[kept, 2:], corners[i, 2:])
        both = np.maximum(high - low, 0).prod(-1)
        areas = (corners[:, 2:] - corners[:, :2]).prod(-1)
        if len(kept) < most and not (both > iou * (areas[kept] + areas[i] - both)).any():
            kept.append(i)
    return kept


def faces_expected(meta, maps):
    """Boxes and scores from float maps (h, w, c) by the plain reference; nms_pre of each scale."""
    pre, meta = meta["nms_pre"], {**meta}
    corners, scores = [], []
    for i in range(0, len(maps), 2):
        one = {k: meta[k][i // 2 : i // 2 + 1] for k in ("strides", "sizes")}
        exact = [{"scale": 1.0, "zero_point": 0}] * 2
        c, s = float_faces({**meta, **one}, exact, maps[i : i + 2])
        first = np.argsort(-s, kind="stable")[:pre]
        corners.append(c[first])
        scores.append(s[first])
    corners, scores = np.concatenate(corners), np.concatenate(scores)
    kept = greedy(corners, scores, meta["nms_iou"], meta["max_per_img"])
    return corners[kept], scores[kept]


@pytest.fixture(scope="module")
def faces():
    """(float Model, int8 model, picture)"""
    model, picture = face_model(64, 96, 3, 0.02)
    weights = {
        name: (w.weight * w.scale[:, None, None, None], w.bias * model.scales[op.inputs[0]].scale * w.scale)
        for op in model.graph.ops
        for name, w in [(op.name, model.weights[op.name])]
    }
    weights = {k: tuple(v.astype(np.float32) for v in pair) for k, pair in weights.items()}
    return Model(model.graph, weights, model.meta), model, picture


@pytest.mark.parametrize("changes", [{}, {"nms_pre": 9}, {"max_per_img": 5}], ids=str)
def test_faces_are_the_reference_s(faces, changes, tmp_path):
    model, _, picture = faces
    meta = {**model.meta["detector"], **changes}
    model = Model(model.graph, model.weights, {"detector": meta})
    boxes, scores, labels = boxes_of(save_onnx(model, tmp_path / "m.onnx", boxes=True), picture)
    maps = [v[0].transpose(1, 2, 0) for v in session(model).run(None, {"image": to_input(picture)})]
    corners, expected = faces_expected(meta, maps)
    assert len(boxes) == len(corners) >= 5 and not labels.any()
    assert np.abs(boxes - corners).max() < 1e-3 and np.abs(scores - expected).max() < 1e-5


def test_nothing_found(faces, tmp_path):
    model, _, picture = faces
    model = Model(model.graph, model.weights, {"detector": {**model.meta["detector"], "score_thr": 0.999}})
    boxes, scores, labels = boxes_of(save_onnx(model, tmp_path / "m.onnx", boxes=True), picture)
    assert boxes.shape == (0, 4) and scores.shape == labels.shape == (0,)


@pytest.mark.parametrize("which", ["float", "int8"])
def test_the_network_is_read_back(faces, which, tmp_path):
    """A file with boxes is as good as one without for the rest of the way."""
    model = faces[which == "int8"]
    with_boxes = load_onnx(save_onnx(model, tmp_path / "boxes.onnx", boxes=True))
    without = load_onnx(save_onnx(model, tmp_path / "maps.onnx"))
    assert with_boxes.graph == without.graph == model.graph and with_boxes.meta == without.meta == model.meta
    assert save_onnx(with_boxes, tmp_path / "again.onnx").read_bytes() == (tmp_path / "maps.onnx").read_bytes()


def test_int8_with_boxes_is_near_the_float_one(yolo, tmp_path):
    _, model, picture = yolo
    int8 = quantize(model, ranges(model, [picture]))
    boxes, scores, _ = boxes_of(save_onnx(int8, tmp_path / "m.onnx", boxes=True), picture)
    assert len(boxes) > 5 and (np.diff(scores) <= 0).all()


def test_refusals(faces, tmp_path):
    model, _, _ = faces
    with pytest.raises(UserError, match="faces is no detector"):
        save_onnx(Model(model.graph, model.weights), tmp_path / "m.onnx", boxes=True)
    other = Model(model.graph, model.weights, {"detector": {**model.meta["detector"], "type": "ssd"}})
    with pytest.raises(UserError, match="unknown type 'ssd'"):
        save_onnx(other, tmp_path / "m.onnx", boxes=True)
    assert not (tmp_path / "m.onnx").exists()
    proto = onnx.load(save_onnx(model, tmp_path / "m.onnx", boxes=True))
    entry = next(p for p in proto.metadata_props if p.key == MAPS_KEY)
    for value, message in (
        ("7", "does not name the detector's maps"),
        ('[["absent", [1, 4, 2, 2]]]', "names 'absent'"),
    ):
        entry.value = value
        onnx.save(proto, tmp_path / "bad.onnx")
        with pytest.raises(GraphError, match=message):
            load_onnx(tmp_path / "bad.onnx")
