"""The cached halo: patches in raster order, every position of every tensor computed exactly once.

What a patch computes of a tensor begins where the patch before it ended (`new`). The kernel that reads it sees a
`tile`: the new positions and, before them, the old ones that its windows still reach. Old positions come from two
caches a tensor: `cols`, the right edge of the tile for the patch to the right; and `rows`, the lower edge over the full
width for the row of patches below. They are written as soon as the tile is whole, so an op may still overwrite its
input. The image is no computation: its tile is read anew. The C engine does not execute this yet.
"""

from itertools import pairwise

import numpy as np

from .graph import Graph, Op
from .tiles import Span, window


def stream_spans(graph: Graph, ops: tuple[Op, ...], spans: dict[str, Span], axis: int):
    """(new, tile) along one axis, tensor name -> spans, from the clipped spans of recomputation."""
    new = {name: Span(np.maximum(lo, np.append(lo[0], hi[:-1])), hi) for name, (lo, hi) in spans.items()}
    reach = {name: span.lo for name, span in new.items()}
    for op in ops:
        own = new[op.name]
        for name in op.reads:
            lo = own.lo if name == op.residual else np.maximum(window(op, own, axis).lo, 0)
            lo = np.where(own.lo < own.hi, lo, new[name].hi)  # an op that has nothing new to compute reads nothing
            reach[name] = np.minimum(reach[name], lo)
    # What a later patch reaches is carried by the tiles in between.
    return new, {name: Span(np.minimum.accumulate(lo[::-1])[::-1], new[name].hi) for name, lo in reach.items()}


def kept(tile: list[Span]) -> int:
    """Most positions of a tensor that one patch keeps for the next, along one axis."""
    return max([0, *(max(0, before.hi - after.lo) for before, after in pairwise(tile))])
