"""Integers -> mcu_weights.h: the arrays and the struct of every op. Formats, decides nothing."""

import numpy as np

from ..core.graph import Graph, Op
from ..core.kernels import kernel_of
from .integers import (
    ConvIntegers,
    ExpIntegers,
    Factor,
    PoolIntegers,
    ProductIntegers,
    SumIntegers,
    TableIntegers,
)
from .pack import pack_channels, pack_weights


def params(graph: Graph, op: Op, p) -> str:
    """C of one op, p being its integers."""
    if isinstance(p, tuple):
        return _concat(graph, op, p)
    return OF_CLASS[type(p)](graph, op, p)


def _conv(graph: Graph, op: Op, p: ConvIntegers) -> str:
    depthwise = kernel_of(graph, op) == "conv_dw"
    weights = p.weight if depthwise else pack_weights(p.weight, op.groups)
    pairs = pack_channels(p.bias, p.mult, p.left, p.right, 1 if depthwise else op.groups)
    return _array("int8_t", f"{op.name}_w", weights) + (
        f"static const mcu_pair {op.name}_p[{len(pairs)}] = {{\n    {pair_rows(pairs)}}};\n"
        f"static const mcu_conv {op.name} = {{\n"
        f"    .cin = {graph.input_of(op).c}, .cout = {op.cout}, .groups = {op.groups}, {_window(op)},\n"
        f"    .zp_in = {p.zp_in}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi},"
        f" .res_zp = {p.res_zp}, .res_bits = {p.res_bits}, .res_mult = {p.res_mult},\n"
        f"    .weights = {op.name}_w, .pairs = {op.name}_p}};\n\n"
    )


def pair_rows(pairs: np.ndarray) -> str:
    """pack.PAIR records as initialisers of mcu_pair."""
    return ",\n    ".join(f"{{{', '.join(f'{{{a}, {b}}}' for a, b in pair)}}}" for pair in pairs.tolist())


def _pool(graph: Graph, op: Op, p: PoolIntegers) -> str:
    border = f"{op.name}_border" if p.border else "0"
    rows = ", ".join(map(_factor, p.border))
    return (f"static const mcu_factor {border}[{len(p.border)}] = {{{rows}}};\n" if p.border else "") + (
        f"static const mcu_pool {op.name} = {{.c = {op.cout}, {_window(op)}, .zp_in = {p.zp_in},"
        f" .zp_out = {p.zp_out},\n    .mean = {_factor(p.mean)}, .border = {border}}};\n\n"
    )


def _sum(graph: Graph, op: Op, p: SumIntegers) -> str:
    return (
        f"static const mcu_sum {op.name} = {{.mult_a = {p.mult_a}, .mult_b = {p.mult_b}, .bias = {p.bias},\n"
        f"    .c = {op.cout}, .bits = {p.bits}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi}}};\n\n"
    )


def _product(graph: Graph, op: Op, p: ProductIntegers) -> str:
    return (
        f"static const mcu_product {op.name} = {{.factor = {_factor(p.factor)},\n"
        f"    .c = {op.cout}, .zp_a = {p.zp_a}, .zp_b = {p.zp_b}, .zp_out = {p.zp_out}}};\n\n"
    )


def _act(graph: Graph, op: Op, p: TableIntegers) -> str:
    table = _array("int8_t", f"{op.name}_table", p.table)
    return f"{table}static const mcu_table {op.name} = {{.table = {op.name}_table, .c = {op.cout}}};\n\n"


def _concat(graph: Graph, op: Op, parts: tuple[TableIntegers, ...]) -> str:
    """An array of structs, one for each input."""
    tables, rows, at = [], [], 0
    for i, (name, part) in enumerate(zip(op.inputs, parts, strict=True)):
        table, c = "0", graph.tensors[name].c
        if part.table is not None:
            table = f"{op.name}_table{i}"
            tables.append(_array("int8_t", table, part.table))
        rows.append(f"    {{.table = {table}, .c = {c}, .cout = {op.cout}, .at = {at}}}")
        at += c
    body = ",\n".join(rows)
    return f"{''.join(tables)}static const mcu_table {op.name}[{len(parts)}] = {{\n{body}}};\n\n"


def _exp(graph: Graph, op: Op, p: ExpIntegers) -> str:
    table = _array("uint32_t", f"{op.name}_table", p.table)
    return f"{table}static const mcu_exp {op.name} = {{.table = {op.name}_table, .c = {op.cout}}};\n\n"


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
