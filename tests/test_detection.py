"""The mmdet plug-in: one definition behind three parts, mmdet's decoding reproduced from plain data, and it learns."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope

from detection import (
    detector_graph,
    detector_meta,
    detector_weights,
    load_config,
    load_detector,
    load_from_local,
)
from detection.models.mmcv_ops import BLOCK, nms
from nni_mcunet.core.errors import ArchError, UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.nn.net import Net

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT / ".." / "shared"))
DIGITS = "configs/det/yolov3_digits.py"
BCCD = "configs/det/yolov3_bccd.py"
ARCH = "configs/arch/mcu_w50_r160.json"
APART = "configs/det/yolov3_voc_apart.py"
CONFIGS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "configs" / "det").glob("yolo*.py"))


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    """Configs name architectures and data relative to the root of the repository."""
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)  # see detection.config.config.prepare


def run(*command, expect: int = 0) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == expect, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    run(ROOT / "tools/make_digits.py", "--out", out, "--train", 900, "--val", 60, "--size", 96)
    return out


@pytest.fixture(scope="session")
def small_arch(tmp_path_factory) -> Path:
    """The digits' backbone made for 96x96 and with fewer blocks: a test's minute is enough for it."""
    spec = ArchSpec(
        "test_r96",
        96,
        16,
        ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24), Block(3, 1, 72, 24)),
         (Block(3, 2, 72, 40), Block(3, 1, 120, 40)), (Block(3, 1, 120, 48),)),
    )  # fmt: skip
    return spec.save(tmp_path_factory.mktemp("arch") / "test_r96.json")


def batch(model, boxes, labels, seed: int = 0) -> dict:
    """A training batch of noise pictures that all have the same objects."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    h, w = model.spec.resolution
    sample = DetDataSample(
        gt_instances=InstanceData(bboxes=torch.tensor(boxes), labels=torch.tensor(labels)),
        metainfo=dict(img_shape=(h, w), ori_shape=(h, w), scale_factor=(1.0, 1.0)),
    )
    pictures = torch.randint(0, 256, (2, 3, h, w), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)
    return {"inputs": list(pictures), "data_samples": [sample, sample]}


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_takes_a_step(config):
    torch.manual_seed(0)
    MessageHub.get_current_instance().update_info("iter", 0)  # of the loop, which batches of several sizes count by
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(load_config(config).model).train()
    h, w = model.spec.resolution
    data = batch(model, [[0.2 * w, 0.3 * h, 0.5 * w, 0.7 * h]], [1])
    loss, _ = model.parse_losses(model(**model.data_preprocessor(data, training=True), mode="loss"))
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]  # a config may freeze stages
    assert torch.isfinite(loss) and loss > 0
    assert (
        all(g is not None and torch.isfinite(g).all() for g in gradients) and sum(g.abs().sum() for g in gradients) > 0
    )


def test_patches_without_a_halo_are_not_for_the_engine():
    with pytest.raises(UserError, match="halo is none: the engine's patches always have their halo"):
        load_detector(APART)


@pytest.mark.parametrize("config", [c for c in CONFIGS if c != APART])
def test_parts_are_the_whole(config):
    """Backbone, neck and head with mmdet between them give exactly the maps of the graph run as one."""
    torch.manual_seed(0)
    model = load_detector(config)
    spec, yolo, graph = detector_graph(model)
    assert graph == detector_graph(load_config(config))[2]
    assert yolo.classes == len(detector_meta(model)["classes"])
    parts = (model.backbone, model.neck, model.bbox_head.net)
    whole = Net(graph).eval()
    whole.load_state_dict({k: v for part in parts for k, v in part.state_dict().items()})
    image = torch.rand(2, 3, *spec.resolution).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found, expected = model(image, None, mode="tensor"), model.bbox_head.arranged(whole(image))
        shapes = {(2, t.c, t.h, t.w) for t in (graph.tensors[name] for name in graph.outputs)}
        assert len(found) == len(expected)
        for ours, theirs in zip(chain(*found), chain(*expected), strict=True):
            assert torch.equal(ours, theirs) and ours.shape in shapes
    weights = detector_weights(model)
    assert set(weights) == {op.name for op in graph.ops if op.kind == "conv"}
    assert all(np.array_equal(weights[n][0], w) for n, (w, _) in whole.folded_weights().items())


def test_another_arch_from_one_place(small_arch):
    """Only model.backbone.arch decides on layers, strides, anchors in pixels and the size of the pictures."""
    options = {"model.backbone.arch": str(small_arch)}
    config = load_config(DIGITS, options)
    model = load_detector(config)
    resizes = [t for d in (config.train_dataloader, config.test_dataloader) for t in d.dataset.pipeline
               if t.type == "Resize"]  # fmt: skip
    assert [r.scale for r in resizes] == [(96, 96)] * 2
    assert detector_meta(model)["strides"] == [8, 16]
    assert detector_meta(model)["anchors"][0][0] == pytest.approx([0.094 * 96, 0.164 * 96])


def test_strides_are_no_ratio_of_sizes(tmp_path):
    """220 rows are 28 cells of 8 and 14 of 16."""
    arch = replace(ArchSpec.load(ARCH), resolution=220).save(tmp_path / "r220.json")
    model = load_detector(BCCD, options={"model.backbone.arch": str(arch)})
    assert [model.graph.tensors[name].h for name in model.graph.outputs] == [28, 14]
    assert detector_meta(model)["strides"] == [8, 16]


def test_small_anchors_are_on_the_fine_scale():
    """The config's, fine to coarse, in pixels; mmdet's generator has its scales coarse to fine."""
    model = load_detector(BCCD)
    (h, w), given = model.spec.resolution, Config.fromfile(BCCD).model.bbox_head.anchors
    generator, meta = model.bbox_head.prior_generator, detector_meta(model)
    wanted = [[(aw * w, ah * h) for aw, ah in scale] for scale in given]
    assert [s[0] for s in generator.strides] == [16, 8] and meta["strides"] == [8, 16]
    for scale, ours, theirs in zip(wanted, meta["anchors"], generator.base_sizes[::-1], strict=True):
        assert np.allclose(scale, ours) and np.allclose(scale, theirs)


def test_weights_of_another_network_are_one_line(tmp_path):
    torch.save({"state_dict": load_detector(BCCD).state_dict()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth does not hold the weights of this config's network"):
        load_detector(DIGITS, tmp_path / "other.pth")


def test_loss_decreases():
    torch.manual_seed(0)
    model = load_detector(DIGITS).train()
    model.bbox_head.init_weights()
    data = batch(model, [[20.0, 30.0, 50.0, 70.0], [80.0, 20.0, 100.0, 50.0]], [3, 7])
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.003), []
    for _ in range(8):
        parts = model(**model.data_preprocessor(data, training=True), mode="loss")
        loss = sum(sum(values) for values in parts.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def decode(maps, meta) -> list[tuple]:
    """mmdet's boxes from the graph's maps (C, H, W) and `detector_meta`, in plain numpy: the recipe of the C code."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    found = []
    for pred, stride, anchors in zip(maps, meta["strides"], meta["anchors"], strict=True):
        _, h, w = pred.shape
        pred = pred.reshape(len(anchors), -1, h, w)
        for a, (aw, ah) in enumerate(anchors):
            for y, x in np.ndindex(h, w):
                v = pred[a, :, y, x]
                if sigmoid(v[4]) < meta["conf_thr"]:
                    continue
                cx, cy = (x + sigmoid(v[0])) * stride, (y + sigmoid(v[1])) * stride
                bw, bh = aw * np.exp(v[2]) / 2, ah * np.exp(v[3]) / 2
                for label, score in enumerate(sigmoid(v[5:])):
                    if score > meta["score_thr"]:
                        found.append((score, score * sigmoid(v[4]), label, cx - bw, cy - bh, cx + bw, cy + bh))
    best = sorted(found, key=lambda f: -f[0])[: meta["nms_pre"]]
    kept = []
    for _, score, label, *box in sorted(best, key=lambda f: -f[1]):
        if all(label != other or overlap(box, b) <= meta["nms_iou"] for _, other, b in kept):
            kept.append((score, label, box))
    return kept[: meta["max_per_img"]]


def overlap(a, b) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_meta_reproduces_the_boxes_of_mmdet():
    torch.manual_seed(0)
    model = load_detector(DIGITS)
    _, _, graph = detector_graph(model)
    meta = detector_meta(model)
    rng = np.random.default_rng(0)
    shapes = [graph.tensors[name] for name in graph.outputs]
    maps = [rng.normal(-1.5, 1.5, (t.c, t.h, t.w)).astype(np.float32) for t in shapes]
    torch_maps = [torch.from_numpy(m)[None].clone() for m in maps][::-1]
    (ours,) = model.bbox_head.predict_by_feat(torch_maps, [dict(scale_factor=(1.0, 1.0))], rescale=True)
    expected = decode(maps, meta)
    assert len(ours) == len(expected) > 20
    for i, (score, label, box) in enumerate(expected):
        assert ours.labels[i] == label
        assert ours.scores[i] == pytest.approx(score, rel=1e-4)
        assert ours.bboxes[i].numpy() == pytest.approx(box, abs=1e-2)


@pytest.mark.parametrize("count", [0, 1, 40, 2 * BLOCK + 7])
@pytest.mark.parametrize("offset", [0, 1])
def test_nms_is_the_greedy_one(count, offset):
    rng = np.random.default_rng(count)
    corner = rng.uniform(0, 120, (count, 2))
    boxes = torch.from_numpy(np.hstack([corner, corner + rng.uniform(1, 60, (count, 2))]))
    scores = torch.from_numpy(rng.permutation(count) / max(count, 1))  # no two are equal
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        grown = boxes + torch.tensor([0, 0, offset, offset])
        if all(overlap(grown[i].tolist(), grown[j].tolist()) <= 0.45 for j in kept):
            kept.append(i)
    assert nms(boxes, scores, 0.45, offset).tolist() == kept


def test_an_operator_that_is_not_there_says_so():
    from mmcv.ops import roi_align

    with pytest.raises(NotImplementedError, match="instead of mmcv-lite"):
        roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), (2, 2))


def test_backbone_takes_a_slice_and_refuses_another(tmp_path):
    """A super-network's slice or a classifier of the same architecture loads; another architecture's does not."""
    donor = load_detector(DIGITS).backbone
    weights = donor.state_dict() | {"layers.fc.conv.weight": torch.zeros(10, 8, 1, 1)}
    torch.save(weights, tmp_path / "slice.pth")
    options = {"model.backbone.init_cfg": dict(type="Pretrained", checkpoint=str(tmp_path / "slice.pth"))}
    model = load_detector(DIGITS, options=options)
    model.init_weights()
    ours = model.backbone.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in donor.state_dict().items())

    torch.save({k: v for k, v in weights.items() if "s3_b1" not in k}, tmp_path / "slice.pth")
    with pytest.raises(UserError, match=r"no 'layers\.s3_b1_exp\.conv\.weight'"):
        model.backbone.load_slice(tmp_path / "slice.pth")
    torch.save(weights | {"layers.stem.conv.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "slice.pth")
    with pytest.raises(UserError, match=r"'layers\.stem\.conv\.weight' is \(8, 3, 3, 3\)"):
        model.backbone.load_slice(tmp_path / "slice.pth")


def test_a_checkpoint_cannot_run_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="no checkpoint this project loads"):
        load_from_local(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_bad_detectors_are_refused(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(ArchSpec.load("configs/arch/mcu_w50_r128.json").to_dict() | {"kernel": 3}))
    with pytest.raises(ArchError, match=r"bad\.json.*unknown key 'kernel'"):
        load_detector(DIGITS, options={"model.backbone.arch": str(bad)})
    with pytest.raises(ArchError, match="taps"):
        load_detector(DIGITS, options={"model.backbone.out_indices": (4, 9)})
    with pytest.raises(UserError, match="anchors"):
        load_detector(DIGITS, options={"model.backbone.out_indices": (2, 4, 6)})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["no/such.py"], "no such file: no/such.py"),
        ([DIGITS, "--cfg-options", "model.backbone.arch=no/such.json"], "no such file: no/such.json"),
        ([DIGITS, "--cfg-options", "model.backbone.arch=pyproject.toml"], "pyproject.toml: not valid JSON"),
        ([DIGITS, "--cfg-options", "train_dataloader.dataset.data_root=no/such"], "no folder no/such"),
    ],
)
def test_bad_input_is_one_message(arguments, message, tmp_path):
    text = run("tools/train.py", *arguments, "--work-dir", tmp_path / "work", expect=2)
    assert text.strip().splitlines()[-1].startswith("error: ")
    assert message in text.strip().splitlines()[-1]
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_it_learns(digits, small_arch, tmp_path):
    """A bounded run of the real tools: far above an untrained detector, and a run that is resumed goes on."""
    options = [
        f"model.backbone.arch={small_arch}",
        "train_cfg.val_interval=100",
        "train_dataloader.batch_size=8",
        *(f"{loader}_dataloader.dataset.data_root={digits}" for loader in ("train", "val", "test")),
    ]

    def train(epochs: int, *more):
        return run("tools/train.py", DIGITS, "--work-dir", tmp_path, *more, "--cfg-options", *options,
                   f"train_cfg.max_epochs={epochs}")  # fmt: skip

    def map50(name: str) -> float:
        run("tools/test.py", DIGITS, tmp_path / name, "--work-dir", tmp_path, "--out-json", tmp_path / "map.json",
            "--cfg-options", *options)  # fmt: skip
        return json.loads((tmp_path / "map.json").read_text())["map50"]

    untrained = load_detector(DIGITS, options={"model.backbone.arch": str(small_arch)})
    untrained.init_weights()
    torch.save(untrained.state_dict(), tmp_path / "untrained.pth")
    train(7)
    assert "goes on behind epoch 7 of 8" in train(8, "--resume")
    assert map50("untrained.pth") < 0.01
    assert map50("last.pth") > 0.1


@pytest.fixture
def bccd(monkeypatch):
    if not (SHARED / "data" / "bccd" / "BCCD").is_dir():
        pytest.skip(f"no {SHARED}/data/bccd/BCCD: set MCUNET_SHARED to the folder that has it")
    monkeypatch.setenv("MCUNET_SHARED", str(SHARED))


def test_boxes_without_area_are_not_trained_on(bccd):
    from mmdet.registry import DATASETS
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        data = DATASETS.build(load_config(BCCD).train_dataloader.dataset)
    boxes = [(i, box["bbox"]) for i in range(len(data)) for box in data.get_data_info(i)["instances"]]
    flat = [i for i, (x1, y1, x2, y2) in boxes if x2 <= x1 or y2 <= y1]
    assert len(flat) == 2  # as shipped
    for i in flat:
        x1, y1, x2, y2 = data[i]["data_samples"].gt_instances.bboxes.tensor.T
        assert ((x2 > x1) & (y2 > y1)).all()


def reaches_its_figure(config: str, work: Path, *options) -> bool:
    """Every config carries the mAP50 of its own full training, which takes minutes."""
    run("tools/train.py", config, "--work-dir", work, *options)
    run("tools/test.py", config, work / "last.pth", "--work-dir", work, "--out-json", work / "map.json", *options)
    expected = load_config(config).expected
    return abs(json.loads((work / "map.json").read_text())["map50"] - expected.map50) <= expected.tolerance


@pytest.mark.slow
def test_figure_of_the_digits(tmp_path):
    run("tools/make_digits.py", "--out", tmp_path)
    roots = [f"{loader}_dataloader.dataset.data_root={tmp_path}" for loader in ("train", "val", "test")]
    assert reaches_its_figure(DIGITS, tmp_path, "--cfg-options", *roots)


@pytest.mark.slow
def test_figure_of_the_blood_cells(bccd, tmp_path):
    assert reaches_its_figure(BCCD, tmp_path)
