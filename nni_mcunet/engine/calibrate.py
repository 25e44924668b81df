"""Ranges of every tensor on calibration images, through onnxruntime."""

import numpy as np
import onnxruntime
from tqdm import tqdm

from .onnx_io import to_onnx
from .quant import Model, QuantModel


def session(model: Model | QuantModel, every_tensor: bool = False) -> onnxruntime.InferenceSession:
    """onnxruntime on the model's own ONNX form, unfused: a QDQ model computes in float between its roundings, which is
    the format's definition and differs between no two processors."""
    proto = to_onnx(model)
    if every_tensor:
        known = {v.name for v in proto.graph.output}
        proto.graph.output.extend(type(proto.graph.output[0])(name=op.name) for op in model.graph.ops
                                  if op.name not in known)  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def to_input(images: np.ndarray) -> np.ndarray:
    """uint8 RGB (h, w, 3) or (n, h, w, 3) -> float32 (n, 3, h, w) in [0, 1], the network's input."""
    images = images[None] if images.ndim == 3 else images
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255


def ranges(model: Model, images) -> dict[str, tuple[float, float]]:
    """Tensor -> (lowest, highest) value over `images`, an iterable of uint8 RGB (h, w, 3) of the model's size."""
    run = session(model, every_tensor=True)
    names = [v.name for v in run.get_outputs()]
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for image in tqdm(images, desc="calibrate", unit="image", leave=False):
        values = run.run(names, {model.graph.inputs[0].name: to_input(image)})
        low = np.minimum(low, [v.min() for v in values])
        high = np.maximum(high, [v.max() for v in values])
    return dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
