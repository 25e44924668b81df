"""Share weights in a super-network: one Net of the largest graph serves every network of the space (once-for-all).

A sub-network takes from each layer, by name, the first channels and the centre of the kernel. `_slices` says so once.
Training runs a sub-graph on these views, and a candidate's own network is a copy of them, so both compute the same.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import UserError
from ...core.ir.arch import ArchSpec
from ...core.ir.build import build_graph
from ...core.ir.graph import Graph, Op
from ...core.nn.convolution import conv2d
from ...core.nn.net import Layer, Net, symmetric
from ..space import Space

Criterion = Callable[[tuple[Tensor, ...]], Tensor]  # a network's outputs -> its loss
Autocast = AbstractContextManager[object]
STATISTICS = ("running_mean", "running_var", "weight", "bias")  # of a batch normalisation


def build_supernet(space: Space, define: Callable[[ArchSpec], Graph] = build_graph) -> Net:
    """Build the largest network, untrained. define: spec -> graph, with the outputs of the task."""
    net = Net(define(space.spec(space.largest())))
    for name in net.layers:  # by what a channel reads, as the recipe was tuned with
        nn.init.kaiming_normal_(net.layer(name).conv.weight, mode="fan_in")
    for op in net.graph.ops:  # blocks with a shortcut begin as the identity: training is steadier
        if op.residual is not None and op.act is None:  # not the sums of a detector's neck, which are no shortcuts
            nn.init.zeros_(net.layer(op.name).bn.weight)
    return net


def _slices(supernet: Net, graph: Graph) -> Iterator[tuple[str, Tensor, tuple[slice, ...]]]:
    """Yield for each tensor of a sub-network: the state-dict key of Net(graph), the super-network's tensor, and the
    part of it that is the sub-network's (first channels, centre of the kernel). THE definition of weight sharing.
    Raises UserError."""
    for op in graph.ops:
        if op.kind != "conv":
            continue
        if op.name not in supernet.layers:
            raise UserError(f"the super-network has no layer {op.name}: the network is not of its space")
        layer, prefix = supernet.layer(op.name), f"layers.{op.name}"
        cin, whole, weight = graph.input_of(op).c // op.groups, layer.conv.weight.shape, layer.conv.weight
        if op.cout > whole[0] or cin > whole[1] or op.k[0] > whole[2] or op.k[1] > whole[3]:
            raise UserError(
                f"{op.name}: {op.cout}x{cin} channels, kernel {op.k} of {tuple(whole)}: "
                "the network is not of this super-network"
            )
        top, left = (whole[2] - op.k[0]) // 2, (whole[3] - op.k[1]) // 2
        first = slice(op.cout)
        kernel = (slice(top, top + op.k[0]), slice(left, left + op.k[1]))
        yield f"{prefix}.conv.weight", weight, (first, slice(cin), *kernel)
        if layer.conv.bias is not None:
            yield f"{prefix}.conv.bias", layer.conv.bias, (first,)
            continue
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"{prefix}.bn.{name}", getattr(layer.bn, name), (first,)


@torch.no_grad()
def begin_with(supernet: Net, graph: Graph, state: dict[str, Tensor]) -> None:
    """Give the super-network the weights of one of its networks, trained by itself, where that network's slice lies.
    The others stay, and so do a classifier of other classes and a detector's neck and head that `state` lacks.

    graph  the network with the super-network's outputs; state: of its Net, whose outputs may be others

    Raises UserError for a network that is not the super-network's.
    """
    for key, tensor, index in _slices(supernet, graph):
        if key in state and state[key].shape == tensor[index].shape:
            tensor[index] = state[key]


class _Walk(Net):
    """Run core's Net of a graph on tensors that are there already (state-dict key -> tensor): nothing is made for it,
    so it can be thrown away each step."""

    def __init__(self, graph: Graph, tensors: dict[str, Tensor], training: bool):
        nn.Module.__init__(self)
        self.training = training
        self.graph, self._last_use, self.quant = graph, graph.last_use(), None
        layers: dict[str, SimpleNamespace] = {}
        for op in graph.ops:
            if op.kind != "conv":
                continue
            of = f"layers.{op.name}"
            padding = op.pad[:2] if symmetric(op) else (0, 0)
            weight, bias = tensors[f"{of}.conv.weight"], tensors.get(f"{of}.conv.bias")
            layer = SimpleNamespace(
                conv=partial(conv2d, weight=weight, bias=bias, stride=op.s, padding=padding, groups=op.groups)
            )
            if op.norm:
                mean, variance, gain, shift = (tensors[f"{of}.bn.{name}"] for name in STATISTICS)
                layer.bn = partial(
                    F.batch_norm, running_mean=mean, running_var=variance, weight=gain, bias=shift, training=training
                )
            layers[op.name] = layer
        self.layers = cast(nn.ModuleDict, layers)  # called like modules; no parameter is registered


def run_subnet(supernet: Net, graph: Graph, x: Tensor) -> tuple[Tensor, ...]:
    """Return the sub-network's outputs on x (N, 3, H, W) with the super-network's own weights; gradients flow."""
    views = {key: tensor[index] for key, tensor, index in _slices(supernet, graph)}
    return _Walk(graph, views, supernet.training)(x)


def accumulate(
    supernet: Net, graph: Graph, x: Tensor, criterion: Criterion, autocast: Autocast | None = None
) -> Tensor:
    """Run one sub-network forward and backward: add the gradients of criterion(its outputs) to the super-network's
    `.grad` and return its value, detached. autograd does the same with run_subnet, but it would fill a tensor of the
    whole layer's size for every slice; here only the part that has a gradient is touched. `autocast` is the context
    of the forward pass."""
    leaves: list[Tensor] = []
    into: list[Tensor] = []
    tensors: dict[str, Tensor] = {}
    for key, tensor, index in _slices(supernet, graph):
        tensors[key] = tensor.detach()[index]
        if isinstance(tensor, nn.Parameter):
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            leaves.append(tensors[key].requires_grad_())
            into.append(tensor.grad[index])
    with autocast or nullcontext():
        value = criterion(_Walk(graph, tensors, supernet.training)(x))
    torch._foreach_add_(into, torch.autograd.grad(value, leaves))
    return value.detach()


def slice_net(supernet: Net, graph: Graph) -> Net:
    """Copy the sub-network out, to where the super-network is. Its batch normalisation needs `recalibrate` before
    use."""
    state = {key: tensor.detach()[index].clone() for key, tensor, index in _slices(supernet, graph)}
    with torch.device("meta"):  # no weights that are overwritten anyway
        net = Net(graph)
    counters = {key: torch.zeros((), dtype=torch.long) for key in net.state_dict() if key.endswith("batches_tracked")}
    net.load_state_dict(state | counters, assign=True)
    return net.to(supernet.layer(graph.ops[0].name).conv.weight.device)


@torch.no_grad()
def recalibrate(net: Net, batches: Iterable[Tensor]) -> Net:
    """Set batch-normalisation statistics to the mean over `batches` of images: those of the super-network are of no one
    network (the paper takes 20 batches of 64). Leaves the net in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    net.train()
    for images in batches:
        net(images)
    return net.eval()


def _channel_groups(graph: Graph) -> dict[str, str]:
    """Map each tensor to a representative of the tensors whose channels must keep one order: a depth-wise or weightless
    op keeps its input's, an addition ties its operands."""
    parent = {name: name for name in graph.tensors}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for op in graph.ops:
        if op.kind != "conv" or op.is_depthwise(graph.input_of(op).c):
            parent[find(op.name)] = find(op.inputs[0])
        if op.residual is not None:
            parent[find(op.name)] = find(op.residual)
    return {name: find(name) for name in parent}


@torch.no_grad()
def sort_channels(net: Net) -> None:
    """Order channels by the L1 norm of the weights that read them, most important first, so that a slice keeps the best
    (section on training in appendix B). The function that the net computes stays the same."""
    graph, groups = net.graph, _channel_groups(net.graph)
    convs = [op for op in graph.ops if op.kind == "conv"]
    norms: dict[str, Tensor] = {}
    for op in convs:
        if not op.is_depthwise(graph.input_of(op).c):
            group, norm = groups[op.inputs[0]], net.layer(op.name).conv.weight.abs().sum((0, 2, 3))
            norms[group] = norms[group] + norm if group in norms else norm
    fixed = {groups[name] for name in [*(t.name for t in graph.inputs), *graph.outputs]}
    orders = {g: norm.argsort(descending=True, stable=True) for g, norm in norms.items() if g not in fixed}
    for op in convs:
        _permute(net.layer(op.name), op, orders.get(groups[op.inputs[0]]), orders.get(groups[op.name]))


def _permute(layer: Layer, op: Op, order_in: Tensor | None, order_out: Tensor | None) -> None:
    weight = layer.conv.weight
    if order_out is not None:
        weight.copy_(weight[order_out])
        bias = layer.conv.bias
        for tensor in [bias] if bias is not None else [*layer.bn.parameters(), *layer.bn.buffers()]:
            if tensor.dim():  # all but the counter of batches
                tensor.copy_(tensor[order_out])
    if order_in is not None and op.groups == 1:
        weight.copy_(weight[:, order_in])
