"""Compute the costs of all schedules of a graph in one pass of arrays: multiply-accumulates, bytes alive, bytes copied.

In an array a row is a tensor or an op, a column a schedule. The figures are exactly those of the schedule's plan.
Nothing is placed here: plan.py does that for the few schedules that are worth it. liveness.py says what is alive when.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ir.arch import Schedule, axes_of
from ..ir.graph import Graph
from ..types import Ints
from .arena import union
from .cut_points import cuts
from .halo_cache import cache_bytes, copied_bytes, stream_spans
from .kernel_facts import Kernels, pointwise_shift
from .liveness import Liveness, former_maps, layer_by_layer
from .tiles import is_square, patch_bounds, patch_spans

Cut = tuple[int, str]  # number of ops in the patched segment, and the tensor that it hands on; (0, "") for none


class Costs(NamedTuple):
    """The costs of one schedule: multiply-accumulates, bytes alive at its worst op, bytes copied into caches and out of
    them."""

    macs: int
    peak: int
    copied: int


class _Sizes(NamedTuple):
    """A number of positions along one axis, [tensor, schedule]: the largest of the patches, and the sum of all."""

    most: Ints
    total: Ints


class _Lengths(NamedTuple):
    """Positions along one axis that a patch holds of a tensor, computes of it, and takes from a cache."""

    held: _Sizes
    made: _Sizes
    kept: _Sizes


def costs(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str = "clip") -> list[Costs]:
    """Return the costs of each of `schedules`, the first of which must be layer by layer: Schedule(). All have at most
    one patched segment. halo: of that segment, see plan()."""
    macs, live, copied, in_segment = _table(graph, schedules, kernels, halo)
    # Up to the cut the ops run in patches, behind it as they do in the first column.
    total = np.where(in_segment, macs, macs[:, :1]).sum(0)
    peak = np.where(in_segment, live, live[:, :1]).max(0)
    return list(map(Costs, total.tolist(), peak.tolist(), copied.tolist()))


def segment_costs(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str, former: bool) -> list[Costs]:
    """Return the costs of the patched segment, without what follows it. former: the graph is the rest of another, and
    its input is a former segment's map, which stands whole as long as the segment runs."""
    macs, live, copied, in_segment = _table(graph, schedules, kernels, halo, former)
    total, peak = (macs * in_segment).sum(0), (live * in_segment).max(0)
    return list(map(Costs, total.tolist(), peak.tolist(), copied.tolist()))


def layer_costs(graph: Graph, kernels: Kernels) -> tuple[list[int], list[int]]:
    """Return the multiply-accumulates of each op layer by layer, and the bytes alive while it runs."""
    macs, live, *_ = _table(graph, [Schedule()], kernels, "clip")
    return macs[:, 0].tolist(), live[:, 0].tolist()


def _table(
    graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str, former: bool = False
) -> tuple[Ints, Ints, Ints, NDArray[np.bool_]]:
    """Multiply-accumulates and bytes alive [op, schedule], bytes copied [schedule], and whether the op is in the
    patched segment [op, schedule]. former: see segment_costs."""
    allowed = cuts(graph) | {0: (0, "")}
    lives = layer_by_layer(graph)
    row = {name: at for at, name in enumerate(lives.born)}
    words = axes_of(halo)
    rows = _lengths(graph, row, allowed, [(s.n, s.p[0]) for s in schedules], 0, words[0])
    alike = is_square(graph) and all(s.p[0] == s.p[1] for s in schedules) and words[0] == words[1]
    cols = rows if alike else _lengths(graph, row, allowed, [(s.n, s.p[1]) for s in schedules], 1, words[1])
    macs = _macs(graph, rows.made.total, cols.made.total)
    ends = [allowed[s.n] for s in schedules]
    tiled = set() if former else {image.name for image in graph.inputs}
    live = _live(graph, lives, kernels, rows, cols, ends, tiled)
    caches, copied = (0, np.zeros(len(schedules), int)) if halo == "clip" else _caches(graph, kernels, rows, cols)
    in_segment = np.arange(len(graph.ops))[:, None] < [length for length, _ in ends]
    return macs, live + caches * in_segment, copied, in_segment


def _lengths(
    graph: Graph, row: dict[str, int], allowed: dict[int, Cut], wanted: list[tuple[int, int]], axis: int, halo: str
) -> _Lengths:
    """Lengths for every (n, p) of `wanted`, p patches over n blocks; n = 0 is the whole map. A tensor outside the
    patched segment has length 0."""
    full = [tensor.w if axis else tensor.h for tensor in (graph.tensors[name] for name in row)]
    grids: dict[str, list[int]] = {}  # output of the segment -> every p, the deepest cut first
    columns, begin, end = {(0, p): 0 for n, p in wanted if not n}, [], 0
    for n, p in sorted(set(wanted), reverse=True):
        if n:
            grids.setdefault(allowed[n][1], []).append(p)
            begin.append(end)
            end += p
            columns[n, p] = len(begin)

    def table(lengths: dict[str, Ints], whole: Ints) -> _Sizes:
        """Sizes from the lengths of each tensor in each patch; `whole` is its length where it is not in patches."""
        each = np.zeros((len(row), end), int)
        for name, length in lengths.items():
            each[row[name], : len(length)] = length
        over = [[f.reduceat(each, begin, 1)] if begin else [] for f in (np.maximum, np.add)]
        most, total = (np.hstack([whole, *f])[:, [columns[key] for key in wanted]] for f in over)
        return _Sizes(most, total)

    parts = {out: patch_bounds(full[row[out]], *p) for out, p in grids.items()}
    spans, whole = patch_spans(graph, graph.ops, parts, axis), np.array(full)[:, None]
    if halo == "clip" or not begin:
        all_, none = table({name: span.length for name, span in spans.items()}, whole), np.zeros((len(row), 1), int)
        return _Lengths(all_, all_, _Sizes(none, none))
    new, spans = stream_spans(graph, graph.ops, spans, axis, halo == "narrow", begin)
    held, made = {n: span.length for n, span in spans.items()}, {n: span.length for n, span in new.items()}
    kept = {n: length - made[n] for n, length in held.items()}
    return _Lengths(table(held, whole), table(made, whole), table(kept, 0 * whole))


def _macs(graph: Graph, rows: Ints, cols: Ints) -> Ints:
    """Multiply-accumulates [op, schedule] of all patches."""
    inputs = len(graph.inputs)
    return rows[inputs:] * cols[inputs:] * np.array([[graph.op_macs(op, 1)] for op in graph.ops])


def _live(
    graph: Graph, lives: Liveness, kernels: Kernels, rows: _Lengths, cols: _Lengths, ends: list[Cut], tiled: set[str]
) -> Ints:
    """Bytes alive [op, schedule] while an op runs: tensors from birth to death, and the op's scratch. An op in place
    and what it overwrites take the larger of both. ends: the cut of each schedule; tiled: see former_maps."""
    inputs, number = len(graph.inputs), {cut: at for at, cut in enumerate(dict.fromkeys(ends))}
    which = np.array([number[cut] for cut in ends])
    *tables, free, eats = _at_cuts(graph, lives, number, tiled)
    born, dies, whole = (table[:, which] for table in tables)
    free, eats = free[:, which], eats[:, which]
    size = rows.held.most * cols.held.most * np.array([[graph.tensors[name].c] for name in lives.born])
    size = kernels.aligned(np.where(whole, whole, size))
    live = _alive(len(graph.ops), born, dies, size)
    if lives.onto:
        row = {name: at for at, name in enumerate(lives.born)}
        writer, target = (np.array([row[name] for name in names]) for names in (lives.onto, lives.onto.values()))
        free &= (rows.kept.most + cols.kept.most)[writer] == 0  # no tile that begins with cached positions
        live[writer - inputs] -= np.minimum(size[writer], size[target]) * free
    if lives.eats and kernels.shift:
        live -= _shared(graph, lives, kernels, rows, cols, size, eats)
    scratch = np.zeros_like(live)
    made = zip(graph.ops, rows.made.most[inputs:], cols.made.most[inputs:], strict=True)
    for index, (op, height, width) in enumerate(made):
        scratch[index] = kernels.scratch(op, graph.input_of(op).c, height, width)
    return live + kernels.aligned(scratch)


def _shared(
    graph: Graph,
    lives: Liveness,
    kernels: Kernels,
    rows: _Lengths,
    cols: _Lengths,
    size: Ints,
    eats: NDArray[np.bool_],
) -> Ints:
    """Bytes [op, schedule] that the output of an op shares with the input that it consumes, see Segment.in_step.
    size: aligned bytes of each tensor; eats: of _at_cuts."""
    assert kernels.shift is not None
    row, ops = {name: at for at, name in enumerate(lives.born)}, [graph.op(name) for name in lives.eats]
    out, of = (np.array([row[name] for name in names]) for names in (lives.eats, lives.eats.values()))
    cin, cout = (np.array([[graph.tensors[name].c] for name in names]) for names in (lives.eats.values(), lives.eats))
    lead, lag = pointwise_shift(cin, cout, rows.held.most[out] * cols.held.most[out])
    in_step = np.ones_like(eats)
    for side in (rows, cols):
        own = side.held.total[out]
        in_step &= (own == side.made.total[out]) & (own == side.held.total[of])
    for at, op in enumerate(ops):
        if not op.is_pointwise:  # `eats` allows it for whole maps only
            lead[at], lag[at] = kernels.shift(graph, op, graph.tensors[op.name].h, graph.tensors[op.name].w)
            in_step[at] = True
    least = union(size[of], size[out], kernels.aligned(lead), kernels.aligned(lag))
    found = np.zeros((len(graph.ops), size.shape[1]), int)
    found[out - len(graph.inputs)] = (size[of] + size[out] - least) * (eats & in_step)
    return found


def _at_cuts(
    graph: Graph, lives: Liveness, cuts: Collection[Cut], tiled: set[str]
) -> tuple[Ints, Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the lives where the ops before a cut run in patches: births and deaths [tensor, cut]; elements of the map
    where it stands whole, else 0 [tensor, cut]; whether an op may write in place [op of lives.onto, cut]; whether it
    may write over the input that it consumes [op of lives.eats, cut]."""
    row, columns = {name: at for at, name in enumerate(lives.born)}, len(cuts)
    born, dies = (np.array([list(at.values())] * columns).T for at in (lives.born, lives.dies))
    whole, free = np.zeros_like(born), np.ones((len(lives.onto), columns), bool)
    eats = np.ones((len(lives.eats), columns), bool)
    in_place, former = {op: at for at, op in enumerate(lives.onto)}, former_maps(lives, 0, tiled)
    consumes = {op: at for at, op in enumerate(lives.eats)}
    windows = [(at, lives.born[op]) for op, at in consumes.items() if not graph.op(op).is_pointwise]
    for column, (length, out) in enumerate(cuts):
        if not length:
            continue
        changes = lives.in_patches(0, length - 1, out, former)
        for table, changed in ((born, changes.born), (dies, changes.dies)):
            for name, time in changed.items():
                table[row[name], column] = time
        for name in (out, *former):
            whole[row[name], column] = graph.tensors[name].size
        for op in changes.onto:
            free[in_place[op], column] = False
        for op in changes.eats:
            eats[consumes[op], column] = False
        for at, index in windows:
            eats[at, column] &= index >= length
    return born, dies, whole, free, eats


def _alive(ops: int, born: Ints, dies: Ints, size: Ints) -> Ints:
    """Sum of `size` [tensor, schedule] over the tensors alive during each op, [op, schedule]."""
    n = size.shape[1]
    moments, column, bytes_ = (ops + 2) * n, np.arange(n), size.ravel().astype(float)  # which hold integers exactly
    begins = np.bincount((np.maximum(born, 0) * n + column).ravel(), bytes_, moments)
    ends = np.bincount((dies * n + (column + n)).ravel(), bytes_, moments)
    return (begins - ends).reshape(-1, n)[:ops].cumsum(0).astype(int)


def _caches(graph: Graph, kernels: Kernels, rows: _Lengths, cols: _Lengths) -> tuple[Ints, Ints]:
    """Bytes of all caches of the patched segment, and bytes copied into them and out of them, [schedule] each. The
    image is no computation and has no cache."""
    inputs = len(graph.inputs)
    channels = np.array([[op.cout] for op in graph.ops])
    # each of the three is (largest rows, sum of rows, largest columns, sum of columns)
    held, made, kept = (tuple(side[inputs:] for side in (*r, *c)) for r, c in zip(rows, cols, strict=True))
    rows_, cols_ = cache_bytes(kept[0], made[3], kept[2], held[0], channels)
    copied = copied_bytes(kept[1], made[3], kept[3], held[1], channels)
    return (kernels.aligned(rows_) + kernels.aligned(cols_)).sum(0), copied.sum(0)
