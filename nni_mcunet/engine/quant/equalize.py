"""Equalise layers (Nagel et al. 2019, section 4.1) whose weights have a scale a channel: not they suffer then but the
activation, whose channels share one scale. Channel i of a convolution is multiplied by f_i and the next
convolution's weights for it are divided by f_i: the same function, its activation's channels of like ranges.

It is done where it is exact: one convolution and nothing else reads the tensor, which is no output of the network, and
its clamp commutes with f_i > 0: none or a ReLU. A limit other than zero (ReLU6) does not commute, but where it binds
on no calibrated value of a channel it may lie anywhere beyond them: f_i then keeps the channel's calibrated values
within the limit. On new pictures it may bind earlier than it did, yet never inside the calibrated range: int8 clips
every tensor there, and this clips one channel. A channel that reaches the limit keeps f_i = 1.
"""

from dataclasses import replace

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import clamp_of
from ...core.ir.graph import Graph, Op
from ..model import Model, QuantModel
from .statistics import Statistics

# Up to one half, the square root of the original. All of the imbalance (1) is right for the calibration pictures and
# depth-wise readers, but on other pictures cost mcunet-in3 0.9 to 3 dB of its output.
STRENGTHS = np.linspace(0, 0.5, 5)
MOST = 64.0  # a channel that hardly lives on the calibration pictures may do so on others


def equalization(model: Model, found: dict[str, Statistics]) -> dict[str, list[float]]:
    """Choose convolution -> f of its output's channels; `found` are the model's statistics on calibration pictures.
    Each pair takes, from a few strengths (the migration strength of Xiao et al. 2023), the one of least expected error:
    finer steps of the activation against coarser ones of the reader's weights, which share a scale over the input's
    channels unless it is depth-wise."""
    chosen = {}
    for first, second in pairs(model.graph):
        s, weight = found[first.name], model.weights[second.name][0]
        choices = [factors(first, s, strength) for strength in STRENGTHS]
        f = min(choices, key=lambda f: noise(weight / per_input(f, weight, second.groups), second.groups, s, f))
        if (f != 1).any():
            chosen[first.name] = f.tolist()
    return chosen


def equalized(model: Model, chosen: dict[str, list[float]]) -> Model:
    """Apply the factors of `equalization`: the same function. They stay with the model as meta["equalized"]."""
    weights = dict(model.weights)
    for first, second in pairs(model.graph):
        if first.name in chosen:
            f, (weight, bias) = np.array(chosen[first.name]), weights[first.name]
            weights[first.name] = (weight * f[:, None, None, None]).astype(np.float32), (bias * f).astype(np.float32)
            weight, bias = weights[second.name]
            weights[second.name] = (weight / per_input(f, weight, second.groups)).astype(np.float32), bias
    return replace(model, weights=weights, meta={**model.meta, "equalized": chosen} if chosen else model.meta)


def equalized_like(quantized: QuantModel, model: Model) -> Model:
    """Apply to the float model the factors of its int8 twin, if it has some: both then have the same tensors. Raises
    GraphError where the factors are another network's."""
    chosen = quantized.meta.get("equalized", {})
    sizes = {first.name: first.cout for first, _ in pairs(model.graph)}
    if any(len(f) != sizes.get(name) for name, f in chosen.items()):
        raise GraphError(
            f"'{quantized.graph.name}' is not '{model.graph.name}' in int8: give the file it was made from"
        )
    return equalized(model, chosen)


def pairs(graph: Graph) -> list[tuple[Op, Op]]:
    """List each convolution that one convolution and nothing else reads, with its reader, in the graph's order."""
    readers: dict[str, list[Op]] = {name: [] for name in graph.tensors}
    for op in graph.ops:
        for name in op.reads:
            readers[name].append(op)
    found = []
    for op in graph.ops:
        if op.kind == "conv" and op.residual is None and op.name not in graph.outputs and len(readers[op.name]) == 1:
            second = readers[op.name][0]
            if second.kind == "conv" and second.inputs == (op.name,):
                found.append((op, second))
    return found


def factors(op: Op, s: Statistics, strength: float) -> np.ndarray:
    """Return f (cout,) of a convolution with these statistics: (largest channel / channel)^strength where its clamp
    allows."""
    reach = np.maximum(np.abs(s.lowest), np.abs(s.highest))
    f = np.minimum(reach.max() / np.maximum(reach, reach.max() / MOST), MOST) ** strength
    for limit, ends in zip(clamp_of(op.act, op.args), (s.lowest, s.highest), strict=True):
        if limit and np.isfinite(limit):
            room = limit / np.where(ends * limit > 0, ends, limit / MOST)
            f = np.where(room > 1 + 1e-6, np.minimum(f, room), 1.0)
    return np.where(reach > 0, np.floor(f * 256) / 256, 1.0)  # short in JSON


def per_input(f: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray:
    """Shape factors of the input's channels (cin,) so that they multiply weights (cout, cin/groups, kh, kw)."""
    return np.repeat(f.reshape(groups, -1), len(weight) // groups, axis=0)[:, :, None, None]


def noise(weight: np.ndarray, groups: int, s: Statistics, f: np.ndarray) -> float:
    """Estimate the mean square error of a convolution's sums, all outputs together, from rounding its input, whose
    statistics `s` are scaled by f, and its weights, already divided by f: independent uniform errors of one step."""
    step = (max((s.highest * f).max(), 0) - min((s.lowest * f).min(), 0)) / 255
    power = per_input(s.mean_square * f**2, weight, groups) * np.ones(weight.shape[2:])
    weight_steps = np.abs(weight).max((1, 2, 3)) / 127
    return float(step**2 / 12 * (weight.astype(float) ** 2).sum() + weight_steps**2 / 12 @ power.sum((1, 2, 3)))
