"""Compute the geometry of patches along one axis: the rows (or columns) of each tensor that a patch needs.

Spans are half-open intervals in full-map coordinates. They are clipped at the map's border in *every* layer. Padding
the image once by the halo and running unpadded layers would be wrong: a bias makes the halo non-zero. This
module knows one axis at a time.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from ..errors import ScheduleError
from ..ir.graph import Graph, Op, once
from ..ir.kinds import FACTS
from ..types import Count


class Span(NamedTuple):
    """Positions lo <= i < hi of a tensor along one axis: integers, or arrays of one entry a patch."""

    lo: Count
    hi: Count

    @property
    def length(self) -> Count:
        """Number of positions."""
        return self.hi - self.lo


@cache
def patch_bounds(length: int, *grids: int) -> Span:
    """Return `length` positions cut into p parts that differ by at most one, for each p of `grids`, as one Span of
    arrays. They are shared, so nobody writes to them. Raises ScheduleError for a p above `length`."""
    if max(grids) > length:
        raise ScheduleError(f"{max(grids)} patches along a segment output of {length}: use at most {length}")
    bounds = [np.arange(p + 1) * length // p for p in grids]
    return Span(np.concatenate([b[:-1] for b in bounds]), np.concatenate([b[1:] for b in bounds]))


def window(op: Op, out: Span, axis: int) -> Span:
    """Return the input positions, not clipped, that the output positions `out` of `op` read."""
    k, s, lo = op.k[axis], op.s[axis], op.pad[axis]
    if FACTS[op.kind].enlarges:
        return Span(out.lo // s, (out.hi - 1) // s + 1)
    return Span(out.lo * s - lo, out.hi * s + (k - s - lo))


def readings(op: Op, out: Span, axis: int) -> list[tuple[str, Span]]:
    """Return (tensor, positions of it, not clipped) for each reading of `op` for its output positions `out`: an input
    by its window, the residual where it is added. A tensor that is both has two entries."""
    near = out if op.is_pointwise else window(op, out, axis)
    found = [(name, near) for name in op.inputs]
    return found if op.residual is None else [*found, (op.residual, out)]


def into_map(need: Span, length: int) -> Span:
    """Return the part of `need` inside a map; where all of it is padding, the nearest position of the map."""
    return Span(np.minimum(np.maximum(need.lo, 0), length - 1), np.maximum(np.minimum(need.hi, length), 1))


@once
def is_square(graph: Graph) -> bool:
    """Return whether rows and columns are alike in every tensor and op, so that one axis has the spans of the other.
    The padding behind a map needs no look: maps of one length with one window and one padding before have it alike, or
    it is never read."""
    return all(t.h == t.w for t in graph.tensors.values()) and all(
        op.k[0] == op.k[1] and op.s[0] == op.s[1] and op.pad[0] == op.pad[1] for op in graph.ops
    )


def patch_spans(
    graph: Graph, ops: tuple[Op, ...], parts: dict[str, Span], axis: int, clip: bool = True
) -> dict[str, Span]:
    """Return tensor -> the spans to compute (or to read from outside `ops`) so that `parts` of tensors are produced.

    One entry of a span is one patch. `parts` may hold several cuts of a graph at once: the patches of a deeper cut come
    before those of a shallower one, and a tensor has the patches of the cuts that it lies before. A tensor that is read
    more than once is computed once, for the hull of all readings. clip=False leaves the intervals unclipped: the
    paper's "full" cost, in which every patch is an interior one.
    """
    spans: dict[str, Span] = {}
    for op in reversed(ops):
        own = spans.get(op.name)
        if op.name in parts:
            part = parts[op.name]
            if own is not None:
                part = Span(np.concatenate((own.lo, part.lo)), np.concatenate((own.hi, part.hi)))
            own = spans[op.name] = part
        if own is None:
            continue  # nothing in this patch needs it
        for name, need in readings(op, own, axis):
            if clip and need is not own:
                need = into_map(need, graph.tensors[name].w if axis else graph.tensors[name].h)
            have = spans.get(name)
            spans[name] = need if have is None or have is need else _hull(have, need)
    return spans


def _hull(one: Span, other: Span) -> Span:
    """Return the hull of both in every patch. Where a shallower cut does not read a map from outside the ops and a
    deeper one does, one span has more patches than the other, and keeps these."""
    short, long = sorted((one, other), key=lambda span: len(span.lo))
    n = len(short.lo)
    lo, hi = np.minimum(short.lo, long.lo[:n]), np.maximum(short.hi, long.hi[:n])
    if n == len(long.lo):
        return Span(lo, hi)
    return Span(np.concatenate((lo, long.lo[n:])), np.concatenate((hi, long.hi[n:])))
