"""Compute and print sums and products of two maps, element by element. The second factor may be one a channel
(squeeze-excite)."""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import numpy as np

from ...core.ir.activations import clamp_of
from ...core.ir.graph import Graph, Op
from ...core.plan.segments import Axis
from ..model import QuantModel
from . import c_text, tflm
from .operator import Integers, Interval, Operator
from .requantise import INT32, Factor, ScaleError, clamp, coarser, factors, int8, requant, requant_twice, twice
from .windows import crop, second

MAX_SUM_BITS = 30
AGAIN = "convert the model again, on other pictures"


@dataclass(frozen=True)
class SumIntegers:
    """Hold the fields of mcu_sum: out = clamp(zp_out + ((a * mult_a + b * mult_b + bias) >> bits)), bias with the
    inputs' zero points and the half that rounds."""

    mult_a: int
    mult_b: int
    bias: int
    bits: int
    zp_out: int
    lo: int
    hi: int


@dataclass(frozen=True)
class ProductIntegers:
    """Hold the fields of mcu_product: out = clamp(zp_out + requant((a - zp_a) * (b - zp_b)))."""

    zp_a: int
    zp_b: int
    zp_out: int
    factor: Factor
    twice: bool = False


def sum_integers(model: QuantModel, op: Op) -> SumIntegers | tflm.Sum:
    """Find the multipliers of the most fraction bits that 32 bits hold. Raises ScaleError where none do."""
    (a, b), y = (model.scales[name] for name in op.inputs), model.scales[op.name]
    if op.twice:
        found = tflm.Sum.of(a, b, y, *clamp_of(op.act, op.args))
        if found.out.shift > 0:
            raise ScaleError(op.name, f"its scale {y.scale:g} is too fine for {a.scale:g} and {b.scale:g}", AGAIN)
        return found
    lo, hi = clamp(op, y)
    for bits in range(MAX_SUM_BITS, 0, -1):
        mult_a, mult_b = (floor(s.scale / y.scale * 2**bits + 0.5) for s in (a, b))
        bias = 2 ** (bits - 1) - a.zero_point * mult_a - b.zero_point * mult_b
        if abs(bias) + 128 * (mult_a + mult_b) < INT32:
            return SumIntegers(mult_a, mult_b, bias, bits, y.zero_point, lo, hi)
    fact = f"its inputs' scales {a.scale:g} and {b.scale:g} need more than 32 bits for its own, {y.scale:g}"
    raise ScaleError(op.name, fact, coarser(op, y, (a.scale + b.scale) / y.scale / 2**21))


def product_integers(model: QuantModel, op: Op) -> ProductIntegers:
    """Find the multiplier. Raises ScaleError beyond 32 bits."""
    (a, b), y = (model.scales[name] for name in op.inputs), model.scales[op.name]
    if op.twice:
        factor = twice(op, tflm.product_factor(a, b, y), 255 * 255)
        return ProductIntegers(a.zero_point, b.zero_point, y.zero_point, factor, twice=True)
    (factor,) = factors(op, [a.scale * b.scale / y.scale], [255 * 255], y)
    return ProductIntegers(a.zero_point, b.zero_point, y.zero_point, factor)


def _add(p: SumIntegers | tflm.Sum, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if isinstance(p, tflm.Sum):
        return p(a, b)
    value = (a * p.mult_a + b * p.mult_b + p.bias >> p.bits) + p.zp_out
    return np.clip(value, p.lo, p.hi).astype(np.int8)


def _multiply(p: ProductIntegers, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    rule = requant_twice if p.twice else requant
    return int8(rule((a - p.zp_a) * (b - p.zp_b), *p.factor) + p.zp_out)


def sum_constants(graph: Graph, op: Op, p: SumIntegers | tflm.Sum, name: str) -> str:
    """Define an mcu_sum, or mcu_sum_twice."""
    if isinstance(p, tflm.Sum):
        return (
            f"static const mcu_sum_twice {name} = {{.mult_a = {p.a.mult}, .mult_b = {p.b.mult}, .mult = {p.out.mult},\n"
            f"    .c = {op.cout}, .right_a = {-p.a.shift}, .right_b = {-p.b.shift}, .right = {-p.out.shift},\n"
            f"    .zp_a = {p.zp_a}, .zp_b = {p.zp_b}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi}}};\n\n"
        )
    return (
        f"static const mcu_sum {name} = {{.mult_a = {p.mult_a}, .mult_b = {p.mult_b}, .bias = {p.bias},\n"
        f"    .c = {op.cout}, .bits = {p.bits}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi}}};\n\n"
    )


def product_constants(graph: Graph, op: Op, p: ProductIntegers, name: str) -> str:
    """Define an mcu_product."""
    return (
        f"static const mcu_product {name} = {{.factor = {c_text.factor(p.factor)},\n"
        f"    .c = {op.cout}, .zp_a = {p.zp_a}, .zp_b = {p.zp_b}, .zp_out = {p.zp_out}}};\n\n"
    )


def _of_two(
    integers: Callable[[QuantModel, Op], Integers],
    function: Callable[[Integers, np.ndarray, np.ndarray], np.ndarray],
    constants: Callable[[Graph, Op, Integers, str], str],
) -> Operator:
    """Return the operator of a function of two values, int64 -> int8, that rises or falls with each."""

    def run(op: Op, p: Integers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
        return function(p, crop(reads[0], y, x).astype(np.int64), second(reads[1], y, x))

    def interval(graph: Graph, op: Op, p: Integers, reads: list[Interval]) -> Interval:
        corners = np.stack([function(p, a, b) for a in reads[0] for b in reads[1]]).astype(np.int64)
        return corners.min(0), corners.max(0)

    return Operator(integers, run, interval, constants, ("source", "second", "out"))


OPERATORS = {
    "add": _of_two(sum_integers, _add, sum_constants),
    "mul": _of_two(product_integers, _multiply, product_constants),
}
