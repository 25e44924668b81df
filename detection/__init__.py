"""Plug MCUNet into mmdet: `custom_imports = dict(imports=['detection'])`, or `import detection` before mmdet.

This is the only package that imports mmdet. It stands on nni_mcunet.core (and on nni_mcunet.paper for the published
face detectors) and knows neither the search nor the engine. Both get a detector from export.py
and search_task.py as plain data: its graph, folded weights and decoding; its pictures, loss and metric.

It is one flat room, for mmdet's users know no other. Read its files in this order:

mmcv_ops, coco_names                    what mmdet lacks or does otherwise, put in before it is used
backbone, yolo, s3fd, s3fd_match, extd  networks and heads: walks of core's graphs
config, config_shape, inherited_values, building
                                        a config as our commands read it, and what cannot be built of it
datasets, data_files, voc_xml, coco_json, widerface_data, pictures, loader_pictures, data_survey
                                        data sets, their files, their pictures, and what is wrong with them
identity                                whether a config and its data are those of before
s3fd_transforms, s3fd_tta, widerface, widerface_metric
                                        WIDER FACE: augmentation, the multi-scale test, the protocol
checkpoint, work_dir, qat, recipe_report, learning_curve, testing, deployed, mmdet_tools
                                        training and testing
anchors, export, search_task            what leaves: anchors for a config, plain data for engine and search
"""

from .mmcv_ops import install_ops

install_ops()  # before anything imports mmdet

from .backbone import MCUNetBackbone  # noqa: E402
from .coco_names import install_names  # noqa: E402

install_names()

from .building import building  # noqa: E402
from .checkpoint import (  # noqa: E402
    check_resumable,
    latest_checkpoint,
    load_from_local,
    read_checkpoint,
    trained_classes,
)
from .config import load_config, prepare  # noqa: E402
from .data_survey import DataReportHook  # noqa: E402
from .datasets import check_classes, config_classes  # noqa: E402
from .deployed import DeployedDetector, float_boxes  # noqa: E402
from .export import (  # noqa: E402
    Detector,
    check_deployable,
    config_graph,
    detector_graph,
    detector_meta,
    detector_ranges,
    detector_weights,
    load_detector,
)
from .extd import EXTD, EXTDBackbone  # noqa: E402
from .identity import identity  # noqa: E402
from .loader_pictures import busy_picture, input_pictures  # noqa: E402
from .pictures import LoadPicture  # noqa: E402
from .qat import QATHook  # noqa: E402
from .recipe_report import RecipeReportHook  # noqa: E402
from .s3fd import MCUNetS3FD, MCUNetS3FDHead  # noqa: E402
from .s3fd_match import ScaleCompensationAssigner  # noqa: E402
from .s3fd_transforms import DataAnchorSampling, FaceCrop  # noqa: E402
from .s3fd_tta import FaceTTAModel, FaceViews  # noqa: E402
from .search_task import DetectorData, DetectorTask  # noqa: E402
from .testing import deploy, dump, load_weights, map50, with_pictures, with_tta  # noqa: E402
from .widerface_data import WIDERFaceText  # noqa: E402
from .widerface_metric import WIDERFaceMetric  # noqa: E402
from .work_dir import WorkDirRunner, check_work_dir  # noqa: E402
from .yolo import MCUNetNeck, MCUNetYOLO, MCUNetYOLOHead  # noqa: E402

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
    "LoadPicture",
    "MCUNetBackbone",
    "MCUNetNeck",
    "MCUNetS3FD",
    "MCUNetS3FDHead",
    "MCUNetYOLO",
    "MCUNetYOLOHead",
    "QATHook",
    "RecipeReportHook",
    "ScaleCompensationAssigner",
    "WIDERFaceMetric",
    "WIDERFaceText",
    "WorkDirRunner",
    "building",
    "busy_picture",
    "check_classes",
    "check_deployable",
    "check_resumable",
    "check_work_dir",
    "config_classes",
    "config_graph",
    "deploy",
    "detector_graph",
    "detector_meta",
    "detector_ranges",
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
    "prepare",
    "read_checkpoint",
    "trained_classes",
    "with_pictures",
    "with_tta",
]
