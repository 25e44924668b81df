"""Remove dead channels, exactly: those of one value whatever the picture, and those that nobody reads.

A constant channel goes into the bias of the convolutions that read it; where these pad, only the zero point does, as
padding counts as it. Ops that keep their channels separate (depth-wise, sums, pools, ...) drop one together or not at
all. The rounding rule is that of the network as it was: every output is the same, bit for bit."""

from dataclasses import dataclass, replace

import numpy as np

from ...core.ir.graph import Graph, Op
from ...core.ir.kinds import FACTS
from ...core.plan.kernel_facts import padded_taps
from ...core.plan.latency import instructions
from ...core.plan.plan import plan
from ..model import QuantModel, QuantWeights
from .integers import integers
from .intervals import intervals

# Channels stay in multiples of these: kernels take inputs by four and outputs by two. An odd one costs as much as two.
MULTIPLES = (4, 2)
MOVES = ("take", "depth_to_space", "space_to_depth")  # kinds that number channels anew


@dataclass(frozen=True)
class Constants:
    """Hold, by tensor, which channels are of one value, bool (c,), and the lowest value of each, (c,)."""

    known: dict[str, np.ndarray]
    value: dict[str, np.ndarray]


def without_dead_channels(model: QuantModel) -> QuantModel:
    """Return a model with the same outputs and fewer channels: as many dead ones are removed as is fastest by the
    instruction table, layer by layer, with no larger arena. The image and the outputs keep theirs. Raises GraphError,
    see integers."""
    found = intervals(model)
    constants = Constants({n: lo == hi for n, (lo, hi) in found.items()}, {n: lo for n, (lo, _) in found.items()})
    bits = {name: p.res_bits for name, p in integers(model).items() if getattr(p, "res_bits", 0)}
    smaller = [cut(model, constants, live(model, constants, multiple), bits) for multiple in MULTIPLES]
    plans = [plan(candidate.graph) for candidate in (model, *smaller)]
    fit = [(instructions(p), at) for at, p in enumerate(plans) if p.arena <= plans[0].arena]
    return (model, *smaller)[min(fit)[1]]


def channels(graph: Graph) -> int:
    """Count the channels of all tensors."""
    return sum(t.c for t in graph.tensors.values())


def live(model: QuantModel, constants: Constants, multiple: int = 1) -> dict[str, np.ndarray]:
    """Return tensor -> (c,) bool: its channels that must stay, rounded up to a multiple (and to one at least)."""
    graph = model.graph
    stay = {t.name: np.zeros(t.c, bool) for t in graph.tensors.values()}
    for name in (*(t.name for t in graph.inputs), *graph.outputs):
        stay[name][:] = True
    count = -1
    while count != (count := sum(int(mask.sum()) for mask in stay.values())):  # grows until nothing more is asked for
        for op in reversed(graph.ops):
            _round_up(stay[op.name], multiple)
            _ask(model, constants, op, stay)
    return stay


def _round_up(stay: np.ndarray, multiple: int) -> None:
    wanted = max(-(-int(stay.sum()) // multiple), 1) * multiple
    stay[np.flatnonzero(~stay)[: wanted - int(stay.sum())]] = True


def _ask(model: QuantModel, constants: Constants, op: Op, stay: dict[str, np.ndarray]) -> None:
    """Mark the channels of its inputs that an op with these channels of its output needs, and the other way round."""
    y, reads = stay[op.name], [stay[name] for name in op.reads]
    if FACTS[op.kind].mixes:
        for mask in (y, *reads):
            mask[:] = True
    elif op.kind in MOVES:
        _ask_move(op, y, reads[0])
    elif op.kind == "concat":
        for part, own in zip(np.split(y, np.cumsum([len(x) for x in reads])[:-1]), reads, strict=True):
            _join(part, own)
    elif op.kind != "conv":
        _join(y, *reads)
    else:
        if op.residual is not None:
            _join(y, reads[1])
        if op.groups > 1:  # a group as a whole
            _join_groups(op.groups, y, reads[0])
        else:
            read = model.weights[op.name].weight[y].any((0, 2, 3))
            reads[0] |= read & ~_foldable(model, constants, op)


def _ask_move(op: Op, y: np.ndarray, x: np.ndarray) -> None:
    """Mark what each channel of the output is a copy of. The parts of a block keep the same channels."""
    if op.kind == "take":
        x[[c for c, kept in zip(op.channels, y, strict=True) if kept and c >= 0]] = True
    elif op.kind == "depth_to_space":
        _join(y, *x.reshape(-1, len(y)))
    else:
        _join(x, *y.reshape(-1, len(x)))


def _join(*masks: np.ndarray) -> None:
    """Keep a channel in every mask if one mask keeps it."""
    union = np.any(masks, 0)
    for mask in masks:
        mask |= union


def _join_groups(groups: int, *masks: np.ndarray) -> None:
    union = np.any([mask.reshape(groups, -1).any(1) for mask in masks], 0)
    for mask in masks:
        mask |= np.repeat(union, len(mask) // groups)


def _foldable(model: QuantModel, constants: Constants, op: Op) -> np.ndarray:
    """Return (cin,) bool: the inputs that a bias can stand for."""
    name = op.inputs[0]
    unpadded = padded_taps(model.graph, op) == 0
    return constants.known[name] & (unpadded | (constants.value[name] == model.scales[name].zero_point))


def cut(model: QuantModel, constants: Constants, stay: dict[str, np.ndarray], bits: dict[str, int]) -> QuantModel:
    """Return the network of the channels that stay. bits: see QuantModel.residual_bits."""
    graph, ops, weights = model.graph, [], {}
    for op in graph.ops:
        kept = stay[op.name]
        groups = op.groups if op.groups == 1 else int(kept.reshape(op.groups, -1)[:, 0].sum())
        ops.append(replace(op, cout=int(kept.sum()), groups=groups, channels=_renumbered(op, kept, stay[op.inputs[0]])))
        if op.kind == "conv":
            weights[op.name] = _cut_weights(model, constants, op, kept, stay[op.inputs[0]])
    smaller = replace(graph, ops=tuple(ops)).verify()
    tables = {name: t if t.ndim == 1 else t[stay[name]] for name, t in model.tables.items()}
    return replace(model, graph=smaller, weights=weights, tables=tables, residual_bits=bits)


def _renumbered(op: Op, y: np.ndarray, x: np.ndarray) -> tuple[int, ...]:
    """Return the channels of a take among those of its input that stay."""
    number = [*(np.cumsum(x) - 1).tolist(), -1]  # the last for a channel of -1
    return tuple(number[c] for c, kept in zip(op.channels, y, strict=False) if kept)


def _cut_weights(model: QuantModel, constants: Constants, op: Op, y: np.ndarray, x: np.ndarray) -> QuantWeights:
    """Cut the weights of a convolution. The accumulators' bound does not grow (ops/conv.py): what a channel adds at
    most, it adds to the bias."""
    q, name = model.weights[op.name], op.inputs[0]
    if op.groups > 1:
        return QuantWeights(q.weight[y], q.scale[y], q.bias[y])
    gone = constants.value[name][~x] - model.scales[name].zero_point
    bias = q.bias[y] + q.weight[y][:, ~x].astype(np.int64).sum((2, 3)) @ gone
    return QuantWeights(np.ascontiguousarray(q.weight[y][:, x]), q.scale[y], bias.astype(np.int32))
