"""The cached halo: patches in raster order, every position of every tensor computed exactly once.

What a patch computes of a tensor begins where the patch before it ended (`new`). The kernel that reads it sees a
`tile`: the new positions and, before them, the old ones that its windows still reach. Old positions come from two
caches a tensor: `cols`, the right edge of the tile for the patch to the right; and `rows`, the lower edge over the full
width for the row of patches below. They are written as soon as the tile is whole, so an op may still overwrite its
input. The image is no computation: its tile is read anew.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ..ir.graph import Graph, Op
from .tiles import Span, readings

Length = Any  # an integer, or an array of integers


class Edge(NamedTuple):
    """One axis of a tile of `n` positions, the C struct mcu_edge: the first `old` come from a cache, the last `keep` go
    into one; of columns, `at` is where the others begin in the row cache, which holds the new ones of all patches."""

    n: int
    old: int
    keep: int
    at: int


def stream_spans(graph: Graph, ops: tuple[Op, ...], spans: dict[str, Span], axis: int, begins=(0,)):
    """(new, tile) along one axis, tensor name -> spans, from the clipped spans of recomputation. These may hold several
    grids one after the other, see patch_spans: `begins` are their first patches, rising."""
    most = max(len(span.lo) for span in spans.values())
    starts = np.isin(np.arange(most), begins)
    new = {}
    for name, (lo, hi) in spans.items():
        before = np.append(0, hi[:-1])
        new[name] = Span(np.where(starts[: len(lo)], lo, np.maximum(lo, before)), hi)
    reach = {name: span.lo.copy() for name, span in new.items()}
    for op in ops:
        if op.name not in new:
            continue
        own = new[op.name]
        for name, need in readings(op, own, axis):
            held = reach[name][: len(need.lo)]  # a tensor that more grids need has their patches behind these
            none = new[name].hi[: len(need.lo)]  # nothing new to compute reads nothing
            np.minimum(held, np.where(own.lo < own.hi, np.maximum(need.lo, 0), none), out=held)
    # What a later patch of the grid reaches is carried by the tiles in between.
    apart = np.cumsum(starts) * (1 + max(int(span.hi.max()) for span in spans.values()))
    tile = {}
    for name, lo in reach.items():
        part = apart[: len(lo)]
        tile[name] = Span(np.minimum.accumulate((lo + part)[::-1])[::-1] - part, new[name].hi)
    return new, tile


def edges(tiles: list[Span]) -> list[Edge]:
    """Along one axis, of the tiles of one tensor."""
    shared = [max(0, before.hi - after.lo) for before, after in pairwise(tiles)]
    found, at = [], 0
    for tile, old, keep in zip(tiles, [0, *shared], [*shared, 0], strict=True):
        found.append(Edge(tile.length, old, keep, at))
        at += tile.length - old
    return found


def across(cols: list[Edge]) -> int:
    """Columns of a row cache."""
    return cols[-1].at + cols[-1].n - cols[-1].old


def cache_bytes(high: Length, width: Length, wide: Length, height: Length, channels: Length) -> tuple[Length, Length]:
    """Return the bytes of a tensor's row cache and of its column cache: `high` rows of the map's new columns, `width`
    of them, and `wide` columns of a tile's `height` rows, each the most that any patch hands on."""
    return high * width * channels, wide * height * channels


def copied_bytes(high: Length, width: Length, wide: Length, height: Length, channels: Length) -> Length:
    """Return the bytes that all patches move into a tensor's caches and out of them: as cache_bytes, but `high`, `wide`
    and `height` are sums over the patches of their axis."""
    return 2 * (high * width + height * wide) * channels
