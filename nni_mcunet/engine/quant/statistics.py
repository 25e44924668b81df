"""Keep of a tensor what calibration needs: one pass over the pictures, memory that does not grow with their number and,
except for the moving averages, a result that does not depend on their order."""

from dataclasses import dataclass

import numpy as np

from ...core.errors import GraphError

BITS = 12
BINS = 2**BITS  # at most, and half as many at least where values differ
AVERAGING = 0.05  # weight of a new picture in the moving averages: about the last twenty count


@dataclass(frozen=True)
class Histogram:
    """counts[i] values v have floor(v / 2^exponent) = first + i. Bins are powers of two aligned at zero: when values
    outgrow them, neighbours merge exactly. Zeros, half of what a ReLU gives, are left out: every int8 grid holds them.
    """

    exponent: int
    first: int
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Histogram":
        """Count finite float32 values."""
        values = values[values != 0].astype(np.float64)
        if not values.size:
            return cls(0, 0, np.zeros(0, np.int64))
        ends = np.array([values.min(), values.max()])
        # Finer exponents, with which the range has more than BINS bins or an index more than 40 bits are not tried.
        exponent = int(max(np.frexp(np.ptp(ends))[1] - BITS - 1, np.frexp(np.abs(ends).max())[1] - 40))
        while np.ptp(np.floor(np.ldexp(ends, -exponent))) >= BINS:
            exponent += 1
        index = np.floor(np.ldexp(values, -exponent)).astype(np.int64)
        return cls(exponent, int(index.min()), np.bincount(index - index.min()))

    @property
    def middles(self) -> np.ndarray:
        """The middles of the bins, float64."""
        return np.ldexp(self.first + np.arange(len(self.counts)) + 0.5, self.exponent)

    def merge(self, other: "Histogram") -> "Histogram":
        """Count the values of both."""
        parts = [h for h in (self, other) if len(h.counts)]
        if len(parts) < 2:
            return parts[0] if parts else self
        exponent = max(h.exponent for h in parts)
        while True:
            bins = [h.first + np.arange(len(h.counts)) >> min(exponent - h.exponent, 62) for h in parts]
            first, last = min(b[0] for b in bins), max(b[-1] for b in bins)
            if last - first < BINS:
                break
            exponent += 1
        counts = np.zeros(last - first + 1, np.int64)
        for part, at in zip(parts, bins, strict=True):
            np.add.at(counts, at - first, part.counts)
        return Histogram(exponent, int(first), counts)


@dataclass(frozen=True)
class Statistics:
    """One tensor over the pictures: `count` values; moving averages (lowest, highest) of the pictures' ends; their
    histogram; and every channel's sum, sum of squares, lowest and highest value, (c,) float64."""

    count: int
    average: tuple[float, float]
    histogram: Histogram
    sums: np.ndarray
    squares: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray

    @classmethod
    def of(cls, name: str, values: np.ndarray) -> "Statistics":
        """Measure a tensor (1, c, h, w) on one picture. Raises GraphError naming it for a value that is not finite."""
        if not np.isfinite(values).all():
            raise GraphError(
                f"{name}: the network gives no finite values on these images: look at --mean, --std and the weights"
            )
        rows = values.reshape(values.shape[1], -1).astype(np.float64)
        low, high = rows.min(1), rows.max(1)
        average = float(low.min()), float(high.max())
        return cls(rows.size, average, Histogram.of(values), rows.sum(1), (rows**2).sum(1), low, high)

    def then(self, other: "Statistics") -> "Statistics":
        """Add the picture of `other` behind these."""
        low, high = (a + AVERAGING * (b - a) for a, b in zip(self.average, other.average, strict=True))
        return Statistics(
            self.count + other.count,
            (low, high),
            self.histogram.merge(other.histogram),
            self.sums + other.sums,
            self.squares + other.squares,
            np.minimum(self.lowest, other.lowest),
            np.maximum(self.highest, other.highest),
        )

    @property
    def low(self) -> float:
        """The lowest value."""
        return float(self.lowest.min())

    @property
    def high(self) -> float:
        """The highest value."""
        return float(self.highest.max())

    @property
    def mean(self) -> np.ndarray:
        """Every channel's mean, (c,)."""
        return self.sums / (self.count // len(self.sums))

    @property
    def mean_square(self) -> np.ndarray:
        """Every channel's mean square, (c,)."""
        return self.squares / (self.count // len(self.sums))
