"""Quantisation: calibration, integer weights, and the single rounding rule. Format of Jacob et al. 2018: activations
int8 with a scale and zero point per tensor, weights int8 symmetric per output channel, bias int32.

A convolution's result is rounded once: out = zp + floor(acc * M + 1/2), M a 31-bit multiplier with a shift (TFLite's
single rounding). `integers()` turns scales into these multipliers, proving that no 32-bit intermediate overflows; the
numpy reference and the generated C both read its result and nothing else.
"""

from dataclasses import dataclass, field

import numpy as np

from ..core.errors import GraphError
from ..core.graph import Graph, Op

MAX_RESIDUAL_BITS = 16


@dataclass(frozen=True)
class Model:
    """A float network: weights[conv] = (weight (cout, cin/groups, kh, kw), bias (cout,)) float32; meta: plain data that
    travels with it (input normalisation, detector post-processing)."""

    graph: Graph
    weights: dict[str, tuple[np.ndarray, np.ndarray]]
    meta: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """real = scale * (q - zero_point), q in -128..127."""

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """The finest scale that represents [low, high] and zero exactly."""
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        if not np.isfinite([low, high]).all():
            raise GraphError(f"a calibrated range is {low}..{high}: the network gives no finite values on these images")
        scale = float(np.float32(max(high - low, 1e-6) / 255))
        return cls(scale, int(np.clip(round(-128 - low / scale), -128, 127)))

    def quantize(self, x: np.ndarray) -> np.ndarray:
        return np.clip(np.round(x / self.scale) + self.zero_point, -128, 127).astype(np.int8)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        return (q.astype(np.float32) - self.zero_point) * np.float32(self.scale)


PIXELS = Scale(float(np.float32(1 / 255)), -128)  # of the image: real = byte / 255, q = byte - 128


@dataclass(frozen=True)
class QuantWeights:
    """weight int8 (cout, cin/groups, kh, kw), scale float32 (cout,), bias int32 (cout,) in steps of input * scale."""

    weight: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class QuantModel:
    """An int8 network: scales[tensor] for every tensor of the graph, weights[conv]."""

    graph: Graph
    scales: dict[str, Scale]
    weights: dict[str, QuantWeights]
    meta: dict = field(default_factory=dict)


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


def quantize(model: Model, ranges: dict[str, tuple[float, float]]) -> QuantModel:
    """Int8 model from a float one and the (low, high) of every tensor on calibration images. The image's own range is
    fixed: real = uint8 / 255, q = uint8 - 128."""
    graph, scales, weights = model.graph, {}, {}
    for tensor in graph.inputs:
        scales[tensor.name] = PIXELS
    for op in graph.ops:
        if op.kind in ("maxpool", "upsample"):
            scales[op.name] = scales[op.inputs[0]]
            continue
        scales[op.name] = Scale.of_range(*ranges[op.name])
        if op.kind == "conv":
            weights[op.name] = _quantize_weights(*model.weights[op.name], scales[op.inputs[0]].scale)
    return QuantModel(graph, scales, weights, model.meta)


def _quantize_weights(weight: np.ndarray, bias: np.ndarray, input_scale: float) -> QuantWeights:
    largest = np.abs(weight).max((1, 2, 3)).astype(np.float64)
    # A near-dead channel with a large bias would overflow its int32: the bias sets a floor for the scale.
    floor = np.abs(bias.astype(np.float64)) / (input_scale * 2**24)
    scale = np.maximum(np.maximum(largest / 127, floor), 1e-12).astype(np.float32)
    integers = np.clip(np.round(weight / scale[:, None, None, None]), -127, 127).astype(np.int8)
    return QuantWeights(
        integers, scale, np.round(bias / (input_scale * scale.astype(np.float64))).astype(np.int64).astype(np.int32)
    )


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
