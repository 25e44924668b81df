"""Measure every tensor on calibration pictures, through onnxruntime: statistics and ranges."""

from collections.abc import Iterable

import numpy as np
import onnxruntime

from ...core.errors import UserError
from ...core.progress import each
from ...core.types import Floats, Picture, Range
from ..frontend.onnx import to_onnx
from ..model import Model, QuantModel, checked_picture, input_shape
from .range_methods import Method, minmax
from .statistics import Statistics


def session(model: Model | QuantModel, every_tensor: bool = False) -> onnxruntime.InferenceSession:
    """Open onnxruntime on the model's own ONNX form, unfused. A QDQ model then computes in float between its roundings:
    the format's definition, with the same result on every processor."""
    proto = to_onnx(model)
    if every_tensor:
        known = {v.name for v in proto.graph.output}
        proto.graph.output.extend(type(proto.graph.output[0])(name=op.name) for op in model.graph.ops
                                  if op.name not in known)  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def to_input(images: Picture) -> Floats:
    """Turn uint8 (h, w, c) or (n, h, w, c) into float32 (n, c, h, w) in [0, 1], the network's input."""
    images = images[None] if images.ndim == 3 else images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def statistics(model: Model, images: Iterable[Picture]) -> dict[str, Statistics]:
    """Collect those of every tensor, the network's input too, over `images`, uint8 (h, w, c) of the model's size.
    Raises GraphError where one is not finite, UserError where there is no picture or one of another shape."""
    run, source = session(model, every_tensor=True), model.graph.inputs[0].name
    shape = input_shape(model)
    names = [v.name for v in run.get_outputs()]
    found: dict[str, Statistics] = {}
    for image in each(images, "picture", "calibrating"):
        x = to_input(checked_picture(image, shape))
        for name, values in zip([source, *names], [x, *run.run(names, {source: x})], strict=True):
            one = Statistics.of(name, values)
            found[name] = found[name].then(one) if name in found else one
    if not found:
        raise UserError("there is no picture to calibrate on")
    return found


def ranges(model: Model, images: Iterable[Picture], calibrator: Method = minmax) -> dict[str, Range]:
    """Return tensor -> (low, high) that int8 shall span, by one of range_methods.py; see `statistics`."""
    return {name: calibrator(s) for name, s in statistics(model, images).items()}
