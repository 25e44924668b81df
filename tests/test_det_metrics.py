"""mmdet's VOC and COCO metrics as our configs set them, against published results: the protocols hold to the digits."""

import io
import itertools
import json
import os
import tarfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import detection  # noqa: F401, before mmdet

# isort: split
import numpy as np
import pytest
import torch
from mmdet.datasets import VOCDataset
from mmdet.evaluation.functional import eval_map
from mmdet.evaluation.metrics import CocoMetric, VOCMetric, coco_metric, voc_metric
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

SHARED = Path(os.environ.get("MCUNET_SHARED", Path(__file__).parent.parent / ".." / "shared")) / "data"
COCO_DETS = (1, 10, 100)  # detections of an image that COCO's recalls are over
CLASSES = VOCDataset.METAINFO["classes"]


def shared(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"no {SHARED / name}: set MCUNET_SHARED to the folder that has data/{name}")
    return SHARED / name


def instances(boxes, labels, scores=None) -> InstanceData:
    found = InstanceData(
        bboxes=torch.tensor(np.array(boxes, float).reshape(-1, 4)), labels=torch.tensor(np.array(labels, int))
    )
    if scores is not None:
        found.scores = torch.tensor(np.array(scores, float))
    return found


def voc_metric_of(samples, classes, mode: str, iou: float = 0.5, monkeypatch=None) -> tuple[float, list[dict]]:
    """The metric's mAP, and per class what it was computed from (which the metric itself rounds)."""
    MMLogger.get_instance("test")
    metric, per_class = VOCMetric(iou_thrs=iou, eval_mode=mode), []
    metric.dataset_meta = dict(classes=classes)

    def recorded(*args, **kwargs):
        per_class.append(eval_map(*args, **kwargs, nproc=1))
        return per_class[-1]

    monkeypatch.setattr(voc_metric, "eval_map", recorded)
    metric.process({}, samples)
    return metric.evaluate(len(samples))["pascal_voc/mAP"], per_class[-1][1]


def sample(truth, found=(), difficult=()) -> dict:
    """Rows of truth and difficult: label, box; of found: label, score, box."""
    rows = lambda boxes: instances([b[1:] for b in boxes], [b[0] for b in boxes])  # noqa: E731
    pred = instances([f[2:] for f in found], [f[0] for f in found], [f[1] for f in found])
    return dict(gt_instances=rows(truth), ignored_instances=rows(difficult), pred_instances=pred)


A, B = (10, 10, 30, 30), (50, 50, 90, 80)


@pytest.mark.parametrize(
    "images, eleven, area",
    [
        ([sample([(0, *A)], [(0, 0.9, *A)])], 1, 1),
        ([sample([(0, *A), (0, *B)], [(0, 0.9, *A)])], 6 / 11, 0.5),  # recalls 0 to 0.5 of 0, 0.1, ..., 1
        ([sample([(0, *A)], [(0, 0.9, *A), (0, 0.8, *A)])], 1, 1),  # the second of one object is false, but late
        ([sample([(0, *A), (0, *B)], [(0, 0.9, *A), (0, 0.8, *A), (0, 0.7, *B)])], (6 + 5 * 2 / 3) / 11, 5 / 6),
        ([sample([(0, *A)], [(0, 0.9, *B), (0, 0.8, *A)], difficult=[(0, *B)])], 1, 1),  # neither right nor wrong
        ([sample([(0, *A)], [(0, 0.9, *B), (0, 0.8, *B), (0, 0.7, *A)], difficult=[(0, *B)])], 1, 1),  # nor twice
        ([sample([(0, *A)], [(0, 0.9, *A)]), sample([], [(0, 0.95, *B)])], 0.5, 0.5),  # an image without objects counts
        ([sample([(0, 10, 10, 19, 19)], [(0, 0.9, 10, 10, 19, 14)])], 1, 1),  # IoU of whole pixels: 10x5 / 10x10
        ([sample([(0, *A)]), sample([(0, *B)])], 0, 0),
    ],
)
def test_voc_by_hand(images, eleven, area, monkeypatch):
    for mode, expected in (("11points", eleven), ("area", area)):
        assert voc_metric_of(images, ("x",), mode, monkeypatch=monkeypatch)[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("mode, key", [("area", "11-point"), ("11points", "every-point")])
def test_voc_toy_of_a_public_evaluator(mode, key, monkeypatch):
    """The file's two labels are exchanged: its 0.0303 is a third of an eleventh, of 11 points. Equal scores (there are
    three pairs) count in the files' order, as in VOC's own code; mmdet's sort leaves them to chance."""
    folder = shared("det_metrics")
    expected = json.loads((folder / "expected.json").read_text())[f"test_case_1 pascal {key} AP by IoU"]

    order = itertools.count()

    def rows(path: Path):
        for line in path.read_text().splitlines():
            *score, x, y, w, h = map(float, line.split()[1:])
            yield (0, *(s - 1e-6 * next(order) for s in score), x, y, x + w, y + h)

    truths = sorted((folder / "test_case_1/gts").glob("*.txt"))
    images = [sample([*rows(p)], [*rows(folder / "test_case_1/dets" / p.name)]) for p in truths]
    for iou, ap in expected.items():
        found = voc_metric_of(images, ("object",), mode, float(iou), monkeypatch)[0]
        assert found == pytest.approx(ap, abs=1e-6)


def comp4(archive: Path) -> dict[str, list[tuple]]:
    """Image -> rows of label, score, box of a VOC submission, whose corners count from 1; mmdet's from 0."""
    found: dict[str, list[tuple]] = {}
    with tarfile.open(archive) as files:
        for member in files:
            if member.isfile():
                label = CLASSES.index(Path(member.name).stem.split("_")[-1])
                for line in files.extractfile(member).read().decode().splitlines():
                    name, score, *box = line.split()
                    found.setdefault(name, []).append((label, float(score), *(float(v) - 1 for v in box)))
    return found


def voc_images(root: Path, ann_file: str, prefix: str, found: dict) -> list[dict]:
    """Samples as mmdet's data set and a detector give them to the metric."""
    data = VOCDataset(data_root=str(root), ann_file=ann_file, data_prefix=dict(sub_data_root=prefix), test_mode=True)
    images = []
    for info in map(data.get_data_info, range(len(data))):
        rows = [[(i["bbox_label"], *i["bbox"]) for i in info["instances"] if i["ignore_flag"] == f] for f in (0, 1)]
        images.append(sample(rows[0], found.get(info["img_id"], []), rows[1]))
    return images


@pytest.mark.parametrize("mode, key", [("11points", "ap07"), ("area", "ap_area")])
def test_voc07_subset(mode, key, tmp_path, monkeypatch):
    """500 images of VOC07's test set, difficult objects included, per class."""
    folder = shared("voc07_eval") / "subset500"
    with tarfile.open(folder / "Annotations.tar.xz") as files:
        files.extractall(tmp_path / "Annotations", filter="data")
    images = voc_images(tmp_path, str((folder / "test.txt").resolve()), "", comp4(folder / "results.tar.xz"))
    expected = json.loads((folder / "expected.json").read_text())["classes"]
    _, per_class = voc_metric_of(images, CLASSES, mode, monkeypatch=monkeypatch)
    for name, found in zip(CLASSES, per_class, strict=True):
        assert found["num_gts"] == expected[name]["npos"]
        # mmdet sorts by numpy's quicksort, which leaves boxes of equal scores in an order of the processor's
        assert float(found["ap"]) == pytest.approx(expected[name][key], abs=5e-5)


@pytest.mark.slow
def test_voc07_whole(tmp_path, monkeypatch):
    """All 4,952 images and 254,590 detections of a public detector, against the AP that its authors computed."""
    folder, archive = shared("voc07_eval"), shared("voc_annotations") / "VOC2007_Annotations_ImageSets.tar.xz"
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    found = comp4(folder / "tiny-yolo-voc_comp4_det_test.tar.xz")
    images = voc_images(tmp_path, "VOC2007/ImageSets/Main/test.txt", "VOC2007/", found)
    assert len(images) == 4952
    expected = json.loads((folder / "expected.json").read_text())
    start = time.monotonic()
    mean, per_class = voc_metric_of(images, CLASSES, "11points", monkeypatch=monkeypatch)
    assert time.monotonic() - start < 60
    assert mean == pytest.approx(expected["mAP07_in_repo_pkl"], abs=1e-5)
    for name, result in zip(CLASSES, per_class, strict=True):
        assert result["num_gts"] == expected["classes"][name]["npos_non_difficult"]
        assert float(result["ap"]) == pytest.approx(expected["classes"][name]["ap07_in_repo_pkl"], abs=1e-5)


def test_coco_twelve_numbers(tmp_path, monkeypatch):
    """With proposal_nums=(1, 10, 100): mmdet's default, (100, 300, 1000), gives other recalls than COCO's."""
    folder = shared("det_metrics")
    truth = json.loads((folder / "test_coco_eval/gts/sampled_gts_bbox_area.json").read_text())
    rows: dict[int, list[dict]] = {image["id"]: [] for image in truth["images"]}
    for row in json.loads((folder / "test_coco_eval/cocoapi_results.json").read_text()):
        rows[row["image_id"]].append(row)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    evaluations = []

    class Recorded(coco_metric.COCOeval):
        def summarize(self):
            evaluations.append(self)
            super().summarize()

    monkeypatch.setattr(coco_metric, "COCOeval", Recorded)
    MMLogger.get_instance("test")
    metric = CocoMetric(ann_file=str(folder / "test_coco_eval/gts/sampled_gts_bbox_area.json"), proposal_nums=COCO_DETS)
    metric.dataset_meta = dict(classes=list(names.values()))
    for image in truth["images"]:
        found = rows[image["id"]]
        boxes = [(x, y, x + w, y + h) for x, y, w, h in (row["bbox"] for row in found)]
        labels = [list(names).index(row["category_id"]) for row in found]
        pred = instances(boxes, labels, [row["score"] for row in found])
        metric.process({}, [dict(img_id=image["id"], ori_shape=(image["height"], image["width"]), pred_instances=pred)])
    with redirect_stdout(io.StringIO()):
        result = metric.evaluate(len(rows))
    expected = next(iter(json.loads((folder / "expected.json").read_text()).values()))
    assert evaluations[0].stats == pytest.approx(list(expected.values()), abs=1e-6)
    for key, name in (("mAP", "AP"), ("mAP_50", "AP50"), ("mAP_75", "AP75")):
        assert result[f"coco/bbox_{key}"] == pytest.approx(expected[name], abs=6e-4)  # the metric rounds to 3 digits
