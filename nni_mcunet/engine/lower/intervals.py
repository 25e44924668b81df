"""Which int8 values each channel can take, whatever the picture: interval arithmetic over the integers of kernels.

Sound by construction: a result of an op that rises with its input is computed by the reference itself, from the ends.
The bounds hold at every position, those included whose windows reach into the padding.
"""

import numpy as np

from ...core.ir.arch import Schedule
from ...core.ir.graph import Graph, Op
from ...core.plan.kernel_facts import SAME_SCALE
from ...core.plan.segments import segments
from ...core.plan.tiles import Span, window
from ..model import QuantModel
from .integers import ConvIntegers, PoolIntegers, TableIntegers, integers
from .reference import ELEMENTWISE, conv_result, run_op

Interval = tuple[np.ndarray, np.ndarray]  # lowest and highest value of each channel, int64 (c,)


def intervals(model: QuantModel) -> dict[str, Interval]:
    """Tensor name -> its interval. Of an image any byte is possible. Raises GraphError, see integers."""
    table, graph = integers(model), model.graph
    found = {t.name: _any(t.c) for t in graph.inputs}
    for op in graph.ops:
        found[op.name] = OF_KIND[op.kind](graph, op, table[op.name], [found[name] for name in op.reads])
    return found


def _any(channels: int) -> Interval:
    return np.full(channels, -128), np.full(channels, 127)


def _conv(graph: Graph, op: Op, p: ConvIntegers, reads: list[Interval]) -> Interval:
    """Of all sets of taps that lie inside the input; one outside counts as zp_in, which is what `bias` begins with."""
    lo, hi = (end.reshape(op.groups, -1) - p.zp_in for end in reads[0])
    weight = p.weight.astype(np.int64).reshape(op.groups, op.cout // op.groups, -1, *op.k)
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    taps = [_per_tap(up, lo) + _per_tap(down, hi), _per_tap(up, hi) + _per_tap(down, lo)]  # (cout, kh, kw) each
    base = p.bias + p.zp_in * weight.sum((2, 3, 4)).ravel()
    residual = reads[1] if op.residual is not None else (None, None)
    inside, ends = [_inside(graph, op, axis) for axis in (0, 1)], []
    for of_taps, skip in zip(taps, residual, strict=True):
        acc = [base + of_taps[:, rows, cols].sum((1, 2)) for rows in inside[0] for cols in inside[1]]
        ends.append(conv_result(p, np.stack(acc), skip).astype(np.int64))
    return ends[0].min(0), ends[1].max(0)


def _per_tap(weight: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(groups, outputs, inputs, kh, kw) and (groups, inputs) -> sums over the inputs, (cout, kh, kw)."""
    return np.einsum("goikl,gi->gokl", weight, end).reshape(-1, *weight.shape[3:])


def _inside(graph: Graph, op: Op, axis: int) -> list[slice]:
    """The runs of taps along an axis that lie inside the input, of every window."""
    x, y = graph.input_of(op), graph.tensors[op.name]
    n_in, n_out = ((x.h, y.h), (x.w, y.w))[axis]
    starts = (window(op, Span(i, i + 1), axis).lo for i in range(n_out))
    runs = {(min(max(-start, 0), op.k[axis]), max(min(n_in - start, op.k[axis]), 0)) for start in starts}
    return [slice(first, end) for first, end in sorted(runs)]


def _moved(graph: Graph, op: Op, p: PoolIntegers, reads: list[Interval]) -> Interval:
    """Of kernels that rise with each input: maps of the lowest and of the highest values."""
    x, segment = graph.input_of(op), segments(graph, Schedule(), "clip")[0]
    side = segment.axis(op, 0, 0), segment.axis(op, 1, 0)
    maps = (np.broadcast_to(end.astype(np.int8), (x.h, x.w, x.c)) for end in reads[0])
    low, high = (run_op(op, p, [data], [side]).astype(np.int64) for data in maps)
    return low.min((0, 1)), high.max((0, 1))


def _of_two(graph: Graph, op: Op, p, reads: list[Interval]) -> Interval:
    """A sum or product rises or falls with each input alone: its ends are at corners."""
    corners = np.stack([ELEMENTWISE[op.kind](p, a, b) for a in reads[0] for b in reads[1]]).astype(np.int64)
    return corners.min(0), corners.max(0)


def _act(graph: Graph, op: Op, p: TableIntegers, reads: list[Interval]) -> Interval:
    return _looked_up(p, reads[0])


def _concat(graph: Graph, op: Op, p: tuple[TableIntegers, ...], reads: list[Interval]) -> Interval:
    parts = [_looked_up(part, ends) for part, ends in zip(p, reads, strict=True)]
    return tuple(np.concatenate(ends) for ends in zip(*parts, strict=True))


def _looked_up(p: TableIntegers, ends: Interval) -> Interval:
    if p.table is None:
        return ends
    runs = [p.table[lo + 128 : hi + 129].astype(np.int64) for lo, hi in zip(*ends, strict=True)]
    return np.array([run.min() for run in runs]), np.array([run.max() for run in runs])


def _softmax(graph: Graph, op: Op, p, reads: list[Interval]) -> Interval:
    return _any(op.cout)


OF_KIND = {
    "conv": _conv,
    "add": _of_two,
    "mul": _of_two,
    "act": _act,
    "concat": _concat,
    "softmax": _softmax,
    **dict.fromkeys(("gap", "avgpool", *SAME_SCALE), _moved),
}
