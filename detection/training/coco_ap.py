"""Measure the average precision of COCO on any data set, so that a detector can be compared with those of others."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nni_mcunet.core.types import PlainDict

FIGURES = ("bbox_mAP", "bbox_mAP_50")  # named as mmdet's CocoMetric does


class CocoAP(BaseMetric):
    """Give COCO's AP50:95, the mean over ten overlaps from 0.5 to 0.95, and its AP50, by pycocotools on the objects
    that the test loader gives: of the 100 best boxes of a picture. An ignored object (difficult, a crowd) counts
    neither for nor against a box on it."""

    default_prefix = "coco"

    def process(self, data_batch: object, data_samples: Sequence[PlainDict]) -> None:
        """Keep boxes and objects of some pictures, in pixels of their files."""
        for sample in data_samples:
            if "gt_instances" in sample:
                found, objects = sample["pred_instances"], sample["gt_instances"]
                ignored = sample.get("ignored_instances", {})
                self.results.append({
                    "objects": [*_rows(objects, 0), *(_rows(ignored, 1) if len(ignored) else [])],
                    "boxes": [
                        {**row, "score": float(score)}
                        for row, score in zip(_rows(found, 0), found["scores"], strict=True)
                    ],
                })  # fmt: skip

    def compute_metrics(self, results: list[PlainDict]) -> PlainDict:
        """Return FIGURES; nothing where no picture has objects."""
        objects = [row | {"image_id": i} for i, one in enumerate(results) for row in one["objects"]]
        boxes = [row | {"image_id": i} for i, one in enumerate(results) for row in one["boxes"]]
        if not any(row["iscrowd"] == 0 for row in objects):
            return {}
        labels = sorted({row["category_id"] for row in objects if row["iscrowd"] == 0})
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            truth = COCO()
            truth.dataset = {
                "images": [{"id": i} for i in range(len(results))],
                "categories": [
                    {"id": label} for label in range(max([*labels, *(b["category_id"] for b in boxes)]) + 1)
                ],
                "annotations": [row | {"id": i} for i, row in enumerate(objects, 1)],
            }
            truth.createIndex()
            run = COCOeval(truth, truth.loadRes(boxes) if boxes else COCO(), "bbox")
            run.params.catIds = labels
            run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], ["all"]
            run.evaluate()
            run.accumulate()
        precision = run.eval["precision"][
            :, :, :, 0, -1
        ]  # (overlaps, recalls, classes), -1 for a class without objects
        known = precision[precision > -1]
        return dict(zip(FIGURES, (float(known.mean()), float(precision[0][precision[0] > -1].mean())), strict=True))


def _rows(instances: PlainDict, crowd: int) -> list[PlainDict]:
    """Return boxes (n, 4) of corners with labels (n,) as pycocotools has them."""
    corners = np.asarray(instances["bboxes"].cpu(), np.float64).reshape(-1, 4)
    return [
        {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "category_id": int(label), "iscrowd": crowd}
        for (x1, y1, x2, y2), label in zip(corners.tolist(), instances["labels"], strict=True)
    ]
