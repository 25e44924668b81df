"""Cut a schedule into segments, and say which positions of every tensor each patch holds and computes.

A segment knows positions and the bytes of its caches. When its tensors are alive is liveness.py's to say, and where
they lie plan.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial

from ..errors import ScheduleError
from ..ir.arch import Schedule
from ..ir.graph import Graph, Op
from ..ir.kinds import FACTS
from .cut_points import split
from .halo_cache import Edge, across, cache_bytes, copied_bytes, edges, stream_spans
from .liveness import former_maps, layer_by_layer
from .tiles import Span, is_square, patch_bounds, patch_spans, window

TABLES = ("full", "none")  # halos that no plan mixes with another: the paper's tables have them, and Table 5's networks
KEPT = ("cache", "narrow")
Patches = tuple[dict[str, Span], ...]  # [i][tensor]: the spans of patch i along one axis
Spans = tuple[Patches, Patches]  # of rows, of columns
Lengths = tuple[dict[str, list[int]], dict[str, list[int]]]  # of rows, of columns: tensor -> positions in each patch


@dataclass(frozen=True)
class Axis:
    """One axis of one op in one patch, in positions: the C struct mcu_axis, explained in engine/kernels/mcu.h."""

    n_in: int
    first: int
    n_out: int
    n_dst: int
    dst: int
    n_res: int = 0
    res: int = 0


@dataclass(frozen=True)
class Segment:
    """Ops that run patch by patch, or layer by layer as one patch.

    grid   patches (p_h, p_w); (1, 1) is layer by layer
    out    the tensor that a patched segment hands on, "" for none; every patch writes its part of the full map
    spans  [axis][i][tensor]: positions that patch row (axis 0) or patch column (axis 1) i holds of a tensor
    new    the part of `spans` that the patch computes: all of it, unless the halo is cached (halo_cache.py)
    """

    graph: Graph
    ops: tuple[Op, ...]
    grid: tuple[int, int]
    out: str
    spans: Spans
    new: Spans

    @property
    def patched(self) -> bool:
        """Whether there is more than one patch."""
        return self.grid != (1, 1)

    @cached_property
    def whole(self) -> frozenset[str]:
        """The tensors that stand in full maps, of which patches read or write a part. The image is none of them."""
        if not self.patched:
            return frozenset()
        return frozenset({self.out}) | self.former

    @cached_property
    def former(self) -> frozenset[str]:
        """The maps of former segments, which stand whole as long as a patched segment runs."""
        lives, images = layer_by_layer(self.graph), [image.name for image in self.graph.inputs]
        return frozenset(former_maps(lives, lives.born[self.ops[0].name], images))

    def held(self, name: str, axis: int, i: int) -> Span:
        """Return the positions of a tensor that lie in its buffer while patch i of `axis` runs."""
        return Span(0, self._full(name, axis)) if name in self.whole else self.spans[axis][i][name]

    @cached_property
    def lengths(self) -> Lengths:
        """Per axis, tensor -> the positions that each patch holds. A buffer has room for the most."""
        return _lengths(self.spans)

    @cached_property
    def computed(self) -> Lengths:
        """Per axis, tensor -> the positions that each patch computes."""
        return self.lengths if self.new is self.spans else _lengths(self.new)

    def computes_all(self, name: str) -> bool:
        """Return whether every patch computes all positions that it holds of this tensor."""
        return self.new is self.spans or all(
            held[name] == own[name] for held, own in zip(self.lengths, self.computed, strict=True)
        )

    def in_step(self, op: Op, source: str) -> bool:
        """Return whether an op that consumes `source` reads and writes whole tiles in every patch, so that
        Kernels.shift holds: a 1x1 convolution those of the same positions, any other op the maps."""
        if not self.patched:
            return True
        if not op.is_pointwise:
            return False
        return self.computes_all(op.name) and all(side[source] == side[op.name] for side in self.lengths)

    def edges(self, name: str) -> tuple[list[Edge], list[Edge]]:
        """Return what the patch rows and the patch columns hand on of a tensor, see halo_cache.py."""
        held, own = ([[patch[name] for patch in side] for side in spans] for spans in (self.spans, self.new))
        return edges(held[0], own[0]), edges(held[1], own[1])

    def caches(self) -> Iterator[tuple[str, int]]:
        """Yield buffer name and bytes of every cache that holds anything; without a cached halo nothing."""
        for op in () if self.new is self.spans else self.ops:
            rows, cols = self.edges(op.name)
            high, wide = (max(edge.keep for edge in side) for side in (rows, cols))
            sizes = cache_bytes(high, across(cols), wide, max(edge.n for edge in rows), op.cout)
            for what, size in zip(("rows", "cols"), sizes, strict=True):
                if size:
                    yield f"{op.name}:{what}", size

    def copied(self, name: str) -> int:
        """Return the bytes of a tensor that all patches move into its caches and out of them."""
        if self.new is self.spans:
            return 0
        rows, cols = self.edges(name)
        high, wide = (sum(edge.keep for edge in side) for side in (rows, cols))
        return copied_bytes(high, across(cols), wide, sum(edge.n for edge in rows), self.graph.tensors[name].c)

    def _full(self, name: str, axis: int) -> int:
        tensor = self.graph.tensors[name]
        return tensor.w if axis else tensor.h

    def axis(self, op: Op, axis: int, i: int, at: int = 0) -> Axis:
        """Return what the kernel of `op` is told of patch i along `axis`; for a concat, of its input `at`.

        The second input of a sum or product is a residual to the kernel; of a gate one position serves all.
        """
        tile, source = (self.held(name, axis, i) for name in (op.name, op.inputs[at]))
        out = self.new[axis][i][op.name]
        res = self.held(op.second, axis, i) if op.second is not None else None
        first = window(op, out, axis).lo - source.lo
        if FACTS[op.kind].enlarges:  # in output positions: which of the s that one gives comes first
            first = out.lo - source.lo * op.s[axis]
        return Axis(
            source.length,
            first,
            out.length,
            tile.length,
            out.lo - tile.lo,
            res.length if res else 0,
            out.lo - res.lo if res else 0,
        )

    def macs(self) -> int:
        """Return the multiply-accumulates of all patches, the recomputed halo included."""
        if not self.patched:
            return sum([self.graph.op_macs(op) for op in self.ops])
        rows, cols = self.computed
        return sum(self.graph.op_macs(op, sum(rows[op.name]) * sum(cols[op.name])) for op in self.ops)


def largest(lengths: Lengths) -> dict[str, tuple[int, int]]:
    """Return tensor -> its rows and columns in the largest patch, from Segment.lengths or computed."""
    rows, cols = lengths
    return {name: (max(rows[name]), max(cols[name])) for name in rows}


def _lengths(spans: Spans) -> Lengths:
    rows, cols = spans
    high = {name: [patch[name].length for patch in rows] for name in rows[0]}
    return high, high if cols is rows else {name: [patch[name].length for patch in cols] for name in cols[0]}


def segments(graph: Graph, schedule: Schedule, halo: str) -> tuple[Segment, ...]:
    """Return the segments of a schedule, and the rest of the graph as one layer by layer. Raises ScheduleError, see
    cut_points.split, and for more than one patched segment without a halo. halo: "full", "none", or the schedule's."""
    if halo == "none" and schedule.then:
        raise ScheduleError("halo 'none': one patched segment only")
    found: list[Segment] = []
    begin, done = 0, 0
    for (p, n), axes in zip(schedule.segments, schedule.halos, strict=True):
        ops, out = split(graph, n, begin, p != (1, 1))
        if len(ops) == done:
            raise ScheduleError(f"n = {n}: {graph.name} has no block from {begin} to {n}")
        own, words = ops[done:], (halo, halo) if halo in TABLES else axes
        found.append(_layers(graph, own) if p == (1, 1) else _segment(graph, own, p, out, words))
        begin, done = n, len(ops)
    if done < len(graph.ops):
        found.append(_layers(graph, graph.ops[done:]))
    return tuple(found)


_whole = cache(partial(Span, 0))


def _layers(graph: Graph, ops: tuple[Op, ...]) -> Segment:
    """Return the segment of one patch, which is every whole map."""
    tensors = [graph.tensors[name] for name in {name: None for op in ops for name in (*op.reads, op.name)}]
    rows = ({t.name: _whole(t.h) for t in tensors},)
    spans = rows, rows if is_square(graph) else ({t.name: _whole(t.w) for t in tensors},)
    return Segment(graph, ops, (1, 1), "", spans, spans)


def _segment(graph: Graph, ops: tuple[Op, ...], p: tuple[int, int], out: str, halo: tuple[str, str]) -> Segment:
    """Return the segment of p patches. Rows and columns that are alike are computed once."""
    rows, new_rows = _patches(graph, ops, out, p[0], 0, halo[0])
    if is_square(graph) and p[0] == p[1] and halo[0] == halo[1]:
        cols, new_cols = rows, new_rows
    else:
        cols, new_cols = _patches(graph, ops, out, p[1], 1, halo[1])
    spans = rows, cols
    return Segment(graph, ops, p, out, spans, spans if new_rows is rows and new_cols is cols else (new_rows, new_cols))


def _patches(graph: Graph, ops: tuple[Op, ...], out: str, p: int, axis: int, halo: str) -> tuple[Patches, Patches]:
    """(spans held, spans computed) of each of the p patches of one axis, as integers."""
    if halo == "none":
        return (_each(_disjoint(graph, ops, p, axis), p),) * 2
    tensor = graph.tensors[out]
    held = patch_spans(graph, ops, {out: patch_bounds(tensor.w if axis else tensor.h, p)}, axis, halo != "full")
    if halo not in KEPT:
        return (_each(held, p),) * 2
    new, held = stream_spans(graph, ops, held, axis, halo == "narrow")
    return _each(held, p), _each(new, p)


def _disjoint(graph: Graph, ops: tuple[Op, ...], p: int, axis: int) -> dict[str, Span]:
    """Every tensor cut into p equal tiles, none of which sees its neighbours. Raises ScheduleError."""
    spans = {}
    for tensor in (graph.tensors[name] for op in ops for name in (*op.reads, op.name)):
        length = tensor.w if axis else tensor.h
        if length % p:
            raise ScheduleError(f"halo 'none': {tensor.name} of {length} is not cut into {p} equal tiles")
        spans[tensor.name] = patch_bounds(length, p)
    return spans


def _each(spans: dict[str, Span], p: int) -> Patches:
    """One dictionary of integer spans a patch."""
    columns = {name: list(map(Span, span.lo.tolist(), span.hi.tolist())) for name, span in spans.items()}
    return tuple({name: spans[i] for name, spans in columns.items()} for i in range(p))
