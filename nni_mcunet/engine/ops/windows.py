"""Say which values of a tile a kernel reads, in numpy, and bound a kernel that rises with its input."""

from collections.abc import Callable

import numpy as np

from ...core.ir.arch import Schedule
from ...core.ir.graph import Graph, Op
from ...core.plan.segments import Axis, segments
from .operator import Integers, Interval


def any_value(channels: int) -> Interval:
    """Return the bounds of channels that may hold any byte."""
    return np.full(channels, -128), np.full(channels, 127)


def crop(data: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    """Return what an element by element kernel reads of its first input."""
    return data[y.first : y.first + y.n_out, x.first : x.first + x.n_out]


def second(data: np.ndarray, y: Axis, x: Axis) -> np.ndarray:
    """Return what is read of a second input or residual, int64. One position along an axis serves all of the output."""
    return data[y.res : y.res + y.n_out, x.res : x.res + x.n_out].astype(np.int64)


def windows(op: Op, data: np.ndarray, y: Axis, x: Axis, fill: int) -> np.ndarray:
    """Return every window, (n_out rows, n_out columns, kh, kw, c). Taps outside the tile hold `fill`."""
    index = []
    for axis, k, s in ((y, op.k[0], op.s[0]), (x, op.k[1], op.s[1])):
        index.append(np.arange(axis.n_out)[:, None] * s + axis.first + np.arange(k)[None])
    low = [max(0, -int(i.min())) for i in index]
    high = [max(0, int(i.max()) + 1 - n) for i, n in zip(index, (y.n_in, x.n_in), strict=True)]
    padded = np.pad(data, ((low[0], high[0]), (low[1], high[1]), (0, 0)), constant_values=fill)
    rows, cols = index[0] + low[0], index[1] + low[1]
    return padded[rows[:, None, :, None], cols[None, :, None, :]]


def rising(
    run: Callable[[Op, Integers, list[np.ndarray], Axis, Axis], np.ndarray],
) -> Callable[[Graph, Op, Integers, list[Interval]], Interval]:
    """Return the interval function of a kernel that rises with each value it reads: `run` on a map of the lowest values
    and on one of the highest."""

    def interval(graph: Graph, op: Op, p: Integers, reads: list[Interval]) -> Interval:
        x, segment = graph.input_of(op), segments(graph, Schedule(), "clip")[0]
        side = segment.axis(op, 0, 0), segment.axis(op, 1, 0)
        maps = (np.broadcast_to(end.astype(np.int8), (x.h, x.w, x.c)) for end in reads[0])
        low, high = (run(op, p, [data], *side).astype(np.int64) for data in maps)
        return low.min((0, 1)), high.max((0, 1))

    return interval
