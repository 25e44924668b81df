"""What every schedule of a graph computes and holds at least, all of them in one pass of arrays.

A row is a tensor or an op, a column a schedule. Nothing is placed here: plan.py does that for the few schedules that
are worth it. The figures are exact: they are `macs` and `peak` of that schedule's plan.
"""

from typing import NamedTuple

import numpy as np

from ..ir.arch import Schedule
from ..ir.graph import Graph
from .cut_points import cuts
from .halo_cache import stream_spans
from .kernel_facts import Kernels, in_place, kernel_of
from .tiles import is_square, patch_bounds, patch_spans


class Costs(NamedTuple):
    """Of one schedule: multiply-accumulates; bytes alive at its worst op; bytes copied into caches and out of them."""

    macs: int
    peak: int
    copied: int


class _Sizes(NamedTuple):
    """Of a number of positions along one axis, [tensor, schedule]: the largest over the patches, and the sum of all."""

    most: np.ndarray
    total: np.ndarray


class _Lengths(NamedTuple):
    """Along one axis: positions that a patch holds of a tensor, those it computes, and those it had kept for it."""

    held: _Sizes
    made: _Sizes
    kept: _Sizes


def costs(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str = "clip") -> list[Costs]:
    """Costs of each of `schedules`, the first of which runs per layer (Schedule()); halo: "clip" or "cache"."""
    macs, live, copied, in_segment = _table(graph, schedules, kernels, halo)
    # Up to the cut the ops run in patches, behind it as they do in the first column.
    total = np.where(in_segment, macs, macs[:, :1]).sum(0)
    peak = np.where(in_segment, live, live[:, :1]).max(0)
    return list(map(Costs, total.tolist(), peak.tolist(), copied.tolist()))


def segment_costs(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str, former: bool) -> list[Costs]:
    """Costs of the patched segment alone. former: the graph is the rest of another, its input a former segment's map,
    which stands whole as long as the segment runs."""
    macs, live, copied, in_segment = _table(graph, schedules, kernels, halo, former)
    total, peak = (macs * in_segment).sum(0), (live * in_segment).max(0)
    return list(map(Costs, total.tolist(), peak.tolist(), copied.tolist()))


def layer_costs(graph: Graph, kernels: Kernels) -> tuple[list[int], list[int]]:
    """Multiply-accumulates of each op layer by layer, and bytes alive while it runs."""
    macs, live, *_ = _table(graph, [Schedule()], kernels, "clip")
    return macs[:, 0].tolist(), live[:, 0].tolist()


def _table(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str, former: bool = False):
    """[op, schedule] multiply-accumulates and bytes alive; [schedule] bytes copied; [op, schedule] whether the op is in
    the patched segment. former: see segment_costs."""
    allowed = cuts(graph) | {0: (0, "")}
    row = {name: i for i, name in enumerate([t.name for t in graph.inputs] + [op.name for op in graph.ops])}
    rows = _lengths(graph, row, allowed, [(s.n, s.p[0]) for s in schedules], 0, halo)
    alike = is_square(graph) and all(s.p[0] == s.p[1] for s in schedules)
    cols = rows if alike else _lengths(graph, row, allowed, [(s.n, s.p[1]) for s in schedules], 1, halo)
    macs = _macs(graph, rows.made.total, cols.made.total)
    live = _live(graph, row, kernels, rows, cols, [allowed[s.n][1] for s in schedules], former)
    caches, copied = _caches(graph, kernels, rows, cols) if halo == "cache" else (0, np.zeros(len(schedules), int))
    in_segment = np.arange(len(graph.ops))[:, None] < [allowed[s.n][0] for s in schedules]
    return macs, live + caches * in_segment, copied, in_segment


def _lengths(graph: Graph, row: dict[str, int], allowed, wanted: list[tuple[int, int]], axis: int, halo) -> _Lengths:
    """Lengths for every (n, p) of `wanted`; n = 0 is the whole map. A tensor outside the patched segment has length
    0."""
    full = [tensor.w if axis else tensor.h for tensor in (graph.tensors[name] for name in row)]
    grids: dict[str, list[int]] = {}  # output of the segment -> every p, the deepest cut first
    columns, begin, end = {(0, p): 0 for n, p in wanted if not n}, [], 0
    for n, p in sorted(set(wanted), reverse=True):
        if n:
            grids.setdefault(allowed[n][1], []).append(p)
            begin.append(end)
            end += p
            columns[n, p] = len(begin)

    def table(lengths: dict[str, np.ndarray], whole) -> _Sizes:
        """Of the lengths of each tensor in each patch; `whole`: its length where it is not in patches."""
        each = np.zeros((len(row), end), int)
        for name, length in lengths.items():
            each[row[name], : len(length)] = length
        over = [[f.reduceat(each, begin, 1)] if begin else [] for f in (np.maximum, np.add)]
        return _Sizes(*(np.hstack([whole, *f])[:, [columns[key] for key in wanted]] for f in over))

    parts = {out: patch_bounds(full[row[out]], *p) for out, p in grids.items()}
    spans, whole = patch_spans(graph, graph.ops, parts, axis), np.array(full)[:, None]
    if halo == "clip" or not begin:
        held, none = table({name: span.length for name, span in spans.items()}, whole), np.zeros((len(row), 1), int)
        return _Lengths(held, held, _Sizes(none, none))
    new, spans = stream_spans(graph, graph.ops, spans, axis, begin)
    held, made = {n: span.length for n, span in spans.items()}, {n: span.length for n, span in new.items()}
    kept = {n: length - made[n] for n, length in held.items()}
    return _Lengths(table(held, whole), table(made, whole), table(kept, 0 * whole))


def _macs(graph: Graph, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Multiply-accumulates [op, schedule] of all patches together."""
    inputs = len(graph.inputs)
    return rows[inputs:] * cols[inputs:] * np.array([[graph.op_macs(op, 1)] for op in graph.ops])


def _live(graph: Graph, row: dict[str, int], kernels: Kernels, rows, cols, outs, former: bool) -> np.ndarray:
    """Bytes alive [op, schedule] while an op runs: the tensors between birth and last use, the whole output of the
    patched segment all along, the op's scratch; of an op in place and what it overwrites, the larger only. outs: each
    schedule's segment output, "" for none; former: see segment_costs.
    """
    last, inputs, time = graph.last_use(), len(graph.inputs), np.arange(len(graph.ops))[:, None]
    size = kernels.aligned(rows.held.most * cols.held.most * np.array([[graph.tensors[name].c] for name in row]))
    out_row = np.array([row.get(out, -1) for out in outs])
    patched = np.flatnonzero(out_row >= 0)
    whole = np.array([kernels.aligned(graph.tensors[out].size) if out else 0 for out in outs])
    size[out_row[patched], patched] = whole[patched]
    if former:
        size[:inputs] = kernels.aligned(graph.inputs[0].size)
    alive = (np.arange(len(row)) - inputs <= time) & (time <= [last[name] for name in row])
    live = (alive.astype(float) @ size).astype(int)  # floats reach BLAS and hold these integers exactly
    live += (time < out_row - inputs) * whole
    if former:
        live += ((time > last[graph.inputs[0].name]) & (time <= out_row - inputs)) * size[0]
    targets = in_place(graph)
    if targets:
        ops, onto = np.array(list(targets)), np.array([row[name] for name in targets.values()])
        # Not in place: the output of the segment, written into its own map; onto the image, which other patches read;
        # a tile that begins with cached positions.
        free = (out_row != ops[:, None] + inputs) & ((onto[:, None] >= inputs) | (out_row < 0))
        free &= ((rows.kept.most + cols.kept.most) == 0)[ops + inputs]
        live[ops] -= np.minimum(size[ops + inputs], size[onto]) * free
    scratch = np.zeros_like(live)
    for index, op in enumerate(graph.ops):
        made = (side.made.most[inputs + index] for side in (rows, cols))
        scratch[index] = kernels.scratch(kernel_of(graph, op), op, graph.input_of(op).c, *made)
    return live + kernels.aligned(scratch)


def _caches(graph: Graph, kernels: Kernels, rows: _Lengths, cols: _Lengths):
    """Of each schedule, bytes of all caches of its patched segment and bytes copied into them and out, see
    Segment.caches and Segment.copied. The image is no computation and has none."""
    inputs = len(graph.inputs)
    channels = np.array([[op.cout] for op in graph.ops])
    # each: largest and sum of rows, largest and sum of columns
    held, made, kept = (tuple(side[inputs:] for side in (*r, *c)) for r, c in zip(rows, cols, strict=True))
    bytes_ = kernels.aligned(kept[0] * made[3] * channels) + kernels.aligned(kept[2] * held[0] * channels)
    copied = 2 * (kept[1] * made[3] + held[1] * kept[3]) * channels
    return bytes_.sum(0), copied.sum(0)
