"""Make a classifier a function of a picture: float or int8 by onnxruntime, or its C compiled for this machine."""

import tempfile
from collections.abc import Callable

import numpy as np

from ..core.errors import UserError
from ..core.plan.plan import plan
from .codegen.sources import write_sources
from .model import Model, QuantModel
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
    return lambda picture: run.run(None, {name: to_input(picture)})[0].ravel()


def by_c(model: Model | QuantModel) -> Classify:
    """Run the generated C, layer by layer: patches change no byte. Raises UserError for a float model."""
    if not isinstance(model, QuantModel):
        raise UserError(f"{model.graph.name} is float, and the C is int8: quantise it with mcunet quantize first")
    with tempfile.TemporaryDirectory() as folder:  # a loaded library does not need its file
        host = build_host(write_sources(plan(model.graph), model, folder))
    return lambda picture: host.run(picture)[0]


BACKENDS = {"onnxruntime": by_onnxruntime, "c": by_c}
