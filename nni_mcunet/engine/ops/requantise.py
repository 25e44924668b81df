"""Turn real factors into 31-bit multipliers, and say which scales need more than 32 bits: the single rounding rule.

A result is rounded once: out = zp + floor(acc * M + 1/2), M a multiplier with a shift (TFLite's single rounding). Each
operator proves with these, in Python's integers, that no 32-bit intermediate of its kernel overflows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...core.errors import GraphError
from ...core.ir.activations import clamp_of
from ...core.ir.graph import Op
from ...core.types import Ints
from ..model import Scale
from .fixed_point import Multiplier

MAX_RIGHT = 22  # where (2 * zp + 1) << (right - 1), to which kernels add half an accumulator, stays below 2^30
INT32 = 2**31  # every intermediate stays below it


class ScaleError(GraphError):
    """Report scales for which 32 bits do not suffice. op: the op's name; fact: what is wrong with it. The message ends
    with what helps where the model came quantised; who calibrates it knows better (post_training.py)."""

    def __init__(self, op: str, fact: str, remedy: str) -> None:
        super().__init__(f"{op}: {fact}; {remedy}")
        self.op, self.fact = op, fact


class Factor(NamedTuple):
    """Hold a real factor as mult * 2^(left - 32 - right), see `multiplier`."""

    mult: int = 0
    left: int = 0
    right: int = 1


NOTHING = Factor()


def multiplier(real: float) -> Factor:
    """Return the nearest factor of at most 31 bits: 1 <= right <= MAX_RIGHT, left least, mult < 2^31 and, unless right
    is MAX_RIGHT, mult >= 2^30."""
    if not real > 0:
        return NOTHING
    fraction, exponent = np.frexp(real)
    mult, exponent = round(float(fraction) * 2**31), int(exponent)
    if mult == 2**31:
        mult, exponent = 2**30, exponent + 1
    left = max(0, exponent + 2)
    right = left - 1 - exponent
    if right > MAX_RIGHT:
        mult, right = round(real * 2 ** (32 + MAX_RIGHT)), MAX_RIGHT
    return Factor(mult, left, right) if mult else NOTHING


def requant(acc: Ints, mult: Ints | int, left: Ints | int, right: Ints | int) -> Ints:
    """Compute mcu_requant on int64 arrays: floor(acc * 2^left * mult / 2^(32 + right) + 1/2)."""
    high = (np.asarray(acc, np.int64) << left) * mult >> 32
    return high + (np.int64(1) << (np.asarray(right, np.int64) - 1)) >> right


def requant_twice(acc: Ints, mult: Ints | int, left: Ints | int, right: Ints | int) -> Ints:
    """Compute mcu_requant_twice on int64 arrays: floor(acc * 2^left * mult / 2^32 + 1/2), and that over 2^right,
    rounded half away from zero."""
    right = np.asarray(right, np.int64)
    high = (np.asarray(acc, np.int64) << np.maximum(left, 1)) * mult + 2**31 >> 32
    return np.where(right > 0, high + (high >> 63) + (np.int64(1) << right >> 1) >> right, high)


def twice(op: Op, factor: Multiplier, most: int) -> Factor:
    """Return TensorFlow Lite's multiplier as mcu_requant_twice takes it, of sums up to `most`. Raises ScaleError beyond
    32 bits."""
    left, right = max(factor.shift, 0) + 1, max(-factor.shift, 0)
    if most << left < INT32 // 2:
        return Factor(factor.mult, left, right)
    if left == 1 and most < INT32:
        return Factor(factor.mult, 0, right)
    raise ScaleError(
        op.name, f"its sums go to {most:,}, beyond 32 bits at its scale",
        "convert the model again: its bias outgrows its weights, or its output's scale is too fine",
    )  # fmt: skip


def factors(op: Op, real: list[float], bound: list[int], y: Scale) -> list[Factor]:
    """Return the multipliers `real` of sums that never exceed `bound`. Raises ScaleError beyond 32 bits."""
    found = [multiplier(value) for value in real]
    for value, factor, most in zip(real, found, bound, strict=True):
        if most << factor.left >= INT32:
            fact = f"its sums go to {most:,}, which times {value:.4g} needs more than 32 bits: its scale {y.scale:g}"
            raise ScaleError(op.name, f"{fact} is too fine", coarser(op, y, grow(real, bound)))
    return found


def grow(real: Sequence[float] | np.ndarray, bound: Sequence[int] | np.ndarray) -> float:
    """Return how many times as coarse an output has to be for multipliers `real` of sums up to `bound` to fit. A sum of
    b bits fits with a multiplier below 2^(29 - b), see multiplier."""
    bits = np.array([int(most).bit_length() for most in bound])
    return float((np.array(real) / 2.0 ** (29 - bits)).max())


def coarser(op: Op, y: Scale, times: float) -> str:
    """Say what helps: an output so many times as coarse."""
    return f"quantise the float model again, with a scale of {1.02 * times * y.scale:.3g} or more for '{op.name}'"


def steps(value: ArrayLike, y: Scale) -> Ints:
    """Round real values (infinite ones too) to int8 steps of `y`. int64, of the shape of `value`."""
    return np.clip(np.floor(np.asarray(value) / y.scale + 0.5) + y.zero_point, -128, 127).astype(np.int64)


def clamp(op: Op, y: Scale) -> tuple[int, int]:
    """Return the clamp of the int8 result that the activation means in the output's scale."""
    lo, hi = steps(clamp_of(op.act, op.args), y).tolist()
    return lo, hi


def int8(value: np.ndarray) -> np.ndarray:
    """Clamp integers to int8, as kernels end."""
    return np.clip(value, -128, 127).astype(np.int8)
