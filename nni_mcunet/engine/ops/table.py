"""Look values up in a table of 256: activations, changes of scale, and concatenations, a call for each input."""

from dataclasses import dataclass

import numpy as np

from ...core.errors import GraphError
from ...core.ir.activations import ACTS
from ...core.ir.graph import Graph, Op
from ...core.plan.segments import Axis
from ..model import QuantModel, Scale
from . import c_text
from .operator import Interval, Operator
from .requantise import steps
from .windows import crop


@dataclass(frozen=True)
class TableIntegers:
    """Hold the fields of mcu_table: out = table[q + 128], int8 (256,), or one a channel, (c, 256); or out = q where it
    is None."""

    table: np.ndarray | None


def act_integers(model: QuantModel, op: Op) -> TableIntegers:
    """Tabulate the activation, unless the model has the table. Raises GraphError where it is not finite on its input's
    range."""
    if op.name in model.tables:
        return TableIntegers(model.tables[op.name])
    x, y = model.scales[op.inputs[0]], model.scales[op.name]
    real = _reals(x)
    with np.errstate(all="ignore"):
        value = real if op.act is None else ACTS[op.act](real, *op.args)
    if not np.isfinite(value).all():
        raise GraphError(f"{op.name}: '{op.act}' with the arguments {op.args} is not finite on its input's range; "
                         "clamp the input before it")  # fmt: skip
    return TableIntegers(steps(value, y).astype(np.int8))


def concat_integers(model: QuantModel, op: Op) -> tuple[TableIntegers, ...]:
    """Tabulate the change of scale of each input; those of the output's own scale need no table."""
    y = model.scales[op.name]

    def table(x: Scale) -> np.ndarray | None:
        return None if x == y else steps(_reals(x), y).astype(np.int8)

    return tuple(TableIntegers(table(model.scales[name])) for name in op.inputs)


def _reals(x: Scale) -> np.ndarray:
    return (np.arange(-128, 128) - x.zero_point) * x.scale


def run(op: Op, p: TableIntegers, reads: list[np.ndarray], y: Axis, x: Axis) -> np.ndarray:
    """Compute mcu_act, or mcu_concat: the channels of one input."""
    data = crop(reads[0], y, x)
    if p.table is None:
        return data
    at = data.astype(int) + 128
    return p.table[at] if p.table.ndim == 1 else p.table[np.arange(len(p.table)), at]


def act_interval(graph: Graph, op: Op, p: TableIntegers, reads: list[Interval]) -> Interval:
    """Bound by the part of the table that lies between the ends."""
    return _looked_up(p, reads[0])


def concat_interval(graph: Graph, op: Op, p: tuple[TableIntegers, ...], reads: list[Interval]) -> Interval:
    """Bound each input's channels by its own table."""
    parts = [_looked_up(part, ends) for part, ends in zip(p, reads, strict=True)]
    low, high = (np.concatenate(ends) for ends in zip(*parts, strict=True))
    return low, high


def _looked_up(p: TableIntegers, ends: Interval) -> Interval:
    if p.table is None:
        return ends
    tables = np.broadcast_to(p.table, (len(ends[0]), 256))
    runs = [table[lo + 128 : hi + 129].astype(np.int64) for table, lo, hi in zip(tables, *ends, strict=True)]
    return np.array([run.min() for run in runs]), np.array([run.max() for run in runs])


def act_constants(graph: Graph, op: Op, p: TableIntegers, name: str) -> str:
    """Define an mcu_table."""
    assert p.table is not None  # only a part of a concat has none
    table = c_text.array("int8_t", f"{name}_table", p.table)
    return f"{table}static const mcu_table {name} = {{.table = {name}_table, .c = {op.cout}}};\n\n"


def concat_constants(graph: Graph, op: Op, p: tuple[TableIntegers, ...], name: str) -> str:
    """Define an array of mcu_table, one for each input."""
    tables, rows, at = [], [], 0
    for i, (source, part) in enumerate(zip(op.inputs, p, strict=True)):
        table, c = "0", graph.tensors[source].c
        if part.table is not None:
            table = f"{name}_table{i}"
            tables.append(c_text.array("int8_t", table, part.table))
        rows.append(f"    {{.table = {table}, .c = {c}, .cout = {op.cout}, .at = {at}}}")
        at += c
    body = ",\n".join(rows)
    return f"{''.join(tables)}static const mcu_table {name}[{len(p)}] = {{\n{body}}};\n\n"


OPERATORS = {
    "act": Operator(act_integers, run, act_interval, act_constants),
    "concat": Operator(concat_integers, run, concat_interval, concat_constants),
}
