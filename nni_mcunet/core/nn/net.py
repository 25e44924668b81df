"""Walk a graph in torch: Net(graph). It defines no network: the graph does."""

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ScheduleError
from ..ir.arch import Schedule
from ..ir.graph import Graph, Op
from ..plan.cut_points import split
from ..types import FloatWeights
from .convolution import Conv2d, conv2d
from .rnnpool import RNNPool

ACTIVATIONS: dict[str | None, Callable[..., Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "clip": torch.clamp,
    "leaky": F.leaky_relu,
    "abs": torch.abs,
    "elu": F.elu,
    "selu": lambda x, alpha, gamma: gamma * F.elu(x, alpha),
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hsigmoid": lambda x, slope=1 / 6, offset=0.5: (slope * x + offset).clamp(0, 1),
    "hswish": F.hardswish,
    "silu": F.silu,
}

# behind a convolution, whose result nobody else reads: a training step takes a tenth less
IN_PLACE: dict[str | None, Callable[..., Tensor]] = {"relu": torch.relu_, "relu6": partial(F.relu6, inplace=True)}


class Layer(nn.Module):
    """The trained parts of one conv op: `conv` and, where the op has them, `bn` and `prelu`. Symmetric padding is the
    convolution's own (a training step takes a fifth less), any other is applied before it."""

    bn: nn.BatchNorm2d
    prelu: nn.PReLU

    def __init__(self, op: Op, cin: int):
        super().__init__()
        padding = op.pad[:2] if symmetric(op) else (0, 0)
        self.conv = Conv2d(cin, op.cout, op.k, op.s, padding, groups=op.groups, bias=not op.norm)
        if op.norm:
            self.bn = nn.BatchNorm2d(op.cout)
        if op.act == "prelu":
            self.prelu = nn.PReLU()
        fan_out = op.k[0] * op.k[1] * op.cout / op.groups  # torch's own counts the groups twice
        nn.init.normal_(self.conv.weight, 0, math.sqrt(2 / fan_out))
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)


class L2Norm(nn.Module):
    """Every position scaled to length 1 over its channels, times a factor a channel (Liu et al. 2016, ParseNet)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 10.0))

    def forward(self, x: Tensor) -> Tensor:
        """Scale (N, C, H, W)."""
        return F.normalize(x, dim=1, eps=1e-10) * self.weight[:, None, None]


def folded(layer: Layer) -> tuple[Tensor, Tensor]:
    """Return (weight (cout, cin/groups, kh, kw), bias (cout,)) float32 of a layer, the running statistics of its batch
    normalisation folded in; gradients flow."""
    weight, bias = layer.conv.weight, layer.conv.bias
    if bias is not None:
        return weight, bias
    bn = layer.bn
    return fold(weight, bn.weight, bn.bias, bn.get_buffer("running_mean"), bn.get_buffer("running_var"), bn.eps)


def fold(
    weight: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return (weight, bias) float32 of a convolution without bias and the batch normalisation behind it, whose gain,
    shift, mean and variance are (cout,)."""
    factor = gain.double() / torch.sqrt(variance.double() + eps)
    return (weight.double() * factor[:, None, None, None]).float(), (shift - mean * factor).float()


def convolved(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply the layer's convolution to x with other weights."""
    conv = layer.conv
    return conv2d(x, weight, bias, conv.stride, conv.padding, conv.groups)


def symmetric(op: Op) -> bool:
    """Tell whether torch's own padding does for an op: the same on opposite sides, and nothing cropped."""
    return op.pad[:2] == op.pad[2:] and min(op.pad) >= 0


def pad(x: Tensor, op: Op) -> Tensor:
    """Pad an NCHW x with the op's zeros; negative pads crop."""
    top, left, bottom, right = op.pad
    return F.pad(x, (left, right, top, bottom)) if any(op.pad) else x


def laid_out(x: Tensor) -> Tensor:
    """Return an input with its channels last in memory on a CPU, where a network takes two thirds of the time then."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def heads(op: Op, x: Tensor) -> Tensor:
    """Return an NCHW x as (n, heads, channels of a head, positions)."""
    return x.reshape(len(x), op.groups, x.shape[1] // op.groups, -1)


def trained(op: Op, cin: int) -> nn.Module | None:
    """Make the module with the weights of an op, None for an op that has none of its own."""
    if op.shares is not None:
        return None
    if op.kind == "conv":
        return Layer(op, cin)
    if op.kind == "l2norm":
        return L2Norm(cin)
    return RNNPool(cin, op.hidden, op.cout // 4, op.k, op.s) if op.kind == "rnnpool" else None


def run_plain(op: Op, x: Tensor, *others: Tensor) -> Tensor:
    """Compute an op without weights from its inputs, NCHW."""
    if op.kind == "gap":
        return x.mean((2, 3), keepdim=True)
    if op.kind == "upsample":
        return F.interpolate(x, scale_factor=tuple(map(float, op.s)), mode="nearest")
    if op.kind == "maxpool":
        top, left, bottom, right = op.pad
        padded = F.pad(x, (left, right, top, bottom), value=torch.finfo(x.dtype).min) if any(op.pad) else x
        return F.max_pool2d(padded, op.k, op.s)
    if op.kind == "avgpool":
        counted = F.avg_pool2d(pad(torch.ones_like(x[:1, :1]), op), op.k, op.s)
        return F.avg_pool2d(pad(x, op), op.k, op.s) / counted
    if op.kind == "pad":
        return pad(x, op)
    if op.kind == "take":
        x = pad(x, op)[:, :, :: op.s[0], :: op.s[1]]
        return torch.cat((x, torch.zeros_like(x[:, :1])), 1)[:, list(op.channels)]  # -1 is the last, of zeros
    if op.kind == "space_to_depth":
        (n, c, h, w), (down, right) = x.shape, op.s
        return x.reshape(n, c, h // down, down, w // right, right).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    if op.kind == "depth_to_space":
        blocks = x.reshape(len(x), *op.s, op.cout, *x.shape[2:]).permute(0, 3, 4, 1, 5, 2)
        return pad(blocks.flatten(4, 5).flatten(2, 3), op)
    if op.kind == "mul":
        return x * others[0]
    if op.kind == "attention_scores":
        return torch.einsum("ngip,ngij->njpg", heads(op, x), heads(op, others[0]))
    if op.kind == "attention_sum":
        found = torch.einsum("njpg,ngij->ngip", x, heads(op, others[0]))
        return found.reshape(others[0].shape)
    if op.kind in ("add", "act"):
        return ACTIVATIONS[op.act](sum(others, x), *op.args)
    if op.kind == "concat":
        return torch.cat((x, *others), 1)
    if op.kind == "softmax":
        return x.softmax(1)
    if op.kind == "resize":
        return F.interpolate(x, size=others[0].shape[2:], mode="bilinear")
    raise NotImplementedError(op.kind)


class Quantiser(Protocol):
    """Name what a Net asks of its simulated int8 (qat.FakeQuant). Values are NCHW."""

    ops: dict[str, Op]
    batches: Tensor
    frozen: Tensor

    @property
    def active(self) -> bool:
        """Whether int8 is simulated yet."""

    def begin(self, values: dict[str, Tensor]) -> None:
        """Begin a walk with these inputs."""

    def __call__(self, op: Op, y: Tensor) -> Tensor:
        """Return what `op` has computed, as int8 holds it."""

    def convolve(self, op: Op, layer: Layer, x: Tensor) -> Tensor:
        """Convolve with integer weights and bias."""


class Net(nn.Module):
    """A graph as a torch module; state-dict keys are `layers.{op name}.conv.weight`, `layers.{op name}.bn.*`.

    Every spatial size that the strides allow is accepted, not only the graph's own (multi-scale training). `quant` is
    None or the simulated int8 of qat.py, whose keys are `quant.*`.
    """

    quant: Quantiser | None

    def __init__(self, graph: Graph):
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        for op in graph.ops:
            layer = trained(op, graph.input_of(op).c)
            if layer is not None:
                self.layers[op.name] = layer
        self._last_use = graph.last_use()
        self.quant = None

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the graph's outputs, in order, from its inputs (N, C, H, W), in order."""
        values = {t.name: laid_out(x) for t, x in zip(self.graph.inputs, inputs, strict=True)}
        if self.quant is not None:
            self.quant.begin(values)
        self.walk(values, range(len(self.graph.ops)))
        return tuple(values[name] for name in self.graph.outputs)

    def walk(self, values: dict[str, Tensor], part: range) -> None:
        """Run the ops of these indices: `values` gains what they write and loses what nobody reads any more."""
        for index in part:
            op = self.graph.ops[index]
            y = self.run(op, values)
            values[op.name] = y if self.quant is None else self.quant(op, y)
            for name in op.reads:
                if self._last_use[name] == index:
                    values.pop(name, None)

    def run(self, op: Op, values: dict[str, Tensor]) -> Tensor:
        """Compute one op from the tensors it reads, NCHW."""
        x, name = values[op.inputs[0]], op.shares or op.name
        if name not in self.layers:
            return run_plain(op, *(values[source] for source in op.inputs))
        if op.kind != "conv":
            return self.layers[name](pad(x, op))
        layer = self.layer(name)
        x = self.convolve(op, layer, x if symmetric(op) else pad(x, op))
        if op.residual is not None:
            x = x + values[op.residual]
        if op.act == "prelu":
            return layer.prelu(x)
        return IN_PLACE.get(op.act, ACTIVATIONS[op.act])(x, *op.args)

    def layer(self, name: str) -> Layer:
        """Return the layer of a convolution with weights of its own; torch's ModuleDict tells no more than Module."""
        return cast(Layer, self.layers[name])

    def convolve(self, op: Op, layer: Layer, x: Tensor) -> Tensor:
        """Apply convolution and batch normalisation, or bias, to an x that has its asymmetric padding."""
        if self.quant is not None and self.quant.active:
            return self.quant.convolve(op, layer, x)
        # A training step with norm_eval takes a seventh less. In evaluation a network gives its super-network's bits,
        # whose slices have a function for bn.
        if op.norm and self.training and isinstance(layer.bn, nn.BatchNorm2d) and not layer.bn.training:
            return convolved(layer, x, *folded(layer))
        x = layer.conv(x)
        return layer.bn(x) if op.norm else x

    @torch.no_grad()
    def folded_weights(self) -> dict[str, FloatWeights]:
        """Return conv name -> (weight (cout, cin/groups, kh, kw), bias (cout,)), batch normalisation folded."""
        names = (op.name for op in self.graph.ops if op.kind == "conv" and op.shares is None)
        return {name: in_numpy(folded(self.layer(name))) for name in names}


def in_numpy(weights: tuple[Tensor, Tensor]) -> FloatWeights:
    """Copy (weight, bias) into numpy arrays, float32."""
    weight, bias = (np.array(t.detach().cpu().numpy(), np.float32) for t in weights)
    return weight, bias


def forward_apart(net: Net, schedule: Schedule, image: Tensor) -> tuple[Tensor, ...]:
    """Compute net(image), the first n blocks on each tile of the grid p by itself, padded on its own: patches without a
    halo ("non-overlap" in the paper's Table 5), for training as well. Batch normalisation sees all tiles at once.

    Raises ScheduleError when the grid does not divide the image and the segment's output.
    """
    ops, out = split(net.graph, schedule.n)
    source, end = net.graph.inputs[0], net.graph.tensors[out]
    (rows, columns), (h, w) = schedule.p, image.shape[2:]
    factor = source.h // end.h
    if h % (rows * factor) or w % (columns * factor):
        raise ScheduleError(f"an image of {h}x{w} is not cut into {rows}x{columns} tiles of whole strides of {factor}")
    tiles = image.reshape(*image.shape[:2], rows, h // rows, columns, w // columns)  # N C p_h h p_w w
    values = {source.name: tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)}
    net.walk(values, range(len(ops)))
    part = values[out].reshape(-1, rows, columns, *values[out].shape[1:]).permute(0, 3, 1, 4, 2, 5)
    values = {out: part.flatten(4, 5).flatten(2, 3)}
    net.walk(values, range(len(ops), len(net.graph.ops)))
    return tuple(values[name] for name in net.graph.outputs)
