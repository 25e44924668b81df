"""Scales -> the integers that kernels compute with, and the single rounding rule.

A convolution's result is rounded once: out = zp + floor(acc * M + 1/2), M a 31-bit multiplier with a shift (TFLite's
single rounding). `integers()` turns scales into these multipliers, proving that no 32-bit intermediate overflows; the
numpy reference and the generated C both read its result and nothing else.
"""

from dataclasses import dataclass

import numpy as np

from ..core.errors import GraphError
from ..core.graph import Op
from .quant import QuantModel, Scale

MAX_RESIDUAL_BITS = 16


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
    """What mcu_pool holds; mult, left, right are used by gap alone."""

    zp_in: int
    zp_out: int
    lo: int = -128
    hi: int = 127
    mult: int = 0
    left: int = 0
    right: int = 1


def multiplier(real: float) -> tuple[int, int, int]:
    """(mult, left, right) with real ~ mult * 2^(left - 32 - right), 2^30 <= mult < 2^31, right >= 1, left least."""
    if not real > 0:
        return 0, 0, 1
    fraction, exponent = np.frexp(real)
    mult, exponent = round(float(fraction) * 2**31), int(exponent)
    if mult == 2**31:
        mult, exponent = 2**30, exponent + 1
    left = max(0, exponent + 2)
    right = left - 1 - exponent
    if right > 31:  # rounds to zero for every accumulator
        return 0, 0, 1
    return mult, left, right


def requant(acc, mult, left, right):
    """mcu_requant on int64 arrays: floor(acc * 2^left * mult / 2^(32 + right) + 1/2)."""
    high = (np.asarray(acc, np.int64) << left) * mult >> 32
    return high + (np.int64(1) << (np.asarray(right, np.int64) - 1)) >> right


def integers(model: QuantModel) -> dict[str, ConvIntegers | PoolIntegers]:
    """Op name -> the integers its kernel computes with. Raises GraphError where 32 bits do not suffice."""
    result = {}
    for op in model.graph.ops:
        result[op.name] = _conv_integers(model, op) if op.kind == "conv" else _pool_integers(model, op)
    return result


def _conv_integers(model: QuantModel, op: Op) -> ConvIntegers:
    q, x, y = model.weights[op.name], model.scales[op.inputs[0]], model.scales[op.name]
    weight = q.weight.astype(np.int64)
    bias = q.bias.astype(np.int64) - x.zero_point * weight.sum((1, 2, 3))
    # |acc| over every input: weights times the farthest int8 from zero, and the folded bias with each partial sum.
    bound = np.abs(weight).sum((1, 2, 3)) * 128 + np.abs(bias)
    real = x.scale * q.scale.astype(np.float64) / y.scale
    lo, hi = _clamp(op, y)
    common = dict(weight=q.weight, bias=bias.astype(np.int32), zp_in=x.zero_point, zp_out=y.zero_point, lo=lo, hi=hi)
    if op.residual is None:
        mult, left, right = _multipliers(op, real, bound)
        return ConvIntegers(**common, mult=mult, left=left, right=right)
    r = model.scales[op.residual]
    for bits in range(MAX_RESIDUAL_BITS, 0, -1):
        try:
            mult, left, right = _multipliers(op, real * 2**bits, bound)
        except GraphError:
            continue
        res_mult = round(r.scale / y.scale * 2**bits)
        if 256 * res_mult + max(bound * real * 2**bits) < 2**31:
            return ConvIntegers(
                **common, mult=mult, left=left, right=right, res_zp=r.zero_point, res_bits=bits, res_mult=res_mult
            )
    raise GraphError(f"{op.name}: its residual's scale {r.scale:g} and its own {y.scale:g} differ too much for 32 bits")


def _multipliers(op: Op, real: np.ndarray, bound: np.ndarray):
    mult, left, right = (np.array(column, np.int64) for column in zip(*map(multiplier, real), strict=True))
    if ((bound << left) >= 2**31).any() or (bound >= 2**31).any():
        worst = int(np.argmax(bound << left))
        raise GraphError(
            f"{op.name}: channel {worst} can overflow 32 bits (|acc| <= {bound[worst]}, multiplier {real[worst]:g}); "
            "its output range is far smaller than its weights: calibrate on more images"
        )
    return mult, left, right


def _pool_integers(model: QuantModel, op: Op) -> PoolIntegers:
    x, y, size = model.scales[op.inputs[0]], model.scales[op.name], model.graph.input_of(op)
    if op.kind != "gap":
        return PoolIntegers(x.zero_point, y.zero_point)
    mult, left, right = multiplier(x.scale / (y.scale * size.h * size.w))
    if 255 * size.h * size.w << left >= 2**31:
        raise GraphError(f"{op.name}: a mean over {size.h}x{size.w} can overflow 32 bits; pool in two steps")
    return PoolIntegers(x.zero_point, y.zero_point, mult=mult, left=left, right=right)


def _clamp(op: Op, y: Scale) -> tuple[int, int]:
    """Clamp of the int8 result that the activation means in the output's scale."""
    lo = -128 if op.act is None else max(-128, y.zero_point)
    hi = min(127, y.zero_point + round(6 / y.scale)) if op.act == "relu6" else 127
    return lo, hi
