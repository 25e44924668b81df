"""YOLOX in mmdet: its losses are mmdet's, ignored objects are spared, and what leaves gives mmdet's boxes."""

import detection  # before mmdet

# isort: split
import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT
from mmdet.models.dense_heads import YOLOXHead
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from detection import detector_graph, detector_meta, detector_weights, load_config, load_detector
from detection.models.checkpoint import channel_groups, parts
from detection.models.yolox import _covered
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import ArchError, UserError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.nn.qat import fake_quantize, learnt_ranges, learnt_spans
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.header import detector_params
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.int8_detector import compiled, interpreted
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model
from nni_mcunet.engine.quant.ort_session import to_input
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware

BOXES = [[20.0, 30.0, 50.0, 70.0], [80.0, 20.0, 100.0, 50.0]]
CONFIG = """
_base_ = "{root}/configs/det/yolov3_digits.py"
model = dict(
    type="MCUNetYOLOX",
    neck=dict(width=24),
    bbox_head=dict(_delete_=True, type="MCUNetYOLOXHead", feat_channels=16, stacked_convs=1),
    train_cfg=dict(assigner=dict(_delete_=True, type="SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(_delete_=True, score_thr=0.01, nms=dict(type="nms", iou_threshold=0.45), max_per_img=100),
)
"""


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "yolox.py"
    path.write_text(CONFIG.format(root=ROOT))
    return str(path)


def built(config, **options):
    torch.manual_seed(0)
    return load_detector(config, options={f"model.{key}": value for key, value in options.items()})


@pytest.fixture(scope="module")
def model(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return built(config).train()


def objects(boxes, labels=None) -> InstanceData:
    labels = torch.zeros(len(boxes), dtype=torch.long) if labels is None else torch.tensor(labels)
    return InstanceData(bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), labels=labels)


def random_maps(model, pictures: int, seed: int = 0) -> list[torch.Tensor]:
    """Random outputs of the graph, the same for each picture."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [model.graph.tensors[name] for name in model.graph.outputs]
    return [torch.randn(1, t.c, t.h, t.w, generator=generator).repeat(pictures, 1, 1, 1) for t in shapes]


def losses(model, samples, maps=None) -> dict[str, float]:
    """Compute the losses of the head on random maps, given (objects, ignored) of each picture."""
    head, maps = model.bbox_head, random_maps(model, len(samples)) if maps is None else maps
    found = head.loss_by_feat(
        *head.arranged(maps), [s[0] for s in samples], [{}] * len(samples), [s[1] for s in samples]
    )
    return {name: float(value) for name, value in found.items()}


def test_losses_are_mmdets(model):
    """Equal those of mmdet's own head on the same maps; a batch of copies has the loss of one picture."""
    samples = [(objects(BOXES, [3, 7]), None)]
    found = losses(model, samples)
    assert set(found) == {"loss_cls", "loss_bbox", "loss_obj", "loss_l1"} and min(found.values()) > 0
    head = YOLOXHead(10, 24, 16, strides=model.bbox_head.strides, train_cfg=model.bbox_head.train_cfg)
    head.use_l1 = True
    maps = model.bbox_head.arranged(random_maps(model, 1))
    theirs = head.loss_by_feat(*maps, [samples[0][0]], [{}])
    assert found == pytest.approx({name: float(value) for name, value in theirs.items()})
    assert losses(model, samples * 5) == pytest.approx(found)


def test_pictures_without_objects(model):
    """Only that nothing is there is trained; and beside another picture they change no mean over the objects."""
    empty, full = (objects([]), None), (objects(BOXES), None)
    found = losses(model, [empty])
    assert found["loss_obj"] > 0 and found["loss_cls"] == found["loss_bbox"] == found["loss_l1"] == 0
    both, one = losses(model, [empty, full]), losses(model, [full])
    assert {k: v for k, v in both.items() if k != "loss_obj"} == pytest.approx(
        {k: v for k, v in one.items() if k != "loss_obj"}
    )


def test_an_ignored_object_is_not_background(model):
    """Neither an object: the losses of class and box are as without it, that of objectness has fewer negatives."""
    alone = losses(model, [(objects(BOXES[:1]), None)])
    assert losses(model, [(objects(BOXES[:1]), objects([]))]) == alone
    spared = losses(model, [(objects(BOXES[:1]), objects(BOXES[1:]))])
    assert {k: v for k, v in spared.items() if k != "loss_obj"} == {k: v for k, v in alone.items() if k != "loss_obj"}
    assert 0 < spared["loss_obj"] < alone["loss_obj"]
    assert losses(model, [(objects([]), objects([[-1.0, -1, 129, 129]]))])["loss_obj"] == 0


def test_an_object_beside_an_ignored_one_is_trained(model):
    """The same place: what is an object for one is not given up for the other."""
    both = losses(model, [(objects(BOXES[:1]), objects(BOXES[:1]))])
    alone = losses(model, [(objects(BOXES[:1]), None)])
    assert {k: v for k, v in both.items() if k != "loss_obj"} == {k: v for k, v in alone.items() if k != "loss_obj"}
    assert both["loss_obj"] < alone["loss_obj"]


@pytest.mark.parametrize("box, cells", [
    ([0.0, 0.0, 16.0, 16.0], {0, 1, 4, 5}), ([9.0, 1.0, 11.0, 3.0], {1}), ([3.0, 3.0, 5.0, 5.0], {0}),
    ([0.0, 0.0, 32.0, 7.0], {0, 1, 2, 3}), ([40.0, 40.0, 60.0, 60.0], set()),
])  # fmt: skip
def test_which_cells_an_object_covers(box, cells):
    """Cells whose middle is in it, and the one that holds its middle."""
    y, x = np.indices((4, 4)).reshape(2, -1) * 8.0
    priors = torch.tensor(np.stack([x, y, x * 0 + 8, x * 0 + 8], 1), dtype=torch.float32)
    assert set(_covered(priors, torch.tensor([box])).nonzero()[:, 0].tolist()) == cells


def test_the_prior_is_set(config):
    """Before training an object, and each class of it, are one in a hundred; boxes are as large as their cells."""
    model = built(config)
    model.bbox_head.init_weights()
    cls, box, obj = model.bbox_head.arranged(
        [model.bbox_head.net.layer(name).conv.bias for name in model.graph.outputs]
    )
    assert all(torch.allclose(bias.sigmoid(), torch.tensor(0.01)) for bias in (*cls, *obj))
    assert all((bias == 0).all() for bias in box)


def batch(model, boxes, labels) -> dict:
    """A training batch of noise pictures that all have the same objects."""
    h, w = model.spec.resolution
    sample = DetDataSample(
        gt_instances=objects(boxes, labels),
        metainfo=dict(img_shape=(h, w), ori_shape=(h, w), scale_factor=(1.0, 1.0)),
    )
    pictures = torch.randint(0, 256, (2, 3, h, w), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return {"inputs": list(pictures), "data_samples": [sample, sample]}


def test_loss_decreases(config):
    model = built(config).train()
    model.bbox_head.init_weights()
    data, optimizer, found = batch(model, BOXES, [3, 7]), torch.optim.AdamW(model.parameters(), lr=0.003), []
    for _ in range(24):
        loss, _ = model.parse_losses(model(**model.data_preprocessor(data, training=True), mode="loss"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]


@pytest.fixture(scope="module")
def trained(config):
    """(mmdet's detector of seeded random weights that finds boxes of many classes, its Model, a picture)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        detector = built(config)
    picture = np.random.default_rng(0).integers(0, 256, (*detector.spec.resolution, 3)).astype(np.uint8)
    with torch.no_grad():
        found = detector.forward(torch.from_numpy(to_input(picture)), None, mode="tensor")
        maps = [m for level in zip(*found, strict=True) for m in level]
        for name, m in zip(detector.graph.outputs, maps, strict=True):
            conv, spread = detector.bbox_head.net.layer(name).conv, m.std(dim=(0, 2, 3))
            conv.weight.mul_(1 / spread[:, None, None, None])
            conv.bias.copy_(-(m - conv.bias[None, :, None, None]).mean((0, 2, 3)) / spread)
    graph = detector_graph(detector)[2].folded()
    return detector, Model(graph, detector_weights(detector), {"detector": detector_meta(detector)}), picture


def mmdets(detector, picture, **changes):
    size = dict(img_shape=picture.shape[:2], ori_shape=picture.shape[:2], scale_factor=(1.0, 1.0))
    detector.bbox_head.test_cfg = ConfigDict({**detector.test_cfg, **changes})
    with torch.no_grad():
        (sample,) = detector.predict(torch.from_numpy(to_input(picture)), [DetDataSample(metainfo=size)])
    found = sample.pred_instances
    return found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()


@pytest.mark.parametrize("changes", [{}, {"score_thr": 0.4, "max_per_img": 7}], ids=str)
def test_onnx_boxes_are_mmdets(trained, changes, tmp_path):
    detector, model, picture = trained
    model = Model(model.graph, model.weights, {"detector": {**model.meta["detector"], **changes}})
    path = save_onnx(model, tmp_path / "m.onnx", boxes=True)
    run = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    boxes, scores, labels = run.run(None, {"image": to_input(picture)})
    corners, expected, kinds = mmdets(detector, picture, **changes)
    assert len(boxes) == len(corners) > 5 and len(np.unique(labels)) > 1
    assert np.abs(boxes - corners).max() < 1e-3
    assert np.abs(scores - expected).max() < 1e-5 and (labels == kinds).all()
    again = load_onnx(path)
    assert again.graph == model.graph and again.meta == model.meta


def test_meta_is_plain(trained, config):
    meta, names = trained[1].meta["detector"], list(load_config(config).metainfo.classes)
    assert meta == {"type": "yolox", "strides": [8, 16], "classes": names, "score_thr": 0.01, "nms_iou": 0.45,
                    "max_per_img": 100}  # fmt: skip


@pytest.fixture(scope="module")
def int8(trained):
    _, model, picture = trained
    return calibrated(model, [picture])


def test_int8_boxes(trained, int8):
    """C and numpy agree bit for bit, and find the float network's best boxes."""
    detector, _, picture = trained
    found, same = compiled(int8)(picture), interpreted(int8)(picture)
    assert all(np.array_equal(a, b) for a, b in zip(found, same, strict=True)) and len(found[0]) > 20
    corners, _, labels = mmdets(detector, picture)
    near = [
        (np.abs(found[0] - corner).max(1) < 4) & (found[2] == label)
        for corner, label in zip(corners[:20], labels[:20], strict=True)
    ]
    assert np.mean([n.any() for n in near]) > 0.6  # of random weights the scores tie, and NMS takes others


def test_sizes_have_a_step_of_their_own(config, trained):
    """After training, and in a training that simulates int8: offsets and sizes of a box map are two groups."""
    detector = trained[0]
    boxes = set(detector.graph.outputs[1::3])
    assert set(channel_groups(detector)) == boxes == {"yolox0_box", "yolox1_box"}
    model = built(config).train()
    model.bbox_head.init_weights()
    fake_quantize(*parts(model), outputs=(-6, 6), groups=channel_groups(model))
    data = batch(model, BOXES, [3, 7])
    loss, _ = model.parse_losses(model(**model.data_preprocessor(data, training=True), mode="loss"))
    loss.backward()
    spans = learnt_spans(model.state_dict())
    assert set(spans) == boxes and all(len(groups) == 2 for groups in spans.values())
    assert set(learnt_ranges(model.state_dict())) >= set(model.graph.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("board", ["stm32f412", "stm32h743"])
def test_boards_find_the_same_boxes(trained, int8, board, tmp_path):
    """In patches, too."""
    picture, board = trained[2], get_board(board)
    p = plan(int8.graph, Schedule((2, 2), 4))
    expected = reference.run(p, int8, (picture.astype(np.int16) - 128).astype(np.int8))
    maps = [expected[name] for name in int8.graph.outputs]
    found = run_emulated(build_firmware(write_sources(p, int8, tmp_path / "model"), board, picture), board)
    assert all(np.array_equal(got, want.ravel()) for got, want in zip(found["outputs"], maps, strict=True))
    boxes = detector_params(int8).decode(maps)
    assert len(boxes) > 20 and np.array_equal(found["boxes"], boxes)


def test_what_does_not_build_is_one_line(config):
    with pytest.raises(ArchError, match="feat_channels is 0"):
        built(config, **{"bbox_head.feat_channels": 0})
    with pytest.raises(ArchError, match=r"stacked_convs is 1\.5"):
        built(config, **{"bbox_head.stacked_convs": 1.5})
    with pytest.raises(UserError, match="anchors"):
        built(config, **{"bbox_head.anchors": [[(0.1, 0.1)]]})
    assert load_config(config).model.bbox_head.num_classes == 10 and detection.MCUNetYOLOX is not None
