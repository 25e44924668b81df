"""Compute the costs of all schedules of a graph in one pass of arrays: multiply-accumulates, bytes alive, bytes copied.

In an array a row is a tensor or an op, a column a schedule. The figures are exactly those of the schedule's plan.
Nothing is placed here: plan.py does that for the few schedules that are worth it. liveness.py says what is alive when.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ir.arch import Schedule, axes_of
from ..ir.graph import Graph, Links, Op, once
from ..types import Count, Doubles, Ints
from .arena import union
from .cut_points import cuts, cuts_behind
from .halo_cache import cache_bytes, copied_bytes, stream_spans
from .kernel_facts import Kernels, pointwise_shift
from .liveness import former_maps, layer_by_layer, read_again
from .tiles import is_square, patch_bounds, patch_spans

Cut = tuple[int, str]  # number of ops in the patched segment, and the tensor that it hands on; (0, "") for none
Bools = NDArray[np.bool_]


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
    """Positions along one axis that a patch holds of a tensor, computes of it, and takes from a cache. A tensor outside
    the patched segment has none."""

    held: _Sizes
    made: _Sizes
    kept: _Sizes | None


class _Facts(NamedTuple):
    """Hold whatever the costs of all schedules of a graph have in common. A tensor is its row, an op its output's.

    row       tensor -> row
    full      rows and columns of the tensors' maps, [tensor]
    channels  [tensor, 1]
    weights   multiply-accumulates a position, [op, 1]
    born      first op while which a tensor is alive, dies: the last one, [tensor, 1]
    alive     1 where a tensor is alive while an op runs, layer by layer, else 0, [op, tensor]
    onto      (op, the tensor that it overwrites), eats: (op, the input that it may write over as it goes)
    like      ops whose scratch is one expression: (any of them, their input's channels, which)
    """

    row: dict[str, int]
    full: tuple[Ints, Ints]
    channels: Ints
    weights: Ints
    born: Ints
    dies: Ints
    alive: Doubles
    onto: tuple[Ints, Ints]
    eats: tuple[Ints, Ints]
    like: list[tuple[Op, Count, Ints]]


class _Lives(NamedTuple):
    """Hold the facts that the names of a graph's ops say, see _Facts."""

    row: dict[str, int]
    born: Ints
    dies: Ints
    alive: Doubles


@once
def _lives(links: Links) -> _Lives:
    born, dies = (np.array([at[name] for name in links.born])[:, None] for at in (links.born, links.last))
    now = np.arange(born.max() + 1)[:, None]
    alive = ((now >= born.T) & (now <= dies.T)).astype(float)
    return _Lives({name: at for at, name in enumerate(links.born)}, born, dies, alive)


@once
def _facts(graph: Graph) -> _Facts:
    lives, tensors = layer_by_layer(graph), graph.tensors
    row, born, dies, alive = _lives(graph.links)
    maps = np.array([(t.h, t.w, t.c) for t in tensors.values()]).T
    onto, eats = (
        (np.array([row[op] for op in of], int), np.array([row[read] for read in of.values()], int))
        for of in (lives.onto, lives.eats)
    )
    like: dict[tuple[object, ...], list[int]] = {}
    for at, op in enumerate(graph.ops):
        if op.kind != "conv" or op.baseline:
            key: tuple[object, ...] = op.kind, op.baseline, op.name if op.baseline else ""
        elif op.groups == 1:
            key = op.k, op.s, op.pad
        else:
            cin = tensors[op.inputs[0]].c
            key = op.k, op.s, op.is_depthwise(cin) or (cin, op.groups)
        like.setdefault(key, []).append(at)
    groups = []
    for ops in like.values():
        first = graph.ops[ops[0]]
        cin = (
            maps[2][[row[graph.ops[at].inputs[0]] for at in ops]][:, None]
            if first.groups == 1
            else graph.input_of(first).c
        )
        groups.append((first, cin, np.array(ops)))
    weights = np.array(graph.weights)[:, None]
    return _Facts(row, (maps[0], maps[1]), maps[2][:, None], weights, born, dies, alive, onto, eats, groups)


def costs(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str = "clip") -> list[Costs]:
    """Return the costs of each of `schedules`, the first of which must be layer by layer: Schedule(). All have at most
    one patched segment. halo: of that segment, see plan()."""
    table = _table(graph, schedules, kernels, halo)
    live, copied, in_segment = _bytes(table)
    # Up to the cut the ops run in patches, behind it as they do in the first column.
    peaks = np.where(in_segment, live, live[:, :1]).max(0)
    return list(map(Costs, (table.macs + table.behind).tolist(), peaks.tolist(), copied.tolist()))


def segment_costs(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str, former: bool) -> list[Costs]:
    """Return the costs of the patched segment, without what follows it. former: the graph is the rest of another, and
    its inputs are maps of former segments, which stand whole as long as the segment runs."""
    table = _table(graph, schedules, kernels, halo, former)
    live, copied, in_segment = _bytes(table)
    return list(map(Costs, table.macs.tolist(), (live * in_segment).max(0).tolist(), copied.tolist()))


def layer_costs(graph: Graph, kernels: Kernels) -> tuple[list[int], list[int]]:
    """Return the multiply-accumulates of each op layer by layer, and the bytes alive while it runs."""
    table = _table(graph, [Schedule()], kernels, "clip")
    live, *_ = _bytes(table)
    return table.layers.tolist(), live[:, 0].tolist()


class _Table(NamedTuple):
    """Schedules in the making.

    rows, cols  what patches hold and compute of every tensor
    ends        the cut of each schedule, length: the ops before it
    tiled       see former_maps
    layers      multiply-accumulates [op], layer by layer
    macs        those of the patched segment, behind: of what follows it, [schedule]
    """

    graph: Graph
    kernels: Kernels
    rows: _Lengths
    cols: _Lengths
    ends: list[Cut]
    length: Ints
    tiled: set[str]
    layers: Ints
    macs: Ints
    behind: Ints


def _table(graph: Graph, schedules: list[Schedule], kernels: Kernels, halo: str, former: bool = False) -> _Table:
    """Compute what every schedule computes. former: see segment_costs."""
    allowed = {0: (0, ""), **(cuts_behind if former else cuts)(graph)}
    facts, words, inputs = _facts(graph), axes_of(halo), len(graph.inputs)
    rows = _lengths(graph, facts, allowed, [(s.n, s.p[0]) for s in schedules], 0, words[0])
    alike = is_square(graph) and words[0] == words[1] and all(s.p[0] == s.p[1] for s in schedules)
    cols = rows if alike else _lengths(graph, facts, allowed, [(s.n, s.p[1]) for s in schedules], 1, words[1])
    ends = [allowed[s.n] for s in schedules]
    length = np.array([length for length, _ in ends])
    deepest = int(length.max())
    high = rows.made.total[inputs : inputs + deepest]
    wide = high if cols is rows else cols.made.total[inputs : inputs + deepest]
    macs = (high * wide * facts.weights[:deepest] * (np.arange(deepest)[:, None] < length)).sum(0)
    layers = facts.weights[:, 0] * (facts.full[0] * facts.full[1])[inputs:]
    behind = layers.sum() - np.append(0, layers.cumsum())[length]
    tiled = set() if former else {image.name for image in graph.inputs}
    return _Table(graph, kernels, rows, cols, ends, length, tiled, layers, macs, behind)


def _bytes(table: _Table) -> tuple[Ints, Ints, Bools]:
    """Bytes alive [op, schedule], bytes copied [schedule], and whether the op is in the patched segment [op,
    schedule]."""
    facts, rows, cols = _facts(table.graph), table.rows, table.cols
    live = _live(table, facts)
    in_segment = np.arange(len(table.graph.ops))[:, None] < table.length
    if rows.kept is None and cols.kept is None:
        return live, np.zeros(len(table.ends), int), in_segment
    caches, copied = _caches(table, facts)
    return live + caches * in_segment, copied, in_segment


def _lengths(
    graph: Graph, facts: _Facts, allowed: dict[int, Cut], wanted: list[tuple[int, int]], axis: int, halo: str
) -> _Lengths:
    """Lengths for every (n, p) of `wanted`, p patches over n blocks; n = 0 is the whole map."""
    row, full = facts.row, facts.full[axis]
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

    parts = {out: patch_bounds(int(full[row[out]]), *p) for out, p in grids.items()}
    spans, whole = patch_spans(graph, graph.ops, parts, axis), full[:, None]
    if halo == "clip" or not begin:
        all_ = table({name: span.length for name, span in spans.items()}, whole)
        return _Lengths(all_, all_, None)
    new, spans = stream_spans(graph, graph.ops, spans, axis, halo == "narrow", begin)
    held, made = {n: span.length for n, span in spans.items()}, {n: span.length for n, span in new.items()}
    kept = {n: length - made[n] for n, length in held.items()}
    return _Lengths(table(held, whole), table(made, whole), table(kept, 0 * whole))


def _live(table: _Table, facts: _Facts) -> Ints:
    """Bytes alive [op, schedule] while an op runs: tensors from birth to death, and the op's scratch. An op in place
    and what it overwrites take the larger of both."""
    graph, kernels, rows, cols, length = table.graph, table.kernels, table.rows, table.cols, table.length
    inputs, now = len(graph.inputs), np.arange(len(graph.ops))[:, None]
    area = rows.held.most * cols.held.most
    cut = np.flatnonzero(length)
    out, whole = np.array([facts.row[out] for size, out in table.ends if size], int), facts.full[0] * facts.full[1]
    area[out, cut] = whole[out]
    former = [facts.row[name] for name in former_maps(layer_by_layer(graph), 0, table.tiled)]
    for name in former:
        area[name, cut] = whole[name]
    size = kernels.aligned(area * facts.channels)
    live = (facts.alive @ size).astype(int)
    # The map that patches hand on is alive from the first of them on, and a former segment's to the last.
    live[:, cut] += np.where(now < facts.born[out, 0], size[out, cut], 0)
    for name in former:
        live[:, cut] += np.where((now > facts.dies[name]) & (now < length[cut]), size[name, cut], 0)
    handed_on = np.full(len(length), -1)
    handed_on[cut] = out

    def free(writer: Ints, target: Ints) -> Bools:
        born, of = facts.born[writer], facts.born[target]
        return ~read_again(born, of, writer[:, None] == handed_on, 0, length - 1)

    writer, target = facts.onto
    if len(writer):
        found = free(writer, target)
        for kept in (rows.kept, cols.kept):
            if kept:
                found &= kept.most[writer] == 0  # no tile that begins with cached positions
        live[writer - inputs] -= np.minimum(size[writer], size[target]) * found
    writer, source = facts.eats
    if kernels.shift and len(writer):
        live[writer - inputs] -= _shared(table, facts, size) * free(writer, source)
    high, wide = rows.made.most[inputs:], cols.made.most[inputs:]
    for op, cin, which in facts.like:
        scratch = kernels.scratch(op, cin, high[which], wide[which])
        if not isinstance(scratch, int) or scratch:
            live[which] += kernels.aligned(scratch)
    return live


def _shared(table: _Table, facts: _Facts, size: Ints) -> Ints:
    """Bytes [op of _Facts.eats, schedule] that the output of an op shares with the input that it consumes, see
    Segment.in_step. size: aligned bytes of each tensor."""
    graph, kernels, rows, cols = table.graph, table.kernels, table.rows, table.cols
    assert kernels.shift is not None
    out, of = facts.eats
    lead, lag = pointwise_shift(facts.channels[of], facts.channels[out], rows.held.most[out] * cols.held.most[out])
    in_step = np.ones(lead.shape, bool)
    for side in (rows,) if rows is cols else (rows, cols):
        own = side.held.total[out]
        in_step &= (own == side.made.total[out]) & (own == side.held.total[of])
    for at, index in enumerate((out - len(graph.inputs)).tolist()):
        op = graph.ops[index]
        if not op.is_pointwise:  # for whole maps only
            lead[at], lag[at] = kernels.shift(graph, op, graph.tensors[op.name].h, graph.tensors[op.name].w)
            in_step[at] = index >= table.length
    least = union(size[of], size[out], kernels.aligned(lead), kernels.aligned(lag))
    return (size[of] + size[out] - least) * in_step


def _caches(table: _Table, facts: _Facts) -> tuple[Ints, Ints]:
    """Bytes of all caches of the patched segment, and bytes copied into them and out of them, [schedule] each. The
    image is no computation and has no cache."""
    inputs, aligned = len(table.graph.inputs), table.kernels.aligned
    channels, none = facts.channels[inputs:], _Sizes(*[np.zeros((len(facts.row), 1), int)] * 2)

    def both(of_rows: _Sizes | None, of_cols: _Sizes | None) -> list[Ints]:
        """Return (largest rows, sum of rows, largest columns, sum of columns) of each op."""
        return [side[inputs:] for side in (*(of_rows or none), *(of_cols or none))]

    held, made, kept = (both(*sides) for sides in zip(table.rows, table.cols, strict=True))
    rows_, cols_ = cache_bytes(kept[0], made[3], kept[2], held[0], channels)
    copied = copied_bytes(kept[1], made[3], kept[3], held[1], channels)
    return (aligned(rows_) + aligned(cols_)).sum(0), copied.sum(0)
