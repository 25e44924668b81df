"""Compute and print attention: the products of positions with positions (attention_scores) and the sum of positions by
their weights (attention_sum), head by head. The softmax between them is an op of its own. They share the struct
mcu_attention.
"""

from dataclasses import dataclass

import numpy as np

from ...core.ir.graph import Graph, Op
from ...core.plan.segments import Axis
from ..model import QuantModel
from . import c_text
from .operator import Interval, Operator
from .requantise import Factor, factors, int8, requant


@dataclass(frozen=True)
class AttentionIntegers:
    """Hold the fields of mcu_attention that the scales say: out = clamp(zp_out + requant(sum of (a - zp_a) * (b -
    zp_b)))."""

    zp_a: int
    zp_b: int
    zp_out: int
    factor: Factor

    def rounded(self, total: np.ndarray) -> np.ndarray:
        """Return the int8 results of sums."""
        return int8(requant(total, *self.factor) + self.zp_out)


def integers(model: QuantModel, op: Op) -> AttentionIntegers:
    """Find the multiplier. Raises ScaleError beyond 32 bits."""
    (a, b), y = (model.scales[name] for name in op.inputs), model.scales[op.name]
    (factor,) = factors(op, [a.scale * b.scale / y.scale], [255 * 255 * _terms(model.graph, op)], y)
    return AttentionIntegers(a.zero_point, b.zero_point, y.zero_point, factor)


def _terms(graph: Graph, op: Op) -> int:
    """Count the products in a sum: the depth of a head, or the positions."""
    channels = graph.input_of(op).c
    return channels // op.groups if op.kind == "attention_scores" else channels


def _heads(op: Op, data: np.ndarray, zero: int) -> np.ndarray:
    """Return a map (h, w, c) as (positions, heads, depth) less its zero point."""
    return data.reshape(-1, op.groups, data.shape[-1] // op.groups).astype(np.int64) - zero


def scores(op: Op, p: AttentionIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_attention_scores."""
    query, key = _heads(op, reads[0], p.zp_a), _heads(op, reads[1], p.zp_b)
    return p.rounded(np.einsum("pgi,jgi->pgj", query, key))


def weighted(op: Op, p: AttentionIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_attention_sum."""
    value = _heads(op, reads[1], p.zp_b)
    total = np.einsum("pgj,jgi->pgi", reads[0].astype(np.int64) - p.zp_a, value)
    return p.rounded(total).reshape(y.n_out, x.n_out, op.cout)


def _products(a: Interval, b: Interval) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest products of values within bounds."""
    corners = np.stack([one * other for one in a for other in b])
    return corners.min(0), corners.max(0)


def _less(bounds: Interval, zero: int) -> Interval:
    low, high = bounds
    return low.astype(np.int64) - zero, high.astype(np.int64) - zero


def scores_interval(graph: Graph, op: Op, p: AttentionIntegers, reads: list[Interval]) -> Interval:
    """Bound a score by those of all heads."""
    ends = _products(_less(reads[0], p.zp_a), _less(reads[1], p.zp_b))
    low, high = (end.reshape(op.groups, -1).sum(1) for end in ends)
    same = np.ones(op.cout, np.int64)
    return p.rounded(low.min()) * same, p.rounded(high.max()) * same


def weighted_interval(graph: Graph, op: Op, p: AttentionIntegers, reads: list[Interval]) -> Interval:
    """Bound a channel by its own values under all weights."""
    weights, values = _less(reads[0], p.zp_a), _less(reads[1], p.zp_b)
    column = weights[0][:, None], weights[1][:, None]
    low, high = (end.sum(0) for end in _products(column, values))
    return p.rounded(low).astype(np.int64), p.rounded(high).astype(np.int64)


def constants(graph: Graph, op: Op, p: AttentionIntegers, name: str) -> str:
    """Define an mcu_attention."""
    value = graph.tensors[op.inputs[1]]
    return (
        f"static const mcu_attention {name} = {{.factor = {c_text.factor(p.factor)},\n"
        f"    .heads = {op.groups}, .depth = {value.c // op.groups}, .zp_a = {p.zp_a}, .zp_b = {p.zp_b},"
        f" .zp_out = {p.zp_out}}};\n\n"
    )


OPERATORS = {
    "attention_scores": Operator(integers, scores, scores_interval, constants, ("source", "second", "out")),
    "attention_sum": Operator(integers, weighted, weighted_interval, constants, ("source", "second", "out")),
}
