"""What one kernel does at once, made one op, and pixels as a network's input: passes over an imported network, each a
pure function, in a fixed order.

A tensor that the file rounds to int8 (it has a scale) stays: between two ops that are fused nothing is rounded.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ...core.errors import UnsupportedOp, UserError
from ...core.ir.activations import CLAMPS
from ...core.ir.graph import Graph, Op, Tensor
from ..model import Model, QuantWeights, Scale


@dataclass(frozen=True)
class Imported:
    """A network while it is read: weights[conv] = (weight, bias) float32 or QuantWeights; scales of the tensors that
    the file rounds, none for a float file; tables of the ops that the file defines value by value."""

    graph: Graph
    weights: dict[str, tuple[np.ndarray, np.ndarray] | QuantWeights]
    scales: dict[str, Scale]
    tables: dict[str, np.ndarray] = field(default_factory=dict)

    def lone_reader(self, name: str) -> Op | None:
        """The one op that reads a tensor which the user does not and which is not rounded."""
        readers = [op for op in self.graph.ops for read in op.reads if read == name]
        hidden = name not in self.graph.outputs and name not in self.scales
        return readers[0] if len(readers) == 1 and hidden else None

    def ops(self, *kinds: str) -> list[str]:
        """Names of the ops of these kinds: a pass makes new ops while it goes through them."""
        return [op.name for op in self.graph.ops if op.kind in kinds]

    def writer(self, name: str, *kinds: str) -> Op | None:
        """The op that writes a tensor, if it is of one of these kinds."""
        return next((op for op in self.graph.ops if op.name == name and op.kind in kinds), None)


def fused(net: Imported) -> Imported:
    # Constant factors go into convolutions first: behind them a sum or clamp may follow. A sum is before the clamp in
    # a convolution, so it is fused before it. Between a factor and its convolution there may be padding.
    for step in (without_rescales, fold_behind, fold_before, fold_pads, fold_before, fuse_sums, fuse_clamps):
        net = step(net)
        net.graph.verify()
    return net


def _merged(net: Imported, first: Op, second: Op, new: Op, weights=None) -> Imported:
    """`first` and `second`, which reads it, as one op `new` under the name of `first`, where `second` was."""
    ops = tuple(new if op is second else op for op in net.graph.ops if op is not first)
    scales = dict(net.scales)
    if second.name in scales:
        scales[first.name] = scales.pop(second.name)
    table = {name: w for name, w in net.weights.items() if name != second.name}
    if weights is not None:
        table[first.name] = weights
    return replace(
        net, graph=_renamed(replace(net.graph, ops=ops), second.name, first.name), weights=table, scales=scales
    )


def _renamed(graph: Graph, old: str, new: str) -> Graph:
    """The tensor `old` is called `new` by all who read it."""
    outputs = tuple(new if name == old else name for name in graph.outputs)
    return replace(graph, ops=tuple(_reading(op, old, new) for op in graph.ops), outputs=outputs)


def without_rescales(net: Imported) -> Imported:
    """Changes of scale that change nothing."""
    for name in net.ops("act"):
        op = net.graph.op(name)
        source = op.inputs[0]
        same = op.act is None and name not in net.tables and net.scales.get(op.name) == net.scales.get(source)
        if same and not (op.name in net.graph.outputs and source in (t.name for t in net.graph.inputs)):
            kept = replace(net.graph, ops=tuple(o for o in net.graph.ops if o.name != op.name))
            scales = {n: s for n, s in net.scales.items() if n != op.name}
            net = replace(net, graph=_renamed(kept, op.name, source), scales=scales)
    return net


def is_affine(net: Imported, op: Op) -> bool:
    """A float factor and summand a channel: a 1x1 convolution of each channel alone, whatever is behind it."""
    lone = op.kind == "conv" and op.groups == op.cout == net.graph.input_of(op).c and op.k == op.s == (1, 1)
    return lone and not any(op.pad) and isinstance(net.weights[op.name], tuple)


def fold_behind(net: Imported) -> Imported:
    """conv, then a factor a channel (batch normalisation, mostly) -> conv."""
    for name in net.ops("conv"):
        op = net.graph.op(name)
        conv = net.writer(op.inputs[0], "conv")
        if not is_affine(net, op) or conv is None or net.lone_reader(conv.name) is not op:
            continue
        if not isinstance(net.weights[conv.name], tuple) or conv.act or conv.residual:
            continue
        (weight, bias), (factor, summand) = net.weights[conv.name], net.weights[op.name]
        factor = factor[:, 0, 0, 0].astype(np.float64)
        pair = weight * factor[:, None, None, None], bias * factor + summand
        net = _merged(net, conv, op, conv, tuple(v.astype(np.float32) for v in pair))
    return net


def fold_before(net: Imported) -> Imported:
    """A factor a channel, then conv -> conv. A summand only where nothing is padded: the padding has none."""
    for name in net.ops("conv"):
        op = net.graph.op(name)
        if not is_affine(net, op) or op.act or op.residual:
            continue
        conv = net.lone_reader(op.name)
        if conv is None or conv.kind != "conv" or conv.inputs[0] != op.name or conv.residual == op.name:
            continue
        factor, summand = net.weights[op.name]
        if conv.groups != 1 or not isinstance(net.weights[conv.name], tuple) or (any(conv.pad) and summand.any()):
            continue
        weight, bias = (v.astype(np.float64) for v in net.weights[conv.name])
        pair = weight * factor[:, 0, 0, 0][None, :, None, None], bias + np.einsum("oikl,i->o", weight, summand)
        ops = tuple(replace(o, inputs=op.inputs) if o is conv else o for o in net.graph.ops if o is not op)
        table = {n: w for n, w in net.weights.items() if n != op.name}
        table[conv.name] = tuple(v.astype(np.float32) for v in pair)
        net = replace(net, graph=replace(net.graph, ops=ops), weights=table)
    return net


def fuse_sums(net: Imported) -> Imported:
    """conv, then add -> conv with a residual."""
    for name in net.ops("add"):
        add = net.graph.op(name)
        for source, other in (add.inputs, add.inputs[::-1]):
            conv = net.writer(source, "conv")
            if conv is not None and not conv.residual and not conv.act and net.lone_reader(source) is add:
                net = _merged(net, conv, add, replace(conv, residual=other))
                break
    return net


def fuse_clamps(net: Imported) -> Imported:
    """conv or add, then a clamp -> one op; of a rounded tensor where the clamp keeps its scale."""
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
    """Zeros around a map, then conv -> a padded conv."""
    for name in reversed(net.ops("pad")):  # of two in a row the second comes first
        pad = net.graph.op(name)
        readers = [op for op in net.graph.ops if pad.name in op.reads]
        alone = len(readers) == 1 and pad.name not in net.graph.outputs
        if alone and readers[0].kind == "conv" and readers[0].residual != pad.name:
            conv = readers[0]
            both = tuple(a + b for a, b in zip(pad.pad, conv.pad, strict=True))
            ops = (replace(o, inputs=pad.inputs, pad=both) if o is conv else o for o in net.graph.ops if o is not pad)
            scales = {n: s for n, s in net.scales.items() if n != pad.name}
            net = replace(net, graph=replace(net.graph, ops=tuple(ops)), scales=scales)
    return net


def of_pixels(model: Model, mean=None, std=None, bgr: bool = False) -> Model:
    """A network that reads (p - mean) / std of pixels p in 0..255 (as mmdet's data_preprocessor has it), in BGR order
    where `bgr` says so, as one that reads RGB pixels / 255. mean, std: a number for each channel, 0 and 255 unless
    given. Folded into the first convolution, exactly, where that one pads nothing or the mean is 0; else an op of its
    own before it. Raises UserError for numbers that are none or not one a channel, UnsupportedOp for a first layer in
    which the channels cannot be swapped."""
    image = model.graph.inputs[0]
    mean, std = (np.full(image.c, value) if given is None else np.array(given, float)
                 for value, given in ((0.0, mean), (255.0, std)))  # fmt: skip
    _check_pixels(image, mean, std, bgr)
    graph, weights = model.graph, dict(model.weights)
    order = slice(None, None, -1) if bgr else slice(None)
    for op in (op for op in graph.ops if image.name in op.reads and bgr):
        if op.kind != "conv" or op.groups != 1 or op.residual == image.name:
            raise UnsupportedOp(f"{op.name}: a {op.kind} reads BGR pixels; swap the channels in the model")
        weights[op.name] = np.ascontiguousarray(weights[op.name][0][:, ::-1]), weights[op.name][1]
    factor, summand = 255 / np.float64(std)[order], -(np.float64(mean) / np.float64(std))[order]
    if (factor == 1).all() and not summand.any():
        return replace(model, weights=weights)
    norm = Op(f"{image.name}_norm", "conv", (image.name,), image.c, groups=image.c, block=graph.ops[0].block)
    ops = tuple(_reading(op, image.name, norm.name) for op in graph.ops)
    weights[norm.name] = factor.astype(np.float32).reshape(-1, 1, 1, 1), summand.astype(np.float32)
    found = fold_before(Imported(replace(graph, ops=(norm, *ops)).verify(), weights, {}))
    return replace(model, graph=found.graph.verify(), weights=found.weights)


def _check_pixels(image: Tensor, mean: np.ndarray, std: np.ndarray, bgr: bool) -> None:
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


def _reading(op: Op, old: str, new: str) -> Op:
    """The op, reading `new` where it read `old`."""
    inputs = tuple(new if name == old else name for name in op.inputs)
    return replace(op, inputs=inputs, residual=new if op.residual == old else op.residual)
