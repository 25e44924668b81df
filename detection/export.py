"""What the engine needs of a detector, as plain data: graph, folded weights, and the numbers of the decoding."""

import numpy as np
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint

from nni_mcunet.core.arch import ArchSpec
from nni_mcunet.core.build import YoloHead
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.graph import Graph

from .config import load_config
from .yolo import MCUNetYOLO, yolo_graph


def load_detector(config, checkpoint=None, options: dict | None = None) -> MCUNetYOLO:
    """The detector of a config file (or Config), in eval mode, with the weights of an mmdet checkpoint when given."""
    cfg = load_config(config, options)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(cfg.model)
    model.dataset_meta = dict(cfg.metainfo)  # where mmdet's own init_detector puts it
    _deployable(cfg)
    if checkpoint is not None:
        load_checkpoint(model, str(checkpoint), map_location="cpu", strict=True)
    return model.eval()


def _deployable(cfg) -> None:
    """What the integer engine takes for granted. Raises UserError."""
    given = cfg.model.data_preprocessor
    pixels = list(given.get("mean", ())) == [0, 0, 0] and list(given.get("std", ())) == [255, 255, 255]
    if not pixels or not given.get("bgr_to_rgb"):
        raise UserError(
            "model.data_preprocessor must be mean 0, std 255, bgr_to_rgb=True: the engine reads RGB pixels / 255; any "
            "other normalisation belongs into the first convolution"
        )
    if cfg.model.test_cfg.nms.get("type", "nms") != "nms":
        raise UserError(f"model.test_cfg.nms is {cfg.model.test_cfg.nms.type}: the engine's is plain 'nms'")


def detector_graph(model) -> tuple[ArchSpec, YoloHead, Graph]:
    """The definition behind a detector or its Config, from which everything else is a walk."""
    if isinstance(model, MCUNetYOLO):
        return model.spec, model.yolo, model.graph
    return yolo_graph(model.model.backbone, model.model.neck, model.model.bbox_head)


def detector_weights(model: MCUNetYOLO) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Conv op name -> (weight (cout, cin / groups, kh, kw), bias (cout,)), float32, batch normalisation folded."""
    parts = (model.backbone, model.neck, model.bbox_head.net)
    return {name: pair for part in parts for name, pair in part.folded_weights().items()}


def detector_meta(model: MCUNetYOLO) -> dict:
    """The numbers with which decoding and NMS reproduce mmdet's boxes, of a model from load_detector; the scales run
    fine to coarse, as the graph's outputs do.

    classes    names in the order of the channels
    strides    pixels per cell
    anchors    per scale, per anchor: (w, h) in pixels of the network's input
    conf_thr   objectness >= conf_thr is kept, then class score > score_thr (before the product with objectness), then
               the nms_pre best class scores; score = class score * objectness
    nms_iou    a box of the same class that overlaps a better one by more than this is dropped
    """
    head, test = model.bbox_head, model.test_cfg
    return {
        "classes": list(model.dataset_meta["classes"]),
        "strides": list(head.featmap_strides[::-1]),
        "anchors": [[list(map(float, a)) for a in scale] for scale in head.prior_generator.base_sizes[::-1]],
        "conf_thr": float(test.conf_thr),
        "score_thr": float(test.score_thr),
        "nms_pre": int(test.nms_pre),
        "nms_iou": float(test.nms.iou_threshold),
        "max_per_img": int(test.max_per_img),
    }
