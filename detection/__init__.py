"""Plug MCUNet into mmdet: `custom_imports = dict(imports=['detection'])`, or `import detection` before mmdet.

This is the only package that imports mmdet. It stands on nni_mcunet.core (and on nni_mcunet.paper for the published
face detectors) and knows neither the search nor the engine. Both get a detector from export.py
and search_task.py as plain data: its graph, folded weights and decoding; its pictures, loss and metric.

Its rooms, each of which imports only those above it:

said      what a user sees of a training or a test
data      data sets, their files and pictures, what is wrong with them, anchors; parts that mmengine cannot build
models    networks and heads as walks of core's graphs, ops and names that mmdet lacks, checkpoints
config    a config as our commands read it; whether it and its data are those of before
faces     WIDER FACE: its files, augmentation, the multi-scale test, the protocol and its metric
handover  export and search_task: what leaves, as plain data for engine and search
training  hooks, the work dir, reports, the int8 network in mmdet's test loop
own_data  a config of pictures of one's own

mmdet_tools.py runs mmdet's own programs on our configs.
"""

from nni_mcunet.core.yapf_import import import_yapf

from .models.mmcv_ops import install_ops

import_yapf()  # before anything imports mmengine
install_ops()  # before anything imports mmdet

from .data.coco_names import install_names  # noqa: E402
from .models.backbone import MCUNetBackbone  # noqa: E402

install_names()

from .config.config import load_config, prepare  # noqa: E402
from .config.identity import identity  # noqa: E402
from .config.loader_pictures import busy_picture, input_pictures  # noqa: E402
from .config.picture_fit import check_view, picture_view  # noqa: E402
from .config.trained import check_anchors, check_exported, check_trained  # noqa: E402
from .data.building import building  # noqa: E402
from .data.crops import MinIoUCrop  # noqa: E402
from .data.data_survey import DataReportHook  # noqa: E402
from .data.datasets import check_classes, config_classes  # noqa: E402
from .data.letterbox import LetterboxPad, LetterboxResize  # noqa: E402
from .data.pictures import LoadPicture  # noqa: E402
from .faces.s3fd_transforms import DataAnchorSampling, FaceCrop  # noqa: E402
from .faces.s3fd_tta import FaceTTAModel, FaceViews  # noqa: E402
from .faces.widerface_data import WIDERFaceText  # noqa: E402
from .faces.widerface_metric import WIDERFaceMetric  # noqa: E402
from .handover.export import (  # noqa: E402
    Detector,
    check_deployable,
    config_graph,
    detector_graph,
    detector_meta,
    detector_ranges,
    detector_spans,
    detector_weights,
    load_detector,
)
from .handover.search_task import DetectorData, DetectorTask  # noqa: E402
from .models.checkpoint import (  # noqa: E402
    check_resumable,
    latest_checkpoint,
    load_from_local,
    read_checkpoint,
    trained_classes,
)
from .models.detector import MCUNetNeck  # noqa: E402
from .models.extd import EXTD, EXTDBackbone  # noqa: E402
from .models.s3fd import MCUNetS3FD, MCUNetS3FDHead  # noqa: E402
from .models.s3fd_match import ScaleCompensationAssigner  # noqa: E402
from .models.yolo import MCUNetYOLO, MCUNetYOLOHead  # noqa: E402
from .models.yolox import MCUNetYOLOX, MCUNetYOLOXHead  # noqa: E402
from .training.deployed import DeployedDetector, float_boxes  # noqa: E402
from .training.qat import QATHook  # noqa: E402
from .training.recipe_report import RecipeReportHook  # noqa: E402
from .training.testing import add_coco, deploy, dump, load_weights, map50, map50_95, with_pictures, with_tta  # noqa: E402
from .training.work_dir import WorkDirRunner, check_work_dir, unfinished, write_last  # noqa: E402

__all__ = [
    "EXTD",
    "DataAnchorSampling",
    "DataReportHook",
    "DeployedDetector",
    "Detector",
    "DetectorData",
    "DetectorTask",
    "EXTDBackbone",
    "FaceCrop",
    "FaceTTAModel",
    "FaceViews",
    "LetterboxPad",
    "LetterboxResize",
    "LoadPicture",
    "MCUNetBackbone",
    "MCUNetNeck",
    "MCUNetS3FD",
    "MCUNetS3FDHead",
    "MCUNetYOLO",
    "MCUNetYOLOHead",
    "MCUNetYOLOX",
    "MCUNetYOLOXHead",
    "MinIoUCrop",
    "QATHook",
    "RecipeReportHook",
    "ScaleCompensationAssigner",
    "WIDERFaceMetric",
    "WIDERFaceText",
    "WorkDirRunner",
    "add_coco",
    "building",
    "busy_picture",
    "check_anchors",
    "check_classes",
    "check_deployable",
    "check_exported",
    "check_resumable",
    "check_trained",
    "check_view",
    "check_work_dir",
    "config_classes",
    "config_graph",
    "deploy",
    "detector_graph",
    "detector_meta",
    "detector_ranges",
    "detector_spans",
    "detector_weights",
    "dump",
    "float_boxes",
    "identity",
    "input_pictures",
    "latest_checkpoint",
    "load_config",
    "load_detector",
    "load_from_local",
    "load_weights",
    "map50",
    "map50_95",
    "picture_view",
    "prepare",
    "read_checkpoint",
    "trained_classes",
    "unfinished",
    "with_pictures",
    "with_tta",
    "write_last",
]
