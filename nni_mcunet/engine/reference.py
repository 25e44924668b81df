"""Numpy integer interpreter of a Plan: the oracle for the C kernels, patch by patch, with the same views and pads.

It computes what the integers say and nothing about memory: tensors are separate arrays, no arena.
"""

import numpy as np

from ..core.graph import Graph, Op
from ..core.plan import Plan
from ..core.stages import Axis, Stage
from .integers import ConvIntegers, PoolIntegers, integers, requant
from .quant import QuantModel


def run(plan: Plan, model: QuantModel, image: np.ndarray, keep: bool = False) -> dict[str, np.ndarray]:
    """Outputs (h, w, c) int8 by name for an image (h, w, 3) int8. keep=True returns every tensor that is whole."""
    plan.executable()
    table = integers(model)
    tensors = {plan.graph.inputs[0].name: image}
    for stage in plan.stages:
        _run_stage(plan.graph, stage, table, tensors)
    return tensors if keep else {name: tensors[name] for name in plan.graph.outputs}


def _run_stage(graph: Graph, stage: Stage, table, tensors: dict[str, np.ndarray]) -> None:
    if stage.patched:
        out = graph.tensors[stage.out]
        tensors[stage.out] = np.zeros((out.h, out.w, out.c), np.int8)
    for i in range(stage.grid[0]):
        for j in range(stage.grid[1]):
            local = dict(tensors) if stage.patched else tensors
            for name in (t.name for t in graph.inputs if t.name in stage.spans[0][i]):
                rows, cols = stage.spans[0][i][name], stage.spans[1][j][name]
                local[name] = tensors[name][rows.lo : rows.hi, cols.lo : cols.hi]
            for op in stage.ops:
                y, x = stage.axis(op, 0, i), stage.axis(op, 1, j)
                result = run_op(op, table[op.name], local[op.inputs[0]], local.get(op.residual), y, x)
                if stage.patched and op.name == stage.out:
                    tensors[op.name][y.dst : y.dst + y.n_out, x.dst : x.dst + x.n_out] = result
                else:
                    local[op.name] = result


def run_op(op: Op, p: ConvIntegers | PoolIntegers, data, residual, y: Axis, x: Axis) -> np.ndarray:
    """One kernel call: int8 (y.n_in, x.n_in, cin) -> (y.n_out, x.n_out, cout)."""
    if op.kind == "upsample":
        rows = (np.arange(y.n_out) + y.first) // op.s[0]
        cols = (np.arange(x.n_out) + x.first) // op.s[1]
        return data[rows][:, cols]
    if op.kind == "gap":
        total = data.astype(np.int64).sum((0, 1)) - p.zp_in * y.n_in * x.n_in
        value = requant(total, p.mult, p.left, p.right) + p.zp_out
        return np.clip(value, p.lo, p.hi).astype(np.int8)[None, None]
    windows = _windows(op, data, y, x, getattr(p, "zp_in", 0))
    if op.kind == "maxpool":
        return windows.max((2, 3))
    return _conv(op, p, windows, residual, y, x)


def _windows(op: Op, data: np.ndarray, y: Axis, x: Axis, zero_point: int) -> np.ndarray:
    """(n_out rows, n_out cols, kh, kw, c): every window, taps outside the buffer filled with the zero point."""
    index = []
    for axis, k, s in ((y, op.k[0], op.s[0]), (x, op.k[1], op.s[1])):
        index.append(np.arange(axis.n_out)[:, None] * s + axis.first + np.arange(k)[None])
    low = [max(0, -int(i.min())) for i in index]
    high = [max(0, int(i.max()) + 1 - n) for i, n in zip(index, (y.n_in, x.n_in), strict=True)]
    padded = np.pad(data, ((low[0], high[0]), (low[1], high[1]), (0, 0)), constant_values=zero_point)
    rows, cols = index[0] + low[0], index[1] + low[1]
    return padded[rows[:, None, :, None], cols[None, :, None, :]]


def _conv(op: Op, p: ConvIntegers, windows: np.ndarray, residual, y: Axis, x: Axis) -> np.ndarray:
    """Convolution of gathered windows. float64 holds every sum of int8 products exactly and reaches BLAS."""
    weight = p.weight.astype(np.float64)
    if op.groups > 1:
        acc = np.einsum("ijklc,ckl->ijc", windows.astype(np.float64), weight[:, 0])
    else:
        flat = windows.reshape(y.n_out * x.n_out, -1).astype(np.float64)
        acc = flat @ weight.transpose(2, 3, 1, 0).reshape(-1, op.cout)
    acc = acc.reshape(y.n_out, x.n_out, op.cout).astype(np.int64) + p.bias
    value = requant(acc, p.mult, p.left, p.right)
    if op.residual is not None:
        skip = residual[y.res : y.res + y.n_out, x.res : x.res + x.n_out].astype(np.int64) - p.res_zp
        value = value + skip * p.res_mult + (1 << (p.res_bits - 1)) >> p.res_bits
    return np.clip(value + p.zp_out, p.lo, p.hi).astype(np.int8)
