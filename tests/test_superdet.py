"""The super-network of detectors: its slices are mmdet's detectors, trained by its loss and judged by its metric."""

import json
import runpy
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from detection import load_config, load_detector
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import BACKBONE, YoloHead, YoloxHead, build_graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.constraint import Limits
from nni_mcunet.search.data import open_data
from nni_mcunet.search.data.source import Key
from nni_mcunet.search.nni.experiment_file import load_config as load_experiment
from nni_mcunet.search.run.export import check_supernet, export_best
from nni_mcunet.search.run.history import History
from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.supernet.fit import Recipe, load_checkpoint
from nni_mcunet.search.supernet.supernet import accumulate, run_subnet, slice_net
from nni_mcunet.search.supernet.training import evaluate, finetune, load_supernet, specialise, train

SMALL = Space.from_dict(load_space("demo").to_dict() | {"name": "small", "r": [32, 64], "classes": None})
HEAD = YoloHead(10, (2, 4), 48)
TINY = Recipe(largest=2, shared=2, subnets=2, batch=4, lr=0.003, adam=True, ema=0.9)
VOC = ["voc_h743", "voc_f412"]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """yolov3_digits.py for twenty pictures of its data set, of which the augmentation cuts boxes away."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        patch.setattr(sys, "argv", ["", "--out", str(folder), "--train", "20", "--val", "2", "--size", "96"])
        runpy.run_path(str(ROOT / "tools/make_digits.py"), run_name="__main__")
    path = folder / "digits.py"
    path.write_text(f"""
_base_ = "{ROOT}/configs/det/yolov3_digits.py"
data_root = "{folder}/"
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="MinIoURandomCrop", min_ious=(0.5, 0.9), min_crop_size=0.5),
    dict(type="Resize", scale=(96, 96), keep_ratio=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline))
model = dict(test_cfg=dict(nms_pre=3000, max_per_img=3000))  # hardly trained, it finds by chance
""")
    return str(path)


@pytest.fixture(scope="module")
def options(config):
    return {"kind": "detection.DetectorData", "config": config, "held_out": 6, "calibration": [2, 4], "workers": 0}


@pytest.fixture(scope="module")
def data(options):
    return open_data(options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("supernet") / "x.pth"
    train(SMALL, TINY, path, data)
    return path


def candidate(seed):
    return SMALL.random(np.random.default_rng(seed)) | {"r": 64}


def mmdets(config, spec, weights):
    """mmdet's detector of an architecture with the weights of a slice, and its config."""
    arch = spec.save(Path(config).with_name("arch.json"))
    cfg = load_config(config, {"model.backbone.arch": str(arch)})
    detector = load_detector(cfg)
    detector.load_state_dict(weights, strict=True)
    return detector, cfg


def batch(data, split="train", seed=(0, 0, 0), count=3, resolution=(64, 64)):
    samples = [data.source.sample(Key(split, i, resolution, seed and (*seed, i))) for i in range(count)]
    return torch.stack([image for image, _ in samples]), [target for _, target in samples]


# --- slices


@pytest.mark.parametrize("seed", range(2))
def test_a_slice_is_mmdets_detector(trained, data, config, seed):
    """The maps that the super-network computes through views, those of mmdet's detector that has loaded the slice."""
    space, net = load_supernet(trained, data)
    spec = space.spec(candidate(seed))
    graph, x = build_graph(spec, HEAD), torch.rand(2, 3, 64, 64)
    detector, _ = mmdets(config, spec, slice_net(net, graph).state_dict())
    with torch.no_grad():
        (maps,) = detector(x, None, mode="tensor")
        found = run_subnet(net, graph, x)
    assert [m.shape[-1] for m in found] == [8, 4]
    for ours, theirs in zip(found, maps[::-1], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_it_begins_with_a_classifier(data, tmp_path):
    """A network without the detector's neck and head, at a resolution that the detector could not have."""
    spec = ArchSpec.from_dict(SMALL.spec(candidate(0)).to_dict() | {"resolution": [72, 72], "classes": 7})
    trained, largest = Net(build_graph(spec)), replace(TINY, shared=0)  # before the channels are sorted
    net = train(SMALL, largest, tmp_path / "x.pth", data, start=(spec, trained))
    plain = train(SMALL, largest, tmp_path / "plain.pth", data)
    key = "layers.stem.conv.weight"
    first = trained.state_dict()[key]

    def distance(net):
        return float((net.state_dict()[key][: len(first)] - first).abs().mean())

    assert distance(net) < distance(plain) / 5


def test_its_loss_is_mmdets(trained, data, config):
    """Return what detector.loss gives for the same weights, pictures and boxes."""
    space, net = load_supernet(trained, data)
    graph, (images, targets) = build_graph(space.spec(candidate(0)), HEAD), batch(data)
    detector, _ = mmdets(config, space.spec(candidate(0)), slice_net(net, graph).state_dict())
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for target in targets:
        objects = {key: torch.from_numpy(value) for key, value in target["objects"].items()}
        samples.append(DetDataSample(gt_instances=InstanceData(**objects), metainfo=target["meta"]))
    losses = detector.loss(images / 255, samples)
    wanted = sum(part for parts in losses.values() for part in parts)
    found = data.task.loss(run_subnet(net, graph, images / 255), targets, smoothing=0)
    assert torch.allclose(found, wanted, rtol=1e-5)


def test_gradients_gather_as_autograd_would(trained, data):
    space, net = load_supernet(trained, data)
    graph, (images, targets) = build_graph(space.spec(candidate(1)), HEAD), batch(data)
    criterion = partial(data.task.loss, targets=targets, smoothing=0)
    net.train()
    loss = criterion(run_subnet(net, graph, images / 255))
    loss.backward()
    wanted = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    assert torch.allclose(accumulate(net, graph, images / 255, criterion), loss)
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys() and any(name.startswith("layers.yolo1_pred") for name in found)
    for name, grad in wanted.items():
        assert torch.allclose(found[name], grad, rtol=1e-3, atol=1e-4 * float(grad.abs().max())), name


def test_the_score_is_mmdets_map(trained, data, config):
    """Judge the detector with the slice's re-calibrated weights, by mmdet's own way from pictures to the metric."""
    from mmdet.registry import DATASETS, METRICS
    from mmengine.registry import DefaultScope

    space, net = load_supernet(trained, data)
    for name in net.graph.outputs:
        torch.nn.init.zeros_(net.layers[name].conv.bias)  # anchors everywhere
    chosen = candidate(0)
    score = evaluate(space, net, chosen, data)
    detector, cfg = mmdets(config, space.spec(chosen), specialise(space, net, chosen, data).state_dict())
    with DefaultScope.overwrite_default_scope("mmdet"):
        given = dict(cfg.train_dataloader.dataset, pipeline=cfg.val_dataloader.dataset.pipeline)
        pictures, metric = DATASETS.build(given), METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = pictures.metainfo
    for index in data.source.splits["held_out"]:
        one = pictures[int(index)]
        with torch.no_grad():
            found = detector.test_step({"inputs": [one["inputs"]], "data_samples": [one["data_samples"]]})
        metric.process({}, [sample.to_dict() for sample in found])
    assert score == pytest.approx(metric.evaluate(6)["pascal_voc/mAP"], abs=1e-6) and score > 0


def test_a_super_network_of_yolox(config, options, tmp_path):
    """Its head is part of a checkpoint's identity, its slices are mmdet's YOLOX, and its score is of mmdet's boxes."""
    path = Path(config).with_name("yolox.py")
    path.write_text(f"""
_base_ = "{config}"
model = dict(
    type="MCUNetYOLOX",
    bbox_head=dict(_delete_=True, type="MCUNetYOLOXHead", feat_channels=16, stacked_convs=1),
    train_cfg=dict(assigner=dict(_delete_=True, type="SimOTAAssigner")),
    test_cfg=dict(_delete_=True, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.45), max_per_img=3000),
)
""")
    data, fields = open_data(options | {"config": str(path)}), {"classes": 10, "taps": [2, 4], "feat_channels": 16}
    described = {"type": "yolox"} | fields | {"stacked_convs": 1}
    search = SearchConfig("demo", "f412", str(tmp_path / "x.pth"), str(tmp_path), detector=described)
    head = search.limits().yolo
    assert data.task.head == head == YoloxHead(10, (2, 4), 48, 16, 1)
    train(SMALL, TINY, tmp_path / "x.pth", data)
    space, net = load_supernet(tmp_path / "x.pth", data)
    assert net.graph.outputs == build_graph(space.spec(candidate(0)), head).outputs
    for name in net.graph.outputs:
        torch.nn.init.zeros_(net.layers[name].conv.bias)  # boxes everywhere
    assert evaluate(space, net, candidate(0), data) > 0
    graph, (images, _) = build_graph(space.spec(candidate(0)), head), batch(data)
    detector, _ = mmdets(str(path), space.spec(candidate(0)), slice_net(net, graph).state_dict())
    with torch.no_grad():
        found = detector.bbox_head.arranged(run_subnet(net, graph, images / 255))
        wanted = detector(images / 255, None, mode="tensor")
    assert all(
        torch.allclose(a, b, atol=1e-5) for one, other in zip(found, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )  # fmt: skip
    with pytest.raises(UserError, match="was trained for detector"):
        load_supernet(tmp_path / "x.pth", open_data(options))


@pytest.mark.parametrize(
    "detector, message",
    [
        ({"type": "ssd", "classes": 1, "taps": [2]}, r"detector: type is 'ssd': expected one of yolov3, yolox"),
        ({"type": ["yolox"], "classes": 1, "taps": [2]}, "expected one of yolov3, yolox"),
        ({"type": "yolox", "classes": 1, "taps": [2], "anchors": 3}, "unknown key 'anchors'"),
        ({"classes": 1, "taps": [2], "stacked_convs": 3}, "unknown key 'stacked_convs'"),
    ],
)
def test_a_head_that_is_none_is_refused(detector, message):
    with pytest.raises(UserError, match=message):
        SearchConfig("demo", "f412", "x.pth", "out", detector=detector)


# --- pictures


def test_a_picture_depends_on_its_key_alone(data):
    (first, targets), (again, same) = batch(data), batch(data)
    assert torch.equal(first, again)
    assert first.dtype == torch.uint8 and first.shape == (3, 3, 64, 64)
    assert all(
        np.array_equal(a["objects"]["bboxes"], b["objects"]["bboxes"]) for a, b in zip(targets, same, strict=True)
    )
    assert not torch.equal(first, batch(data, seed=(0, 1, 0))[0])
    for target in targets:  # in pixels of the picture that is given
        assert len(target["objects"]["labels"]) and target["objects"]["bboxes"].max() <= 64
    other, _ = batch(data, resolution=(32, 64))
    assert other.shape == (3, 3, 32, 64)


def test_held_out_pictures_are_not_trained_on(data, options):
    splits = data.source.splits
    assert sorted([*splits["train"], *splits["held_out"]]) == list(range(20)) and data.source.sizes["train"] == 14
    assert not np.array_equal(open_data(options | {"seed": 1}).source.splits["held_out"], splits["held_out"])


# --- training, checkpoint, search


@pytest.mark.parametrize("at", [1, 2, 3])
def test_training_resumes_exactly(trained, data, tmp_path, at):
    def killed(step, loss):
        if step == at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, TINY, tmp_path / "x.pth", data, save_every=1, progress=killed)
    assert load_checkpoint(tmp_path / "x.pth")["step"] == at
    resumed = train(SMALL, TINY, tmp_path / "x.pth", data).state_dict()
    _, whole = load_supernet(trained)
    assert all(torch.equal(resumed[key], value) for key, value in whole.state_dict().items())


def test_the_best_slice_is_what_a_detector_begins_with(trained, data, options, config, tmp_path):
    """best.pth has backbone, neck and head; mmdet's load_from and the backbone's init_cfg take it as it is."""
    search = SearchConfig(
        "demo", "f412", str(trained), str(tmp_path), detector=asdict(HEAD), data=options, population=1
    )
    evolution = search.evolution()
    evolution.space = SMALL
    evolution.tell(evolution.ask().index, 0.5)
    evolution.proposals[0].candidate = candidate(0)
    History(tmp_path).write(evolution)
    spec = export_best(search, tmp_path)
    weights = torch.load(tmp_path / "best.pth")
    assert weights.keys() == Net(build_graph(spec, HEAD)).state_dict().keys()
    from mmengine.runner import load_checkpoint as load_mmdets

    arch = {"model.backbone.arch": str(tmp_path / "best.json")}
    detector = load_detector(config, options=arch)
    load_mmdets(detector, str(tmp_path / "best.pth"), strict=True)
    assert torch.equal(detector.bbox_head.net.layers["yolo0_pred"].conv.bias, weights["layers.yolo0_pred.conv.bias"])
    started = load_detector(config, options=arch | {"model.backbone.init_cfg.checkpoint": str(tmp_path / "best.pth")})
    started.backbone.init_weights()
    state = started.backbone.state_dict()
    assert all(torch.equal(state[f"layers.{op.name}.conv.weight"], weights[f"layers.{op.name}.conv.weight"])
               for op in build_graph(spec, HEAD).part(BACKBONE).ops)  # fmt: skip


def test_a_detector_that_is_not_the_counted_one_is_refused(trained, options, tmp_path):
    search = SearchConfig("demo", "f412", str(trained), str(tmp_path), detector={"classes": 10, "taps": [2, 4],
                          "width": 32}, data=options)  # fmt: skip
    with pytest.raises(UserError, match=r"trained for space small"):
        check_supernet(search, here=True)
    space = tmp_path / "small.json"
    space.write_text(json.dumps(SMALL.to_dict()))
    for width in (32, None):
        detector = None if width is None else {"classes": 10, "taps": [2, 4], "width": width}
        search = SearchConfig(str(space), "f412", str(trained), str(tmp_path), detector=detector, data=options)
        with pytest.raises(UserError, match="give both the same"):
            check_supernet(search, here=True)


def test_the_files_are_part_of_the_split(trained, options):
    """Other pictures of the same number would be judged on what was trained on."""
    data, other = open_data(options), open_data(options | {"seed": 1})
    assert data.identity["files"] != other.identity["files"] and load_supernet(trained, data)
    other.identity["seed"] = 0
    with pytest.raises(UserError, match="another list of pictures"):
        load_supernet(trained, other)


def test_a_classifiers_super_network_does_not_judge_detectors(data, tmp_path):
    digits = open_data({"kind": "digits", "held_out": 4, "test": 4, "calibration": [1, 4]})
    train(SMALL, Recipe(largest=1, shared=1, batch=4), tmp_path / "x.pth", digits)
    with pytest.raises(UserError, match="was trained"):
        load_supernet(tmp_path / "x.pth", data)
    with pytest.raises(UserError, match=r"mcunet train"):
        finetune(SMALL.spec(SMALL.smallest()), None, TINY, data, tmp_path / "y.ckpt")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "detection.Nothing"}, "no class with OPTIONS"),
        ({"kind": "nowhere.DetectorData"}, "No module named 'nowhere'"),
        ({"root": "x"}, "unknown key 'root'"),
        ({"held_out": 20}, r"held_out \(of 20 training pictures\) is 20: expected an integer from 1 to 19"),
        ({"held_out": None}, r"held_out \(of 20 training pictures\) is None"),
        ({"config": None}, "config is None"),
        ({"calibration": 3}, "calibration is 3"),
    ],
)
def test_wrong_data_are_refused(options, change, message):
    with pytest.raises(UserError, match=message):
        open_data(options | change)


def test_a_recipe_for_classifiers_is_refused(data, tmp_path):
    with pytest.raises(UserError, match="label_smoothing"):
        train(SMALL, Recipe(largest=1, shared=1, batch=4, label_smoothing=0.1), tmp_path / "x.pth", data)


# --- the experiments in configs/nni


@pytest.mark.parametrize("name", [*VOC, "bccd_f412", "bccd_f412_random"])
def test_an_experiment_is_ready_to_run(name):
    """It loads, and its limits leave networks to find: few draws for each, all within the limits, the head counted."""
    path = load_experiment(ROOT / "configs/nni" / f"{name}.yml")
    search = SearchConfig.from_dict(path["tuner"]["classArgs"], path["trialCodeDirectory"])
    limits, evolution = search.limits(), search.evolution(path["searchSpace"])
    drawn = []
    evolution.check = lambda spec: drawn.append(spec) or limits.check(spec)
    evolution.population = 8
    evolution.ask()
    assert len(evolution.proposals) == 8 and len(drawn) < 200
    for proposal in evolution.proposals:
        assert proposal.sram <= limits.board.arena_limit and proposal.macs <= limits.max_macs
        graph = build_graph(evolution.space.spec(proposal.candidate), limits.yolo)
        assert proposal.macs >= graph.macs and len(graph.outputs) == len(limits.yolo.taps)
    assert search.parents == (0 if name.endswith("random") else 5 if name == "bccd_f412" else 20)


@pytest.mark.parametrize(
    "name, macs, sram_kb, parameters", [("voc_h743", 343, 438, 0.67), ("voc_f412", 172, 247, 0.47)]
)
def test_the_voc_architectures_have_table_3s_size(name, macs, sram_kb, parameters):
    """Draw networks of the experiment's space, within its limits at the schedule in the file, and near them."""
    path = load_experiment(ROOT / "configs/nni" / f"{name}.yml")
    search = SearchConfig.from_dict(path["tuner"]["classArgs"], path["trialCodeDirectory"])
    limits, spec = search.limits(), ArchSpec.load(ROOT / f"configs/arch/mcunetv2_{name}.json")
    load_space("detect416").candidate(spec)  # raises when it is of another space
    plan = Limits(limits.board, limits.max_macs, limits.yolo).check(spec)
    assert plan.schedule == spec.schedule and spec.schedule.n
    assert limits.max_macs == macs * 10**6 and 0.94 * limits.max_macs < plan.macs <= limits.max_macs
    assert limits.board.arena_limit == sram_kb * 1024 and plan.arena <= limits.board.arena_limit
    assert limits.yolo.classes == 20
    assert build_graph(spec, limits.yolo).params / 1e6 == pytest.approx(parameters, abs=0.005)


def test_the_comparisons_networks_need_what_its_table_says():
    """docs/results/search_detector.json, of benchmarks/search_detector.py: the planner of today needs no more than the
    one of then, and the architecture in configs is that of the first search."""
    study = json.loads((ROOT / "docs/results/search_detector.json").read_text())
    path = load_experiment(ROOT / "configs/nni/bccd_f412.yml")
    search = SearchConfig.from_dict(path["tuner"]["classArgs"], path["trialCodeDirectory"])
    space = load_space(search.space)
    for row in [*study["results"], study["bccd_f412"]]:
        found = search.limits().check(space.spec(row["candidate"]))
        assert found.flash == row["flash"] and found.macs <= row["macs"]
    kept = ArchSpec.load(ROOT / "configs/arch/bccd_f412.json")
    assert space.candidate(kept) == space.candidate(space.spec(study["bccd_f412"]["candidate"]))


@pytest.mark.slow
def test_the_comparison_of_searches_runs_and_goes_on(shared, tmp_path, monkeypatch, capsys):
    program, results = ROOT / "benchmarks/search_detector.py", tmp_path / "search_detector.json"
    results.write_text((ROOT / "docs/results/search_detector.json").read_text())
    monkeypatch.syspath_prepend(str(program.parent))
    monkeypatch.setattr("sys.argv", [str(program), "--seeds", "0", "--out", str(tmp_path), "--results", str(tmp_path)])
    main = runpy.run_path(str(program))["main"]
    main.__globals__["RECIPE"] = Recipe(largest=1, shared=1, subnets=1, batch=2, adam=True, lr=0.001)
    main.__globals__["BUDGET"] = {"population": 2, "parents": 1, "iterations": 1}
    main()
    first, scores = capsys.readouterr().out, (tmp_path / "scores.jsonl").read_text()
    rows = json.loads(results.read_text())["results"]
    assert [row["search"] for row in rows] == ["evolution", "random"] and all(2 < row["evaluated"] <= 4 for row in rows)
    assert (tmp_path / "search_detector.png").stat().st_size > 1000
    main()
    assert capsys.readouterr().out == first and (tmp_path / "scores.jsonl").read_text() == scores
