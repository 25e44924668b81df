"""Join detection and engine: a trained checkpoint, of a detector or a classifier, as the engine's float or int8 model.

The one module besides the command lines that imports both sides. It trains nothing and compiles nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detection import (
    Detector,
    check_classes,
    check_deployable,
    check_exported,
    check_view,
    detector_graph,
    detector_meta,
    detector_ranges,
    detector_spans,
    detector_weights,
    input_pictures,
    load_config,
    load_detector,
    picture_view,
    read_checkpoint,
    trained_classes,
)

from .core.errors import UserError
from .core.ir.arch import ArchSpec
from .core.ir.build import build_graph
from .core.nn import zoo_weights
from .core.nn.net import Net
from .core.nn.qat import fake_quantize, learnt_ranges, learnt_spans, learnt_weights
from .core.view import STRETCH
from .engine.model import Model, QuantModel, view_of
from .engine.quant.post_training import calibrated, learnt
from .engine.run.pictures import with_view

MOST = 200  # characters that a message quotes of torch's list of keys
Options = dict[str, Any] | None  # what is merged into an mmdet config, by dotted key


def detector(config: str, checkpoint: str, options: Options = None) -> Model:
    """Return the float model of an mmdet config (.py) and its checkpoint (.pth). Raises UserError for files that do
    not fit together, FileNotFoundError."""
    return as_model(load_detector(config, checkpoint, options))


def as_model(detector: Detector) -> Model:
    """Return the float model of mmdet's detector: batch normalisation folded, its post-processing as meta."""
    _, _, graph = detector_graph(detector)
    meta = {"detector": detector_meta(detector), "view": str(getattr(detector, "view", STRETCH))}
    return Model(graph.folded(), detector_weights(detector), meta)


def of_detector(module: object) -> Model | QuantModel | None:
    """Return the model of mmdet's detector with its weights, int8 where quantisation-aware training has left its
    ranges; None for what is none of ours. Raises UserError for a detector that the engine does not take."""
    if not isinstance(module, Detector):
        return None
    if hasattr(module, "cfg"):  # where mmdet's own init_detector puts it; load_detector has checked it
        check_deployable(module.cfg)
        module.view = picture_view(module.cfg)
    model, ranges = as_model(module), detector_ranges(module)
    return learnt(model, model.weights, ranges, detector_spans(module)) if ranges else model


def int8(config: str, checkpoint: str, options: Options, images: int) -> QuantModel:
    """Return the int8 model of a config and its checkpoint: as quantisation-aware training has left it, any other
    detector calibrated on `images` pictures of its training set. Raises UserError, FileNotFoundError."""
    found = load_detector(config, checkpoint, options)
    model, ranges = as_model(found), detector_ranges(found)
    if ranges:
        return learnt(model, model.weights, ranges, detector_spans(found))
    return calibrated(model, training_pictures(config, options, images))


def training_pictures(config: str, options: Options, images: int, model: Model | None = None) -> Iterator[np.ndarray]:
    """Return at most `images` pictures of a config's training set, each uint8 (h, w, 3) of the network's size. Raises
    UserError where the model that they are for sees pictures in another way."""
    cfg = load_config(config, options)
    if model is not None:
        check_view(view_of(model), cfg, model.graph.name)
    return input_pictures(cfg, images)


def classifier(arch: str | Path | ArchSpec, checkpoint: str, view: str | None = None) -> Model:
    """Return the float model of an architecture, or its file (.json), and its weights (.pth): ours, or as MCUNet's
    authors published them.

    view: how it sees pictures, such as "crop:0.875", for files that do not say how they were judged. Raises UserError
    for files that do not fit together, FileNotFoundError.
    """
    spec, where = (arch, arch.name) if isinstance(arch, ArchSpec) else (ArchSpec.load(arch), str(arch))
    graph = build_graph(spec)
    net, state = Net(graph).eval(), read_checkpoint(checkpoint)
    trained = getattr(state, "meta", {}).get("view")
    judged = str(spec.view) if spec.view else trained
    if trained not in (None, judged):
        raise UserError(f"{where} says the view {judged}, {checkpoint} {trained}: give two files of one training")
    state = state.get("state_dict", state)
    if zoo_weights.MARK in state:  # as MCUNet's authors published them
        state = zoo_weights.rename(spec, state)
    if learnt_ranges(state):
        fake_quantize(net)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1].split())[:MOST]
        raise UserError(f"{checkpoint} does not hold the weights of {where}: {first}") from None
    meta = {"view": judged, "classes": getattr(state, "meta", {}).get("classes")}
    said = {key: value for key, value in meta.items() if value}
    return with_view(Model(graph.folded(), net.folded_weights(), said), view)


def of_checkpoint(model: Model, path: str) -> QuantModel:
    """Return the int8 model of a float one by a checkpoint of quantisation-aware training, which has its own weights
    and ranges. Raises UserError for a checkpoint of another network, of other classes, of pictures seen in another way,
    of other anchors, or of another training."""
    state = read_checkpoint(path)
    if detector := model.meta.get("detector"):
        check_classes(trained_classes(state), detector.get("classes"), path)
        image = model.graph.inputs[0]
        check_exported(path, detector, view_of(model), (image.h, image.w), model.graph.name)
    state = state.get("state_dict", state)
    return learnt(model, learnt_weights(state), learnt_ranges(state), learnt_spans(state))


def is_quantized(path: str) -> bool:
    """Tell whether a checkpoint is of quantisation-aware training: it has its own ranges. Raises UserError for a file
    that is none."""
    state = read_checkpoint(path)
    return bool(learnt_ranges(state.get("state_dict", state)))
