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
from .tiles import Span, is_square, patch_bounds, patch_spans


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
    allowed = cuts(graph)
    cut = [allowed[s.n] if s.n else (0, "") for s in schedules]
    outs = [out for _, out in cut]
    rows = _lengths(graph, [(s.n, s.p[0]) for s in schedules], outs, 0)
    alike = is_square(graph) and all(s.p[0] == s.p[1] for s in schedules)
    cols = rows if alike else _lengths(graph, [(s.n, s.p[1]) for s in schedules], outs, 1)
    # Up to the cut the ops run in patches, behind it as they do in the first column.
    in_stage = np.arange(len(graph.ops))[:, None] < [size for size, _ in cut]
    live, macs = _live(graph, kernels, rows.longest, cols.longest, outs), _macs(graph, rows.total, cols.total)
    peak = np.where(in_stage, live, live[:, :1]).max(0)
    total = np.where(in_stage, macs, macs[:, :1]).sum(0)
    return [Costs(int(m), int(p)) for m, p in zip(total, peak, strict=True)]


def _names(graph: Graph) -> list[str]:
    """Row -> tensor: the inputs, then what each op writes."""
    return [t.name for t in graph.inputs] + [op.name for op in graph.ops]


def _lengths(graph: Graph, wanted: list[tuple[int, int]], outs: list[str], axis: int) -> _Lengths:
    """Lengths for every (n, p) of `wanted`; n = 0 is the whole map. A tensor outside the patch stage has length 0."""
    names, full = _names(graph), {t.name: t.w if axis else t.h for t in graph.tensors.values()}
    ends = dict(zip(wanted, outs, strict=True))
    groups = sorted((g for g in ends if g[0]), reverse=True)  # the deepest cut first, as patch_spans wants them
    whole = np.array([full[name] for name in names])[:, None]
    if not groups:
        return _Lengths(whole, whole)
    parts: dict[str, list[Span]] = {}
    for group in groups:
        parts.setdefault(ends[group], []).append(patch_bounds(full[ends[group]], group[1]))
    joined = {out: Span(*map(np.concatenate, zip(*spans, strict=True))) for out, spans in parts.items()}
    lengths = np.zeros((len(names), sum(p for _, p in groups)), int)
    for name, span in patch_spans(graph, graph.ops, joined, axis).items():
        lengths[names.index(name), : len(span.lo)] = span.hi - span.lo
    begin = np.cumsum([0] + [p for _, p in groups[:-1]])
    column = {group: i for i, group in enumerate(groups, 1)} | {g: 0 for g in ends if not g[0]}
    at = [column[g] for g in wanted]
    return _Lengths(*(np.hstack([whole, f.reduceat(lengths, begin, 1)])[:, at] for f in (np.maximum, np.add)))


def _macs(graph: Graph, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Multiply-accumulates [op, schedule] of all patches together."""
    inputs = len(graph.inputs)
    return rows[inputs:] * cols[inputs:] * np.array([[graph.op_macs(op, 1)] for op in graph.ops])


def _live(graph: Graph, kernels: Kernels, h: np.ndarray, w: np.ndarray, outs: list[str]) -> np.ndarray:
    """Bytes alive [op, schedule] while an op runs: the tensors between birth and last use, the whole output of the
    patch stage all along, the op's scratch; of an op in place and what it overwrites, the larger only."""
    names, last, inputs = _names(graph), graph.last_use(), len(graph.inputs)
    row = {name: i for i, name in enumerate(names)}
    size = kernels.aligned(h * w * np.array([[graph.tensors[name].c] for name in names]))
    patched = [i for i, out in enumerate(outs) if out]
    out_row = np.array([row.get(out, 0) for out in outs])
    stage_out = [kernels.aligned(graph.tensors[out].size) if out else 0 for out in outs]
    size[out_row[patched], patched] = np.array(stage_out)[patched]
    time, birth = np.arange(len(graph.ops))[:, None], np.arange(len(names)) - inputs
    alive = (birth <= time) & (time <= [last[name] for name in names])
    live = (alive.astype(float) @ size).astype(int)  # floats reach BLAS and hold these integers exactly
    live += (time < out_row - inputs) * stage_out
    for index, target in in_place(graph).items():
        mine, theirs = size[inputs + index], size[row[target]]
        free = out_row != inputs + index  # the output of the stage is written into its own map
        if row[target] < inputs:
            free = free & [not out for out in outs]  # other patches read the image again
        live[index] -= np.minimum(mine, theirs) * free
    for index, op in enumerate(graph.ops):
        at = inputs + index
        live[index] += kernels.aligned(kernels.scratch(kernel_of(graph, op), op, graph.input_of(op).c, h[at], w[at]))
    return live
