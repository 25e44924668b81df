"""tools/test.py and compare_boxes.py as a user calls them: float, compiled and reference behind one data set and any
metric. In this process, so that mmdet is imported once."""

import json
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

from detection import float_boxes, input_pictures, load_config, load_detector, map50
from detection.training.coco_ap import CocoAP
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.engine.quant.ort_session import to_input
from nni_mcunet.engine.run.pictures import load_picture

CONFIG = "configs/det/yolov3_digits.py"


def tool(monkeypatch, name, *arguments, expect=0):
    """Run tools/NAME.py here."""
    monkeypatch.setattr(sys, "argv", [f"tools/{name}.py", *map(str, arguments)])
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    code = 0
    try:
        runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")
    except SystemExit as stop:
        code = stop.code or 0
    assert code == expect


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with digits/ (24 + 10 scenes), arch.json and weights.pth: random ones that find many boxes. They
    are the test scenes' ground truth, so that its mAP is far from none, and another's is lower."""
    folder = tmp_path_factory.mktemp("testing")
    blocks = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),), (Block(3, 2, 72, 40),),
              (Block(3, 1, 120, 48),))  # fmt: skip
    ArchSpec("test_r64", 64, 8, blocks).save(folder / "arch.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        from nni_mcunet.cli.digits import annotation

        tool(patch, "make_digits", "--out", folder / "digits", "--train", 24, "--val", 10, "--size", 64)
        torch.manual_seed(0)
        model = load_detector(CONFIG, options={"model.backbone.arch": str(folder / "arch.json")})
    picture = load_picture(next((folder / "digits").rglob("*.jpg")), (64, 64))
    with torch.no_grad():
        (maps,) = model.forward(torch.from_numpy(to_input(picture)), None, mode="tensor")
        for conv, found in zip(model.bbox_head.convs_pred, maps, strict=True):
            conv.weight.mul_(1 / found.std(dim=(0, 2, 3))[:, None, None, None])
            conv.bias.zero_()
    torch.save({"state_dict": model.state_dict()}, folder / "weights.pth")
    voc = folder / "digits/VOC2007"
    for name in (voc / "ImageSets/Main/val.txt").read_text().split():
        corners, _, labels = float_boxes(model, load_picture(voc / f"JPEGImages/{name}.jpg", (64, 64)))
        corners = corners.clip(0, 64).round()
        best = np.flatnonzero((corners[:, 2:] - corners[:, :2] > 4).all(1))
        (voc / f"Annotations/{name}.xml").write_text(annotation(name, 64, corners[best], labels[best]))
    return folder


@pytest.fixture
def run(work, tmp_path, monkeypatch):
    """run(name, *arguments): a tool on the random detector; its metrics where it is tools/test.py."""
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)
    options = ["--cfg-options", f"model.backbone.arch={work / 'arch.json'}", "test_dataloader.num_workers=0",
               "test_dataloader.persistent_workers=False"]  # fmt: skip
    options += [f"{loader}_dataloader.dataset.data_root={work / 'digits'}" for loader in ("train", "val", "test")]

    def run(name, *arguments, config=CONFIG, expect=0):
        more = ["--work-dir", tmp_path / "work", "--out-json", tmp_path / "m.json"] if name == "test" else []
        tool(monkeypatch, name, config, *arguments, *more, *options, expect=expect)
        return json.loads((tmp_path / "m.json").read_text()) if name == "test" and not expect else None

    run.config = lambda: load_config(
        CONFIG, {key: yaml.safe_load(value) for key, value in (o.split("=") for o in options[1:])}
    )
    return run


def test_backends(run, work, tmp_path, capsys):
    """Float and int8 are near; compiled and reference are equal, from a .pth as from the int8 file of the same
    pictures; every metric is printed."""
    floats = run("test", work / "weights.pth")
    assert floats["map50"] == floats["pascal_voc/mAP"] > 0.2
    assert floats["coco/bbox_mAP_50"] == pytest.approx(floats["map50"], abs=0.05)  # VOC's area, COCO's 101 points
    assert 0 < floats["map50_95"] == floats["coco/bbox_mAP"] < floats["map50"]
    assert f"{'pascal_voc/AP50':32} {floats['pascal_voc/AP50']:.4f}" in capsys.readouterr().out
    int8 = run("test", work / "weights.pth", "--backend", "int8", "--calib-images", 12)
    assert int8 == run("test", work / "weights.pth", "--backend", "reference", "--calib-images", 12)
    assert int8["map50"] == pytest.approx(floats["map50"], abs=0.15)
    assert int8["map50"] != floats["map50"]


def test_an_int8_file_and_the_way_there(run, work, tmp_path, monkeypatch):
    """export and quantize on the same pictures give the network that --backend int8 makes of the .pth."""
    run("export", work / "weights.pth", "-o", tmp_path / "m.onnx")
    lists = work / "digits/VOC2007/ImageSets/Main/train.txt"
    tool(monkeypatch, "quantize", tmp_path / "m.onnx", "--calib", work / "digits/VOC2007/JPEGImages", "--list", lists,
         "--images", 12, "-o", tmp_path / "m.int8.onnx")  # fmt: skip
    from_file = run("test", tmp_path / "m.int8.onnx")
    assert from_file == run("test", work / "weights.pth", "--backend", "int8", "--calib-images", 12)
    run("compare_boxes", work / "weights.pth", "--int8", tmp_path / "m.int8.onnx", "--images", 4, "--json",
        tmp_path / "c.json", "--score", 0.1)  # fmt: skip
    report = json.loads((tmp_path / "c.json").read_text())
    assert report["images"] == 4 and report["score"]["0.1"]["boxes"] > 50
    assert report["score"]["0.1"]["within"]["8"] > 0.5
    predicted, kept = (report["score"]["0.1"][part]["1"] for part in ("before_nms", "within"))
    assert predicted > kept  # all that is kept is predicted


def test_flags_of_mmdet(run, work, tmp_path):
    """--show-dir draws, --out dumps, --tta runs a view and its mirror image, float and int8 alike."""
    plain = run("test", work / "weights.pth", "--show-dir", "drawn", "--out", tmp_path / "p.pkl")
    assert len(list((tmp_path / "work").glob("*/drawn/*"))) == 10
    predictions = pickle.loads((tmp_path / "p.pkl").read_bytes())
    assert len(predictions) == 10 and len(predictions[0]["pred_instances"]["scores"]) > 0
    tta = run("test", work / "weights.pth", "--tta")
    assert tta["map50"] > 0.01 and tta != plain
    assert run("test", work / "weights.pth", "--tta", "--backend", "int8")["map50"] > 0.01


@pytest.mark.parametrize("kind", ["coco", "widerface"])
def test_any_metric(kind, run, work, tmp_path, request):
    """The same command with COCO's and WIDER FACE's evaluator: the metrics are those of the evaluator."""
    root = work / "digits/VOC2007/JPEGImages"
    evaluator = f"dict(_delete_=True, type='CocoMetric', metric='bbox', ann_file='{tmp_path}/coco.json')"
    if kind == "widerface":
        data = request.getfixturevalue("shared") / "data"
        root = data / "widerface_mini/WIDER_val"
        evaluator = f"dict(_delete_=True, type='WIDERFaceMetric', ground_truth='{data}/widerface_gt/ground_truth')"
    files = sorted(root.rglob("*.jpg"))[:4]
    images = [{"id": i, "file_name": str(f.relative_to(root)), "height": 64, "width": 64} for i, f in enumerate(files)]
    names = load_config(ROOT / CONFIG, {"model.backbone.arch": str(work / "arch.json")}).metainfo.classes
    objects = [{"id": i, "image_id": i, "category_id": 0, "bbox": [9, 9, 30, 30], "area": 900, "iscrowd": 0}
               for i in range(len(files))]  # fmt: skip
    coco = {"images": images, "annotations": objects, "categories": [{"id": i, "name": n} for i, n in enumerate(names)]}
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    config = tmp_path / "other.py"
    config.write_text(
        f"_base_ = '{ROOT / CONFIG}'\ntest_evaluator = {evaluator}\n"
        "test_dataloader = dict(dataset=dict(_delete_=True, type='CocoDataset', test_mode=True,"
        f"ann_file='../coco.json', data_prefix=dict(img='{root}/'), metainfo=dict(classes={tuple(names)}),"
        "pipeline={{_base_.test_pipeline}}))\n"
    )
    (work / "coco.json").write_text(json.dumps(coco))
    metrics = run("test", work / "weights.pth", "--backend", "int8", config=config)
    assert all(k in ("map50", "map50_95") or k.startswith((f"{kind}/", "coco/")) for k in metrics)
    assert len([k for k in metrics if k.startswith(f"{kind}/")]) >= 3
    assert metrics["map50"] == metrics["coco/bbox_mAP_50"] and metrics["map50_95"] == metrics["coco/bbox_mAP"]


@pytest.mark.slow
def test_a_concatenated_test_set(run, work, tmp_path, monkeypatch):
    """The test set in two parts, one of them repeated: every command gives what it gives on the whole."""
    lists = work / "digits/VOC2007/ImageSets/Main"
    names = (lists / "val.txt").read_text().split()
    for part, some in (("head", names[:4]), ("tail", names[4:])):
        (lists / f"{part}.txt").write_text("".join(f"{name}\n" for name in some))
    config = tmp_path / "two.py"
    config.write_text(f"""
_base_ = '{ROOT / CONFIG}'
data_root = '{work / "digits"}/'
model = dict(backbone=dict(arch='{work / "arch.json"}'))
part = dict(type='XMLDataset', data_root=data_root, data_prefix=dict(sub_data_root='VOC2007/'), test_mode=True,
            metainfo={{{{_base_.metainfo}}}}, pipeline={{{{_base_.test_pipeline}}}})
parts = [dict(**part, ann_file=f'VOC2007/ImageSets/Main/{{name}}.txt') for name in ('head', 'tail')]
test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(_delete_=True, type='ConcatDataset',
    datasets=[dict(type='RepeatDataset', times=1, dataset=parts[0]), parts[1]]))
""")
    out = ["--work-dir", tmp_path / "work", "--out-json", tmp_path / "two.json"]
    for flags in ([], ["--tta"], ["--backend", "int8", "--calib-images", 12]):
        whole = run("test", work / "weights.pth", *flags)
        tool(monkeypatch, "test", config, work / "weights.pth", *flags, *out)
        assert json.loads((tmp_path / "two.json").read_text()) == whole
    tool(monkeypatch, "compare_boxes", config, work / "weights.pth", "--images", 4, "--json", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["images"] == 4
    run("export", work / "weights.pth", "-o", tmp_path / "m.onnx")
    tool(monkeypatch, "quantize", tmp_path / "m.onnx", "--calib", config, "--images", 12, "-o", tmp_path / "q.onnx")
    tool(monkeypatch, "test", config, tmp_path / "q.onnx", *out)
    assert json.loads((tmp_path / "two.json").read_text()) == whole


def test_names_that_differ_are_refused(run, work, tmp_path, monkeypatch, capsys):
    """Checkpoint, int8 file and config: what one was trained on is what the other is judged by."""
    names = list(load_config(ROOT / CONFIG).metainfo.classes)
    weights = torch.load(work / "weights.pth", weights_only=True)
    turned = names[::-1]
    torch.save(weights | {"meta": {"dataset_meta": {"classes": turned}}}, tmp_path / "turned.pth")
    message = "have the same classes in another order, nine, eight"
    for command in (("test",), ("test", "--backend", "int8"), ("export", "-o", tmp_path / "x.onnx")):
        run(command[0], tmp_path / "turned.pth", *command[1:], expect=2)
        assert message in capsys.readouterr().err.splitlines()[-1]
    run("export", work / "weights.pth", "-o", tmp_path / "m.onnx")
    lists = work / "digits/VOC2007/ImageSets/Main/train.txt"
    tool(monkeypatch, "quantize", tmp_path / "m.onnx", "--calib", work / "digits/VOC2007/JPEGImages", "--list", lists,
         "--images", 2, "-o", tmp_path / "m.int8.onnx")  # fmt: skip
    config = tmp_path / "turned.py"
    config.write_text(f"_base_ = '{ROOT / CONFIG}'\nmetainfo = dict(classes={tuple(turned)})\n")
    capsys.readouterr()
    for command in (("test", tmp_path / "m.int8.onnx"),
                    ("compare_boxes", tmp_path / "turned.pth", "--int8", tmp_path / "m.int8.onnx")):  # fmt: skip
        run(*command, config=config, expect=2)
        assert "m.int8.onnx and the config have the same classes in another order" in capsys.readouterr().err
    tool(monkeypatch, "quantize", tmp_path / "m.onnx", "--qat", tmp_path / "turned.pth", "-o", tmp_path / "q.onnx",
         expect=2)  # fmt: skip
    assert message in capsys.readouterr().err.splitlines()[-1]


def sample(boxes, labels, scores=None):
    """Boxes (n, 4) of corners with labels as mmdet hands them to a metric."""
    found = {"bboxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), "labels": torch.tensor(labels)}
    return found | ({} if scores is None else {"scores": torch.tensor(scores)})


def test_coco_s_ap_is_pycocotools():
    """On random boxes it equals mmdet's CocoMetric, which reads a file."""
    from mmdet.evaluation import CocoMetric

    rng, samples = np.random.default_rng(0), []
    for i in range(12):
        low = rng.uniform(0, 60, (6, 2))
        truth, labels = np.hstack([low, low + rng.uniform(5, 40, (6, 2))]), rng.integers(0, 3, 6).tolist()
        found = (truth + rng.normal(0, 2, truth.shape)).tolist() + [[0, 0, 9, 9]]
        scores = rng.uniform(0, 1, 7).tolist()
        instances = [{"bbox": b, "bbox_label": k} for b, k in zip(truth.tolist(), labels, strict=True)]
        samples.append(
            {
                "img_id": i,
                "ori_shape": (99, 99),
                "instances": instances,
                "gt_instances": sample(truth.tolist(), labels),
                "pred_instances": sample(found, [*labels, 1], scores),
            }
        )
    ours, theirs = CocoAP(), CocoMetric(metric="bbox", format_only=False)
    theirs.dataset_meta = {"classes": ("a", "b", "c")}
    for metric in (ours, theirs):
        metric.process(None, samples)
    ours, theirs = (metric.evaluate(len(samples)) for metric in (ours, theirs))
    assert 0.2 < ours["coco/bbox_mAP"] < ours["coco/bbox_mAP_50"] < 1
    assert all(round(ours[key], 3) == theirs[key] for key in ours)


def test_coco_s_ap_leaves_out_what_is_ignored():
    def ap(**samples):
        metric = CocoAP()
        metric.process(None, [{k: v for k, v in one.items() if v} for one in samples.values()])
        return metric.evaluate(len(samples))

    truth, other = sample([[0, 0, 10, 10]], [0]), sample([[20, 20, 40, 40]], [0])
    found = sample([[20, 20, 40, 40], [0, 0, 10, 10]], [0, 0], [0.9, 0.8])
    wrong = ap(one={"gt_instances": truth, "pred_instances": found})
    spared = ap(one={"gt_instances": truth, "ignored_instances": other, "pred_instances": found})
    assert wrong["coco/bbox_mAP"] == pytest.approx(0.5, abs=0.01) and spared["coco/bbox_mAP"] == pytest.approx(1)
    assert ap(one={"gt_instances": truth, "pred_instances": sample([], [], [])})["coco/bbox_mAP"] == 0
    assert ap(one={"gt_instances": sample([], []), "pred_instances": found}) == {}
    assert ap(one={"pred_instances": found}) == {}


def test_map50():
    assert map50({"pascal_voc/mAP": 0.12345, "pascal_voc/AP50": 0.123}) == 0.12345
    assert map50({"pascal_voc/mAP": 0.2, "pascal_voc/AP50": 0.3, "pascal_voc/AP75": 0.1}) == 0.3
    assert map50({"coco/bbox_mAP": 0.2, "coco/bbox_mAP_50": 0.4}) == 0.4
    assert map50({"widerface/easy": 0.9}) is None


def test_calibration_pictures(run, work):
    """The pictures of the training set as quantize.py reads them, evenly spread, whatever wraps the data set."""
    cfg = run.config()
    names = (work / "digits/VOC2007/ImageSets/Main/train.txt").read_text().split()
    got = list(input_pictures(cfg, 5))
    for picture, name in zip(got, [names[i * 24 // 5] for i in range(5)], strict=True):
        expected = load_picture(work / f"digits/VOC2007/JPEGImages/{name}.jpg", (64, 64))
        assert picture.dtype == np.uint8 and np.array_equal(picture, expected)
    single = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type="RepeatDataset", times=3, dataset=dict(type="ConcatDataset", datasets=[single])
    )
    assert all(np.array_equal(a, b) for a, b in zip(input_pictures(cfg, 5), got, strict=True))
    assert len(list(input_pictures(cfg, 1000, "test_dataloader"))) == 10


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["{work}/float.onnx", "--backend", "float"], "--backend float is mmdet's network: give its .pth"),
        (["{work}/weights.pth", "--out", "p.txt"], ".pkl"),
        (["{work}/other.pth"], "does not hold the weights of this config's network"),
        (["{work}/float.onnx"], "is no int8 detector"),
        (["{work}/none.pth", "--backend", "int8"], "no such file"),
    ],
)
def test_refusals(arguments, message, run, work, capsys):
    torch.save({"state_dict": {"x": torch.zeros(1)}}, work / "other.pth")
    if not Path(work / "float.onnx").exists():
        run("export", work / "weights.pth", "-o", work / "float.onnx")
    capsys.readouterr()
    run("test", *(a.format(work=work) for a in arguments), expect=2)
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
