"""Lay out the cached halo: patches run in raster order, and every position of every tensor is computed exactly once.

The positions that a patch computes of a tensor, `new`, begin where the patch before it ended. The kernel that reads the
tensor sees a `tile`: the old positions that its windows still reach, then the new ones. Old positions come from two
caches a tensor. `cols` has the right edge of the tile, for the patch to the right. `rows` has the lower edge over the
full width, for the row of patches below. Both are written as soon as the tile is whole, so an op may still overwrite
its input. The image is no computation and has no cache: its tile is read anew.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..ir.graph import Graph, Op
from ..types import Count
from .tiles import Span, readings


class Edge(NamedTuple):
    """One axis of a tile, the C struct mcu_edge: the first `old` of its `n` positions come from a cache, the last
    `keep` go into one. `at` is where the new columns begin in the row cache, which holds those of all patches."""

    n: int
    old: int
    keep: int
    at: int


def stream_spans(
    graph: Graph, ops: tuple[Op, ...], spans: dict[str, Span], axis: int, begins: Sequence[int] = (0,)
) -> tuple[dict[str, Span], dict[str, Span]]:
    """Return (new, tile) along one axis, each tensor -> spans, from the clipped `spans` of recomputation. These may
    hold several grids one behind the other, see patch_spans: `begins` are their first patches, rising."""
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
    # The tiles in between carry what a later patch of the grid reaches. The steps keep the minima of grids separate.
    steps = np.cumsum(starts) * (1 + max(int(span.hi.max()) for span in spans.values()))
    tile = {}
    for name, lo in reach.items():
        part = steps[: len(lo)]
        tile[name] = Span(np.minimum.accumulate((lo + part)[::-1])[::-1] - part, new[name].hi)
    return new, tile


def edges(tiles: list[Span]) -> list[Edge]:
    """Return what each of the tiles of a tensor along one axis takes from a cache and puts into it."""
    shared = [max(0, before.hi - after.lo) for before, after in pairwise(tiles)]
    found, at = [], 0
    for tile, old, keep in zip(tiles, [0, *shared], [*shared, 0], strict=True):
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
