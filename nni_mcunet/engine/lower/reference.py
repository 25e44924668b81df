"""Numpy integer interpreter of a Plan: the oracle for the C kernels, patch by patch, with the same views and pads.

It computes what the integers say and nothing about memory: tensors are separate arrays, no arena. An op sees of its
inputs the tiles of its patch alone; what those begin with, where the halo is cached, earlier patches have computed.
"""

import numpy as np

from ...core.ir.graph import Graph, Op
from ...core.plan.kernel_facts import calls
from ...core.plan.plan import Plan
from ...core.plan.segments import Axis, Segment
from ...core.plan.tiles import Span
from ..model import QuantModel
from .integers import (
    ConvIntegers,
    ExpIntegers,
    PoolIntegers,
    ProductIntegers,
    SumIntegers,
    TableIntegers,
    integers,
    requant,
)


def run(plan: Plan, model: QuantModel, image: np.ndarray, keep: bool = False) -> dict[str, np.ndarray]:
    """Outputs (h, w, c) int8 by name for an image (h, w, c) int8. keep=True returns every tensor that is whole."""
    plan.executable()
    table = integers(model)
    tensors = {plan.graph.inputs[0].name: image}
    for segment in plan.segments:
        _run_segment(plan.graph, segment, table, tensors)
    return tensors if keep else {name: tensors[name] for name in plan.graph.outputs}


def _run_segment(graph: Graph, segment: Segment, table, tensors: dict[str, np.ndarray]) -> None:
    written = {t.name: np.zeros((t.h, t.w, t.c), np.int8) for t in (graph.tensors[op.name] for op in segment.ops)}
    maps = {**tensors, **written}
    for i in range(segment.grid[0]):
        for j in range(segment.grid[1]):
            for op in segment.ops:
                sides = [(segment.axis(op, 0, i, at), segment.axis(op, 1, j, at)) for at in range(calls(op))]
                if not all(axis.n_out for axis in sides[0]):
                    continue
                tiles = [maps[n][_region(segment.held(n, 0, i), segment.held(n, 1, j))] for n in op.reads]
                new = _region(segment.new[0][i][op.name], segment.new[1][j][op.name])
                maps[op.name][new] = run_op(op, table[op.name], tiles, sides)
    tensors.update({segment.out: maps[segment.out]} if segment.patched else written)


def _region(rows: Span, cols: Span) -> tuple[slice, slice]:
    return slice(rows.lo, rows.hi), slice(cols.lo, cols.hi)


def run_op(op: Op, p, reads: list[np.ndarray], sides: list[tuple[Axis, Axis]]) -> np.ndarray:
    """One op in one patch: int8 maps in the order of op.reads -> (n_out rows, n_out columns, cout). `p`: its integers;
    `sides`: (y, x) of each call of its kernel."""
    y, x = sides[0]
    if op.kind == "concat":
        each = zip(p, reads, sides, strict=True)
        return np.concatenate([_look_up(part, _crop(data, *side)) for part, data, side in each], axis=2)
    if op.kind == "act":
        return _look_up(p, _crop(reads[0], y, x))
    if op.kind in ("add", "mul"):
        return ELEMENTWISE[op.kind](p, _crop(reads[0], y, x).astype(np.int64), _second(reads[1], y, x))
    if op.kind == "softmax":
        return _softmax(p, _crop(reads[0], y, x))
    if op.kind == "conv":
        return _conv(op, p, reads[0], reads[1] if op.residual is not None else None, y, x)
    return _pool(op, p, reads[0], y, x)


def _pool(op: Op, p: PoolIntegers, data: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    if op.kind == "upsample":
        rows = (np.arange(y.n_out) + y.first) // op.s[0]
        cols = (np.arange(x.n_out) + x.first) // op.s[1]
        return data[rows][:, cols]
    if op.kind == "gap":
        total = data.astype(np.int64).sum((0, 1)) - p.zp_in * y.n_in * x.n_in
        return _int8(requant(total, *p.mean) + p.zp_out)[None, None]
    if op.kind == "avgpool":
        return _mean(op, p, data, y, x)
    windows = _windows(op, data, y, x, -128 if op.kind == "maxpool" else p.zp_in)
    return windows.max((2, 3))  # of a pad the only tap


def _mean(op: Op, p: PoolIntegers, data: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    total = _windows(op, data, y, x, p.zp_in).astype(np.int64).sum((2, 3)) - p.zp_in * op.k[0] * op.k[1]
    inside = _windows(op, np.ones((y.n_in, x.n_in, 1), np.int8), y, x, 0).astype(int).sum((2, 3))
    mult, left, right = np.array([p.mean, *p.border]).T[:, op.k[0] * op.k[1] - inside]
    return _int8(requant(total, mult, left, right) + p.zp_out)


def _crop(data: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    """What an element by element kernel reads of its first input."""
    return data[y.first : y.first + y.n_out, x.first : x.first + x.n_out]


def _second(data: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    """What is read of a second input or residual; of one position along an axis, the same for all."""
    return data[y.res : y.res + y.n_out, x.res : x.res + x.n_out].astype(np.int64)


def _look_up(p: TableIntegers, data: np.ndarray) -> np.ndarray:
    return data if p.table is None else p.table[data.astype(int) + 128]


def _add(p: SumIntegers, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    value = (a * p.mult_a + b * p.mult_b + p.bias >> p.bits) + p.zp_out
    return np.clip(value, p.lo, p.hi).astype(np.int8)


def _multiply(p: ProductIntegers, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _int8(requant((a - p.zp_a) * (b - p.zp_b), *p.factor) + p.zp_out)


ELEMENTWISE = {"add": _add, "mul": _multiply}


def _softmax(p: ExpIntegers, data: np.ndarray) -> np.ndarray:
    """(h, w, c) -> probabilities in steps of 1/256, zero being -128."""
    value = data.astype(int)
    exps = p.table[value.max(2, keepdims=True) - value].astype(np.int64)
    total = exps.sum(2, keepdims=True)
    return _int8((512 * exps + total) // (2 * total) - 128)


def _int8(value: np.ndarray) -> np.ndarray:
    return np.clip(value, -128, 127).astype(np.int8)


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


def _conv(op: Op, p: ConvIntegers, data: np.ndarray, residual, y: Axis, x: Axis) -> np.ndarray:
    """float64 holds every sum of int8 products exactly and reaches BLAS."""
    windows, g = _windows(op, data, y, x, p.zp_in), op.groups
    n, cin = y.n_out * x.n_out, windows.shape[-1] // g
    taps = windows.reshape(n, -1, g, cin).transpose(2, 0, 1, 3).reshape(g, n, -1).astype(np.float64)
    weight = p.weight.reshape(g, -1, cin, *op.k).transpose(0, 3, 4, 2, 1).reshape(g, -1, op.cout // g)
    acc = (taps @ weight.astype(np.float64)).transpose(1, 0, 2)
    acc = acc.reshape(y.n_out, x.n_out, op.cout).astype(np.int64) + p.bias
    return conv_result(p, acc, None if residual is None else _second(residual, y, x))


def conv_result(p: ConvIntegers, acc: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
    """Accumulators and the residual's values, int64 (..., cout) -> int8. Rises with both."""
    value = requant(acc, p.mult, p.left, p.right)
    if residual is not None:
        value = value + (residual - p.res_zp) * p.res_mult + (1 << (p.res_bits - 1)) >> p.res_bits
    return np.clip(value + p.zp_out, p.lo, p.hi).astype(np.int8)
