"""The mmdet plug-in: `custom_imports = dict(imports=['detection'])`, or `import detection` before mmdet.

The only package that imports mmdet. It stands on nni_mcunet.core and knows neither the search nor the engine: what
those need of a detector (its graph, folded weights, decoding) comes out of export.py as plain data.
"""

from .ops import install_ops

install_ops()  # before anything imports mmdet

from .backbone import MCUNetBackbone  # noqa: E402
from .checkpoint import latest_checkpoint, load_from_local  # noqa: E402
from .config import load_config, prepare  # noqa: E402
from .deployed import DeployedDetector  # noqa: E402
from .export import detector_graph, detector_meta, detector_weights, load_detector  # noqa: E402
from .pictures import LoadPicture  # noqa: E402
from .survey import DataReportHook  # noqa: E402
from .widerface_metric import WIDERFaceMetric  # noqa: E402
from .yolo import MCUNetNeck, MCUNetYOLO, MCUNetYOLOHead  # noqa: E402

__all__ = [
    "DataReportHook",
    "DeployedDetector",
    "LoadPicture",
    "MCUNetBackbone",
    "MCUNetNeck",
    "MCUNetYOLO",
    "MCUNetYOLOHead",
    "WIDERFaceMetric",
    "detector_graph",
    "detector_meta",
    "detector_weights",
    "latest_checkpoint",
    "load_config",
    "load_detector",
    "load_from_local",
    "prepare",
]
