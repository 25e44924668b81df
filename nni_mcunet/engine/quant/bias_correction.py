"""Correct biases (Nagel et al. 2019, section 4.2): rounded weights shift a channel's mean, and the bias takes the shift
back. The shift is computed: the weights' error times the mean of the float network's input, padding not counted."""

from dataclasses import replace

import numpy as np

from ..model import Model, QuantModel
from .equalize import per_input
from .statistics import Statistics


def bias_corrected(quantized: QuantModel, model: Model, found: dict[str, Statistics]) -> QuantModel:
    """Return the int8 model with biases that take back what the rounding of the weights adds to each output channel's
    mean. `model` is the float one that was quantised, `found` its statistics."""
    weights = {}
    for op in quantized.graph.ops:
        if op.kind == "conv":
            q, source = quantized.weights[op.name], op.inputs[0]
            error = q.weight * q.scale[:, None, None, None].astype(np.float64) - model.weights[op.name][0]
            shift = (error * per_input(found[source].mean, error, op.groups)).sum((1, 2, 3))
            bias = q.bias - np.round(shift / (quantized.scales[source].scale * q.scale.astype(np.float64)))
            weights[op.name] = replace(q, bias=bias.clip(-(2**31), 2**31 - 1).astype(np.int32))
    return replace(quantized, weights=weights)
