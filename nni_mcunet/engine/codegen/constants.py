"""Integers -> mcu_weights.h: the arrays and the struct of every op. Formats, decides nothing."""

import numpy as np

from ...core.ir.graph import Op
from ...core.plan.kernel_facts import kernel_of
from ..lower.integers import (
    ConvIntegers,
    ExpIntegers,
    Factor,
    PoolIntegers,
    ProductIntegers,
    SumIntegers,
    TableIntegers,
)
from ..ops.weight_packing import pack_channels, pack_weights
from .names import Names, commented


def params(names: Names, op: Op, p) -> str:
    """C of one op, p being its integers, under its name for the user."""
    body = _concat if isinstance(p, tuple) else OF_CLASS[type(p)]
    return f"/* {commented(op.name)} */\n{body(names, op, p)}"


def _conv(names: Names, op: Op, p: ConvIntegers) -> str:
    name, depthwise = names.of(op.name), kernel_of(names.graph, op) == "conv_dw"
    weights = p.weight if depthwise else pack_weights(p.weight, op.groups)
    pairs = pack_channels(p.bias, p.mult, p.left, p.right, 1 if depthwise else op.groups)
    return _array("int8_t", f"{name}_w", weights) + (
        f"static const mcu_pair {name}_p[{len(pairs)}] = {{\n    {pair_rows(pairs)}}};\n"
        f"static const mcu_conv {name} = {{\n"
        f"    .cin = {names.graph.input_of(op).c}, .cout = {op.cout}, .groups = {op.groups}, {_window(op)},\n"
        f"    .zp_in = {p.zp_in}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi},"
        f" .res_zp = {p.res_zp}, .res_bits = {p.res_bits}, .res_mult = {p.res_mult},\n"
        f"    .weights = {name}_w, .pairs = {name}_p}};\n\n"
    )


def pair_rows(pairs: np.ndarray) -> str:
    """pack.PAIR records as initialisers of mcu_pair."""
    return ",\n    ".join(f"{{{', '.join(f'{{{a}, {b}}}' for a, b in pair)}}}" for pair in pairs.tolist())


def _pool(names: Names, op: Op, p: PoolIntegers) -> str:
    name = names.of(op.name)
    border = f"{name}_border" if p.border else "0"
    rows = ", ".join(map(_factor, p.border))
    return (f"static const mcu_factor {border}[{len(p.border)}] = {{{rows}}};\n" if p.border else "") + (
        f"static const mcu_pool {name} = {{.c = {op.cout}, {_window(op)}, .zp_in = {p.zp_in},"
        f" .zp_out = {p.zp_out},\n    .mean = {_factor(p.mean)}, .border = {border}}};\n\n"
    )


def _sum(names: Names, op: Op, p: SumIntegers) -> str:
    return (
        f"static const mcu_sum {names.of(op.name)} = {{.mult_a = {p.mult_a}, .mult_b = {p.mult_b}, .bias = {p.bias},\n"
        f"    .c = {op.cout}, .bits = {p.bits}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi}}};\n\n"
    )


def _product(names: Names, op: Op, p: ProductIntegers) -> str:
    return (
        f"static const mcu_product {names.of(op.name)} = {{.factor = {_factor(p.factor)},\n"
        f"    .c = {op.cout}, .zp_a = {p.zp_a}, .zp_b = {p.zp_b}, .zp_out = {p.zp_out}}};\n\n"
    )


def _act(names: Names, op: Op, p: TableIntegers) -> str:
    name = names.of(op.name)
    table = _array("int8_t", f"{name}_table", p.table)
    return f"{table}static const mcu_table {name} = {{.table = {name}_table, .c = {op.cout}}};\n\n"


def _concat(names: Names, op: Op, parts: tuple[TableIntegers, ...]) -> str:
    """An array of structs, one for each input."""
    name, tables, rows, at = names.of(op.name), [], [], 0
    for i, (source, part) in enumerate(zip(op.inputs, parts, strict=True)):
        table, c = "0", names.graph.tensors[source].c
        if part.table is not None:
            table = f"{name}_table{i}"
            tables.append(_array("int8_t", table, part.table))
        rows.append(f"    {{.table = {table}, .c = {c}, .cout = {op.cout}, .at = {at}}}")
        at += c
    body = ",\n".join(rows)
    return f"{''.join(tables)}static const mcu_table {name}[{len(parts)}] = {{\n{body}}};\n\n"


def _exp(names: Names, op: Op, p: ExpIntegers) -> str:
    name = names.of(op.name)
    table = _array("uint32_t", f"{name}_table", p.table)
    return f"{table}static const mcu_exp {name} = {{.table = {name}_table, .c = {op.cout}}};\n\n"


OF_CLASS = {
    ConvIntegers: _conv,
    PoolIntegers: _pool,
    SumIntegers: _sum,
    ProductIntegers: _product,
    TableIntegers: _act,
    ExpIntegers: _exp,
}


def _window(op: Op) -> str:
    return f".kh = {op.k[0]}, .kw = {op.k[1]}, .sh = {op.s[0]}, .sw = {op.s[1]}"


def _factor(f: Factor) -> str:
    return f"{{{f.mult}, {f.left}, {f.right}}}"


def _array(ctype: str, name: str, values: np.ndarray) -> str:
    flat = [str(int(v)) for v in np.asarray(values).ravel()]
    rows = [",".join(flat[i : i + 32]) for i in range(0, len(flat), 32)]
    body = ",\n    ".join(rows)
    return f"static const {ctype} {name}[{len(flat)}] __attribute__((aligned(4))) = {{\n    {body}}};\n"
