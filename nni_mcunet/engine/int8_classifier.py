"""Make a classifier a function of a picture: float or int8 by onnxruntime, or its C compiled for this machine."""

import tempfile
from collections.abc import Callable

import numpy as np

from ..core.errors import UserError
from ..core.plan.plan import plan
from .codegen.sources import write_sources
from .model import PIXELS, Model, QuantModel
from .ops.pixels import as_read, integers, is_plain
from .quant.ort_session import session, to_input
from .run.host import build_host

Classify = Callable[[np.ndarray], np.ndarray]  # (h, w, 3) uint8 RGB of the model's size -> (classes,) scores


def check_classifier(model: Model | QuantModel, classes: int) -> None:
    """Raise UserError for a model that does not give one score a class."""
    outputs = [model.graph.tensors[name] for name in model.graph.outputs]
    if "detector" in model.meta or [t.size for t in outputs] != [classes]:
        shapes = ", ".join(f"{t.h}x{t.w}x{t.c}" for t in outputs)
        raise UserError(f"{model.graph.name} gives {shapes}, no score for each of the data's {classes} classes")


def by_onnxruntime(model: Model | QuantModel) -> Classify:
    """Run a float or int8 model by onnxruntime."""
    run, name = session(model), model.graph.inputs[0].name

    def real(picture: np.ndarray) -> np.ndarray:
        """Give the model the values that the C reads, (1, 3, h, w) float32."""
        if isinstance(model, Model) or (is_plain(model) and model.scales[name] == PIXELS):
            return to_input(picture)
        return model.scales[name].dequantize(integers(model, picture)).transpose(2, 0, 1)[None]

    return lambda picture: run.run(None, {name: real(picture)})[0].ravel()


def by_c(model: Model | QuantModel) -> Classify:
    """Run the generated C, layer by layer: patches change no byte. Raises UserError for a float model."""
    if not isinstance(model, QuantModel):
        raise UserError(f"{model.graph.name} is float, and the C is int8: quantise it with mcunet quantize first")
    with tempfile.TemporaryDirectory() as folder:  # a loaded library does not need its file
        host = build_host(write_sources(plan(model.graph), model, folder))
    return lambda picture: host.run(as_read(model, picture))[0]


BACKENDS = {"onnxruntime": by_onnxruntime, "c": by_c}
