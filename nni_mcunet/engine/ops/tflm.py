"""Compute what TensorFlow Lite's reference kernels do, value for value, in numpy. A file that came from there promises
its users these integers; our own kernels round once and differ (docs/tflite.md).

A function of one int8 value is a table, int8 (256,), of the values -128 .. 127. Scales are those of the file, float32;
where the kernels multiply two in float32, so do these. Raises nothing: the reader checks scales before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import erf

import numpy as np

from ...core.types import Doubles, Int8Map, Ints
from ..model import Scale
from . import fixed_point as fp
from .fixed_point import Multiplier, rescale

VALUES = np.arange(-128, 128, dtype=np.int64)
ADD_BITS = 20  # fraction bits of the inputs of a sum
EXP_BITS = 5  # integer bits of what a softmax takes exp of
ERF = np.vectorize(erf, otypes=[np.float64])
SUM_BITS = 12  # and of the sum of its exps
INT16 = 2**15


def int8(value: np.ndarray) -> Int8Map:
    """Clamp integers to int8."""
    return np.clip(value, -128, 127).astype(np.int8)


def clamp(y: Scale, lo: float, hi: float) -> tuple[int, int]:
    """Return the int8 limits that stand for the real ones, rounded half away from zero in float32; infinite ones for
    none."""
    ends = [
        none if np.isinf(end) else y.zero_point + int(fp_round(np.float32(end) / np.float32(y.scale)))
        for end, none in ((lo, -128), (hi, 127))
    ]
    return max(ends[0], -128), min(ends[1], 127)


def fp_round(x: np.ndarray | np.floating) -> Doubles:
    """Round half away from zero."""
    return np.copysign(np.floor(np.abs(np.float64(x)) + 0.5), x)


def rescaled(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate QUANTIZE: int8 of one scale in another."""
    return int8(rescale(VALUES - x.zero_point, Multiplier.of(x.scale / y.scale)) + y.zero_point)


def rectified(x: Scale, y: Scale, lo: float, hi: float) -> np.ndarray:
    """Tabulate RELU and its kind, operators of their own: a change of scale, then the clamp."""
    factor = Multiplier.of(np.float32(x.scale) / np.float32(y.scale))
    return np.clip(rescale(VALUES - x.zero_point, factor) + y.zero_point, *clamp(y, lo, hi)).astype(np.int8)


def rescaled_by(value: np.ndarray, factor: np.float32, y: Scale) -> np.ndarray:
    """Table of values (256,), less their zero point, times a factor: int8 in the scale y."""
    return int8(rescale(value, Multiplier.of(float(factor))) + y.zero_point)


def leaky(x: Scale, y: Scale, slope: float) -> np.ndarray:
    """Tabulate LEAKY_RELU."""
    value, scale = VALUES - x.zero_point, np.float32(x.scale)
    plain = rescale(value, Multiplier.of(scale / np.float32(y.scale)))
    below = rescale(value, Multiplier.of(scale * np.float32(slope) / np.float32(y.scale)))
    return int8(np.where(value >= 0, plain, below) + y.zero_point)


def prelu(x: Scale, y: Scale, slope: int, step: float) -> np.ndarray:
    """Tabulate PRELU for one slope of `slope` steps."""
    value, scale = VALUES - x.zero_point, np.float32(x.scale)
    plain = rescale(value, Multiplier.of(scale / np.float32(y.scale)))
    below = rescale(value * slope, Multiplier.of(scale * np.float32(step) / np.float32(y.scale)))
    return int8(np.where(value >= 0, plain, below) + y.zero_point)


def logistic(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate LOGISTIC."""
    one = np.float32(1)
    return _float32(lambda v: one / (one + np.exp(-v).astype(np.float32)), x, y)


def tanh(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate TANH."""
    return _float32(np.tanh, x, y)


def absolute(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate ABS."""
    value = np.abs(VALUES - x.zero_point)
    found = value if x.scale == y.scale else rescale(value, Multiplier.of(x.scale / y.scale))
    return int8(found + y.zero_point)


def exponential(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate EXP."""
    return _float32(np.exp, x, y)


def logarithm(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate LOG, the lowest value where there is none."""
    return _float32(lambda v: np.log(np.maximum(v, 0)), x, y)


def elu(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate ELU."""
    return _float32(lambda v: np.where(v < 0, np.expm1(np.minimum(v, 0)), v), x, y)


def gelu(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate GELU."""
    return _float32(lambda v: 0.5 * v * (1 + ERF(v * np.sqrt(0.5))), x, y)


def gelu_by_tanh(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate the approximation of GELU."""
    return _float32(lambda v: 0.5 * v * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3))), x, y)


def _float32(function: Callable[[np.ndarray], np.ndarray], x: Scale, y: Scale) -> np.ndarray:
    """Tabulate a function that LiteRT computes in float32 and rounds half away from zero. function: of float64 values,
    rounded to float32 after each step."""
    with np.errstate(over="ignore", divide="ignore"):
        value = function(np.float64(np.float32(x.scale) * (VALUES - x.zero_point).astype(np.float32)))
        steps = np.clip(value.astype(np.float32) * (1 / np.float32(y.scale)), -(2.0**20), 2.0**20)
    return int8(fp_round(steps).astype(np.int64) + y.zero_point)


def hard_swish(x: Scale, y: Scale) -> np.ndarray:
    """Tabulate HARD_SWISH: products of int16. Its multiplier must not exceed 1: y.scale >= x.scale / 128."""
    fine = np.float32(1 / 128) * np.float32(x.scale)
    out, gate = Multiplier.of(fine / np.float32(y.scale)), Multiplier.of(fine / (np.float32(3) / np.float32(INT16)))
    value = VALUES - x.zero_point << 7
    product = _high_mul16(value, _half(out))
    share, left = value, max(gate.shift, 0)
    if left:
        share = _int16(share << (left - 1))
    share = _high_mul16(share, _half(gate))
    if left:
        share = _int16(share << 1)
    share = fp.divide_by_power(share, max(-gate.shift, 0)) + INT16 >> 1
    product = np.trunc(share * product / INT16).astype(np.int64)
    return int8(fp.divide_by_power(product, -out.shift) + y.zero_point)


def _half(factor: Multiplier) -> int:
    """Return the multiplier in 16 bits."""
    return min(factor.mult + INT16 >> 16, INT16 - 1)


def _high_mul16(a: Ints, b: Ints | int) -> Ints:
    return a * b + 2**14 >> 15


def _int16(a: Ints) -> Ints:
    return np.clip(a, -INT16, INT16 - 1)


@dataclass(frozen=True)
class Sum:
    """Add or subtract two maps as ADD and SUB do: each rescaled to ADD_BITS fraction bits, the sum rescaled to the
    output."""

    a: Multiplier
    b: Multiplier
    out: Multiplier
    zp_a: int
    zp_b: int
    zp_out: int
    lo: int
    hi: int

    @classmethod
    def of(cls, a: Scale, b: Scale, y: Scale, lo: float, hi: float, sign: int = 1) -> "Sum":
        """Find the integers that add maps of the scales a and b, or with sign = -1 subtract the second."""
        twice = 2 * max(a.scale, b.scale)
        plus, minus = Multiplier.of(a.scale / twice), Multiplier.of(b.scale / twice)
        out = Multiplier.of(twice / (2**ADD_BITS * y.scale))
        minus = Multiplier(sign * minus.mult, minus.shift)
        return cls(plus, minus, out, a.zero_point, b.zero_point, y.zero_point, *clamp(y, lo, hi))

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the sum of two maps, int8."""
        total = rescale(a.astype(np.int64) - self.zp_a << ADD_BITS, self.a)
        total = total + rescale(b.astype(np.int64) - self.zp_b << ADD_BITS, self.b)
        return np.clip(rescale(total, self.out) + self.zp_out, self.lo, self.hi).astype(np.int8)


def product_factor(a: Scale, b: Scale, y: Scale) -> Multiplier:
    """Return the factor of a product, as MUL has it."""
    return Multiplier.of(np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale))


@dataclass(frozen=True)
class Product:
    """Multiply two maps as MUL does."""

    factor: Multiplier
    zp_a: int
    zp_b: int
    zp_out: int
    lo: int
    hi: int

    @classmethod
    def of(cls, a: Scale, b: Scale, y: Scale, lo: float, hi: float) -> "Product":
        """Find the integers that multiply maps of the scales a and b."""
        return cls(product_factor(a, b, y), a.zero_point, b.zero_point, y.zero_point, *clamp(y, lo, hi))

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the product of two maps, int8."""
        product = (a.astype(np.int64) - self.zp_a) * (b.astype(np.int64) - self.zp_b)
        return np.clip(rescale(product, self.factor) + self.zp_out, self.lo, self.hi).astype(np.int8)


def mean_factor(x: Scale, y: Scale, count: int) -> Multiplier:
    """Return the factor of the sum of (value - zero point) over `count` positions, as MEAN has it."""
    factor = Multiplier.of(x.scale / y.scale)
    shift = min(count.bit_length() - 1, 32, 31 + factor.shift)
    return Multiplier((factor.mult << shift) // count, factor.shift - shift)


def average(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Divide sums of int8 values by their counts, rounded half away from zero, as AVERAGE_POOL_2D does."""
    return np.sign(total) * ((np.abs(total) + count // 2) // count)


def exp_table(x: Scale, beta: float) -> np.ndarray:
    """Tabulate SOFTMAX's exp(-d) for a difference d = 0 .. 255 to the maximum, without integer bits; 0 where it counts
    as none."""
    factor = Multiplier.of(min(np.float64(np.float32(beta)) * x.scale * 2.0 ** (31 - EXP_BITS), 2.0**31 - 1))
    steps = -np.arange(256)
    inside = steps >= -fp.input_radius(EXP_BITS, factor.shift)
    return np.where(inside, fp.exp_of_negative(rescale(np.where(inside, steps, 0), factor), EXP_BITS), 0)


def softmax(table: np.ndarray, data: np.ndarray) -> np.ndarray:
    """Return the probabilities of (..., c) int8 in steps of 1/256, zero being -128. table: exp_table's."""
    value = data.astype(np.int64)
    exps = table[value.max(-1, keepdims=True) - value]
    total = fp.divide_by_power(exps, SUM_BITS).sum(-1, keepdims=True)
    headroom = 32 - (np.frexp(total.astype(np.float64))[1])
    scale = fp.one_over_one_plus((total << headroom) - 2**31)
    bits = SUM_BITS - headroom + 31 - 8
    product = fp.high_mul(scale, exps)
    return int8((product + (np.int64(1) << (bits - 1)) + (product >> 63) >> bits) - 128)
