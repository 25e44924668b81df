"""Find functions that a file writes out node by node, such as x * relu6(x + 3) / 6, and make each one op with a table.

A function is known by its values: what the nodes between a map and another compute, element by element, is compared
with the functions of core/ir/activations.py. A pass over an imported network, as those of fuse.py. Functions stay
as they are where the file rounds a value on the way.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...core.ir.activations import ACTS
from ...core.ir.graph import Op
from ...core.types import Doubles
from .imported import Imported, factors, renamed

KNOWN = ("hswish", "silu")
POINTS: Doubles = np.concatenate([np.linspace(-12, 12, 4801), [-1e3, -50, 50, 1e3]])
MOST = 5  # ops of one function

Function = Callable[[Doubles], Doubles]


def name_functions(net: Imported) -> Imported:
    """Put one op in place of the ops that write out a function."""
    for name in reversed(net.ops("mul", "act", "conv")):  # of two that end in a row the later holds the earlier
        op = net.writer(name, "mul", "act", "conv")
        net = _named(net, op) if op else net
    return net


def _named(net: Imported, end: Op) -> Imported:
    """Return the network with `end` and what only it needs as one op, where they are a function of one map."""
    inside, border = [end], list(dict.fromkeys(end.inputs))
    while border and len(inside) < MOST:
        function = _function(net, end.name, border[0], {op.name for op in inside}) if len(border) == 1 else None
        known = [act for act in KNOWN if function and np.allclose(function(POINTS), ACTS[act](POINTS), 1e-6, 1e-6)]
        if known and len(inside) > 1:
            return _replaced(net, inside, Op(inside[-1].name, "act", (border[0],), end.cout, act=known[0]))
        # The last op that writes to the border comes in: all that read it are inside.
        writers = [op for op in net.graph.ops if op.name in border and _is_inner(net, op, inside)]
        if not writers:
            break
        border = [n for n in border if n != writers[-1].name]
        border += [n for n in writers[-1].inputs if n not in border]
        inside.append(writers[-1])
    return net


def _replaced(net: Imported, inside: list[Op], new: Op) -> Imported:
    """Put `new`, which is called as the first of them, in place of the ops inside, the last of which stands first."""
    end, gone = inside[0], {op.name for op in inside}
    ops = tuple(new if op is end else op for op in net.graph.ops if op is end or op.name not in gone)
    weights = {name: w for name, w in net.weights.items() if name not in gone}
    scales = {new.name if name == end.name else name: scale for name, scale in net.scales.items()}
    return replace(net, graph=renamed(replace(net.graph, ops=ops), end.name, new.name), weights=weights, scales=scales)


def _is_inner(net: Imported, op: Op, inside: list[Op]) -> bool:
    """Tell whether nothing but the ops inside needs what `op` writes."""
    hidden = op.name not in net.graph.outputs and op.name not in net.scales
    return hidden and all(reader in inside for reader in net.graph.ops if op.name in reader.reads)


def _function(net: Imported, name: str, source: str, inside: set[str]) -> Function | None:
    """Return what the tensor `name` is of the elements of `source`; None for another than an elementwise function."""
    if name == source:
        return lambda x: x
    op = net.graph.op(name) if name in inside else None
    if op is None or op.residual or name in net.tables:
        return None
    parts = [_function(net, read, source, inside) for read in op.inputs]
    if any(part is None for part in parts):
        return None
    first, last = parts[0], parts[-1]
    assert first is not None and last is not None  # for mypy, which does not see it above
    if op.kind == "mul":
        return lambda x: first(x) * last(x)
    if op.kind == "act" and op.act:
        act, args = ACTS[op.act], op.args
        return lambda x: act(first(x), *args)
    pair = None if op.act else factors(net, op)
    if pair is None or len({*pair[0].ravel()}) != 1 or len({*pair[1].ravel()}) != 1:
        return None
    factor, summand = float(pair[0].flat[0]), float(pair[1].flat[0])
    return lambda x: factor * first(x) + summand
