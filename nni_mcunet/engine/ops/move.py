"""Print and compute copies to other places: chosen channels (take), positions as channels (space_to_depth) and channels
as positions (depth_to_space). They share the struct mcu_move and round nothing."""

from dataclasses import dataclass

import numpy as np

from ...core.ir.graph import Graph, Op
from ...core.plan.kernel_facts import is_run
from ...core.plan.segments import Axis
from ..model import QuantModel
from . import c_text
from .operator import Interval, Operator


@dataclass(frozen=True)
class MoveIntegers:
    """Hold the field of mcu_move that the scales say: what zero is."""

    zp: int


def integers(model: QuantModel, op: Op) -> MoveIntegers:
    """Find the zero point."""
    return MoveIntegers(model.scales[op.name].zero_point)


def _chosen(op: Op, data: np.ndarray, zero: int) -> np.ndarray:
    """Return the channels of a take, those of data (..., c); `zero` for -1."""
    return np.concatenate([data, np.full_like(data[..., :1], zero)], -1)[..., list(op.channels)]


def take(op: Op, p: MoveIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_take."""
    rows, cols = y.first + np.arange(y.n_out) * op.s[0], x.first + np.arange(x.n_out) * op.s[1]
    return _chosen(op, reads[0][rows][:, cols], p.zp)


def space_to_depth(op: Op, p: MoveIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_space_to_depth."""
    rows, cols = y.first + np.arange(y.n_out * op.s[0]), x.first + np.arange(x.n_out * op.s[1])
    blocks = reads[0][rows][:, cols].reshape(y.n_out, op.s[0], x.n_out, op.s[1], -1)
    return blocks.transpose(0, 2, 1, 3, 4).reshape(y.n_out, x.n_out, op.cout)


def depth_to_space(op: Op, p: MoveIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_depth_to_space."""
    rows, cols = y.first + np.arange(y.n_out)[:, None], x.first + np.arange(x.n_out)[None]
    parts = reads[0].reshape(*reads[0].shape[:2], *op.s, op.cout)
    return parts[rows // op.s[0], cols // op.s[1], rows % op.s[0], cols % op.s[1]]


def take_interval(graph: Graph, op: Op, p: MoveIntegers, reads: list[Interval]) -> Interval:
    """Bound each channel as the one that it copies."""
    low, high = (_chosen(op, end, p.zp) for end in reads[0])
    return low, high


def space_to_depth_interval(graph: Graph, op: Op, p: MoveIntegers, reads: list[Interval]) -> Interval:
    """Bound the parts of a block alike."""
    low, high = (np.tile(end, op.s[0] * op.s[1]) for end in reads[0])
    return low, high


def depth_to_space_interval(graph: Graph, op: Op, p: MoveIntegers, reads: list[Interval]) -> Interval:
    """Bound each channel by all parts of a block."""
    low, high = (end.reshape(-1, op.cout) for end in reads[0])
    return low.min(0), high.max(0)


def constants(graph: Graph, op: Op, p: MoveIntegers, name: str) -> str:
    """Define an mcu_move, with the table of a take whose channels are no run."""
    table = op.kind == "take" and not is_run(op.channels)
    array = c_text.array("int16_t", f"{name}_channels", np.array(op.channels)) if table else ""
    return (
        f"{array}static const mcu_move {name} = {{.c = {graph.input_of(op).c}, .cout = {op.cout}, .from ="
        f" {max(op.channels[0], 0) if op.channels else 0}, .sh = {op.s[0]}, .sw = {op.s[1]},\n"
        f"    .zp = {p.zp}, .channels = {f'{name}_channels' if table else 0}}};\n\n"
    )


OPERATORS = {
    "take": Operator(integers, take, take_interval, constants),
    "space_to_depth": Operator(integers, space_to_depth, space_to_depth_interval, constants),
    "depth_to_space": Operator(integers, depth_to_space, depth_to_space_interval, constants),
}
