"""Make an int8 detector a function of a picture: its C compiled for this machine, or the numpy reference. Both find the
boards' boxes bit for bit."""

import tempfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..core.errors import UserError
from ..core.plan.plan import plan
from ..core.types import FilePath
from .codegen.sources import write_sources
from .detect import detector_params
from .detect.boxes import MOST_KEPT
from .frontend import load_model
from .lower import reference
from .lower.dead_channels import without_dead_channels
from .lower.program import lower
from .model import QuantModel
from .run.host import build_host

# A picture (h, w, 3) uint8 RGB of the model's size -> boxes (n, 4) as x1, y1, x2, y2 in its pixels, scores, labels.
Found = tuple[np.ndarray, np.ndarray, np.ndarray]
Detect = Callable[[np.ndarray], Found]


def load_int8_detector(path: FilePath) -> QuantModel:
    """Read an int8 detector. Raises UserError for a float file or one without a detector."""
    model = load_model(path)
    if not isinstance(model, QuantModel) or "detector" not in model.meta:
        raise UserError(f"{path} is no int8 detector; make one with mcunet export and mcunet quantize")
    return model


def without_nms(model: QuantModel) -> QuantModel:
    """Return the detector that keeps all that it predicts, the best MOST_KEPT of it."""
    own = {key: value for key, value in model.meta["detector"].items() if key != "nms_pre"}
    return replace(model, meta={**model.meta, "detector": {**own, "nms_iou": 1.0, "max_per_img": MOST_KEPT}})


def compiled(model: QuantModel) -> Detect:
    """Run the generated C, layer by layer and without dead channels: neither changes a byte of the result."""
    model = without_dead_channels(model)
    with tempfile.TemporaryDirectory() as folder:  # a loaded library does not need its file
        host = build_host(write_sources(plan(model.graph), model, folder))

    def detect(rgb: np.ndarray) -> Found:
        host.run(rgb)
        return in_pixels(host.detect())

    return detect


def interpreted(model: QuantModel) -> Detect:
    """Run the numpy reference and the numpy post-processing."""
    program, post = lower(plan(model.graph), model), detector_params(model)
    assert post is not None  # load_int8_detector takes no model without one

    def detect(rgb: np.ndarray) -> Found:
        maps = reference.interpret(program, (rgb.astype(np.int16) - 128).astype(np.int8))
        return in_pixels(post.decode([maps[name] for name in model.graph.outputs]))

    return detect


def in_pixels(boxes: np.ndarray) -> Found:
    """Return integer boxes (dtype detect.BOX) as floats: see Detect."""
    corners = np.stack([boxes[k] for k in ("x1", "y1", "x2", "y2")], axis=1) / 16
    return corners, boxes["score"] / 2**15, boxes["label"]
