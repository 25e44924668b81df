"""Find the scales that the operators of a file imply where it gives none. Nothing is calibrated here."""

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import ACTS, CLAMPS, clamp_of
from ...core.ir.graph import Graph, Op
from ...core.ir.kinds import FACTS, SAME_SCALE
from ...core.types import Doubles, Floats
from ..model import PROBABILITY, QuantWeights, Scale, quantize_weights
from .imported import Imported, factors

NARROW = "has no scale of its own, only its maxima or some of its channels have one"
WHOLE = 1e-4  # of a step: the most by which a whole multiple in float32 misses it
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
        if name not in scales and (scale := _implied(net, op, scales) if op else _of_image(net, name)):
            scales[name] = scale
        if name not in scales:
            raise GraphError(f"{path}: '{name}' has no scale while others have one; quantize it whole")
        if op and (pair := factors(net, op)):
            table[name] = quantize_weights(*pair, scales[op.inputs[0]].scale)
        elif op and isinstance(floats := table.get(name), tuple):
            table[name] = _in_steps(*floats, scales[op.inputs[0]].scale) or floats
        if op and op.kind == "conv" and not isinstance(table[name], QuantWeights):
            raise GraphError(f"{path}: '{name}' has float weights while others are quantised; quantize it whole")
    return replace(net, weights=table, scales=scales)


def _implied(net: Imported, op: Op, scales: dict[str, Scale]) -> Scale | None:
    """Return the scale that an op implies; of a factor a channel, which is no layer of its own in a quantised file, the
    finest that holds what it makes of its input's values."""
    pair = factors(net, op)
    if pair is None or op.residual:
        return implied_scale(op, scales.__getitem__)
    ends = np.array(scales[op.inputs[0]].span) * pair[0].reshape(-1, 1) + pair[1].reshape(-1, 1)
    low, high = clamp_of(op.act, op.args)
    return Scale.of_range(float(ends.clip(low, high).min()), float(ends.clip(low, high).max()))


def _of_image(net: Imported, name: str) -> Scale | None:
    """Return the scale of an image that the file rounds only behind a normalisation in floats: the finest that holds
    what that does not cut off in every channel. None where anything else reads it."""
    low, high = -inf, inf
    for op in (op for op in net.graph.ops if name in op.reads):
        pair = factors(net, op)
        if pair is None or op.act or op.residual or op.name not in net.scales or not pair[0].all():
            return None
        ends = (np.array(net.scales[op.name].span) - pair[1].reshape(-1, 1)) / pair[0].reshape(-1, 1)
        low, high = max(low, float(ends.min(1).max())), min(high, float(ends.max(1).min()))
    return Scale.of_range(min(low, 0.0), max(high, 0.0)) if low < high else None


def _steps(weight: Floats) -> Doubles | None:
    """Return for each output channel the coarsest step of which its float weights (cout, cin/groups, kh, kw) are whole
    multiples within int8, as training with quantisation leaves them; None where a channel has none."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(flat).max(1)
    found = np.where(largest > 0, 0.0, 1.0)
    ratios = flat / np.where(largest > 0, largest, 1)[:, None]
    for count in range(1, 128):
        left = np.flatnonzero(found == 0)
        if not left.size:
            break
        steps = ratios[left] * count
        fits = left[np.abs(steps - np.round(steps)).max(1) < WHOLE]
        found[fits] = largest[fits] / count
    return found if found.all() else None


def _in_steps(weight: Floats, bias: Floats, input_scale: float) -> QuantWeights | None:
    """Return the integers of float weights that are whole multiples of a step a channel, as large as int8 holds, for
    the bias has steps of theirs; None for others, and where the bias exceeds 32 bits."""
    steps = _steps(weight)
    if steps is None:
        return None
    most = np.round(np.abs(weight).max((1, 2, 3)) / steps)
    room = input_scale * steps * 2**30 / np.maximum(np.abs(bias), 1e-30)
    steps = steps / np.where(most > 0, np.minimum(127 // np.maximum(most, 1), np.maximum(room // 1, 1)), 1)
    floor = np.abs(bias) / (input_scale * 2**30)  # a channel of zeros may have a large bias
    scale = np.where(np.abs(weight).max((1, 2, 3)) > 0, steps, np.maximum(floor, 1e-12)).astype(np.float32)
    integers = np.round(weight / scale[:, None, None, None]).astype(np.int8)
    rounded = np.round(bias / (input_scale * scale.astype(np.float64)))
    return QuantWeights(integers, scale, rounded.astype(np.int32)) if np.abs(rounded).max() < 2**31 else None
