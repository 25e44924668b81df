"""Export what the engine needs of a detector, as plain data: graph, folded weights, and the numbers of the decoding."""

import numpy as np
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import Head
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.qat import learnt_ranges, learnt_spans
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.paper.baselines import BASELINES, face_baseline

from ..config.config import load_config
from ..config.picture_fit import picture_view
from ..config.trained import check_trained
from ..data.building import building
from ..data.datasets import config_classes
from ..models.checkpoint import load_strictly, parts
from ..models.detector import GraphDetector
from ..models.s3fd import VARIANCES, MCUNetS3FD, s3fd_graph
from ..models.yolo import MCUNetYOLO
from ..models.yolox import MCUNetYOLOX

Detector = MCUNetYOLO | MCUNetYOLOX | MCUNetS3FD


def load_detector(
    config: FilePath | Config, checkpoint: FilePath | None = None, options: PlainDict | None = None
) -> Detector:
    """Load the detector of a config file (or Config), in eval mode, with the weights of an mmdet checkpoint when given.
    Its classes are those that the checkpoint was trained on, where it says so, else those of the config's data sets.
    Raises UserError where the two differ, or the checkpoint was trained on pictures that were seen in another way, or
    for boxes that are decoded in another."""
    cfg = load_config(config, options)
    with DefaultScope.overwrite_default_scope("mmdet"), building(cfg, str(cfg.filename)):
        model = MODELS.build(cfg.model)
    check_deployable(cfg)
    classes = config_classes(cfg)
    if checkpoint is not None:
        classes = load_strictly(model, checkpoint, classes)
        check_trained(checkpoint, cfg)
    if classes is None:
        raise UserError(f"{cfg.filename}: no data set of its loaders names its classes: set metainfo")
    model.dataset_meta = {"classes": classes}  # where mmdet's own init_detector puts it
    model.view = picture_view(cfg)
    return model.eval()


def check_deployable(cfg: Config) -> None:
    """Check what the integer engine takes for granted. Raises UserError."""
    given = cfg.model.data_preprocessor
    pixels = list(given.get("mean", ())) == [0, 0, 0] and list(given.get("std", ())) == [255, 255, 255]
    if not pixels or not given.get("bgr_to_rgb"):
        raise UserError(
            "model.data_preprocessor must be mean 0, std 255, bgr_to_rgb=True: the engine reads RGB pixels / 255; any "
            "other normalisation belongs into the first convolution"
        )
    if cfg.model.test_cfg.nms.get("type", "nms") != "nms":
        raise UserError(f"model.test_cfg.nms is {cfg.model.test_cfg.nms.type}: the engine's is plain 'nms'")
    if cfg.model.backbone.get("halo", "exchange") != "exchange":
        raise UserError("model.backbone.halo is none: the engine's patches always have their halo; train with exchange")
    if cfg.model.bbox_head.get("l2norm"):
        raise UserError(
            "model.bbox_head.l2norm: the engine has no L2 normalisation; train with l2norm=(), the maps of a backbone "
            "with batch normalisation need none"
        )


def detector_graph(model: Detector | Config) -> tuple[ArchSpec, Head, Graph]:
    """Return the definition behind a detector or its Config, from which everything else is a walk."""
    if isinstance(model, GraphDetector):
        return model.spec, model.head, model.graph
    if isinstance(model, MCUNetS3FD):
        return model.spec, model.face, model.graph
    config = model.model
    if config.get("type") == "MCUNetS3FD":
        return s3fd_graph(config.backbone, config.bbox_head, config.get("neck"))
    kind = MCUNetYOLOX if config.get("type") == "MCUNetYOLOX" else MCUNetYOLO
    return kind.define(config.backbone, config.neck, config.bbox_head)


def config_graph(config: Config) -> Graph:
    """Build the network of any config of configs/det: a detector of ours or a published face detector. Raises
    UserError."""
    arch = config.model.backbone.arch
    if isinstance(arch, str) and arch in BASELINES:
        return face_baseline(arch).folded()
    try:
        return detector_graph(config)[2]
    except (AttributeError, KeyError, TypeError) as error:
        where = config.filename
        raise UserError(f"{where}: does not build a detector ({error}); compare with configs/det") from None


def detector_weights(model: Detector) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Map each conv op to (weight (cout, cin / groups, kh, kw), bias (cout,)), float32, batch normalisation folded."""
    return {name: pair for part in parts(model) for name, pair in part.folded_weights().items()}


def detector_ranges(model: Detector) -> dict[str, tuple[float, float]]:
    """Map each tensor to the (low, high) that quantisation-aware training has found; empty for a float detector."""
    return learnt_ranges(model.state_dict())


def detector_spans(model: Detector) -> dict[str, list[tuple[float, float]]]:
    """Map each output that has groups of channels to the (low, high) that quantisation-aware training has found of
    each; empty for a float detector, and for one of a training without groups."""
    return learnt_spans(model.state_dict())


def detector_meta(model: Detector) -> PlainDict:
    """Return the numbers with which decoding and NMS reproduce mmdet's boxes, of a model from load_detector; the levels
    run fine to coarse, as the graph's outputs do.

    type        "yolov3", "yolox" or "s3fd", which adds the keys of _yolo_meta, _yolox_meta or _s3fd_meta
    classes     names in the order of the channels
    score_thr   a class score > score_thr is kept, then the nms_pre best: of all levels (yolov3), of each (s3fd); of
                yolox a score >= score_thr, all
    nms_iou     a box of the same class that overlaps a better one by more than this is dropped
    """
    test = model.test_cfg
    if isinstance(model, MCUNetYOLOX):
        own = _yolox_meta(model)
    else:
        own = (_yolo_meta if isinstance(model, MCUNetYOLO) else _s3fd_meta)(model) | {"nms_pre": int(test.nms_pre)}
    return own | {
        "classes": list(model.dataset_meta["classes"]),
        "score_thr": float(test.score_thr),
        "nms_iou": float(test.nms.iou_threshold),
        "max_per_img": int(test.max_per_img),
    }


def _yolox_meta(model: MCUNetYOLOX) -> PlainDict:
    """Return YOLOX's own numbers: strides, pixels per cell. The score is the best class's times the object's; a box is
    centred at offset + cell, and as large as the exponential of its logarithms, in strides."""
    return {"type": "yolox", "strides": list(model.bbox_head.strides)}


def _yolo_meta(model: MCUNetYOLO) -> PlainDict:
    """Return YOLOv3's own numbers.

    strides   pixels per cell
    anchors   per level, per anchor: (w, h) in pixels of the network's input
    conf_thr  objectness >= conf_thr is kept, before the class scores are looked at; score = class score * objectness
    """
    head = model.bbox_head
    return {
        "type": "yolov3",
        "strides": list(head.featmap_strides[::-1]),
        "anchors": [[list(map(float, a)) for a in level] for level in head.prior_generator.base_sizes[::-1]],
        "conf_thr": float(model.test_cfg.conf_thr),
    }


def _s3fd_meta(model: MCUNetS3FD) -> PlainDict:
    """Return S3FD's own numbers.

    strides     per level: pixels per cell; two levels may have the same
    sizes       side of the one anchor, centred at (x + 0.5, y + 0.5) strides, in pixels of the network's input
    background  background channels behind the face's: score = softmax of the face and the greatest of them
    variances   v: centre = anchor's + d * v[0] * side, side = anchor's * exp(d * v[1])
    """
    head = model.bbox_head
    return {
        "type": "s3fd",
        "strides": [stride for stride, _ in head.prior_generator.strides],
        "sizes": list(head.sizes),
        "background": list(model.face.backgrounds),
        "variances": list(VARIANCES),
    }
