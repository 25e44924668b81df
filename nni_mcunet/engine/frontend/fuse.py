"""Make one op of what one kernel does at once, and pixels a network's input: passes over an imported network, each a
pure function, in a fixed order.

A tensor that the file rounds to int8 (it has a scale) stays: between two ops that are fused nothing is rounded.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.errors import UnsupportedOp, UserError
from ...core.ir.activations import CLAMPS
from ...core.ir.graph import Op, Tensor
from ...core.types import Doubles, FloatWeights
from ..model import Model, QuantWeights
from .functions import name_functions
from .fuse_moves import (
    find_blocks,
    join_takes,
    join_upsamples,
    moves_into_convs,
    sink_moves,
    spread_by_products,
    takes_of_convs,
)
from .imported import Imported, factors, reading, renamed


def fused(net: Imported) -> Imported:
    """Apply every pass, in order, and verify the graph behind each."""
    # Constant factors go into convolutions first: behind them a sum or clamp may follow. A sum is before the clamp in
    # a convolution, so it is fused before it. Between a factor and its convolution there may be padding.
    # Moves are joined before, and what is behind them sinks to the convolutions that may take it in. Their own part a
    # convolution does before pads are folded into it, and again behind its clamp.
    passes = [without_rescales, name_functions, join_means, join_upsamples, spread_by_products]
    passes += [join_takes, find_blocks, join_takes, sink_moves]
    passes += [fold_behind, fold_before]
    passes += [moves_into_convs, takes_of_convs, fold_pads, moves_into_convs, fold_before]
    passes += [fuse_sums, fuse_clamps, takes_of_convs]
    for step in passes:
        net = step(net)
        net.graph.verify()
    return net


def _merged(
    net: Imported, first: Op, second: Op, new: Op, weights: FloatWeights | QuantWeights | None = None
) -> Imported:
    """Put one op `new` in place of `first` and `second`, which reads it: named as `first`, where `second` was."""
    ops = tuple(new if op is second else op for op in net.graph.ops if op is not first)
    scales = dict(net.scales)
    if second.name in scales:
        scales[first.name] = scales.pop(second.name)
    table = {name: w for name, w in net.weights.items() if name != second.name}
    if weights is not None:
        table[first.name] = weights
    return replace(
        net, graph=renamed(replace(net.graph, ops=ops), second.name, first.name), weights=table, scales=scales
    )


def without_rescales(net: Imported) -> Imported:
    """Take out changes of scale that change nothing."""
    for name in net.ops("act"):
        op = net.graph.op(name)
        source = op.inputs[0]
        same = op.act is None and name not in net.tables and net.scales.get(op.name) == net.scales.get(source)
        if same and not (op.name in net.graph.outputs and source in (t.name for t in net.graph.inputs)):
            kept = replace(net.graph, ops=tuple(o for o in net.graph.ops if o.name != op.name))
            scales = {n: s for n, s in net.scales.items() if n != op.name}
            net = replace(net, graph=renamed(kept, op.name, source), scales=scales)
    return net


def join_means(net: Imported) -> Imported:
    """Fuse: the mean over rows, then over what is left, or the other way -> the mean of the map."""
    for name in net.ops("gap"):
        op = net.graph.op(name)
        first = net.writer(op.inputs[0], "avgpool")
        if first is None or net.lone_reader(first.name) is not op or any(first.pad) or first.s != (1, 1):
            continue
        x = net.graph.input_of(first)
        if first.k in ((x.h, 1), (1, x.w)):
            net = _merged(net, first, op, replace(op, name=first.name, inputs=first.inputs))
    return net


def fold_behind(net: Imported) -> Imported:
    """Fold: conv, then a factor a channel (batch normalisation, mostly) -> conv."""
    for name in net.ops("conv"):
        op = net.graph.op(name)
        own, conv = factors(net, op), net.writer(op.inputs[0], "conv")
        if own is None or conv is None or net.lone_reader(conv.name) is not op:
            continue
        if conv.act or conv.residual:
            continue
        given, summand, factor = net.weights[conv.name], own[1], own[0][:, 0, 0, 0].astype(np.float64)
        if isinstance(given, QuantWeights):
            if (times := _times(net, conv, given, factor, summand)) is not None:
                net = _merged(net, conv, op, conv, times)
            continue
        weight, bias = given
        net = _merged(net, conv, op, conv, _float32(weight * factor[:, None, None, None], bias * factor + summand))
    return net


def _times(net: Imported, conv: Op, given: QuantWeights, factor: Doubles, summand: np.ndarray) -> QuantWeights | None:
    """Return the integers of a convolution times a factor a channel plus a summand: the weights stay, their scales
    change. None where a factor is not positive, the input's scale is not known yet or the bias exceeds 32 bits."""
    source = net.scales.get(conv.inputs[0])
    if source is None or not (factor > 0).all():
        return None
    scale = (given.scale * factor).astype(np.float32)
    bias = given.bias + np.round(summand / (source.scale * scale.astype(np.float64)))
    return replace(given, scale=scale, bias=bias.astype(np.int32)) if np.abs(bias).max() < 2**31 else None


def fold_before(net: Imported) -> Imported:
    """Fold: a factor a channel, then conv -> conv. A summand only where nothing is padded: the padding has none."""
    for name in net.ops("conv"):
        op = net.graph.op(name)
        own = factors(net, op)
        if own is None or op.act or op.residual:
            continue
        conv = net.lone_reader(op.name)
        if conv is None or conv.kind != "conv" or conv.inputs[0] != op.name or conv.residual == op.name:
            continue
        (factor, summand), given = own, net.floats.get(conv.name)
        if conv.groups != 1 or given is None or (any(conv.pad) and summand.any()):
            continue
        weight, bias = (v.astype(np.float64) for v in given)
        pair = weight * factor[:, 0, 0, 0][None, :, None, None], bias + np.einsum("oikl,i->o", weight, summand)
        ops = tuple(replace(o, inputs=op.inputs) if o is conv else o for o in net.graph.ops if o is not op)
        table = {n: w for n, w in net.weights.items() if n != op.name}
        table[conv.name] = _float32(*pair)
        net = replace(net, graph=replace(net.graph, ops=ops), weights=table)
    return net


def _float32(weight: Doubles, bias: Doubles) -> FloatWeights:
    return weight.astype(np.float32), bias.astype(np.float32)


def fuse_sums(net: Imported) -> Imported:
    """Fuse: conv, then add -> conv with a residual."""
    for name in net.ops("add"):
        add = net.graph.op(name)
        for source, other in (add.inputs, add.inputs[::-1]):
            conv = net.writer(source, "conv")
            if conv is not None and not conv.residual and not conv.act and net.lone_reader(source) is add:
                net = _merged(net, conv, add, replace(conv, residual=other))
                break
    return net


def fuse_clamps(net: Imported) -> Imported:
    """Fuse: conv or add, then a clamp -> one op; of a rounded tensor where the clamp keeps its scale."""
    for name in net.ops("act"):
        op = net.graph.op(name)
        source = net.writer(op.inputs[0], "conv", "add")
        if op.act not in CLAMPS or name in net.tables or source is None or source.act:
            continue
        scale = net.scales.get(source.name)
        unrounded = replace(net, scales={n: s for n, s in net.scales.items() if n != source.name})
        if (scale is None or scale == net.scales.get(op.name)) and unrounded.lone_reader(source.name) is op:
            net = _merged(unrounded, source, op, replace(source, act=op.act, args=op.args))
    return net


def fold_pads(net: Imported) -> Imported:
    """Fold: zeros around a map, then conv -> a padded conv."""
    for name in reversed(net.ops("pad")):  # of two in a row the second comes first
        pad = net.graph.op(name)
        readers = [op for op in net.graph.ops if pad.name in op.reads]
        alone = len(readers) == 1 and pad.name not in net.graph.outputs
        if alone and readers[0].kind == "conv" and readers[0].residual != pad.name:
            conv = readers[0]
            top, left, bottom, right = (a + b for a, b in zip(pad.pad, conv.pad, strict=True))
            both = top, left, bottom, right
            ops = (replace(o, inputs=pad.inputs, pad=both) if o is conv else o for o in net.graph.ops if o is not pad)
            scales = {n: s for n, s in net.scales.items() if n != pad.name}
            net = replace(net, graph=replace(net.graph, ops=tuple(ops)), scales=scales)
    return net


def of_pixels(
    model: Model, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, bgr: bool = False
) -> Model:
    """Return a network that reads RGB pixels / 255, made of one that reads (p - mean) / std of pixels p in 0..255 (as
    mmdet's data_preprocessor has it), in BGR order where `bgr` says so.

    mean, std: a number for each channel, 0 and 255 unless given. They are folded into the first convolution, exactly,
    where that one pads nothing or the mean is 0, and are else an op of their own before it. Raises UserError for
    numbers that are none or not one a channel, UnsupportedOp for a first layer whose channels cannot be swapped.
    """
    image = model.graph.inputs[0]
    means, stds = (np.full(image.c, value) if given is None else np.array(given, float)
                   for value, given in ((0.0, mean), (255.0, std)))  # fmt: skip
    _check_pixels(image, means, stds, bgr)
    graph, weights = model.graph, dict(model.weights)
    order = slice(None, None, -1) if bgr else slice(None)
    for op in (op for op in graph.ops if image.name in op.reads and bgr):
        if op.kind != "conv" or op.groups != 1 or op.residual == image.name:
            raise UnsupportedOp(f"{op.name}: a {op.kind} reads BGR pixels; swap the channels in the model")
        weights[op.name] = np.ascontiguousarray(weights[op.name][0][:, ::-1]), weights[op.name][1]
    factor, summand = 255 / stds[order], -(means / stds)[order]
    if (factor == 1).all() and not summand.any():
        return replace(model, weights=weights)
    norm = Op(f"{image.name}_norm", "conv", (image.name,), image.c, groups=image.c, block=graph.ops[0].block)
    ops = tuple(reading(op, image.name, norm.name) for op in graph.ops)
    weights[norm.name] = factor.astype(np.float32).reshape(-1, 1, 1, 1), summand.astype(np.float32)
    found = fold_before(Imported(replace(graph, ops=(norm, *ops)).verify(), weights, {}))
    return replace(model, graph=found.graph.verify(), weights=found.floats)


def _check_pixels(image: Tensor, mean: Doubles, std: Doubles, bgr: bool) -> None:
    for name, values in (("mean", mean), ("std", std)):
        if values.shape != (image.c,):
            raise UserError(
                f"--{name} has {values.size} numbers, and the network's input '{image.name}' has {image.c} "
                f"channel{'s' * (image.c > 1)}: give {image.c}"
            )
    if not np.isfinite([mean, std]).all() or not (std > 0).all():
        raise UserError(f"--mean {mean.tolist()}, --std {std.tolist()}: expected finite numbers, std above 0")
    if bgr and image.c != 3:
        raise UserError(
            f"--bgr is for three channels, and the network's input '{image.name}' has {image.c}: leave it out"
        )
