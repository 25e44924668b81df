"""Scales of a file's tensors: those that it gives, and those that its operators imply. The functions take (builder,
layer): what is built, and the layer of the file that errors name. Nothing is calibrated here.
"""

from dataclasses import replace

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import ACTS, CLAMPS
from ...core.ir.graph import Graph, Op
from ...core.ir.kinds import FACTS, SAME_SCALE
from ..model import PROBABILITY, QuantWeights, Scale, quantize_weights
from .feature import Feature, same_layout
from .fuse import Imported, is_affine

LEAST, GREATEST = 1e-30, 1e30  # scales beyond are no scales


def arrives(builder, layer, feature: Feature, given: Scale) -> None:
    """A map comes in with this scale: it must be the one it left with; an input of the model has none yet."""
    name = feature.tensor.name
    if name not in builder.scales and name not in builder.ops:
        builder.scales[name] = given
    elif builder.scale_of(name) != given:
        layer.refuse(f"reads '{name}' in another scale than it was written with; quantize the model once")


def leaves(builder, layer, feature: Feature, given: Scale) -> Feature:
    """The map in this scale: what the op before wrote, or a change of its scale."""
    name = feature.tensor.name
    _settle(builder, name, given)
    if builder.scales[name] == given:
        return feature
    y = builder.add(layer, "act", (feature.tensor,), feature.tensor.c)
    builder.scales[y.name] = given
    return same_layout(feature, y)


def _settle(builder, name: str, given: Scale) -> None:
    """A tensor without a scale gets the given one, where its kernel has the choice. What keeps its input's scale passes
    it on: the greatest of rounded values is the rounded greatest."""
    if name in builder.scales:
        return
    op = builder.ops.get(name)
    if op and op.kind in SAME_SCALE:
        if op.kind == "maxpool" and op.inputs[0] not in builder.scales:
            builder.narrowed.add(op.inputs[0])
        _settle(builder, op.inputs[0], given)
        builder.scales[name] = builder.scales[op.inputs[0]]
    else:
        builder.scales[name] = PROBABILITY if op and FACTS[op.kind].scale == "probability" else given


def implied_scale(op: Op, scale_of) -> Scale | None:
    """The scale of what an op writes where the file gives none; None where nothing implies one. scale_of(tensor)."""
    if FACTS[op.kind].scale == "probability":
        return PROBABILITY
    if op.kind == "act" and op.act and op.act not in CLAMPS:
        with np.errstate(over="ignore"):
            reached = ACTS[op.act](scale_of(op.inputs[0]).dequantize(np.arange(-128, 128)), *op.args)
        return Scale.of_range(float(reached.min()), float(reached.max()))
    if op.kind in (*SAME_SCALE, "gap", "avgpool", "act"):
        return scale_of(op.inputs[0])
    if op.kind == "concat" and len({scale_of(name) for name in op.inputs}) == 1:
        return scale_of(op.inputs[0])
    return None


def check_narrowed(path: str, graph: Graph, names: set[str]) -> None:
    """A map that has its maxima's scale may be read for them alone. Raises GraphError."""
    for name in names:
        if name in graph.outputs or len([op for op in graph.ops if name in op.reads]) > 1:
            raise GraphError(f"{path}: '{name}' has no scale of its own before its max pool; quantize it whole")


def whole(path: str, net: Imported) -> Imported:
    """Every tensor with its scale, every convolution in integers. A float factor a channel between rounded tensors (a
    batch normalisation apart) is quantised here: one weight a channel loses nothing. Raises GraphError where a scale or
    integers are missing."""
    scales, table, ops = dict(net.scales), dict(net.weights), {op.name: op for op in net.graph.ops}
    for name in net.graph.tensors:
        op = ops.get(name)
        if name not in scales and (scale := op and implied_scale(op, scales.__getitem__)):
            scales[name] = scale
        if name not in scales:
            raise GraphError(f"{path}: '{name}' has no scale while others have one; quantize it whole")
        if op and is_affine(net, op):
            table[name] = quantize_weights(*table[name], scales[op.inputs[0]].scale)
        if op and op.kind == "conv" and not isinstance(table[name], QuantWeights):
            raise GraphError(f"{path}: '{name}' has float weights while others are quantised; quantize it whole")
    return replace(net, weights=table, scales=scales)
