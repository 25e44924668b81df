"""Add to mmengine's Runner what mcunet test has: mmdet's own flags, weights that fit, a compiled network in place."""

import pickle
from copy import deepcopy

from mmdet.evaluation import CocoMetric, DumpDetResults
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner

from nni_mcunet.core.files import write_atomic
from nni_mcunet.core.outputs import MARK
from nni_mcunet.core.types import FilePath, PlainDict

from ..data.datasets import config_classes, leaves
from ..models.checkpoint import load_strictly
from ..said import without_prints
from .coco_ap import CocoAP
from .deployed import DeployedDetector


def with_tta(cfg: Config) -> Config:
    """Return the config with test-time augmentation: its own tta_model and tta_pipeline, else a flip, merged by NMS."""
    default = dict(type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100))
    cfg.model = dict(cfg.get("tta_model", default), module=cfg.model)
    for data in leaves(cfg.test_dataloader.dataset):
        data.pipeline = deepcopy(cfg["tta_pipeline"]) if "tta_pipeline" in cfg else _flipped(data.pipeline)
    if "tta_pipeline" in cfg:
        cfg.test_dataloader.batch_size = 1  # it may make more views of one picture than of another
    return cfg


def _flipped(pipeline: list[PlainDict]) -> list[PlainDict]:
    """Return a pipeline that ends in PackDetInputs, packing the picture and its mirror image."""
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
    views = dict(
        type="TestTimeAug",
        transforms=[
            # The picture as it is first: mmdet takes the ground truth of the first view for that of all.
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="PackDetInputs", meta_keys=keys)],
        ],
    )
    return [*deepcopy(pipeline[:-1]), views]


def with_pictures(cfg: Config, folder: str) -> Config:
    """Return the config whose test draws the boxes into WORK_DIR/TIME/folder, as mmdet's --show-dir."""
    cfg.default_hooks.visualization.update(draw=True, test_out_dir=folder)
    return cfg


class _Dump(DumpDetResults):
    """Write the predictions whole or not at all, and with the mark of our files behind the pickle's end."""

    def compute_metrics(self, results: list[PlainDict]) -> PlainDict:
        """Write `results` to the file. Returns no metrics. Raises UserError where it cannot be written."""
        write_atomic(self.out_file_path, pickle.dumps(results) + MARK)
        return {}


def dump(runner: Runner, path: str) -> None:
    """Write the predictions into a pickle file (.pkl), too, a dict for each picture."""
    runner.test_evaluator.metrics.append(_Dump(out_file_path=path))


def load_weights(runner: Runner, checkpoint: FilePath) -> None:
    """Load a checkpoint into the network under the runner, whose classes are the config's. Raises UserError, see
    load_strictly."""
    model = runner.model
    while hasattr(model, "module"):  # distributed, test-time augmentation
        model = model.module
    load_strictly(model, checkpoint, config_classes(runner.cfg))


def deploy(runner: Runner, model: DeployedDetector) -> None:
    """Put a deployed network in the place of the runner's, inside its test-time augmentation where it has one."""
    outer = getattr(runner.model, "module", None)
    tta = next((m for m in (runner.model, outer) if isinstance(m, BaseTTAModel)), None)
    if tta is not None:
        tta.module = model
    runner.model = tta or model


def add_coco(runner: Runner) -> None:
    """Measure COCO's AP, too, where the config's own metric is not COCO's."""
    with without_prints():  # the first look at it reads the test set
        metrics = runner.test_evaluator.metrics
    if not any(isinstance(metric, CocoMetric) for metric in metrics):
        metrics.append(CocoAP())


def map50_95(metrics: PlainDict) -> float | None:
    """Return COCO's AP50:95 out of an evaluator's metrics."""
    value = metrics.get("coco/bbox_mAP")
    return None if value is None else float(value)


def map50(metrics: PlainDict) -> float | None:
    """Return the mAP at an IoU of 0.5 out of an evaluator's metrics: VOC's (unrounded where that is its only one) or
    COCO's."""
    voc = [key for key in metrics if key.startswith("pascal_voc/AP")]
    key = "pascal_voc/mAP" if voc == ["pascal_voc/AP50"] else "pascal_voc/AP50"
    value = metrics.get(key, metrics.get("coco/bbox_mAP_50"))
    return None if value is None else float(value)
