"""Scales -> the integers that kernels compute with, and the single rounding rule.

A result is rounded once: out = zp + floor(acc * M + 1/2), M a 31-bit multiplier with a shift (TFLite's single
rounding). `integers()` turns scales into these multipliers, proving in big integers that no 32-bit intermediate
overflows; the numpy reference and the generated C both read its result and nothing else.
"""

from dataclasses import dataclass
from math import floor
from typing import NamedTuple

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import ACTS, clamp_of
from ...core.ir.graph import Op
from ...core.plan.kernel_facts import padded_taps
from ..model import QuantModel, Scale
from .c_limits import ScaleError, check

MAX_RESIDUAL_BITS = 16
MAX_SUM_BITS = 30
MAX_RIGHT = 22  # where (2 * zp + 1) << (right - 1), to which kernels add half an accumulator, stays below 2^30
MAX_EXP_BITS = 22
EMPTY = "a window holds nothing but padding,"
INT32 = 2**31  # every intermediate stays below it


class Factor(NamedTuple):
    """A real factor as mult * 2^(left - 32 - right), see `multiplier`."""

    mult: int = 0
    left: int = 0
    right: int = 1


NOTHING = Factor()


@dataclass(frozen=True)
class ConvIntegers:
    """What mcu_conv holds: bias with -zp_in * sum(weight) folded in, multipliers and shifts per channel, the clamp, and
    the residual's part (res_bits = 0: none)."""

    weight: np.ndarray
    bias: np.ndarray
    mult: np.ndarray
    left: np.ndarray
    right: np.ndarray
    zp_in: int
    zp_out: int
    lo: int
    hi: int
    res_zp: int = 0
    res_bits: int = 0
    res_mult: int = 0


@dataclass(frozen=True)
class PoolIntegers:
    """What mcu_pool holds. Of means: `mean` of a whole window and border[m - 1] of one that m taps of are padding."""

    zp_in: int
    zp_out: int
    mean: Factor = NOTHING
    border: tuple[Factor, ...] = ()


@dataclass(frozen=True)
class SumIntegers:
    """What mcu_sum holds: out = clamp(zp_out + ((a * mult_a + b * mult_b + bias) >> bits)), bias with the inputs' zero
    points and the half that rounds."""

    mult_a: int
    mult_b: int
    bias: int
    bits: int
    zp_out: int
    lo: int
    hi: int


@dataclass(frozen=True)
class ProductIntegers:
    """What mcu_product holds: out = clamp(zp_out + requant((a - zp_a) * (b - zp_b)))."""

    zp_a: int
    zp_b: int
    zp_out: int
    factor: Factor


@dataclass(frozen=True)
class TableIntegers:
    """What mcu_table holds: out = table[q + 128], int8 (256,), or out = q where it is None."""

    table: np.ndarray | None


@dataclass(frozen=True)
class ExpIntegers:
    """What mcu_exp holds: table[d] = exp(-d * scale) of a difference d to the maximum, as many fraction bits in each as
    the sum over all channels has room for. uint32 (256,)."""

    table: np.ndarray


def multiplier(real: float) -> Factor:
    """The nearest factor of at most 31 bits: 1 <= right <= MAX_RIGHT, left least, mult < 2^31 and, unless right is
    MAX_RIGHT, mult >= 2^30."""
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


def requant(acc, mult, left, right):
    """mcu_requant on int64 arrays: floor(acc * 2^left * mult / 2^(32 + right) + 1/2)."""
    high = (np.asarray(acc, np.int64) << left) * mult >> 32
    return high + (np.int64(1) << (np.asarray(right, np.int64) - 1)) >> right


def integers(model: QuantModel) -> dict:
    """Op name -> the integers its kernel computes with, one of the classes above; of a concat a TableIntegers for each
    input. Raises GraphError where 32 bits do not suffice, and see limits.check."""
    check(model)
    return {op.name: OF_KIND.get(op.kind, _copy)(model, op) for op in model.graph.ops}


def _conv(model: QuantModel, op: Op) -> ConvIntegers:
    q, x, y = model.weights[op.name], model.scales[op.inputs[0]], model.scales[op.name]
    weight = q.weight.astype(np.int64)
    bias = q.bias.astype(np.int64) - x.zero_point * weight.sum((1, 2, 3))
    # |acc| over every input: weights times the farthest int8 from zero, and the folded bias with each partial sum.
    bound = np.abs(weight).sum((1, 2, 3)) * 128 + np.abs(bias)
    real = x.scale * q.scale.astype(np.float64) / y.scale
    lo, hi = _clamp(op, y)
    common = dict(weight=q.weight, bias=bias.astype(np.int32), zp_in=x.zero_point, zp_out=y.zero_point, lo=lo, hi=hi)
    if op.residual is None:
        mult, left, right = _multipliers(op, real, bound, y)
        return ConvIntegers(**common, mult=mult, left=left, right=right)
    r = model.scales[op.residual]
    for bits in range(model.residual_bits.get(op.name, MAX_RESIDUAL_BITS), 0, -1):
        try:
            mult, left, right = _multipliers(op, real * 2**bits, bound, y)
        except GraphError:
            continue
        res_mult = round(r.scale / y.scale * 2**bits)
        if 255 * res_mult + int(requant(bound, mult, left, right).max()) + 2 ** (bits + 8) < INT32:  # and zp_out
            return ConvIntegers(
                **common, mult=mult, left=left, right=right, res_zp=r.zero_point, res_bits=bits, res_mult=res_mult
            )
    fact = f"its residual '{op.residual}' of the scale {r.scale:g} and its sums need more than 32 bits for its scale"
    raise ScaleError(
        op.name, f"{fact} {y.scale:g}", _coarser(op, y, max(_grow(2 * real, bound), r.scale / y.scale / 2**21))
    )


def _multipliers(op: Op, real: np.ndarray, bound: np.ndarray, y: Scale):
    factors = [multiplier(value) for value in real]
    for channel, (value, factor, most) in enumerate(zip(real, factors, bound.tolist(), strict=True)):
        if most >= INT32:
            raise ScaleError(
                op.name, f"its channel {channel} sums to {most:,}, beyond 32 bits: its bias outgrows its weights",
                "quantise the float model again, with a coarser scale for the weights of this channel",
            )  # fmt: skip
        if most << factor.left >= INT32:
            fact = f"its channel {channel} sums to {most:,}, which times {value:.4g} needs more than 32 bits"
            raise ScaleError(op.name, f"{fact}: its scale {y.scale:g} is too fine", _coarser(op, y, _grow(real, bound)))
    return (np.array(column, np.int64) for column in zip(*factors, strict=True))


def _grow(real, bound) -> float:
    """How many times as coarse an output has to be for multipliers `real` of sums up to `bound` to fit: of a sum of b
    bits to below 2^(29 - b), see multiplier."""
    bits = np.array([int(most).bit_length() for most in bound])
    return float((np.array(real) / 2.0 ** (29 - bits)).max())


def _coarser(op: Op, y: Scale, grow: float) -> str:
    return f"quantise the float model again, with a scale of {1.02 * grow * y.scale:.3g} or more for '{op.name}'"


def _factors(op: Op, real: list[float], bound: list[int], y: Scale) -> list[Factor]:
    """The multipliers `real` of sums that never exceed `bound`."""
    factors = [multiplier(value) for value in real]
    for value, factor, most in zip(real, factors, bound, strict=True):
        if most << factor.left >= INT32:
            fact = f"its sums go to {most:,}, which times {value:.4g} needs more than 32 bits: its scale {y.scale:g}"
            raise ScaleError(op.name, f"{fact} is too fine", _coarser(op, y, _grow(real, bound)))
    return factors


def _copy(model: QuantModel, op: Op) -> PoolIntegers:
    """Of a kernel that only moves values."""
    zero_point = model.scales[op.name].zero_point
    return PoolIntegers(zero_point, zero_point)


def _mean(model: QuantModel, op: Op) -> PoolIntegers:
    x, y, size = model.scales[op.inputs[0]], model.scales[op.name], model.graph.input_of(op)
    taps = size.h * size.w if op.kind == "gap" else op.k[0] * op.k[1]
    border = 0 if op.kind == "gap" else padded_taps(model.graph, op)
    if border >= taps:
        raise GraphError(f"{op.name}: {EMPTY} {op.pad}; pad by less than the window, or not at all")
    # The sum begins with -zp_in * taps: partial sums reach 256 a tap.
    counts = range(taps, taps - border - 1, -1)
    factors = _factors(op, [x.scale / (y.scale * n) for n in counts], [256 * n for n in counts], y)
    return PoolIntegers(x.zero_point, y.zero_point, factors[0], tuple(factors[1:]))


def _maximum(model: QuantModel, op: Op) -> PoolIntegers:
    if padded_taps(model.graph, op) >= op.k[0] * op.k[1]:
        raise GraphError(f"{op.name}: {EMPTY} {op.pad}; pad by less than the window, or not at all")
    return _copy(model, op)


def _sum(model: QuantModel, op: Op) -> SumIntegers:
    (a, b), y = (model.scales[name] for name in op.inputs), model.scales[op.name]
    lo, hi = _clamp(op, y)
    for bits in range(MAX_SUM_BITS, 0, -1):
        mult_a, mult_b = (floor(s.scale / y.scale * 2**bits + 0.5) for s in (a, b))
        bias = 2 ** (bits - 1) - a.zero_point * mult_a - b.zero_point * mult_b
        if abs(bias) + 128 * (mult_a + mult_b) < INT32:
            return SumIntegers(mult_a, mult_b, bias, bits, y.zero_point, lo, hi)
    fact = f"its inputs' scales {a.scale:g} and {b.scale:g} need more than 32 bits for its own, {y.scale:g}"
    raise ScaleError(op.name, fact, _coarser(op, y, (a.scale + b.scale) / y.scale / 2**21))


def _product(model: QuantModel, op: Op) -> ProductIntegers:
    (a, b), y = (model.scales[name] for name in op.inputs), model.scales[op.name]
    (factor,) = _factors(op, [a.scale * b.scale / y.scale], [255 * 255], y)
    return ProductIntegers(a.zero_point, b.zero_point, y.zero_point, factor)


def _act(model: QuantModel, op: Op) -> TableIntegers:
    x, y = model.scales[op.inputs[0]], model.scales[op.name]
    real = (np.arange(-128, 128) - x.zero_point) * x.scale
    with np.errstate(all="ignore"):
        value = real if op.act is None else ACTS[op.act](real, *op.args)
    if not np.isfinite(value).all():
        raise GraphError(f"{op.name}: '{op.act}' with the arguments {op.args} is not finite on its input's range; "
                         "clamp the input before it")  # fmt: skip
    return TableIntegers(_steps(value, y).astype(np.int8))


def _parts(model: QuantModel, op: Op) -> tuple[TableIntegers, ...]:
    y = model.scales[op.name]

    def table(x: Scale) -> np.ndarray | None:
        return None if x == y else _steps((np.arange(-128, 128) - x.zero_point) * x.scale, y).astype(np.int8)

    return tuple(TableIntegers(table(model.scales[name])) for name in op.inputs)


def _exp(model: QuantModel, op: Op) -> ExpIntegers:
    """The kernel rounds (512 * e + sum) / (2 * sum): 512 * e <= 2^31 and sum < 2^31 by the choice of bits."""
    bits = min(MAX_EXP_BITS, ((INT32 - 1) // op.cout).bit_length() - 1)
    value = np.exp(-model.scales[op.inputs[0]].scale * np.arange(256.0))
    return ExpIntegers(np.floor(value * 2**bits + 0.5).astype(np.uint32))


def _steps(value, y: Scale) -> np.ndarray:
    """Real values (infinite ones too) as int8 steps of `y`, by the rounding rule."""
    return np.clip(np.floor(np.asarray(value) / y.scale + 0.5) + y.zero_point, -128, 127).astype(np.int64)


def _clamp(op: Op, y: Scale) -> tuple[int, int]:
    """Clamp of the int8 result that the activation means in the output's scale."""
    lo, hi = _steps(clamp_of(op.act, op.args), y).tolist()
    return lo, hi


OF_KIND = {
    "conv": _conv,
    "maxpool": _maximum,
    "avgpool": _mean,
    "gap": _mean,
    "add": _sum,
    "mul": _product,
    "act": _act,
    "concat": _parts,
    "softmax": _exp,
}
