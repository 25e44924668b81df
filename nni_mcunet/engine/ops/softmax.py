"""Compute and print the softmax over the channels of each position, in steps of 1/256."""

from dataclasses import dataclass

import numpy as np

from ...core.errors import GraphError
from ...core.ir.graph import Graph, Op
from ...core.plan.segments import Axis
from ..model import QuantModel
from . import c_text, tflm
from .operator import Interval, Operator
from .requantise import INT32, int8
from .windows import any_value, crop

MAX_EXP_BITS = 22
MAX_TWICE = 511  # channels of which TensorFlow Lite's sum of exps has bits for the quotient


@dataclass(frozen=True)
class ExpIntegers:
    """Hold the fields of mcu_exp: table[d] = exp(-d * scale) for a difference d to the maximum, uint32 (256,). Each has
    as many fraction bits as the sum over all channels has room for, or 31 as TensorFlow Lite has them."""

    table: np.ndarray


def integers(model: QuantModel, op: Op) -> ExpIntegers:
    """Tabulate exp. The kernel rounds (512 * e + sum) / (2 * sum): 512 * e <= 2^31 and sum < 2^31 by the choice of
    bits."""
    if op.twice:
        if op.cout > MAX_TWICE:
            raise GraphError(f"{op.name}: a softmax of {op.cout} channels, of which TensorFlow Lite's rounding holds "
                             f"{MAX_TWICE}; end the model before it")  # fmt: skip
        return ExpIntegers(tflm.exp_table(model.scales[op.inputs[0]], 1.0).astype(np.uint32))
    bits = min(MAX_EXP_BITS, ((INT32 - 1) // op.cout).bit_length() - 1)
    value = np.exp(-model.scales[op.inputs[0]].scale * np.arange(256.0))
    return ExpIntegers(np.floor(value * 2**bits + 0.5).astype(np.uint32))


def run(op: Op, p: ExpIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_softmax: probabilities in steps of 1/256, zero being -128."""
    if op.twice:
        return tflm.softmax(p.table.astype(np.int64), crop(reads[0], y, x))
    value = crop(reads[0], y, x).astype(int)
    exps = p.table[value.max(2, keepdims=True) - value].astype(np.int64)
    total = exps.sum(2, keepdims=True)
    return int8((512 * exps + total) // (2 * total) - 128)


def interval(graph: Graph, op: Op, p: ExpIntegers, reads: list[Interval]) -> Interval:
    """Return all of int8: a channel's probability depends on all others."""
    return any_value(op.cout)


def constants(graph: Graph, op: Op, p: ExpIntegers, name: str) -> str:
    """Define an mcu_exp."""
    table = c_text.array("uint32_t", f"{name}_table", p.table)
    return f"{table}static const mcu_exp {name} = {{.table = {name}_table, .c = {op.cout}}};\n\n"


OPERATORS = {"softmax": Operator(integers, run, interval, constants)}
