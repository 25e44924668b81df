"""Take copies of values out of an imported network where the op beside them can do their part: passes as in fuse.py.

A move changes no value, so that it may pass an op that the file rounds: what stands behind it has the scale of what it
copies.
"""

from dataclasses import replace

import numpy as np

from ...core.ir.activations import CLAMPS
from ...core.ir.graph import Graph, Op
from ...core.types import FloatWeights
from ..model import QuantWeights
from .imported import MOST_SIDE, Imported, factors

Weights = FloatWeights | QuantWeights


def sole_reader(net: Imported, name: str) -> Op | None:
    """Return the one op that reads a tensor, once, which the user does not."""
    readers = [op for op in net.graph.ops for read in op.reads if read == name]
    return readers[0] if len(readers) == 1 and name not in net.graph.outputs else None


def _replaced(net: Imported, new: dict[str, list[Op]], weights: dict[str, Weights] | None = None) -> Imported:
    """Put ops in place of those of these names; none where the list is empty. weights: those of new convolutions."""
    ops = tuple(found for op in net.graph.ops for found in new.get(op.name, [op]))
    names = {op.name for op in ops} | {t.name for t in net.graph.inputs}
    scales = {name: scale for name, scale in net.scales.items() if name in names}
    table = {name: w for name, w in {**net.weights, **(weights or {})}.items() if name in names}
    return replace(net, graph=replace(net.graph, ops=ops), weights=table, scales=scales)


def without_unread(net: Imported) -> Imported:
    """Take out moves and functions that nothing reads, the last first."""
    for name in reversed(net.ops("take", "space_to_depth", "depth_to_space", "upsample", "act")):
        if name not in net.graph.outputs and not any(name in op.reads for op in net.graph.ops):
            net = _replaced(net, {name: []})
    return net


def join_takes(net: Imported) -> Imported:
    """Join: a take of a take -> one take; a crop of a depth_to_space's last rows and columns -> its own."""
    for name in net.ops("take"):
        op = net.graph.op(name)
        inner = net.writer(op.inputs[0], "take")
        if inner is not None:
            net = _replaced(net, {name: [_joined(net.graph, inner, op)]})
        spread = net.writer(op.inputs[0], "depth_to_space")
        plain = op.s == (1, 1) and op.channels == tuple(range(net.graph.input_of(op).c)) and not any(op.pad[:2])
        if spread is not None and plain and sole_reader(net, spread.name) is op:
            pad = 0, 0, spread.pad[2] + op.pad[2], spread.pad[3] + op.pad[3]
            if all(-p < s for p, s in zip(pad[2:], spread.s, strict=True)):
                net = _replaced(net, {spread.name: [], name: [replace(spread, name=name, block=op.block, pad=pad)]})
    return without_unread(net)


def join_upsamples(net: Imported) -> Imported:
    """Join an upsample of an upsample, as of rows and then of columns."""
    for name in net.ops("upsample"):
        op = net.graph.op(name)
        inner = net.writer(op.inputs[0], "upsample")
        s = (op.s[0] * inner.s[0], op.s[1] * inner.s[1]) if inner else op.s
        if inner and max(s) <= MOST_SIDE:
            net = _replaced(net, {name: [replace(op, inputs=inner.inputs, s=s)]})
    return without_unread(net)


def spread_by_products(net: Imported) -> Imported:
    """Take out: a factor a channel spread over a map, as of torch's expand_as -> the product spreads it itself."""
    for name in net.ops("mul"):
        op = net.graph.op(name)
        for at in (0, 1):
            spread = net.writer(op.inputs[at], "upsample")
            gate = net.graph.input_of(spread) if spread else None
            if not spread or not gate or not gate.h == gate.w == 1 or op.inputs[1 - at] == spread.name:
                continue
            if net.scales.get(spread.name) == net.scales.get(gate.name):
                net = _replaced(net, {name: [replace(op, inputs=(op.inputs[1 - at], gate.name))]})
                break
    return without_unread(net)


def _joined(graph: Graph, inner: Op, op: Op) -> Op:
    """Return one take for two."""
    x, y = graph.input_of(inner), graph.tensors[op.name]
    s = inner.s[0] * op.s[0], inner.s[1] * op.s[1]
    top, left = (inner.pad[i] + op.pad[i] * inner.s[i] for i in (0, 1))
    bottom, right = (
        -(length + first - (n - 1) * step - 1)
        for length, first, n, step in zip((x.h, x.w), (top, left), (y.h, y.w), s, strict=True)
    )
    channels = tuple(inner.channels[c] if c >= 0 else -1 for c in op.channels)
    return replace(op, inputs=inner.inputs, s=s, pad=(top, left, bottom, right), channels=channels)


def find_blocks(net: Imported) -> Imported:
    """Find the takes of every position of a block, joined: a space_to_depth, its channels in another order."""
    for name in net.ops("concat"):
        join = net.graph.op(name)
        takes = [net.writer(source, "take") for source in join.inputs]
        found = [take for take in takes if take is not None]
        if len(found) == len(takes) and len({(t.inputs, t.s, net.graph.tensors[t.name].h) for t in found}) == 1:
            net = _blocked(net, join, found)
    return without_unread(net)


def _blocked(net: Imported, join: Op, takes: list[Op]) -> Imported:
    source, (down, right) = net.graph.input_of(takes[0]), takes[0].s
    if down * right == 1 or source.h % down or source.w % right:
        return net
    at = []
    for take in takes:
        top, left = -take.pad[0], -take.pad[1]
        y = net.graph.tensors[take.name]
        if top >= down or left >= right or (y.h * down, y.w * right) != (source.h, source.w):
            return net
        at += [(top * right + left) * source.c + c if c >= 0 else -1 for c in take.channels]
    if sorted(at) != list(range(source.c * down * right)):
        return net
    packed = Op(f"{join.name}_blocks", "space_to_depth", takes[0].inputs, join.cout, k=takes[0].s, s=takes[0].s)
    if packed.name in net.graph.tensors:
        return net
    order = Op(join.name, "take", (packed.name,), join.cout, channels=tuple(at), block=join.block)
    found = _replaced(net, {join.name: [replace(packed, block=join.block), order]})
    scale = net.scales.get(source.name)
    return replace(found, scales={**found.scales, packed.name: scale}) if scale else found


def sink_moves(net: Imported) -> Imported:
    """Move what is done to each value, or by a factor a channel, from behind a depth_to_space before it: it may be part
    of a convolution there. A function also passes the crop of one."""
    for name in net.ops("act"):
        net = _before_crop(net, net.graph.op(name))
    for name in net.ops("act", "conv"):
        op = net.graph.op(name)
        spread = net.writer(op.inputs[0], "depth_to_space")
        own = factors(net, op)
        if spread is None or sole_reader(net, spread.name) is not op or (op.kind == "conv" and (own is None or op.act)):
            continue
        if op.residual is None:
            net = _before(net, spread, op, own)
    return net


def _before_crop(net: Imported, op: Op) -> Imported:
    """Swap a function of each value and the crop of a depth_to_space that it reads."""
    crop = net.writer(op.inputs[0], "take")
    spread = net.writer(crop.inputs[0], "depth_to_space") if crop else None
    if crop is None or spread is None or sole_reader(net, crop.name) is not op or op.groups > 1:
        return net
    if sole_reader(net, spread.name) is not crop or crop.name in net.scales or min(crop.channels) < 0:
        return net
    first = replace(op, name=crop.name, inputs=crop.inputs, cout=spread.cout)
    last = replace(crop, name=op.name, inputs=(crop.name,), block=op.block)
    found = _replaced(net, {crop.name: [first], op.name: [last]})
    scales, tables = dict(found.scales), {n: t for n, t in net.tables.items() if n != op.name}
    if op.name in scales:
        scales[crop.name] = scales[op.name]
    if op.name in net.tables:
        tables[crop.name] = net.tables[op.name]
    return replace(found, scales=scales, tables=tables)


def _before(net: Imported, spread: Op, op: Op, own: FloatWeights | None) -> Imported:
    """Swap a depth_to_space and the op behind it; one that a convolution takes in goes before a join, too."""
    source, parts = net.graph.input_of(spread), spread.s[0] * spread.s[1]
    join = net.writer(source.name, "concat")
    through = join if join and sole_reader(net, join.name) is spread and (own or op.act in CLAMPS) else None
    sources = [net.graph.tensors[n] for n in through.inputs] if through else [source]
    if through and (len(set(through.inputs)) < len(sources) or not all(sole_reader(net, t.name) for t in sources)):
        through, sources = None, [source]
    names = [spread.name if i == 0 else f"{spread.name}_{i}" for i in range(len(sources))]
    if any(n in net.graph.tensors for n in names[1:]):
        return net
    pair = None if own is None else (np.tile(own[0], (parts, 1, 1, 1)), np.tile(own[1], parts))
    weights: dict[str, Weights] = {}
    first, new = 0, []
    for n, t in zip(names, sources, strict=True):
        groups = t.c if op.kind == "conv" else 1
        new.append(replace(op, name=n, inputs=(t.name,), cout=t.c, groups=groups))
        if pair is not None:
            weights[n] = (pair[0][first : first + t.c], pair[1][first : first + t.c])
            first += t.c
    joined = [replace(through, inputs=tuple(names))] if through else []
    last = replace(spread, name=op.name, inputs=(through.name if through else spread.name,), block=op.block)
    gone: dict[str, list[Op]] = {through.name: []} if through else {}
    found = _replaced(net, {**gone, spread.name: [], op.name: [*new, *joined, last]}, weights)
    written = [*names, op.name, *(j.name for j in joined)]
    scales = {n: s for n, s in found.scales.items() if n not in written}
    if op.name in net.scales:
        scales |= dict.fromkeys(written, net.scales[op.name])
    tables = {n: t for n, t in net.tables.items() if n != op.name}
    if op.name in net.tables:
        tables |= dict.fromkeys(names, net.tables[op.name])
    return replace(found, scales=scales, tables=tables)


def moves_into_convs(net: Imported) -> Imported:
    """Let a convolution do what a move before it does: choose channels, leave rows out, step, read blocks."""
    for name in net.ops("conv"):
        conv = net.graph.op(name)
        move = net.writer(conv.inputs[0], "take", "space_to_depth")
        while move is not None and sole_reader(net, move.name) is conv and conv.inputs == (move.name,):
            new = (_reading_take if move.kind == "take" else _reading_blocks)(net, move, conv)
            if new is None:
                break
            conv, weights = new
            net = _replaced(net, {move.name: [], name: [conv]}, {name: weights})
            move = net.writer(conv.inputs[0], "take", "space_to_depth")
    return net


def _with_weight(given: Weights, weight: np.ndarray) -> Weights:
    found = np.ascontiguousarray(weight)
    return replace(given, weight=found) if isinstance(given, QuantWeights) else (found, given[1])


def _weight(given: Weights) -> np.ndarray:
    return given.weight if isinstance(given, QuantWeights) else given[0]


def _reading_take(net: Imported, take: Op, conv: Op) -> tuple[Op, Weights] | None:
    """Return the convolution that reads what the take reads; None where that one has more channels, or steps."""
    x, given = net.graph.input_of(take), net.weights[conv.name]
    every = take.channels == tuple(range(x.c))
    numbers = [c for c in take.channels if c >= 0]
    if any(cut and pad for cut, pad in zip(take.pad, conv.pad, strict=True)):
        return None
    if take.s != (1, 1) and (conv.k != (1, 1) or any(conv.pad)):
        return None
    if not every and (conv.groups != 1 or x.c > len(take.channels) or len(set(numbers)) < len(numbers)):
        return None
    weight = _weight(given)
    if not every:
        read = weight
        weight = np.zeros((len(read), x.c, *read.shape[2:]), read.dtype)
        weight[:, numbers] = read[:, [c >= 0 for c in take.channels]]
    top, left, bottom, right = (a + b for a, b in zip(take.pad, conv.pad, strict=True))
    s = take.s[0] * conv.s[0], take.s[1] * conv.s[1]
    if max(s) > MOST_SIDE:
        return None
    return replace(conv, inputs=take.inputs, s=s, pad=(top, left, bottom, right)), _with_weight(given, weight)


def _reading_blocks(net: Imported, blocks: Op, conv: Op) -> tuple[Op, Weights] | None:
    """Return the convolution of the positions themselves: its window, stride and pads in steps of a block."""
    (down, right), x, given = blocks.s, net.graph.input_of(blocks), net.weights[conv.name]
    k, s = (conv.k[0] * down, conv.k[1] * right), (conv.s[0] * down, conv.s[1] * right)
    if conv.groups != 1 or max(*k, *s) > MOST_SIDE:
        return None
    parts = _weight(given).reshape(conv.cout, down, right, x.c, *conv.k)  # of (row, column, channel) of a block
    weight = parts.transpose(0, 3, 4, 1, 5, 2).reshape(conv.cout, x.c, *k)
    top, left, bottom, after = conv.pad
    pad = top * down, left * right, bottom * down, after * right
    return replace(conv, inputs=blocks.inputs, k=k, s=s, pad=pad), _with_weight(given, weight)


def takes_of_convs(net: Imported) -> Imported:
    """Let convolutions that only takes read write the chosen channels: one for each take, together as large."""
    for name in net.ops("conv"):
        conv = net.graph.op(name)
        takes = [op for op in net.graph.ops if name in op.reads]
        chosen = [c for take in takes for c in take.channels]
        fits = takes and all(t.kind == "take" and t.s == (1, 1) and not any(t.pad) for t in takes)
        if not fits or conv.groups != 1 or conv.residual or name in net.graph.outputs:
            continue
        if min(chosen) < 0 or len(set(chosen)) < len(chosen):
            continue
        given, new, weights = net.weights[name], {}, {}
        for take in takes:
            new[take.name] = [replace(conv, name=take.name, cout=take.cout, block=take.block)]
            weights[take.name] = _of_channels(given, list(take.channels))
        scale = net.scales.get(name)
        net = _replaced(net, {name: [], **new}, weights)
        if scale is not None:
            net = replace(net, scales={**net.scales, **dict.fromkeys(new, scale)})
    return net


def _of_channels(given: Weights, channels: list[int]) -> Weights:
    if isinstance(given, QuantWeights):
        return QuantWeights(given.weight[channels], given.scale[channels], given.bias[channels])
    return given[0][channels], given[1][channels]
