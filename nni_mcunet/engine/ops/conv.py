"""Compute and print convolutions: dense, 1x1, depth-wise and grouped, with a residual and a clamp. A fully connected
layer is a 1x1 one.

Four kernels share one struct, mcu_conv; which of them runs an op is kernel_facts.kernel_of's answer.
"""

from dataclasses import dataclass, replace

import numpy as np

from ...core.errors import GraphError
from ...core.ir.graph import Graph, Op
from ...core.plan.kernel_facts import kernel_of
from ...core.plan.segments import Axis
from ...core.plan.tiles import Span, window
from ...core.types import PlainDict
from ..model import QuantModel, Scale
from . import c_text
from .fixed_point import Multiplier
from .operator import Interval, Operator
from .requantise import INT32, ScaleError, clamp, coarser, grow, multiplier, requant, requant_twice, twice
from .weight_packing import RAW, pack_channels, pack_weights
from .windows import second, windows

MAX_RESIDUAL_BITS = 16
CONSTANT_BITS = 8  # fraction bits of the sum of a channel that is one value
LAID_OUT = ("conv_pw", "conv_dense")  # kernels that there are of weights in other orders
MOST_LEFT = 8  # left shift of a depth-wise weight, which has 16 bits then
MAX_PLAIN = 21  # right shift of the assembly that rounds twice, see mcu_dsp.h


@dataclass(frozen=True)
class ConvIntegers:
    """Hold the fields of mcu_conv: bias with -zp_in * sum(weight) folded in, multipliers and shifts per channel, the
    clamp, and the residual's part (res_bits = 0: none). twice: which rule the multipliers are for, see
    requantise.py; lie: "raw" or "rows" where its kernel is to be mcu_conv_*_raw or mcu_conv_*_rows."""

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
    twice: bool = False
    lie: str = ""


def integers(model: QuantModel, op: Op) -> ConvIntegers:
    """Fold the input's zero point into the bias and find the multipliers. Raises ScaleError beyond 32 bits."""
    q, x, y = model.weights[op.name], model.scales[op.inputs[0]], model.scales[op.name]
    weight = q.weight.astype(np.int64)
    bias = q.bias.astype(np.int64) - x.zero_point * weight.sum((1, 2, 3))
    # |acc| over every input: weights times the farthest int8 from zero, and the folded bias with each partial sum.
    bound = np.abs(weight).sum((1, 2, 3)) * 128 + np.abs(bias)
    real = x.scale * q.scale.astype(np.float64) / y.scale
    lo, hi = clamp(op, y)
    common = dict(weight=q.weight, bias=bias.astype(np.int32), zp_in=x.zero_point, zp_out=y.zero_point, lo=lo, hi=hi)
    if op.twice:
        return _of_constants(_twice(op, real, bound, common))
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
        op.name, f"{fact} {y.scale:g}", coarser(op, y, max(grow(2 * real, bound), r.scale / y.scale / 2**21))
    )


def _twice(op: Op, real: np.ndarray, bound: np.ndarray, common: PlainDict) -> ConvIntegers:
    found = [twice(op, Multiplier.of(value), most) for value, most in zip(real, bound.tolist(), strict=True)]
    mult, left, right = (np.array(column, np.int64) for column in zip(*found, strict=True))
    return ConvIntegers(**common, mult=mult, left=left, right=right, twice=True)


def _of_constants(p: ConvIntegers) -> ConvIntegers:
    """Give channels that are one value, whatever the picture, sums and shifts that the assembly takes. TensorFlow's
    converter gives a channel of all but dead weights a bias of 2^30."""
    reach = np.abs(p.weight.astype(np.int64)).sum((1, 2, 3)) * 128
    ends = [requant_twice(p.bias + side * reach, p.mult, p.left, p.right) for side in (-1, 1)]
    slow = (p.left == 0) | (p.right > MAX_PLAIN)
    at = slow & (ends[0] == ends[1]) & (np.abs(ends[0]) < 2**16)
    weight = np.where(at[:, None, None, None], 0, p.weight)
    bias = np.where(at, ends[0] << CONSTANT_BITS, p.bias).astype(np.int32)
    mult, left = np.where(at, 2**30, p.mult), np.where(at, 1, p.left)
    right = np.where(at, CONSTANT_BITS - 1, p.right)
    return replace(p, weight=weight, bias=bias, mult=mult, left=left, right=right)


def raw(graph: Graph, op: Op, p: ConvIntegers) -> ConvIntegers:
    """Return `p` for mcu_conv_*_raw where that kernel gives the same result for every input, as it is elsewhere: see
    mcu.h."""
    if kernel_of(graph, op) not in LAID_OUT or p.twice:
        return p
    weight, mult, right = p.weight.astype(np.int64), p.mult.copy(), p.right.copy()
    reach = np.abs(weight).sum(axis=(1, 2, 3)) * 128
    for c in range(1, op.cout, 2):
        if weight[c].min() < -127 or reach[c] + abs(int(p.bias[c])) >= 2 ** (31 - RAW) or p.left[c] > RAW:
            return p
        most = int(p.left[c]) - RAW + 31 - abs(2 * p.zp_out + 1).bit_length()  # half a step stays below 2^30
        if right[c] > most:
            mult[c], right[c] = mult[c] + (1 << right[c] - most - 1) >> right[c] - most, most
            if not _is_same(p, c, int(reach[c]), int(mult[c]), most):
                return p
    return replace(p, mult=mult, right=right, lie="raw")


def rows(graph: Graph, op: Op, p: ConvIntegers) -> ConvIntegers:
    """Return `p` for mcu_conv_*_rows where there is that kernel."""
    once = p.twice and (p.right < 1).any()  # a channel whose second rounding has nothing to round
    return p if kernel_of(graph, op) not in LAID_OUT or once else replace(p, lie="rows")


def form(graph: Graph, op: Op, p: ConvIntegers, lie: str, most: tuple[int, int]) -> str:
    """Return what the name of the function for `op` ends with: the order of its weights, or "_one" and
    "_fast" for a core with the DSP extension, which need less code than the function that can do all; see mcu.h. lie:
    the order that the core wants; most: rows and columns of the largest patch."""
    kernel = kernel_of(graph, op)
    if p.lie:
        return f"_{p.lie}"
    if lie != "raw":
        return ""
    if kernel == "conv_pw" and most == (1, 1) and not p.twice:
        return "_one"
    return "_fast" * (kernel == "conv_dw" and _is_fast(op, p))


def _is_fast(op: Op, p: ConvIntegers) -> bool:
    """Say what mcu_dw_is_fast in mcu_dw_dsp.c says, and that there is no residual."""
    shifts = p.left.min() >= p.twice and p.left.max() <= MOST_LEFT and (not p.twice or p.right.max() <= MAX_PLAIN)
    square = op.k[0] == op.k[1] and op.k[0] in (3, 5, 7) and max(op.s) <= 2
    return bool(square and shifts and (not p.twice or p.right.min() >= 1) and op.residual is None)


def _is_same(p: ConvIntegers, c: int, reach: int, mult: int, right: int) -> bool:
    """Say whether another multiplier rounds every sum of channel c to the same value: at both ends, and on both sides
    of each step between them."""
    old, left, lo, hi = int(p.mult[c]), int(p.left[c]), int(p.bias[c]) - reach, int(p.bias[c]) + reach
    ends = requant(np.array([lo, hi]), old, left, int(p.right[c])).tolist()
    if not mult:
        return ends == [0, 0]
    steps = [-((1 - 2 * v << 31 + int(p.right[c]) - left) // old) for v in range(ends[0] + 1, ends[1] + 1)]
    at = np.array([lo, hi, *steps, *(step - 1 for step in steps)], np.int64)
    return bool((requant(at, old, left, int(p.right[c])) == requant(at, mult, left, right)).all())


def _multipliers(op: Op, real: np.ndarray, bound: np.ndarray, y: Scale) -> tuple[np.ndarray, ...]:
    factors = [multiplier(value) for value in real]
    for channel, (value, factor, most) in enumerate(zip(real, factors, bound.tolist(), strict=True)):
        if most >= INT32:
            raise ScaleError(
                op.name, f"its channel {channel} sums to {most:,}, beyond 32 bits: its bias outgrows its weights",
                "quantise the float model again, with a coarser scale for the weights of this channel",
            )  # fmt: skip
        if most << factor.left >= INT32:
            fact = f"its channel {channel} sums to {most:,}, which times {value:.4g} needs more than 32 bits"
            raise ScaleError(op.name, f"{fact}: its scale {y.scale:g} is too fine", coarser(op, y, grow(real, bound)))
    return tuple(np.array(column, np.int64) for column in zip(*factors, strict=True))


def run(op: Op, p: ConvIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_conv_*. float64 holds every sum of int8 products exactly and reaches BLAS."""
    data, g = windows(op, reads[0], y, x, p.zp_in), op.groups
    n, cin = y.n_out * x.n_out, data.shape[-1] // g
    taps = data.reshape(n, -1, g, cin).transpose(2, 0, 1, 3).reshape(g, n, -1).astype(np.float64)
    weight = p.weight.reshape(g, -1, cin, *op.k).transpose(0, 3, 4, 2, 1).reshape(g, -1, op.cout // g)
    acc = (taps @ weight.astype(np.float64)).transpose(1, 0, 2)
    acc = acc.reshape(y.n_out, x.n_out, op.cout).astype(np.int64) + p.bias
    return result(p, acc, None if op.residual is None else second(reads[1], y, x))


def result(p: ConvIntegers, acc: np.ndarray, residual: np.ndarray | None) -> np.ndarray:
    """Round accumulators and the residual's values, int64 (..., cout), to int8. The result rises with both."""
    value = (requant_twice if p.twice else requant)(acc, p.mult, p.left, p.right)
    if residual is not None:
        value = value + (residual - p.res_zp) * p.res_mult + (1 << (p.res_bits - 1)) >> p.res_bits
    return np.clip(value + p.zp_out, p.lo, p.hi).astype(np.int8)


def interval(graph: Graph, op: Op, p: ConvIntegers, reads: list[Interval]) -> Interval:
    """Bound the sums over all sets of taps that lie inside the input; one outside counts as zp_in, with which `bias`
    begins."""
    lo, hi = (end.reshape(op.groups, -1) - p.zp_in for end in reads[0])
    weight = p.weight.astype(np.int64).reshape(op.groups, op.cout // op.groups, -1, *op.k)
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    taps = [_per_tap(up, lo) + _per_tap(down, hi), _per_tap(up, hi) + _per_tap(down, lo)]  # (cout, kh, kw) each
    base = p.bias + p.zp_in * weight.sum((2, 3, 4)).ravel()
    residual = reads[1] if op.residual is not None else (None, None)
    inside, ends = [_inside(graph, op, axis) for axis in (0, 1)], []
    for of_taps, skip in zip(taps, residual, strict=True):
        acc = [base + of_taps[:, rows, cols].sum((1, 2)) for rows in inside[0] for cols in inside[1]]
        ends.append(result(p, np.stack(acc), skip).astype(np.int64))
    return ends[0].min(0), ends[1].max(0)


def _per_tap(weight: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Sum (groups, outputs, inputs, kh, kw) times (groups, inputs) over the inputs: (cout, kh, kw)."""
    return np.einsum("goikl,gi->gokl", weight, end).reshape(-1, *weight.shape[3:])


def _inside(graph: Graph, op: Op, axis: int) -> list[slice]:
    """Return the runs of taps along an axis that lie inside the input, of every window."""
    x, y = graph.input_of(op), graph.tensors[op.name]
    n_in, n_out = ((x.h, y.h), (x.w, y.w))[axis]
    starts = (window(op, Span(i, i + 1), axis).lo for i in range(n_out))
    runs = {(min(max(-start, 0), op.k[axis]), max(min(n_in - start, op.k[axis]), 0)) for start in starts}
    return [slice(first, end) for first, end in sorted(runs)]


def constants(graph: Graph, op: Op, p: ConvIntegers, name: str) -> str:
    """Define an mcu_conv with its weights and pairs of channels."""
    depthwise = kernel_of(graph, op) == "conv_dw"
    weights = p.weight if depthwise else pack_weights(p.weight, op.groups, p.lie)
    pairs = pack_channels(p.bias, p.mult, p.left, p.right + p.twice, 1 if depthwise else op.groups, p.lie == "raw")
    return c_text.array("int8_t", f"{name}_w", weights) + (
        f"static const mcu_pair {name}_p[{len(pairs)}] = {{\n    {pair_rows(pairs)}}};\n"
        f"static const mcu_conv {name} = {{\n"
        f"    .cin = {graph.input_of(op).c}, .cout = {op.cout}, .groups = {op.groups}, {c_text.window(op)},\n"
        f"    .zp_in = {p.zp_in}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi},"
        f" .res_zp = {p.res_zp}, .res_bits = {p.res_bits}, .res_mult = {p.res_mult},\n"
        f"    .weights = {name}_w, .pairs = {name}_p}};\n\n"
    )


def pair_rows(pairs: np.ndarray) -> str:
    """Print weight_packing.PAIR records as initialisers of mcu_pair."""
    return ",\n    ".join(f"{{{', '.join(f'{{{a}, {b}}}' for a, b in pair)}}}" for pair in pairs.tolist())


OPERATORS = {"conv": Operator(integers, run, interval, constants, ("source", "second", "out", "scratch"))}
