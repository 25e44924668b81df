"""The super-network: one Net of the largest graph whose weights serve every network of the space (once-for-all).

A sub-network takes of each layer, by name, the first channels and the centre of the kernel. `slice_views` says so once;
training runs a sub-graph on these views, and a stand-alone network is a copy of them, so both compute the same.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.build import build_graph
from ..core.errors import UserError
from ..core.graph import Graph, Op
from ..core.net import Net
from .space import Space


def build_supernet(space: Space) -> Net:
    """The largest network, untrained."""
    net = Net(build_graph(space.spec(space.largest())))
    for layer in net.layers.values():  # by what a channel reads, as the recipe was tuned with
        nn.init.kaiming_normal_(layer.conv.weight, mode="fan_in")
    return net


def _slice(tensor: Tensor, cout: int, cin: int | None = None, k: tuple[int, int] | None = None) -> Tensor:
    """View of a weight (cout, cin, kh, kw) or a vector (cout,): first channels, centre of the kernel."""
    if cout > tensor.shape[0] or (cin is not None and cin > tensor.shape[1]):
        raise UserError(f"{cout} channels of a layer with {tensor.shape[0]}: the network is not of this super-network")
    view = tensor[:cout]
    if cin is not None:
        top, left = (tensor.shape[2] - k[0]) // 2, (tensor.shape[3] - k[1]) // 2
        view = view[:, :cin, top : top + k[0], left : left + k[1]]
    return view


def slice_views(supernet: Net, graph: Graph) -> dict[str, Tensor]:
    """State-dict key of Net(graph) -> view into the super-network's tensor, gradients flow. Raises UserError."""
    views = {}
    for op in graph.ops:
        if op.kind != "conv":
            continue
        if op.name not in supernet.layers:
            raise UserError(f"the super-network has no layer {op.name}: the network is not of its space")
        layer, prefix = supernet.layers[op.name], f"layers.{op.name}"
        cin = graph.input_of(op).c // op.groups
        views[f"{prefix}.conv.weight"] = _slice(layer.conv.weight, op.cout, cin, op.k)
        if not op.norm:
            views[f"{prefix}.conv.bias"] = _slice(layer.conv.bias, op.cout)
            continue
        for name in ("weight", "bias", "running_mean", "running_var"):
            views[f"{prefix}.bn.{name}"] = _slice(getattr(layer.bn, name), op.cout)
        views[f"{prefix}.bn.num_batches_tracked"] = layer.bn.num_batches_tracked
    return views


def run_subnet(supernet: Net, graph: Graph, x: Tensor) -> Tensor:
    """The sub-network's first output on x (N, 3, H, W) with the super-network's own weights; trains them."""
    with torch.device("meta"):  # the walk alone: its tensors are never made
        walk = Net(graph)
    walk.train(supernet.training)
    return functional_call(walk, slice_views(supernet, graph), (x,))[0]


def slice_net(supernet: Net, graph: Graph) -> Net:
    """A stand-alone copy of the sub-network. Its batch normalisation wants `recalibrate` before use."""
    net = Net(graph)
    net.load_state_dict({key: view.detach().clone() for key, view in slice_views(supernet, graph).items()})
    return net


@torch.no_grad()
def recalibrate(net: Net, batches) -> Net:
    """Batch-normalisation statistics as the mean over `batches` of images: those of the super-network are of no one
    network (the paper takes 20 batches of 64). Leaves the net in evaluation mode."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    net.train()
    for images in batches:
        net(images)
    return net.eval()


@torch.no_grad()
def accuracy(net: Net, images: Tensor, labels: Tensor, batch: int = 64) -> float:
    """Fraction of `images` (N, 3, r, r) whose highest output is the label."""
    hits = 0
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        hits += int((net(x)[0].flatten(1).argmax(1) == y).sum())
    return hits / len(labels)


def _channel_groups(graph: Graph) -> dict[str, str]:
    """Tensor -> representative of the tensors whose channels must keep one order: a depth-wise or weightless op keeps
    its input's, an addition ties its operands."""
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
            group, norm = groups[op.inputs[0]], net.layers[op.name].conv.weight.abs().sum((0, 2, 3))
            norms[group] = norms[group] + norm if group in norms else norm
    fixed = {groups[name] for name in [*(t.name for t in graph.inputs), *graph.outputs]}
    orders = {g: norm.argsort(descending=True, stable=True) for g, norm in norms.items() if g not in fixed}
    for op in convs:
        _permute(net.layers[op.name], op, orders.get(groups[op.inputs[0]]), orders.get(groups[op.name]))


def _permute(layer: nn.Module, op: Op, order_in: Tensor | None, order_out: Tensor | None) -> None:
    weight = layer.conv.weight
    if order_out is not None:
        weight.copy_(weight[order_out])
        for tensor in [layer.conv.bias] if not op.norm else [*layer.bn.parameters(), *layer.bn.buffers()]:
            if tensor.dim():  # all but the counter of batches
                tensor.copy_(tensor[order_out])
    if order_in is not None and op.groups == 1:
        weight.copy_(weight[:, order_in])
