"""Go from float to int8: after training (equalise, calibrate, round the weights together, correct the biases), or as
quantisation-aware training has left the network."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ...core.errors import GraphError, UserError
from ...core.ir.kinds import OWN_SCALE
from ...core.types import FloatWeights, Picture, Range
from ..detect import type_of
from ..lower.integers import integers
from ..model import Model, QuantModel, quantize
from ..ops.requantise import ScaleError
from .bias_correction import bias_corrected
from .box_gains import gained, spans
from .box_means import centred
from .equalize import equalization, equalized
from .ort_session import statistics
from .range_methods import Method, mse
from .rounding import compensated
from .statistics import Statistics

# A classifier's largest score is the answer: clipped, two would be equal. Calibrated on 16 pictures of another set, a
# quarter more kept 87 of 89 right answers of mcunet-in3, none kept 83; it costs 2 dB of an output that has lost 20.
HEADROOM = 1.25
# Beyond 8 a sigmoid is sure to within 1/2980. YOLOv3 has logits and logarithms of sizes in one map, where one step of a
# range as wide as the surest logits is a tenth of a box's side: of the blood cell detector's boxes 95 % came out within
# 2 pixels (39 % within 1) with all of the range, 98 % (92 %) with this. YOLOX's sizes have a map of their own, which no
# training bounds where there is no object; e^8 cells are larger than any picture.
SURE = 8.0
UNLIKE = 1e4  # times that input channels of one layer may differ in range before that is what is wrong
LAST = ("act", "softmax")


def calibrated(
    model: Model,
    pictures: Iterable[Picture],
    calibrator: Method = mse,
    equalize: bool = True,
    compensate: bool = True,
    correct_bias: bool = True,
) -> QuantModel:
    """Make the int8 model, calibrated on pictures (h, w, c) uint8 of its size. `calibrator`, one of range_methods.py,
    sets every range but those of the answers, where the rare values, an object's, count. Raises GraphError for a
    model whose sums could overflow, UserError where there is no picture."""
    pictures = list(pictures)
    found = statistics(model, pictures)
    if equalize:
        model = equalized(model, equalization(model, found))
        found = statistics(model, pictures)
    ends = {name: calibrator(s) for name, s in found.items()} | _answers(model, found)
    quantized = quantize(model, ends)
    if compensate:
        quantized = compensated(quantized, model, pictures)
    if correct_bias:
        quantized = bias_corrected(quantized, model, found)
    quantized = gained(quantized, ends, spans(quantized, model, pictures))
    if correct_bias:
        quantized = centred(quantized, model, pictures)
    try:
        integers(quantized)
    except ScaleError as error:
        raise GraphError(f"{error.op}: {error.fact}; {_remedy(model, error.op)}") from None
    return quantized


def _remedy(model: Model, name: str) -> str:
    """Say what helps a float model whose scales need more than 32 bits."""
    return unlike(model, name) or (
        "on the calibration pictures it hardly changes: give pictures on which it does, such as the training set's"
    )


def unlike(model: Model, name: str) -> str | None:
    """Say the remedy for a layer whose weights show that its input's channels are too unlike for one scale; None for
    any other layer."""
    op = model.graph.op(name)
    if op.kind == "conv" and op.groups == 1:
        largest = np.abs(model.weights[name][0]).max((0, 2, 3))
        if (ratio := largest.max() / largest[largest > 0].min(initial=largest.max())) > UNLIKE:
            return (
                f"its weights make up for channels of '{op.inputs[0]}' that differ {ratio:.1g} times in range, and one "
                "int8 scale holds no such range: train the model with batch normalisation before this layer, or weight "
                "decay"
            )
    return None


def _answers(model: Model, found: dict[str, Statistics]) -> dict[str, Range]:
    """Choose the ranges of the network's outputs and of the input of a last activation; behind a move, of what is
    moved."""
    graph, ends, detector = model.graph, {}, model.meta.get("detector")
    outputs = [graph.rounded_as(name) for name in graph.outputs]
    last = {graph.rounded_as(op.inputs[0]): op.act or op.kind
            for op in graph.ops if op.name in outputs and op.kind in LAST}  # fmt: skip
    one = len(graph.outputs) == 1 and graph.tensors[graph.outputs[0]].size == graph.tensors[graph.outputs[0]].c
    for name in (*outputs, *last):
        low, high = found[name].low, found[name].high
        if last.get(name) == "sigmoid" or (detector and type_of(detector) in ("yolov3", "yolox")):
            ends[name] = max(low, -SURE), min(high, SURE)
        elif one and not detector:
            ends[name] = low * HEADROOM, high * HEADROOM
        else:
            ends[name] = low, high
    return ends


def learnt(
    model: Model,
    weights: dict[str, FloatWeights],
    tensor_ranges: dict[str, Range],
    groups: dict[str, list[Range]] | None = None,
) -> QuantModel:
    """Make the int8 model of a quantisation-aware training, which found these folded weights (as Model.weights), ranges
    of the tensors and, of a detector's outputs, of their groups of channels (box_gains.py). Raises UserError where they
    are another network's, GraphError as `calibrated`."""
    for op in model.graph.ops:
        if op.kind == "conv" and (
            op.name not in weights or weights[op.name][0].shape != model.weights[op.name][0].shape
        ):
            raise UserError(f"the checkpoint has no '{op.name}' of this shape: it is of another network")
        if op.kind in OWN_SCALE and op.name not in tensor_ranges:
            raise UserError(f"the checkpoint has no range of '{op.name}': it is not of quantisation-aware training")
    quantized = gained(quantize(replace(model, weights=weights), tensor_ranges), tensor_ranges, groups or {})
    try:
        integers(quantized)
    except ScaleError as error:
        raise GraphError(f"{error.op}: {error.fact}; train longer, or calibrate on pictures instead") from None
    return quantized
