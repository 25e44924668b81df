"""Lay out the cached halo: patches run in raster order, and every position of every tensor is computed exactly once.

The positions that a patch computes of a tensor, `new`, begin where the patch before it ended. The kernel that reads the
tensor sees a `tile`: the old positions that its windows still reach, then the new ones. Old positions come from two
caches a tensor. `cols` has the right edge of the tile, for the patch to the right. `rows` has the lower edge over the
full width, for the row of patches below. Both are written as soon as the tile is whole, so an op may still overwrite
its input. The image is no computation and has no cache: its tile is read anew.

Each axis of a segment has its halo: "clip" computes again, "cache" keeps every map, "narrow" all but those that are
larger than what they are made of (`keeps`). A tensor that is kept along one axis only has one of the caches. A row of
patches that computes columns again has a place in the row cache for each patch's columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ir.graph import Graph, Op
from ..ir.kinds import FACTS
from ..types import Count, Ints
from .tiles import Span, into_map, readings


class Edge(NamedTuple):
    """One axis of a tile, the C struct mcu_edge: the first `old` of its `n` positions come from a cache, the last
    `keep` go into one. `at` is where the new columns begin in the row cache, which holds those of all patches."""

    n: int
    old: int
    keep: int
    at: int


def keeps(graph: Graph, op: Op) -> bool:
    """Tell whether halo "narrow" keeps what patches share of the output of `op`. It does not where the output is larger
    than what it is made of, and no position beside it is read: of a 1x1 convolution that widens and of an upsampling.
    There the input is kept, and the output computed again."""
    beside = not (op.is_pointwise or FACTS[op.kind].enlarges)
    return beside or graph.tensors[op.name].size <= sum(graph.tensors[name].size for name in set(op.inputs))


def stream_spans(
    graph: Graph,
    ops: tuple[Op, ...],
    spans: dict[str, Span],
    axis: int,
    narrow: bool = False,
    begins: Sequence[int] = (0,),
) -> tuple[dict[str, Span], dict[str, Span]]:
    """Return (new, tile) along one axis, each tensor -> spans, from the clipped `spans` of recomputation. `narrow`:
    patches compute again what `keeps` does not keep. The spans may hold several grids one behind the other, see
    patch_spans: `begins` are their first patches, rising."""
    most = max(len(span.lo) for span in spans.values())
    starts = np.isin(np.arange(most), begins)
    # The tiles in between carry what a later patch of the grid reaches. The steps keep the minima of grids separate.
    steps = np.cumsum(starts) * (1 + max(int(span.hi.max()) for span in spans.values()))
    lengths = {name: graph.tensors[name].w if axis else graph.tensors[name].h for name in spans}
    needs = {name: _Need(span, lengths[name]) for name, span in spans.items()}
    new, tile = {}, {}
    for op in reversed(ops):
        if op.name in needs:
            need = needs[op.name]
            again = narrow and not keeps(graph, op)
            own, tile[op.name] = need.again() if again else need.kept(starts, steps)
            new[op.name] = own
            for name, read in readings(op, own, axis):
                needs[name].extend(read, own.lo < own.hi)
    for name, need in needs.items():
        if name not in new:  # the image, or a map of a former segment
            new[name], tile[name] = need.kept(starts, steps)
    return new, tile


class _Need:
    """Collect the positions of a tensor of `length` that ops read in each patch; `span`: those of recomputation."""

    def __init__(self, span: Span, length: int):
        self.span, self.length = span, length
        self.lo, self.hi = np.full(len(span.lo), length), np.zeros(len(span.lo), int)
        self.some = np.zeros(len(span.lo), bool)
        self.read = 0

    def extend(self, read: Span, some: Ints) -> None:
        """Add what an op reads, in the patches where it computes `some`. Patches behind these are of grids that end
        with this tensor."""
        self.read = max(self.read, len(some))
        for held, need, join in ((self.lo, read.lo, np.minimum), (self.hi, read.hi, np.maximum)):
            join(held[: len(some)], need, out=held[: len(some)], where=some)
        self.some[: len(some)] |= some

    def kept(self, starts: NDArray[np.bool_], steps: Ints) -> tuple[Span, Span]:
        """Return (new, tile) of a tensor that is kept: what no patch before has computed, and all that is held."""
        (lo, hi), first, part = self.span, starts[: len(self.lo)], steps[: len(self.lo)]
        new = np.where(first, lo, np.maximum(lo, np.append(0, hi[:-1])))
        reach = np.minimum(new, np.maximum(self.lo, 0)) + part
        return Span(new, hi), Span(np.minimum.accumulate(reach[::-1])[::-1] - part, hi)

    def again(self) -> tuple[Span, Span]:
        """Return (new, tile) of a tensor that every patch computes again: all that its ops read of it."""
        inside, (lo, hi) = into_map(Span(self.lo, self.hi), self.length), self.span
        own = Span(np.where(self.some, inside.lo, hi), np.where(self.some, inside.hi, hi))
        own.lo[self.read :] = lo[self.read :]
        return own, own


def edges(tiles: list[Span], new: list[Span]) -> list[Edge]:
    """Return what each of the tiles of a tensor along one axis takes from a cache and puts into it. new: the part of
    each tile that its patch computes."""
    shared = [tile.length - own.length for tile, own in zip(tiles, new, strict=True)]
    found, at = [], 0
    for tile, old, keep in zip(tiles, shared, [*shared[1:], 0], strict=True):
        found.append(Edge(tile.length, old, keep, at))
        at += tile.length - old
    return found


def across(cols: list[Edge]) -> int:
    """Return the columns of a row cache: the new ones of all patches."""
    return cols[-1].at + cols[-1].n - cols[-1].old


def cache_bytes(high: Count, width: Count, wide: Count, height: Count, channels: Count) -> tuple[Count, Count]:
    """Return the bytes of a tensor's row cache and of its column cache: `high` rows of the map's new columns, `width`
    of them, and `wide` columns of a tile's `height` rows, each the most that any patch hands on."""
    return high * width * channels, wide * height * channels


def copied_bytes(high: Count, width: Count, wide: Count, height: Count, channels: Count) -> Count:
    """Return the bytes that all patches move into a tensor's caches and out of them: as cache_bytes, but `high`, `wide`
    and `height` are sums over the patches of their axis."""
    return 2 * (high * width + height * wide) * channels
