"""Choose the range that int8 spans from a tensor's statistics: where to clip. The methods are our own, because those of
onnxruntime.quantization hold every tensor of every picture in memory, search only symmetric ranges by entropy and know
no MSE.

Each is a function Statistics -> (low, high). All but minmax may clip rare extremes for a finer step.
"""

from collections.abc import Callable
from itertools import product

import numpy as np

from ...core.types import Range
from ..model import Scale
from .statistics import Histogram, Statistics

Method = Callable[[Statistics], Range]
STEPS = 40  # candidates for each end that mse and entropy try, evenly spread over (0, the extreme]


def minmax(s: Statistics) -> Range:
    """Span all values."""
    return s.low, s.high


def moving_average(s: Statistics) -> Range:
    """Average each picture's extremes, in the pictures' order (Jacob et al. 2018, section 3.1)."""
    return s.average


def percentile(s: Statistics, percent: float = 99.99) -> Range:
    """Span `percent` of the values, as many of the rest below as above, to a bin's accuracy."""
    h, tail = s.histogram, (100 - percent) / 200 * s.count
    values, counts = np.append(h.middles, 0.0), np.append(h.counts, s.count - h.counts.sum())
    order, half = np.argsort(values), np.ldexp(0.5, h.exponent)
    below = np.cumsum(counts[order])
    low, high = values[order][np.searchsorted(below, [tail, s.count - tail])]
    return max(s.low, float(low - half)), min(s.high, float(high + half))


def mse(s: Statistics) -> Range:
    """Take the candidate whose int8 grid, its zero point rounded, has the least mean square error on the histogram."""

    def error(low: float, high: float) -> float:
        grid, x = Scale.of_range(low, high), s.histogram.middles
        return float(s.histogram.counts @ (grid.dequantize(grid.quantize(x)) - x) ** 2)

    return min(_candidates(s), key=lambda ends: error(*ends))


def entropy(s: Statistics) -> Range:
    """Take the candidate that loses least information: the KL divergence of the clipped histogram and the same in 256
    levels (Migacz, 8-bit inference with TensorRT, 2017), each end of the range for itself."""
    return min(_candidates(s), key=lambda ends: divergence(s.histogram, Scale.of_range(*ends)))


def divergence(h: Histogram, grid: Scale) -> float:
    """Compute KL(p, q): p has what `grid` clips in the outermost bins that it does not clip; q spreads each level's
    count evenly over the level's bins that hold values."""
    used = h.counts > 0
    exact, counts = h.middles[used] / grid.scale + grid.zero_point, h.counts[used].astype(float)
    inside = (exact >= -128.5) & (exact <= 127.5)
    if not inside.any():
        return np.inf
    first, last = np.flatnonzero(inside)[[0, -1]]
    p, level = counts[first : last + 1].copy(), np.round(exact[first : last + 1]).astype(int) + 128
    q = (np.bincount(level, p) / np.maximum(np.bincount(level), 1))[level]
    p[0] += counts[:first].sum()
    p[-1] += counts[last + 1 :].sum()
    p, q = p / p.sum(), q / q.sum()
    return float(p @ np.log(p / q))


METHODS = {"minmax": minmax, "moving-average": moving_average, "percentile": percentile, "mse": mse, "entropy": entropy}


def _candidates(s: Statistics) -> list[Range]:
    """List ranges with zero inside, the widest first."""
    fractions = np.arange(STEPS, 0, -1) / STEPS
    lows, highs = (np.unique(fractions * end).tolist() for end in (min(s.low, 0.0), max(s.high, 0.0)))
    return list(product(lows, highs[::-1]))
