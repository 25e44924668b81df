"""Find the scales that the operators of a file imply where it gives none. Nothing is calibrated here."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import ACTS, CLAMPS
from ...core.ir.graph import Graph, Op
from ...core.ir.kinds import FACTS, SAME_SCALE
from ..model import PROBABILITY, QuantWeights, Scale, quantize_weights
from .imported import Imported, factors

NARROW = "has no scale of its own, only its maxima or some of its channels have one"
LEAST, GREATEST = 1e-30, 1e30  # scales beyond are no scales


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
    """Raise GraphError where a map that has the scale of its maxima or of some channels is read as a whole, too."""
    for name in names:
        kinds = [op.kind for op in graph.ops if name in op.reads]
        if name in graph.outputs or (len(kinds) > 1 and set(kinds) != {"take"}):
            raise GraphError(f"{path}: '{name}' {NARROW}; quantize it whole")


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
