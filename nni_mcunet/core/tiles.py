"""Patch geometry of one axis: which rows (columns) of each tensor one patch of a stage's output needs.

Spans are half-open intervals in full-map coordinates, rows and columns apart, clipped at the map's border in *every*
layer. Padding the image once by the halo and running unpadded layers is wrong: a bias makes the halo non-zero.
"""

from typing import NamedTuple

from .errors import ScheduleError
from .graph import Graph, Op


class Span(NamedTuple):
    """Positions lo <= i < hi of a tensor along one axis."""

    lo: int
    hi: int

    @property
    def length(self) -> int:
        return self.hi - self.lo


def patch_bounds(length: int, p: int) -> tuple[Span, ...]:
    """`length` positions cut into p parts that differ by one at most. Raises ScheduleError for empty parts."""
    if p > length:
        raise ScheduleError(f"{p} patches along a stage output of {length}: use at most {length}")
    return tuple(Span(i * length // p, (i + 1) * length // p) for i in range(p))


def window(op: Op, out: Span, axis: int) -> Span:
    """Input positions, not clipped, that the output positions `out` of `op` read."""
    k, s, lo = op.k[axis], op.s[axis], op.pad[axis]
    if op.kind == "upsample":
        return Span(out.lo // s, (out.hi - 1) // s + 1)
    return Span(out.lo * s - lo, (out.hi - 1) * s - lo + k)


def clip_span(span: Span, length: int) -> Span:
    return Span(max(span.lo, 0), min(span.hi, length))


def patch_spans(graph: Graph, ops: tuple[Op, ...], out: str, part: Span, axis: int, clip=True) -> dict[str, Span]:
    """Tensor name -> span computed (or, for what the stage reads, needed) when `part` of tensor `out` is produced.

    A tensor that two ops read is computed once, for the hull of both. clip=False leaves the intervals unclipped, the
    paper's "full" cost in which every patch is an interior one.
    """
    spans = {out: part}
    for op in reversed(ops):
        if op.name not in spans:
            continue  # nothing in this patch needs it
        for name in op.reads:
            need = spans[op.name] if name == op.residual else window(op, spans[op.name], axis)
            if clip:
                tensor = graph.tensors[name]
                need = clip_span(need, tensor.w if axis else tensor.h)
            have = spans.get(name)
            spans[name] = need if have is None else Span(min(have.lo, need.lo), max(have.hi, need.hi))
    return spans
