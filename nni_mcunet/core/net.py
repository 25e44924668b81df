"""Net(graph): a torch module that walks the graph. The only file of core that imports torch; it defines no network."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .graph import Graph, Op

ACTIVATIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "hsigmoid": F.hardsigmoid,
}


class Layer(nn.Module):
    """The trained parts of one conv op: `conv` and, where the op has `norm`, `bn`. Symmetric padding is the
    convolution's own (a training step takes a fifth less), any other is applied before it."""

    def __init__(self, op: Op, cin: int):
        super().__init__()
        padding = op.pad[:2] if symmetric(op) else 0
        self.conv = nn.Conv2d(cin, op.cout, op.k, op.s, padding, groups=op.groups, bias=not op.norm)
        if op.norm:
            self.bn = nn.BatchNorm2d(op.cout)
        fan_out = op.k[0] * op.k[1] * op.cout / op.groups  # torch's own counts the groups twice
        nn.init.normal_(self.conv.weight, 0, math.sqrt(2 / fan_out))
        if not op.norm:
            nn.init.zeros_(self.conv.bias)


def symmetric(op: Op) -> bool:
    return op.pad[:2] == op.pad[2:] and min(op.pad) >= 0


def pad(x: Tensor, op: Op) -> Tensor:
    """NCHW x with the op's zero padding (negative pads crop)."""
    top, left, bottom, right = op.pad
    return F.pad(x, (left, right, top, bottom)) if any(op.pad) else x


def run_plain(op: Op, x: Tensor) -> Tensor:
    """The ops without weights: maxpool, gap and nearest upsample."""
    if op.kind == "gap":
        return x.mean((2, 3), keepdim=True)
    if op.kind == "upsample":
        return F.interpolate(x, scale_factor=tuple(map(float, op.s)), mode="nearest")
    if op.kind == "maxpool":
        return F.max_pool2d(x if not any(op.pad) else _pad_lowest(x, op), op.k, op.s)
    raise NotImplementedError(op.kind)


def _pad_lowest(x: Tensor, op: Op) -> Tensor:
    top, left, bottom, right = op.pad
    return F.pad(x, (left, right, top, bottom), value=torch.finfo(x.dtype).min)


class Net(nn.Module):
    """A graph as a torch module; state-dict keys are `{op name}.conv.weight`, `{op name}.bn.*`.

    forward takes the graph's inputs (N, C, H, W) in order and returns a tuple of its outputs, in order. Every spatial
    size that the strides allow is accepted, not only the graph's own (multi-scale training).
    """

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        for op in graph.ops:
            if op.kind == "conv":
                self.layers[op.name] = Layer(op, graph.input_of(op).c)
        self._last_use = graph.last_use()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = {t.name: x for t, x in zip(self.graph.inputs, inputs, strict=True)}
        for index, op in enumerate(self.graph.ops):
            values[op.name] = self.run(op, values)
            for name in op.reads:
                if self._last_use[name] == index:
                    values.pop(name, None)
        return tuple(values[name] for name in self.graph.outputs)

    def run(self, op: Op, values: dict[str, Tensor]) -> Tensor:
        x = values[op.inputs[0]]
        if op.kind == "mul":
            return x * values[op.inputs[1]]
        if op.kind != "conv":
            return run_plain(op, x)
        layer = self.layers[op.name]
        x = layer.conv(x if symmetric(op) else pad(x, op))
        if op.norm:
            x = layer.bn(x)
        if op.residual is not None:
            x = x + values[op.residual]
        return ACTIVATIONS[op.act](x)

    @torch.no_grad()
    def folded_weights(self) -> dict[str, tuple]:
        """Conv name -> (weight (cout, cin/groups, kh, kw), bias (cout,)), numpy float32, batch normalisation folded."""
        weights = {}
        for name, layer in self.layers.items():
            weight, bias = layer.conv.weight.double(), layer.conv.bias
            if bias is None:
                bn = layer.bn
                gain = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
                weight, bias = weight * gain[:, None, None, None], bn.bias - bn.running_mean * gain
            weights[name] = (weight.float().cpu().numpy(), bias.float().cpu().numpy())
        return weights
