"""What every schedule of a graph computes and holds at least, all of them in one pass of arrays.

A row is a tensor or an op, a column a schedule. Nothing is placed here: plan.py does that for the few schedules that
are worth it. The figures are exact: they are `macs` and `peak` of that schedule's plan.
"""

from typing import NamedTuple

import numpy as np

from .arch import Schedule
from .cuts import cuts
from .graph import Graph
from .kernels import Kernels, in_place, kernel_of
from .tiles import is_square, patch_bounds, patch_spans


class Costs(NamedTuple):
    """Of one schedule: multiply-accumulates, and bytes alive at its worst op."""

    macs: int
    peak: int


class _Lengths(NamedTuple):
    """Along one axis, [tensor, schedule]: the longest span of a tensor over the patches, and the sum of them all."""

    longest: np.ndarray
    total: np.ndarray


def costs(graph: Graph, schedules: list[Schedule], kernels: Kernels) -> list[Costs]:
    """Costs of each of `schedules`, the first of which runs per layer (Schedule())."""
    allowed = cuts(graph) | {0: (0, "")}
    row = {name: i for i, name in enumerate([t.name for t in graph.inputs] + [op.name for op in graph.ops])}
    rows = _lengths(graph, row, allowed, [(s.n, s.p[0]) for s in schedules], 0)
    alike = is_square(graph) and all(s.p[0] == s.p[1] for s in schedules)
    cols = rows if alike else _lengths(graph, row, allowed, [(s.n, s.p[1]) for s in schedules], 1)
    macs = _macs(graph, rows.total, cols.total)
    live = _live(graph, row, kernels, rows.longest, cols.longest, [allowed[s.n][1] for s in schedules])
    # Up to the cut the ops run in patches, behind it as they do in the first column.
    in_stage = np.arange(len(graph.ops))[:, None] < [allowed[s.n][0] for s in schedules]
    total = np.where(in_stage, macs, macs[:, :1]).sum(0)
    peak = np.where(in_stage, live, live[:, :1]).max(0)
    return list(map(Costs, total.tolist(), peak.tolist()))


def _lengths(graph: Graph, row: dict[str, int], allowed, wanted: list[tuple[int, int]], axis: int) -> _Lengths:
    """Lengths for every (n, p) of `wanted`; n = 0 is the whole map. A tensor outside the patch stage has length 0."""
    full = [tensor.w if axis else tensor.h for tensor in (graph.tensors[name] for name in row)]
    grids: dict[str, list[int]] = {}  # output of the stage -> every p, the deepest cut first
    columns, begin, end = {(0, p): 0 for n, p in wanted if not n}, [], 0
    for n, p in sorted(set(wanted), reverse=True):
        if n:
            grids.setdefault(allowed[n][1], []).append(p)
            begin.append(end)
            end += p
            columns[n, p] = len(begin)
    lengths = np.zeros((len(row), end), int)
    parts = {out: patch_bounds(full[row[out]], *p) for out, p in grids.items()}
    for name, span in patch_spans(graph, graph.ops, parts, axis).items():
        np.subtract(span.hi, span.lo, out=lengths[row[name], : len(span.lo)])
    whole, at = np.array(full)[:, None], [columns[key] for key in wanted]
    if not begin:
        return _Lengths(whole, whole)
    return _Lengths(*(np.hstack([whole, f.reduceat(lengths, begin, 1)])[:, at] for f in (np.maximum, np.add)))


def _macs(graph: Graph, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Multiply-accumulates [op, schedule] of all patches together."""
    inputs = len(graph.inputs)
    return rows[inputs:] * cols[inputs:] * np.array([[graph.op_macs(op, 1)] for op in graph.ops])


def _live(graph: Graph, row: dict[str, int], kernels: Kernels, h, w, outs: list[str]) -> np.ndarray:
    """Bytes alive [op, schedule] while an op runs: the tensors between birth and last use, the whole output of the
    patch stage all along, the op's scratch; of an op in place and what it overwrites, the larger only.

    h, w: longest spans [tensor, schedule]; outs: each schedule's stage output, "" for none.
    """
    last, inputs, time = graph.last_use(), len(graph.inputs), np.arange(len(graph.ops))[:, None]
    size = kernels.aligned(h * w * np.array([[graph.tensors[name].c] for name in row]))
    out_row = np.array([row.get(out, -1) for out in outs])
    patched = np.flatnonzero(out_row >= 0)
    whole = np.array([kernels.aligned(graph.tensors[out].size) if out else 0 for out in outs])
    size[out_row[patched], patched] = whole[patched]
    alive = (np.arange(len(row)) - inputs <= time) & (time <= [last[name] for name in row])
    live = (alive.astype(float) @ size).astype(int)  # floats reach BLAS and hold these integers exactly
    live += (time < out_row - inputs) * whole
    targets = in_place(graph)
    if targets:
        ops, onto = np.array(list(targets)), np.array([row[name] for name in targets.values()])
        # Not in place: the output of the stage, written into its own map; onto the image, which other patches read.
        free = (out_row != ops[:, None] + inputs) & ((onto[:, None] >= inputs) | (out_row < 0))
        live[ops] -= np.minimum(size[ops + inputs], size[onto]) * free
    scratch = np.zeros_like(live)
    for index, op in enumerate(graph.ops):
        at = inputs + index
        scratch[index] = kernels.scratch(kernel_of(graph, op), op, graph.input_of(op).c, h[at], w[at])
    return live + kernels.aligned(scratch)
