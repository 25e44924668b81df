"""Compute and print pools, padding and nearest upsampling: kernels of one map that share the struct mcu_pool."""

from dataclasses import dataclass

import numpy as np

from ...core.errors import GraphError
from ...core.ir.graph import Graph, Op
from ...core.plan.kernel_facts import padded_taps
from ...core.plan.segments import Axis
from ..model import QuantModel
from . import c_text, tflm
from .operator import Operator
from .requantise import NOTHING, Factor, factors, int8, requant, requant_twice, twice
from .windows import rising, windows

EMPTY = "a window holds nothing but padding,"


@dataclass(frozen=True)
class PoolIntegers:
    """Hold the fields of mcu_pool. A kind that averages has `mean` for a whole window, and border[m - 1] for a window
    in which m taps are padding."""

    zp_in: int
    zp_out: int
    mean: Factor = NOTHING
    border: tuple[Factor, ...] = ()


def _moved(model: QuantModel, op: Op) -> PoolIntegers:
    """Return the integers of a kernel that only moves values."""
    zero_point = model.scales[op.name].zero_point
    return PoolIntegers(zero_point, zero_point)


def _greatest(model: QuantModel, op: Op) -> PoolIntegers:
    if padded_taps(model.graph, op) >= op.k[0] * op.k[1]:
        raise GraphError(f"{op.name}: {EMPTY} {op.pad}; pad by less than the window, or not at all")
    return _moved(model, op)


def _averaged(model: QuantModel, op: Op) -> PoolIntegers:
    """Find a multiplier for each number of taps inside the map."""
    x, y, size = model.scales[op.inputs[0]], model.scales[op.name], model.graph.input_of(op)
    taps = size.h * size.w if op.kind == "gap" else op.k[0] * op.k[1]
    border = 0 if op.kind == "gap" else padded_taps(model.graph, op)
    if border >= taps:
        raise GraphError(f"{op.name}: {EMPTY} {op.pad}; pad by less than the window, or not at all")
    # The sum begins with -zp_in * taps: partial sums reach 256 a tap.
    if op.twice:
        mean = twice(op, tflm.mean_factor(x, y, taps), 256 * taps) if op.kind == "gap" else NOTHING
        return PoolIntegers(x.zero_point, y.zero_point, mean)
    counts = range(taps, taps - border - 1, -1)
    found = factors(op, [x.scale / (y.scale * n) for n in counts], [256 * n for n in counts], y)
    return PoolIntegers(x.zero_point, y.zero_point, found[0], tuple(found[1:]))


def maxpool(op: Op, p: PoolIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_maxpool: padding never wins."""
    return windows(op, reads[0], y, x, -128).max((2, 3))


def avgpool(op: Op, p: PoolIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_avgpool: padding is not counted."""
    inside = windows(op, np.ones((y.n_in, x.n_in, 1), np.int8), y, x, 0).astype(int).sum((2, 3))
    if op.twice:
        return int8(tflm.average(windows(op, reads[0], y, x, 0).astype(np.int64).sum((2, 3)), inside))
    total = windows(op, reads[0], y, x, p.zp_in).astype(np.int64).sum((2, 3)) - p.zp_in * op.k[0] * op.k[1]
    mult, left, right = np.array([p.mean, *p.border]).T[:, op.k[0] * op.k[1] - inside]
    return int8(requant(total, mult, left, right) + p.zp_out)


def gap(op: Op, p: PoolIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_gap."""
    total = reads[0].astype(np.int64).sum((0, 1)) - p.zp_in * y.n_in * x.n_in
    return int8((requant_twice if op.twice else requant)(total, *p.mean) + p.zp_out)[None, None]


def pad(op: Op, p: PoolIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_pad, whose window is one tap."""
    return windows(op, reads[0], y, x, p.zp_in)[:, :, 0, 0]


def upsample(op: Op, p: PoolIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_upsample."""
    rows = (np.arange(y.n_out) + y.first) // op.s[0]
    cols = (np.arange(x.n_out) + x.first) // op.s[1]
    return reads[0][rows][:, cols]


def constants(graph: Graph, op: Op, p: PoolIntegers, name: str) -> str:
    """Define an mcu_pool, with an array of factors for windows in the padding."""
    border = f"{name}_border" if p.border else "0"
    rows = ", ".join(map(c_text.factor, p.border))
    return (f"static const mcu_factor {border}[{len(p.border)}] = {{{rows}}};\n" if p.border else "") + (
        f"static const mcu_pool {name} = {{.c = {op.cout}, {c_text.window(op)}, .zp_in = {p.zp_in},"
        f" .zp_out = {p.zp_out},\n    .mean = {c_text.factor(p.mean)}, .border = {border}}};\n\n"
    )


OPERATORS = {
    "maxpool": Operator(_greatest, maxpool, rising(maxpool), constants),
    "avgpool": Operator(_averaged, avgpool, rising(avgpool), constants),
    "gap": Operator(_averaged, gap, rising(gap), constants),
    "upsample": Operator(_moved, upsample, rising(upsample), constants),
    "pad": Operator(_moved, pad, rising(pad), constants),
}
