"""S3FD in mmdet: the layers are the graph's, matching equals a plain loop, the loss a calculation by hand, decoding a
plain reading of detector_meta; and the budgets of the paper's Table 4 are kept."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from detection import (
    ScaleCompensationAssigner,
    detector_graph,
    detector_meta,
    detector_weights,
    load_config,
    load_detector,
)
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import ArchError, UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import FaceHead, build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.cut_points import cuts
from nni_mcunet.core.plan.plan import best_schedule
from nni_mcunet.paper.memory_rules import paper_plan, rnnpool

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT / ".." / "shared"))
L, S, MINI = (f"configs/det/s3fd_widerface_{name}.py" for name in ("l", "s", "mini"))
ON_NECK = {
    "model.neck": {"type": "MCUNetNeck", "width": 16},
    "model.backbone.arch": {"_delete_": True, "base": "configs/arch/mcunetv2_face_mini.json", "resolution": [128, 128]},
}  # the architecture's resolution has to nest: 64 divides it; pictures are padded


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


def sample(boxes, shape, ignored=()) -> DetDataSample:
    boxes, ignored = (torch.tensor(list(b), dtype=torch.float32).reshape(-1, 4) for b in (boxes, ignored))
    return DetDataSample(
        gt_instances=InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long)),
        ignored_instances=InstanceData(bboxes=ignored, labels=torch.zeros(len(ignored), dtype=torch.long)),
        metainfo=dict(
            img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0)
        ),
    )


def batch(samples, shape, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (len(samples), 3, *shape), generator=generator).to(torch.uint8)
    return {"inputs": list(pictures), "data_samples": samples}


# ---- the network


@pytest.mark.parametrize("config", [L, S, MINI])
def test_parts_are_the_whole(config):
    """Backbone and head with mmdet between them give exactly the maps of the graph run as one."""
    torch.manual_seed(0)
    model = load_detector(config)
    spec, head, graph = detector_graph(model)
    assert graph == detector_graph(load_config(config))[2]
    names = [f"face{i}_{what}" for i in range(len(head.taps)) for what in ("cls", "box")]
    assert list(graph.outputs) == names
    meta = detector_meta(model)
    for i, (stride, background) in enumerate(zip(meta["strides"], meta["background"], strict=True)):
        cls, box = graph.tensors[f"face{i}_cls"], graph.tensors[f"face{i}_box"]
        assert (cls.h, cls.w, cls.c) == (*(-(-side // stride) for side in spec.resolution), 1 + background)
        assert (box.h, box.w, box.c) == (cls.h, cls.w, 4)
    whole = Net(graph).eval()
    parts = (model.backbone, model.bbox_head.net)
    whole.load_state_dict({k: v for part in parts for k, v in part.state_dict().items()})
    image = torch.rand(1, 3, *spec.resolution).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        scores, boxes = model(image, None, mode="tensor")
        maps = whole(image)
    assert all(torch.equal(ours, expected) for ours, expected in zip(boxes, maps[1::2], strict=True))
    for ours, expected in zip(scores, maps[::2], strict=True):
        assert torch.equal(ours[:, 0], expected[:, 0])
        assert torch.equal(ours[:, 1], expected[:, 1:].max(1).values)
    weights = detector_weights(model)
    assert set(weights) == {op.name for op in graph.ops}
    assert all(np.array_equal(weights[n][0], w) for n, (w, _) in whole.folded_weights().items())


def test_anchors_are_s3fds():
    """One a cell, in its middle: 25,600 at 640x480, also where 480 rows are 7.5 cells."""
    head = load_detector(L).bbox_head
    sizes = [(-(-480 // s), -(-640 // s)) for s in (4, 8, 16, 32, 64, 128)]
    anchors = head.prior_generator.grid_priors(sizes, device="cpu")
    assert sum(map(len, anchors)) == 25_600
    for level, (h, w), stride in zip(anchors, sizes, (4, 8, 16, 32, 64, 128), strict=True):
        y, x = np.divmod(np.arange(h * w), w)
        cx, cy, half = (x + 0.5) * stride, (y + 0.5) * stride, 2 * stride
        assert np.array_equal(level.numpy(), np.stack([cx - half, cy - half, cx + half, cy + half], 1))


@pytest.mark.parametrize(
    "config, macs, megabytes, int8_kb", [(L, 1.10e9, 1.89, 1e9), (S, 0.11e9, 672 / 1024, 168)], ids=["L", "S"]
)
def test_the_papers_budgets(config, macs, megabytes, int8_kb):
    """Table 4: multiply-accumulates, here with the recomputed halo, and the peak by RNNPool's rule; head counted."""
    spec, _, graph = detector_graph(load_config(config))
    assert spec.resolution == (480, 640)
    assert paper_plan(graph, spec.schedule).macs <= macs
    peak = max(rnnpool(graph, spec.schedule).values())
    assert peak / 2**20 <= megabytes and peak / 4 / 1024 <= int8_kb


@pytest.mark.parametrize("config, board", [(S, "H743"), (MINI, "F746")])
def test_what_the_boards_hold(config, board):
    _, _, graph = detector_graph(load_config(config))
    assert best_schedule(graph.folded(), get_board(board)).arena <= get_board(board).arena_limit


def test_scales_follow_their_stage():
    """Only its predictions outlive a stage: the map they come from is not read again behind the next block."""
    spec = ArchSpec.load("configs/arch/mcunetv2_face_s.json")
    graph = build_graph(spec, FaceHead((2, 2, 3)))
    order = [op.name for op in graph.ops]
    assert order.index("s2_b1_proj") < order.index("face0_dw") < order.index("face1_box") < order.index("s3_b0_exp")
    assert {op.inputs for op in graph.ops if op.name.endswith("_dw") and op.name[:4] == "face"} == {
        ("s2_b1_proj",), ("s3_b1_proj",)
    }  # fmt: skip
    assert graph.op("s3_b0_exp").inputs == ("s2_b1_proj",)
    assert max(cuts(graph)) == 5  # a patch stage ends at the first scale: stem, s0_b0, s1_b0, s2_b0, s2_b1
    for taps in ((), (3, 2), (2, 9)):
        with pytest.raises(ArchError, match="taps"):
            build_graph(spec, FaceHead(taps))
    with pytest.raises(ArchError, match="background"):
        FaceHead((2, 3), 0)


def test_levels_on_a_neck():
    """Each level reads its stage's map of the neck, which has the coarser ones in it; outputs stay fine to coarse."""
    spec = ArchSpec.load("configs/arch/mcunetv2_face_mini.json")
    graph = build_graph(spec, FaceHead((2, 2, 3), width=24))
    assert graph.outputs == build_graph(spec, FaceHead((2, 2, 3))).outputs
    assert [graph.op(f"face{i}_dw").inputs for i in range(3)] == [("neck0_lat",), ("neck0_lat",), ("neck1_lat",)]
    assert graph.op("neck0_lat").residual == "neck0_up" and graph.op("neck0_up").inputs == ("neck1_lat",)
    assert {graph.tensors[f"neck{i}_lat"].c for i in range(2)} == {24}
    with pytest.raises(ArchError, match="width"):
        FaceHead((2, 3), width=0)


# ---- matching


def iou(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def plain_match(overlaps, compensation) -> list[int]:
    """The two stages in loops: the face of each anchor, or -1."""
    faces, anchors = range(len(overlaps)), range(len(overlaps[0]))
    column = lambda a: [overlaps[f][a] for f in faces]  # noqa: E731
    nearest = [max(faces, key=lambda f: overlaps[f][a]) for a in anchors]
    found = [nearest[a] if max(column(a)) >= 0.35 else -1 for a in anchors]
    for f in faces:
        best = max(anchors, key=lambda a: overlaps[f][a])
        if overlaps[f][best] > 0:
            found[best] = f
    if compensation == "image":
        tops = [max(row) for row in overlaps]
        most = (sum(t >= 0.35 for t in tops) + sum(t >= 0.5 for t in tops)) // 2
        free = sorted((a for a in anchors if found[a] < 0 and max(column(a)) > 0.1), key=lambda a: -max(column(a)))
        for a in free[:most]:
            found[a] = nearest[a]
        return found
    counts = [found.count(f) for f in faces]
    average = round(sum(counts) / len(counts))
    for f in faces:
        free = sorted((a for a in anchors if found[a] < 0 and overlaps[f][a] > 0.1), key=lambda a: -overlaps[f][a])
        for a in free[: max(average - counts[f], 0)]:
            found[a] = f
    return found


@pytest.mark.parametrize("compensation", ["image", "face"])
@pytest.mark.parametrize("seed", range(8))
def test_matching_is_the_plain_loop(compensation, seed):
    from mmdet.structures.bbox import bbox_overlaps

    rng = np.random.default_rng(seed)
    y, x = np.divmod(np.arange(192), 16)
    centre = np.stack([x, y], 1) * 8 + 4.0
    anchors = np.concatenate([np.hstack([centre - half, centre + half]) for half in (8, 16)])
    corner = rng.uniform(-10, 110, (rng.integers(1, 9), 2))
    faces = np.hstack([corner, corner + np.exp(rng.uniform(np.log(3), np.log(60), corner.shape))])
    anchors, faces = torch.from_numpy(anchors), torch.from_numpy(faces)
    overlaps = bbox_overlaps(faces, anchors).tolist()
    expected = plain_match(overlaps, compensation)
    result = ScaleCompensationAssigner(compensation).assign(InstanceData(priors=anchors), InstanceData(bboxes=faces))
    assert (result.gt_inds - 1).tolist() == expected
    assert (result.labels == 0).tolist() == [e >= 0 for e in expected]


def test_stage_two_gives_more_anchors_to_the_face_between_scales():
    """Four anchors find the first face, two the second, which is of 23 pixels; the last two overlap it by less than
    .35 and more than .1. "face" brings it to the mean of three, "image" hands out (2 + 2) // 2."""
    anchors = [[0, 0, 16, 16], [2, 0, 18, 16], [4, 0, 20, 16], [0, 2, 16, 18], [100, 0, 116, 16], [92, 0, 124, 32],
               [108, 10, 124, 26], [108, 8, 124, 24]]  # fmt: skip
    anchors, faces = torch.tensor(anchors).float(), torch.tensor([[0.0, 0, 16, 16], [97, 0, 120, 23]])

    def found(compensation):
        assigner = ScaleCompensationAssigner(compensation)
        return assigner.assign(InstanceData(priors=anchors), InstanceData(bboxes=faces)).gt_inds.tolist()

    assert found("face") == [1, 1, 1, 1, 2, 2, 0, 2]
    assert found("image") == [1, 1, 1, 1, 2, 2, 2, 2]


def test_ignored_faces_and_images_without():
    anchors = torch.tensor([[0.0, 0, 16, 16], [20, 0, 36, 16], [40, 0, 56, 16]])
    assigner = ScaleCompensationAssigner()
    none = InstanceData(bboxes=torch.zeros(0, 4))
    ignored = InstanceData(bboxes=torch.tensor([[0.0, 0, 30, 16]]))
    assert assigner.assign(InstanceData(priors=anchors), none).gt_inds.tolist() == [0, 0, 0]
    assert assigner.assign(InstanceData(priors=anchors), none, ignored).gt_inds.tolist() == [-1, -1, 0]
    face = InstanceData(bboxes=torch.tensor([[0.0, 0, 16, 16]]))
    assert assigner.assign(InstanceData(priors=anchors), face, ignored).gt_inds.tolist() == [1, -1, 0]
    with pytest.raises(ValueError, match="image, face"):
        ScaleCompensationAssigner("paper")


# ---- loss


def hand_loss(scores, boxes, samples, meta):
    """Cross entropy of the positives and of three times as many hardest negatives an image, smooth L1 of the encoded
    boxes, both divided by all positives."""
    anchors = all_anchors(scores, meta)
    cls_sum = box_sum = positives = 0
    for i, one in enumerate(samples):
        face = np.concatenate([s[i, 0].ravel() for s in scores])
        back = np.concatenate([s[i, 1].ravel() for s in scores])
        delta = np.concatenate([b[i].reshape(4, -1).T for b in boxes])
        truth = one.gt_instances.bboxes.numpy()
        found = [-1] * len(anchors)
        if len(truth):
            found = plain_match([[iou(t, a) for a in anchors] for t in truth], "image")
        loss = np.logaddexp(0, np.where(np.array(found) >= 0, back - face, face - back))
        mine = [a for a, f in enumerate(found) if f >= 0]
        rest = np.sort(loss[[a for a, f in enumerate(found) if f < 0]])[::-1]
        positives += len(mine)
        cls_sum += loss[mine].sum() + rest[: 3 * len(mine)].sum()
        for a in mine:
            (ax1, ay1, ax2, ay2), (x1, y1, x2, y2) = anchors[a], truth[found[a]]
            side = ax2 - ax1
            target = [(x1 + x2 - ax1 - ax2) / 2 / side / 0.1, (y1 + y2 - ay1 - ay2) / 2 / side / 0.1,
                      np.log((x2 - x1) / side) / 0.2, np.log((y2 - y1) / side) / 0.2]  # fmt: skip
            error = np.abs(delta[a] - target)
            box_sum += np.where(error < 1, 0.5 * error**2, error - 0.5).sum()
    return cls_sum / positives, box_sum / positives


def all_anchors(maps, meta) -> list:
    return [
        ((x + 0.5) * stride - size / 2, (y + 0.5) * stride - size / 2,
         (x + 0.5) * stride + size / 2, (y + 0.5) * stride + size / 2)
        for m, stride, size in zip(maps, meta["strides"], meta["sizes"], strict=True)
        for y, x in np.ndindex(*m.shape[2:])
    ]  # fmt: skip


def test_the_loss_is_the_one_by_hand():
    """On a size that no stride divides, with an image without a face."""
    torch.manual_seed(0)
    model, shape = load_detector(MINI).train(), (72, 104)
    samples = [sample([[10, 12, 30, 34], [60, 20, 71, 30], [33, 5, 37, 9.5]], shape), sample([], shape)]
    images = torch.rand(2, 3, *shape)
    scores, boxes = model(images, None, mode="tensor")
    losses = model.bbox_head.loss_by_feat(
        scores, boxes, [s.gt_instances for s in samples], [s.metainfo for s in samples],
        [s.ignored_instances for s in samples],
    )  # fmt: skip
    cls, box = hand_loss(
        *([m.detach().numpy() for m in maps] for maps in (scores, boxes)), samples, detector_meta(model)
    )
    assert sum(losses["loss_cls"]).item() == pytest.approx(cls, rel=1e-4)
    assert sum(losses["loss_bbox"]).item() == pytest.approx(box, rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [{}, {"model.train_cfg.assigner.compensation": "face"}, ON_NECK],
    ids=["image", "face", "neck"],
)
def test_it_learns_one_picture_and_finds_its_faces(options):
    torch.manual_seed(0)
    model, shape = load_detector(MINI, options=options).train(), (96, 128)
    model.bbox_head.init_weights()
    faces = [[20.0, 20, 44, 50], [70, 30, 100, 66]]
    data = batch([sample(faces, shape), sample([], shape)], shape)
    for image, texture in ((data["inputs"][0], 40), (data["inputs"][1], 100)):
        image[:] = image // 8 + texture
    for x1, y1, x2, y2 in faces:
        data["inputs"][0][:, int(y1) : int(y2), int(x1) : int(x2)] += 120
    optimizer, history = torch.optim.AdamW(model.parameters(), lr=0.003), []
    for _ in range(60):
        parts = model(**model.data_preprocessor(data, training=True), mode="loss")
        loss = sum(sum(values).mean() for values in parts.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.2 * history[0]
    with torch.no_grad():
        found, _ = model(**model.data_preprocessor(data, training=False), mode="predict")
    best = found.pred_instances.bboxes[:2].tolist()
    assert all(max(iou(face, box) for box in best) > 0.5 for face in faces)


@pytest.mark.parametrize("config", [L, S, MINI])
def test_every_config_takes_a_step(config):
    torch.manual_seed(0)
    model, shape = load_detector(config).train(), (160, 192)
    data = batch([sample([[20, 20, 60, 70], [100, 30, 112, 44]], shape)] * 2, shape)
    before = [p.clone() for p in model.parameters()]
    parts = model(**model.data_preprocessor(data, training=True), mode="loss")
    sum(sum(values).mean() for values in parts.values()).backward()
    torch.optim.SGD(model.parameters(), 0.01).step()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    moved = [not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
    assert sum(moved) > 0.8 * len(moved)  # the coarse scales without a face are not trained on


def test_only_empty_images_give_a_loss_of_zero():
    model, shape = load_detector(MINI).train(), (64, 96)
    data = batch([sample([], shape, ignored=[[0, 0, 20, 20]]), sample([], shape)], shape)
    parts = model(**model.data_preprocessor(data, training=True), mode="loss")
    total = sum(sum(values).mean() for values in parts.values())
    total.backward()
    assert total.item() == 0


# ---- decoding


def decode(maps, meta):
    """mmdet's boxes from the graph's maps (C, H, W), classes and boxes in turn, in plain numpy."""
    v0, v1 = meta["variances"]
    found = []
    scales = zip(maps[::2], maps[1::2], meta["strides"], meta["sizes"], meta["background"], strict=True)
    for cls, box, stride, side, background in scales:
        assert len(cls) == 1 + background
        level = []
        for y, x in np.ndindex(*cls.shape[1:]):
            score = 1 / (1 + np.exp(cls[1:, y, x].max() - cls[0, y, x]))
            dx, dy, dw, dh = box[:, y, x]
            cx, cy = (x + 0.5) * stride + dx * v0 * side, (y + 0.5) * stride + dy * v0 * side
            w, h = side * np.exp(dw * v1) / 2, side * np.exp(dh * v1) / 2
            if score > meta["score_thr"]:
                level.append((score, [cx - w, cy - h, cx + w, cy + h]))
        found += sorted(level, key=lambda f: -f[0])[: meta["nms_pre"]]
    kept = []
    for score, box in sorted(found, key=lambda f: -f[0]):
        if all(iou(box, b) <= meta["nms_iou"] for _, b in kept):
            kept.append((score, box))
    return kept[: meta["max_per_img"]]


@pytest.mark.parametrize("options", [{}, {"model.test_cfg.nms_pre": 40, "model.test_cfg.max_per_img": 30}])
def test_meta_reproduces_the_boxes_of_mmdet(options):
    model = load_detector(MINI, options=options)
    meta, graph = detector_meta(model), model.graph
    assert meta["type"] == "s3fd" and meta["classes"] == ["face"]
    rng = np.random.default_rng(0)
    maps = [rng.normal(0, 1.5, (t.c, t.h, t.w)).astype(np.float32) for t in map(graph.tensors.get, graph.outputs)]
    for cls in maps[::2]:
        cls[0] -= 5
    model.bbox_head.net.forward = lambda *_: tuple(torch.from_numpy(m)[None] for m in maps)
    inputs = [torch.zeros(1, t.c, t.h, t.w) for t in graph.part(("face",)).inputs]
    shape = (320, 480)
    (ours,) = model.bbox_head.predict(inputs, [sample([], shape)], rescale=True)
    expected = decode(maps, meta)
    assert len(ours) == len(expected) > 25
    assert ours.scores.numpy() == pytest.approx([score for score, _ in expected], rel=1e-4)
    assert ours.bboxes.numpy() == pytest.approx(np.array([box for _, box in expected]), abs=1e-2)
    assert ours.bboxes.min() < 0  # not clipped: nor does the engine


# ---- what is refused


def test_l2norm_trains_but_is_not_deployed():
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope

    options = {"model.bbox_head.l2norm": (10, 8, 5)}
    config = load_config(L, options)
    with DefaultScope.overwrite_default_scope("mmdet"):
        head = MODELS.build(config.model).bbox_head
    assert [norm.weight.unique().tolist() for norm in head.norms] == [[10], [8], [5]]
    maps = [torch.rand(1, t.c, 4, 4) for t in head.net.graph.inputs]
    normed = [m / m.norm(dim=1, keepdim=True) * s for m, s in zip(maps, (10, 8, 5), strict=False)] + maps[3:]
    expected = head.net(*normed)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(head(maps)[1], expected[1::2], strict=True))
    with pytest.raises(UserError, match=r"l2norm=\(\)"):
        load_detector(L, options=options)


def test_bad_heads_are_refused():
    with pytest.raises(UserError, match="sizes"):
        load_detector(S, options={"model.backbone.out_indices": (2, 3)})
    with pytest.raises(ArchError, match="taps"):
        load_detector(S, options={"model.backbone.out_indices": (2, 3, 4, 5, 9)})
