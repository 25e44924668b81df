"""Compute as TensorFlow Lite's reference kernels do, in numpy: with multipliers that round twice, and with gemmlowp's
fixed point for exp and a reciprocal. It computes values and knows no operator.

All arrays are int64 and hold int32 values. A fixed-point number of n integer bits is its raw int32 times 2^(n - 31).
"""

from typing import NamedTuple

import numpy as np

from ...core.types import Ints

INT32_MAX = 2**31 - 1


class Multiplier(NamedTuple):
    """Hold a real factor as mult * 2^(shift - 31), abs(mult) in 2^30 .. 2^31 - 1, or 0."""

    mult: int
    shift: int

    @classmethod
    def of(cls, real: float) -> "Multiplier":
        """Return the nearest one to a finite factor; 0 for one below 2^-32."""
        fraction, shift = np.frexp(np.float64(real))
        mult = int(np.sign(fraction)) * int(np.floor(np.abs(fraction) * 2.0**31 + 0.5))
        if abs(mult) == 2**31:
            mult, shift = mult // 2, shift + 1
        return cls(mult, int(shift)) if shift >= -31 else cls(0, 0)


def high_mul(a: Ints | int, b: Ints | int) -> Ints:
    """Return a * b / 2^31, rounded half up."""
    return np.asarray(a, np.int64) * b + 2**30 >> 31


def divide_by_power(x: Ints, bits: int) -> Ints:
    """Return x / 2^bits, rounded half away from zero."""
    return x if bits == 0 else x + (1 << (bits - 1)) + (np.asarray(x) >> 63) >> bits


def rescale(x: Ints, factor: Multiplier) -> Ints:
    """Return x times the factor, rounded twice: by `high_mul`, then by `divide_by_power`."""
    left, right = max(factor.shift, 0), max(-factor.shift, 0)
    return divide_by_power(high_mul(np.asarray(x, np.int64) << left, factor.mult), right)


def saturated_shift(x: Ints, bits: int) -> Ints:
    """Return x * 2^bits, held within int32."""
    return np.clip(np.asarray(x, np.int64) << bits, -(2**31), INT32_MAX)


def exp_of_negative(a: Ints, integer_bits: int) -> Ints:
    """Return exp(a) without integer bits, for a <= 0 with at most 5 of them."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (a & (quarter - 1)) - quarter  # -1/4 .. 0; what is left of `a` is a sum of powers of two
    found, left = _exp_near_zero(rest << integer_bits), rest - a
    for exponent, factor in zip(range(-2, integer_bits), EXP_OF_POWERS, strict=False):
        found = np.where(left & (1 << (fraction_bits + exponent)), high_mul(found, factor), found)
    return np.where(a == 0, INT32_MAX, found)


EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2^n), n = -2 .. 4


def _exp_near_zero(a: Ints) -> Ints:
    """Return exp(a) for a in -1/4 .. 0: its Taylor series about -1/8."""
    at, third = 1895147668, 715827883  # exp(-1/8), 1/3
    x = a + (1 << 28)
    square = high_mul(x, x)
    cube, fourth = high_mul(square, x), high_mul(square, square)
    tail = divide_by_power(high_mul(divide_by_power(fourth, 2) + cube, third) + square, 1)
    return at + high_mul(at, x + tail)


def one_over_one_plus(a: Ints) -> Ints:
    """Return 1 / (1 + a) without integer bits, for a in 0 .. 1 without any: three steps of Newton's for 1 / half."""
    half = np.asarray(a, np.int64) + INT32_MAX + 1 >> 1
    x = 1515870810 + high_mul(half, -1010580540)  # with 2 integer bits: 48/17 - 32/17 half
    for _ in range(3):
        x = x + saturated_shift(high_mul(x, 2**29 - high_mul(half, x)), 2)
    return saturated_shift(x, 1)


def input_radius(integer_bits: int, shift: int) -> int:
    """Return the largest |x| that a factor of this shift brings below 2^integer_bits."""
    return int(np.floor((2**integer_bits - 1) * 2.0 ** (31 - integer_bits) / 2.0**shift))
