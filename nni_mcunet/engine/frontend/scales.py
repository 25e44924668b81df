"""Settle the scales of a file's tensors: the file gives some, its operators imply others. The functions take (builder,
layer): what is built, and the layer of the file that errors name. Nothing is calibrated here.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import ACTS, CLAMPS
from ...core.ir.graph import Graph, Op
from ...core.ir.kinds import FACTS, SAME_SCALE
from ..model import PROBABILITY, QuantWeights, Scale, quantize_weights
from .feature import Feature, same_layout
from .fuse import Imported, factors

if TYPE_CHECKING:
    from .builder import Builder, Layer

LEAST, GREATEST = 1e-30, 1e30  # scales beyond are no scales


def arrives(builder: "Builder", layer: "Layer", feature: Feature, given: Scale) -> None:
    """Take in a map with this scale. It must be the one it left with; an input of the model has none yet."""
    name = feature.tensor.name
    if name not in builder.scales and name not in builder.ops:
        builder.scales[name] = given
    elif builder.scale_of(name) != given:
        layer.refuse(f"reads '{name}' in another scale than it was written with; quantize the model once")


def leaves(builder: "Builder", layer: "Layer", feature: Feature, given: Scale) -> Feature:
    """Return the map in this scale: as the op before wrote it, or behind a change of its scale."""
    name = feature.tensor.name
    _settle(builder, name, given)
    if builder.scales[name] == given:
        return feature
    y = builder.add(layer, "act", (feature.tensor,), feature.tensor.c)
    builder.scales[y.name] = given
    return same_layout(feature, y)


def _settle(builder: "Builder", name: str, given: Scale) -> None:
    """Give a tensor without a scale this one, where its kernel has the choice. A kernel that keeps its input's scale
    passes it on: the greatest of rounded values is the rounded greatest."""
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


def implied_scale(op: Op, scale_of: Callable[[str], Scale]) -> Scale | None:
    """Return the scale of the tensor that an op writes and the file gives none; None where nothing implies one.
    scale_of: of a tensor by name."""
    if FACTS[op.kind].scale == "probability":
        return PROBABILITY
    if op.kind == "act" and op.act and op.act not in CLAMPS:
        with np.errstate(over="ignore"):
            reached = ACTS[op.act](scale_of(op.inputs[0]).dequantize(np.arange(-128, 128).astype(np.int8)), *op.args)
        return Scale.of_range(float(reached.min()), float(reached.max()))
    if op.kind in (*SAME_SCALE, "gap", "avgpool", "act"):
        return scale_of(op.inputs[0])
    if op.kind == "concat" and len({scale_of(name) for name in op.inputs}) == 1:
        return scale_of(op.inputs[0])
    return None


def check_narrowed(path: str, graph: Graph, names: set[str]) -> None:
    """Raise GraphError where a map that has its maxima's scale is read by anything but their op."""
    for name in names:
        if name in graph.outputs or len([op for op in graph.ops if name in op.reads]) > 1:
            raise GraphError(f"{path}: '{name}' has no scale of its own before its max pool; quantize it whole")


def whole(path: str, net: Imported) -> Imported:
    """Return the network with a scale for every tensor and integers for every convolution. A float factor a channel
    between rounded tensors (a batch normalisation that was not folded) is quantised here: one weight a channel loses
    nothing. Raises GraphError where a scale or integers are missing."""
    scales, table, ops = dict(net.scales), dict(net.weights), {op.name: op for op in net.graph.ops}
    for name in net.graph.tensors:
        op = ops.get(name)
        if name not in scales and (scale := op and implied_scale(op, scales.__getitem__)):
            scales[name] = scale
        if name not in scales:
            raise GraphError(f"{path}: '{name}' has no scale while others have one; quantize it whole")
        if op and (pair := factors(net, op)):
            table[name] = quantize_weights(*pair, scales[op.inputs[0]].scale)
        if op and op.kind == "conv" and not isinstance(table[name], QuantWeights):
            raise GraphError(f"{path}: '{name}' has float weights while others are quantised; quantize it whole")
    return replace(net, weights=table, scales=scales)
