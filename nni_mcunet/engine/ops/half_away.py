"""Find multipliers whose single rounding, half up, rounds every sum as LiteRT's fully connected layer does: the product
with a float64 factor, half away from zero. The kernels need no second rule for it.
"""

from math import ceil

import numpy as np

from .requantise import Factor, multiplier

STEPS = np.arange(-254, 256)  # of the result above its zero point, those that a clamped int8 can begin with


def value(factor: Factor) -> float:
    """Return the real factor that a multiplier stands for, exactly."""
    return factor.mult * 2.0 ** (factor.left - 32 - factor.right)


def away_from_zero(real: float) -> float:
    """Return the multiplier nearest to `real` for which floor(sum * multiplier + 1/2) is the float64 product
    sum * real rounded half away from zero, for all sums with a result in STEPS. Where no multiplier is, return the
    nearest of all."""
    near = multiplier(real)
    if not near.mult:
        return 0.0
    bits = 32 + near.right - near.left
    least, most = 0, 2**31 - 1
    for step, first in zip(STEPS.tolist(), _first_sums(real), strict=True):
        half = (2 * step - 1) << (bits - 1) if bits > 0 else ceil((step - 0.5) * 2.0**bits)
        if step > 0:  # first * m >= half, (first - 1) * m < half
            least = max(least, -(-half // first))
            most = min(most, -(-half // (first - 1)) - 1) if first > 1 else most
        else:
            most = min(most, -half // -first) if first < 0 else most
            least = max(least, -half // (1 - first) + 1)
    chosen = min(max(near.mult, least), most) if least <= most else near.mult
    return chosen * 2.0**-bits


def _first_sums(real: float) -> list[int]:
    """Return for each of STEPS the least sum whose product with `real`, rounded half away from zero, reaches it."""
    about = np.ceil((STEPS - 0.5) / real)
    sums = about + np.arange(-2, 3)[:, None]
    product = sums * real
    reached = np.copysign(np.floor(np.abs(product) + 0.5), product) >= STEPS
    return sums[reached.argmax(0), np.arange(len(STEPS))].astype(np.int64).tolist()
