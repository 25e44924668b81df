"""Statistics of calibration and the ranges made of them, against numpy, torch and plain searches."""

from itertools import product

import numpy as np
import pytest
import torch

from nni_mcunet.core.errors import GraphError
from nni_mcunet.engine.model import Scale
from nni_mcunet.engine.quant import statistics as stats
from nni_mcunet.engine.quant.range_methods import (
    METHODS,
    STEPS,
    divergence,
    entropy,
    minmax,
    moving_average,
    mse,
    percentile,
)


def statistics_of(*tensors):
    """Gather the statistics of tensors (1, c, h, w), one a picture."""
    found = stats.Statistics.of("x", tensors[0])
    for values in tensors[1:]:
        found = found.then(stats.Statistics.of("x", values))
    return found


def test_histogram_counts_every_value_in_any_order():
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, scale, 500).astype(np.float32) for scale in (1e-3, 5.0, 1e3, 1e-30)]
    parts += [np.zeros(100, np.float32), np.full(50, 7.25, np.float32)]
    whole = stats.Histogram.of(np.concatenate(parts))
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 0, 5, 4, 1, 3]):
        merged = stats.Histogram.of(parts[order[0]])
        for at in order[1:]:
            merged = merged.merge(stats.Histogram.of(parts[at]))
        assert (merged.exponent, merged.first) == (whole.exponent, whole.first)
        assert np.array_equal(merged.counts, whole.counts)
    values = np.concatenate(parts).astype(np.float64)
    edges = (whole.first + np.arange(len(whole.counts) + 1)) * 2.0**whole.exponent
    assert np.array_equal(whole.counts, np.histogram(values[values != 0], edges)[0])
    assert stats.BINS / 2 <= len(whole.counts) <= stats.BINS


def test_statistics_of_channels_and_values_that_are_not_finite():
    rng = np.random.default_rng(1)
    tensors = [rng.normal(rng.normal(0, 2, (1, 5, 1, 1)), 1, (1, 5, 4, 6)).astype(np.float32) for _ in range(7)]
    found, together = statistics_of(*tensors), np.concatenate(tensors).astype(np.float64)
    assert np.allclose(found.mean, together.mean((0, 2, 3))) and found.count == together.size
    assert np.allclose(found.mean_square, (together**2).mean((0, 2, 3)))
    assert np.array_equal(found.lowest, together.min((0, 2, 3))) and found.high == together.max()
    with pytest.raises(GraphError, match="conv7: the network gives no finite"):
        stats.Statistics.of("conv7", np.array([[[[1.0, np.nan]]]], np.float32))


def test_moving_average_is_torch_s_observer():
    rng = np.random.default_rng(2)
    tensors = [rng.normal(0, rng.uniform(1, 3), (1, 3, 8, 8)).astype(np.float32) for _ in range(9)]
    observer = torch.ao.quantization.MovingAverageMinMaxObserver(averaging_constant=stats.AVERAGING)
    for values in tensors:
        observer(torch.from_numpy(values))
    assert np.allclose(moving_average(statistics_of(*tensors)), (observer.min_val, observer.max_val), rtol=1e-5)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("percent", [99.99, 99.0, 90.0])
def test_percentile_is_numpy_s_to_a_bin(percent, relu):
    values = np.random.default_rng(3).laplace(0.3, 1, (1, 4, 100, 100)).astype(np.float32)
    values = np.maximum(values, 0) if relu else values
    found = statistics_of(values)
    tail, width = (100 - percent) / 2, 2.0**found.histogram.exponent
    wanted = np.percentile(values, [tail, 100 - tail], method="inverted_cdf")
    assert np.abs(np.array(percentile(found, percent)) - wanted).max() <= width
    assert percentile(found, 100) == minmax(found) == (values.min(), values.max())


def test_mse_range_is_the_best_of_a_plain_search():
    """On the values themselves, not their histogram: the chosen range is as good as the best of all candidates."""
    values = np.random.default_rng(4).normal(0.2, 1, (1, 4, 300, 300)).astype(np.float32)
    values[0, 0, 0, 0] = 9

    def error(low, high):  # the affine int8 grid, written down once more
        step = (high - low) / 255
        zero = round(-128 - low / step)
        return ((step * (np.clip(np.round(values / step) + zero, -128, 127) - zero) - values) ** 2).mean()

    fractions = (np.arange(STEPS) + 1) / STEPS
    best = min(error(a * values.min(), b * values.max()) for a, b in product(fractions[3::4], fractions[3::4]))
    chosen = mse(statistics_of(values))
    assert error(*chosen) <= best * 1.002 and error(*chosen) < 0.8 * error(values.min(), values.max())


def test_entropy_clips_outliers_and_divergence_is_the_formula():
    rng = np.random.default_rng(5)
    values = rng.normal(0, 1, (1, 1, 200, 200)).astype(np.float32)
    values[0, 0, 0, :2] = 20, -11
    low, high = entropy(statistics_of(values))
    assert -11 <= low < -2.5 and 2.5 < high < 20 and (high - low) < 0.6 * 31
    h, grid = stats.Histogram(0, 1, np.array([4, 2, 0, 6, 3, 1])), Scale(2.0, -128)  # the levels' middles: 0, 2, 4...
    p, q, level = [], [], {}
    for value, count in zip(h.middles, h.counts, strict=True):  # 1.5 .. 6.5
        level.setdefault(round(value / 2), []).append(count)
    for counts in level.values():
        p += [c for c in counts if c]
        q += [sum(counts) / sum(c > 0 for c in counts) for c in counts if c]
    assert np.isclose(divergence(h, grid), sum(a / 16 * np.log(a / b) for a, b in zip(p, q, strict=True)))


@pytest.mark.parametrize("values", [np.zeros((1, 2, 3, 3)), np.full((1, 2, 3, 3), 4.5), np.full((1, 1, 1, 1), -1e-3)])
def test_every_calibrator_on_a_constant(values):
    found = statistics_of(values.astype(np.float32))
    for method in METHODS.values():
        low, high = method(found)
        assert np.isfinite([low, high]).all() and found.low <= max(low, found.low) and high <= max(found.high, 0)
