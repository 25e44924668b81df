"""Published face detectors as graphs: their figures, what torch counts, and EXTD's trained weights."""

import json
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nni_mcunet import load
from nni_mcunet.core.errors import ArchError, GraphError, UnsupportedOp
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import to_onnx
from nni_mcunet.engine.model import Model
from nni_mcunet.paper.baselines import BASELINES, extd, face_baseline
from nni_mcunet.paper.detection_tables import backbone, lffd_as_counted, operations
from nni_mcunet.paper.memory_rules import INT8, rnnpool, single_map
from nni_mcunet.profiling.profile import profile

KB, MB = 1024, 1 << 20
SMALL = (128, 192)


@pytest.mark.parametrize("name", BASELINES)
def test_torch_counts_the_same(name):
    """MACs by torch's own counter of what is really run, shapes and parameters of what is really made."""
    graph = face_baseline(name, SMALL)
    net = Net(graph).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        maps = net(torch.rand(1, 3, *SMALL))
    assert counter.get_total_flops() == 2 * graph.macs
    tensors = [graph.tensors[name] for name in graph.outputs]
    assert [tuple(m.shape) for m in maps] == [(1, t.c, t.h, t.w) for t in tensors]
    assert sum(p.numel() for p in net.parameters()) == graph.trained_params


def test_published_figures():
    """Tables 4 and 7 of the paper, and where they do not come out what does (docs/paper/tables.md says why)."""
    extd_32, lffd, face_c, quant = map(face_baseline, ("extd_32", "lffd", "rnnpool_face_c", "rnnpool_face_quant"))
    assert (f"{operations(extd_32) / 1e9:.2f}", f"{extd_32.macs / 1e9:.2f}") == ("8.49", "4.05")
    assert single_map(extd_32) == 18.75 * MB
    assert (f"{lffd_as_counted(lffd) / 1e9:.2f}", f"{lffd.macs / 1e9:.2f}") == ("9.25", "10.02")
    assert single_map(lffd) == 4 * 64 * 319 * 239
    assert max(rnnpool(backbone(face_c)).values()) == 4 * (64 + 24) * 160 * 120
    assert f"{face_c.trained_params / 1e6:.2f}" == "1.53" and f"{face_c.macs / 1e9:.2f}" == "2.03"  # printed: 1.80G
    assert max(rnnpool(backbone(quant), element=INT8).values()) == 225 * KB
    assert f"{quant.macs / 1e9:.2f}" == "0.18"  # printed: 0.12G


def test_extd_counts_shared_weights_once():
    graph = extd(32)
    assert graph.op("p5_b0_exp").shares == "p0_b0_exp" and graph.op_params(graph.op("p5_b0_exp")) == 0
    assert graph.params == profile(graph).to_dict()["params"] == sum(row["params"] for row in profile(graph).blocks())


def test_the_engine_refuses_them_by_name():
    for name, what in (("extd_32", "stem: .* prelu"), ("rnnpool_face_c", "pool: .* rnnpool")):
        with pytest.raises(UnsupportedOp, match=what):
            plan(face_baseline(name))
    shared = Graph(
        "g",
        (Tensor("image", 8, 8, 3),),
        (Op("a", "conv", ("image",), 3), Op("b", "conv", ("a",), 3, shares="a")),
        ("b",),
    )
    with pytest.raises(UnsupportedOp, match="b: the C kernels have no weights shared between layers"):
        plan(shared.verify())
    graph = face_baseline("rnnpool_face_c", SMALL)
    with pytest.raises(UnsupportedOp, match="pool: no rnnpool in our ONNX"):
        to_onnx(Model(graph.folded(), {}, {}))
    with pytest.raises(ArchError, match="no face detector 's3fd': expected one of extd_32"):
        face_baseline("s3fd")


@pytest.mark.parametrize(
    "op, message",
    [
        (Op("b", "add", ("a", "image"), 4), "b: add: expected inputs of one shape"),
        (Op("b", "resize", ("a",), 4), "b: resize: expected a second input, whose size it takes"),
        (Op("b", "rnnpool", ("a",), 6, (2, 2), (2, 2), hidden=2), "b: rnnpool: expected hidden units"),
        (Op("b", "l2norm", ("a",), 4, act="relu"), "b: l2norm has no residual or activation"),
        (Op("b", "conv", ("a",), 8, shares="a"), "b: no earlier op 'a' with weights of its own and of this shape"),
    ],
)  # fmt: skip
def test_malformed_ops(op, message):
    first = Op("a", "conv", ("image",), 4)
    with pytest.raises(GraphError, match=message):
        Graph("g", (Tensor("image", 8, 8, 3),), (first, op), ("b",)).verify()


def test_profile_by_name():
    pytest.importorskip("mmdet")
    by_name, by_config = load("extd_32").graph, load(ROOT / "configs/det/extd_widerface.py").graph
    assert by_name == by_config == extd(32).folded()
    assert profile(load("rnnpool_face_c").graph).to_dict()["rules"]["block_in_out"] == 88 * 160 * 120


def twin(w, image):
    """EXTD-32 on its authors' state dict, written as their paper draws it; scores with the face last, boxes."""

    def bn(x, key):
        parts = (w[f"{key}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def layers(x, keys, strides=None):
        for i, key in enumerate(keys):
            weight = w[f"{key[0]}.weight"]
            depthwise = weight.shape[2] == 3 and weight.shape[1] == 1
            x = F.conv2d(x, weight, w.get(f"{key[0]}.bias"), strides[i] if strides else 1, weight.shape[2] // 2,
                         groups=len(weight) if depthwise else 1)  # fmt: skip
            x = F.prelu(bn(x, key[1]), w[f"{key[2]}.weight"])
        return x

    def block(x, j, s):
        keys = [[f"base.{j}.conv.{i + k}" for k in range(3)] for i in (0, 3, 6) if f"base.{j}.conv.{i}.weight" in w]
        y = layers(x, keys, [s if i == len(keys) - 2 else 1 for i in range(len(keys))])
        return x + y if s == 1 and x.shape == y.shape else y

    x = layers(image, [["base.0.0", "base.0.1", "base.0.2"]], [2])
    x, maps = block(x, 1, 1), []
    for _ in range(6):
        for j in range(2, 8):
            x = block(x, j, 2 if j == 7 else 1)
        maps.append(x)
    for i in range(5):
        at, up = 4 - i, F.interpolate(maps[5 - i], size=maps[4 - i].shape[2:], mode="bilinear")
        up = F.conv2d(up, w[f"upfeat.{i}.0.weight"], padding=1, groups=32)
        maps[at] = maps[at] + F.relu(bn(F.conv2d(up, w[f"upfeat.{i}.1.weight"]), f"upfeat.{i}.2"))
    heads = [
        [F.conv2d(m, w[f"{k}.{i}.weight"], w[f"{k}.{i}.bias"], padding=1) for k in ("conf", "loc")]
        for i, m in enumerate(maps)
    ]
    return [output for pair in heads for output in pair]


@pytest.fixture(scope="module")
def extd_detector(shared):
    pytest.importorskip("mmdet")
    from mmdet.registry import MODELS
    from mmengine.registry import DefaultScope
    from mmengine.runner import load_checkpoint

    from detection import load_config

    weights = shared / "models/extd/EXTD_32.pth"
    if not weights.is_file():
        pytest.skip(f"{weights} is not there")
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(load_config(ROOT / "configs/det/extd_widerface.py").model)
    load_checkpoint(model, str(weights), map_location="cpu", strict=True)
    return model.eval(), torch.load(weights, map_location="cpu")


@torch.no_grad()
def test_extd_computes_what_its_authors_trained(extd_detector):
    model, theirs = extd_detector
    image = torch.rand(1, 3, 200, 264, generator=torch.Generator().manual_seed(0)) * 255 - 120
    ours = model.bbox_head.net(*model.backbone(image))
    for i, (mine, other) in enumerate(zip(ours, twin(theirs, image), strict=True)):
        other = other if i % 2 else other[:, [-1, *range(other.shape[1] - 1)]]
        assert torch.allclose(mine, other, atol=1e-3, rtol=1e-4), i


@torch.no_grad()
def test_extd_finds_faces(extd_detector, shared):
    """A picture of the validation set at half its size: its large faces, and nothing else of a high score."""
    import mmcv
    from mmdet.structures import DetDataSample

    from detection.faces.widerface_data import read_faces

    model, folder = extd_detector[0], shared / "data/widerface_mini"
    name, faces = next(
        (name, rows) for name, rows in read_faces(folder / "wider_face_val_bbx_gt.txt").items()
        if name.startswith("19") and len(rows) == 2
    )  # fmt: skip
    picture = mmcv.imrescale(mmcv.imread(folder / "WIDER_val" / name), 0.5)
    meta = dict(img_shape=picture.shape[:2], ori_shape=picture.shape[:2], scale_factor=(1, 1))
    sample = DetDataSample(metainfo=meta)
    data = dict(inputs=[torch.from_numpy(picture).permute(2, 0, 1)], data_samples=[sample])
    found = model.test_step(data)[0].pred_instances
    sure = found.bboxes[found.scores > 0.8]
    truth = torch.tensor(faces[:, :4] / 2, dtype=torch.float32)
    corners = torch.cat([truth[:, :2], truth[:, :2] + truth[:, 2:]], 1)
    low, high = torch.maximum(sure[:, None, :2], corners[:, :2]), torch.minimum(sure[:, None, 2:], corners[:, 2:])
    common = (high - low).clamp(min=0).prod(2)
    iou = common / ((sure[:, 2:] - sure[:, :2]).prod(1)[:, None] + truth[:, 2:].prod(1) - common)
    assert len(sure) == 2 and (iou.max(0).values > 0.5).all()


def test_extd_trains(extd_detector):
    """mmdet's loss with S3FD's matching is finite, and reaches the weights that six passes share."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    model = extd_detector[0]
    faces = InstanceData(bboxes=torch.tensor([[20.0, 30, 60, 80]]), labels=torch.zeros(1, dtype=torch.long))
    ignored = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    sample = DetDataSample(metainfo=dict(img_shape=(128, 128), batch_input_shape=(128, 128), pad_shape=(128, 128)))
    sample.gt_instances, sample.ignored_instances = faces, ignored
    losses = model.loss(torch.rand(1, 3, 128, 128) * 200 - 100, [sample])
    total = sum(value if isinstance(value, torch.Tensor) else sum(value) for value in losses.values())
    total.sum().backward()
    gradient = model.backbone.layers["p0_b0_exp"].conv.weight.grad
    assert torch.isfinite(total).all() and gradient.abs().sum() > 0
    model.zero_grad()


@pytest.mark.slow
def test_extd_on_the_mini_set(extd_detector, shared, tmp_path):
    """The 40 validation pictures through our test tool give what the config expects."""
    from detection import load_config

    config = ROOT / "configs/det/extd_widerface_mini.py"
    command = [
        sys.executable,
        ROOT / "tools/test.py",
        config,
        shared / "models/extd/EXTD_32.pth",
        "--work-dir",
        tmp_path,
    ]
    done = subprocess.run([*command, "--out-json", tmp_path / "ap.json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, expected = json.loads((tmp_path / "ap.json").read_text()), load_config(config).expected
    for setting in ("easy", "medium", "hard"):
        assert abs(found[f"widerface/{setting}"] - expected[setting]) <= expected.tolerance
