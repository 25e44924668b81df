"""Train for int8: a Net computes what its int8 form will, and gradients pass straight through the rounding (Jacob et
al. 2018, section 3).

It simulates what engine/model.py makes of a network: weights int8 symmetric per output channel, batch normalisation
folded, int32 bias, activations int8 per tensor. The formulas of both are core/int8.py's. An op is one kernel, so a
tensor is rounded once, behind the residual addition and the activation.

A training has three phases, told by buffers, so that a checkpoint goes on in its own: the first OBSERVE batches are
float and their ranges observed; then int8 is simulated, batch normalisation by the batch's statistics; from freeze()
on, its running statistics and the ranges stand still, and what is trained are the folded weights as they are deployed.
In evaluation a net always computes as deployed.
"""

import re
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from .. import int8
from ..errors import UnsupportedOp
from ..ir.box_channels import gain, of_channels
from ..ir.graph import Graph, Op
from ..ir.kinds import OWN_SCALE, SAME_SCALE
from ..types import FloatWeights, Groups, Range
from .net import Layer, Net, convolved, fold, folded, in_numpy

OBSERVE = 16  # batches before int8 is simulated
MOMENTUM = 0.01  # of a range's moving average, once it is the mean of 1 / MOMENTUM batches


class FakeQuant(nn.Module):
    """The part that simulated int8 adds to a Net: the range of every tensor that it writes.

    ranges.{tensor}   (lowest, highest) real value, float32
    batches           training batches seen
    frozen            see freeze()
    sources           tensors that other parts of the network write -> their FakeQuant; any other input is the image
    limits            tensor -> (low, high) beyond which its range is not widened
    groups            output -> groups of its channels that are stored as so many times their values as its range holds
    spans.{output}    (groups, 2) lowest and highest real value of each, float32
    """

    batches: Tensor
    frozen: Tensor

    def __init__(
        self, graph: Graph, sources: dict[str, "FakeQuant"], limits: dict[str, Range], groups: dict[str, Groups]
    ) -> None:
        super().__init__()
        self.ops, self.sources, self.limits = {op.name: op for op in graph.ops}, sources, limits
        self.groups = {name: own for name, own in groups.items() if name in graph.outputs}
        self.image = [t.name for t in graph.inputs if t.name not in sources]
        self.ranges = nn.Module()
        for op in graph.ops:
            if op.kind in OWN_SCALE:
                self.ranges.register_buffer(op.name, torch.zeros(2))
        self.spans = nn.Module()
        for name, own in self.groups.items():
            self.spans.register_buffer(name, torch.zeros(len(own), 2))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))

    @property
    def active(self) -> bool:
        """Whether int8 is simulated yet."""
        return bool(self.frozen) or int(self.batches) > OBSERVE

    @property
    def observing(self) -> bool:
        """Whether ranges still follow the batches."""
        return self.training and not self.frozen

    def begin(self, values: dict[str, Tensor]) -> None:
        """Begin a walk with these inputs."""
        if self.observing:
            self.batches += 1
        if self.active:
            for name in self.image:
                values[name] = self._rounded(name, values[name])

    def forward(self, op: Op, y: Tensor) -> Tensor:
        """Return what `op` has computed, as int8 holds it."""
        if op.kind in SAME_SCALE:
            return y
        if self.observing and op.kind in OWN_SCALE:
            seen, known = torch.stack(y.detach().aminmax()), self.ranges.get_buffer(op.name)
            if op.name in self.limits:
                seen = seen.clamp(*self.limits[op.name])
            known.lerp_(seen, max(1 / int(self.batches), MOMENTUM))
        if self.observing and op.name in self.groups:
            self._observe_groups(op.name, y.detach())
        if not self.active:
            return y
        if op.name not in self.groups:
            return self._rounded(op.name, y)
        gains = self.gains(op.name)[:, None, None]
        return self._rounded(op.name, y * gains) / gains

    def _observe_groups(self, name: str, y: Tensor) -> None:
        """Widen the spans of a map's groups. One that was never seen, of a training begun without groups, is set."""
        known = self.spans.get_buffer(name)
        seen = torch.stack([torch.stack(y[:, list(group)].aminmax()) for group in self.groups[name]])
        known.lerp_(seen, max(1 / int(self.batches), MOMENTUM) if known.any() else 1.0)

    def gains(self, name: str) -> Tensor:
        """Return the gain of each channel (c,) of a map that has groups."""
        whole, spans = (m.get_buffer(name).tolist() for m in (self.ranges, self.spans))
        found = [gain(tuple(whole), tuple(span)) for span in spans]
        return self.batches.new_tensor(of_channels(self.ops[name].cout, self.groups[name], found), dtype=torch.float32)

    def _rounded(self, name: str, x: Tensor) -> Tensor:
        """Round and clamp; the gradient is that of the clamp."""
        return torch.fake_quantize_per_tensor_affine(x, *self.scale(name), -128, 127)

    def scale(self, name: str) -> tuple[Tensor, Tensor]:
        """Return (scale float32, zero point int32) of a tensor."""
        if name in self.sources:
            return self.sources[name].scale(name)
        op = self.ops.get(name)
        if op is not None and op.kind in SAME_SCALE:
            return self.scale(op.inputs[0])
        if op is None or op.kind not in OWN_SCALE:
            step, new = int8.PIXEL_STEP if op is None else int8.PROBABILITY_STEP, self.batches.new_tensor
            return new(step, dtype=torch.float32), new(int8.LOWEST, dtype=torch.int32)
        return scale_of_range(self.ranges.get_buffer(name))

    def convolve(self, op: Op, layer: Layer, x: Tensor) -> Tensor:
        """Do Net.convolve with integer weights and bias. With a batch's statistics the folded weights are rounded and
        the running statistics taken out of them again (the scheme of torch.ao's ConvBn)."""
        weight, bias = folded(layer)
        step_in, _ = self.scale(op.inputs[0])
        integers, step, int_bias = quantize_weights(weight.detach(), bias.detach(), step_in)
        rounded = integers * step[:, None, None, None]
        if op.norm and layer.bn.training and not self.frozen:
            deviation = torch.sqrt(layer.bn.get_buffer("running_var") + layer.bn.eps)
            gain = (layer.bn.weight / deviation).detach()[:, None, None, None]
            own = layer.conv.weight
            return layer.bn(convolved(layer, x, _through(own, torch.where(gain == 0, own, rounded / gain)), None))
        real = (int_bias * (step_in.double() * step.double())).float()
        return convolved(layer, x, _through(weight, rounded), _through(bias, real))


class _Through(torch.autograd.Function):
    """`rounded` in place of x, with x's gradient: the straight-through estimator."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


_through = cast(Callable[[Tensor, Tensor], Tensor], _Through.apply)  # torch gives it no type


def scale_of_range(low_high: Tensor) -> tuple[Tensor, Tensor]:
    """Return (scale float32, zero point int32) of a range (2,)."""
    low, high = low_high.double()
    scale = int8.range_step(low, high).float()
    return scale, int8.zero_point(low, scale.double()).int()


def quantize_weights(weight: Tensor, bias: Tensor, step_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the integers (as floats) of a weight (cout, cin/groups, kh, kw), its scales (cout,), and the bias (cout,)
    in steps of step_in * scale (as doubles)."""
    largest, bias, step_in = weight.abs().amax((1, 2, 3)).double(), bias.double(), step_in.double()
    step = int8.weight_steps(largest, bias, step_in).float()
    return int8.weight_integers(weight, step), step, int8.bias_integers(bias, step_in, step.double())


def fake_quantize(*parts: Net, outputs: Range | None = None, groups: dict[str, Groups] | None = None) -> None:
    """Make nets simulate int8, those of one network in the order in which data passes them. Their weights stay and none
    are added. outputs: (low, high) that the ranges of the network's outputs are cut to; groups: of the channels of
    outputs, see core/ir/box_channels.py. Raises UnsupportedOp."""
    written: dict[str, FakeQuant] = {}
    for net in parts:
        for op in net.graph.ops:
            if op.baseline:
                raise UnsupportedOp(f"{op.name}: {op.baseline} has no int8 form, so it is not trained for one")
        sources = {t.name: written[t.name] for t in net.graph.inputs if t.name in written}
        answers = [net.graph.rounded_as(name) for name in net.graph.outputs]
        limits = dict.fromkeys(answers, outputs) if outputs and net is parts[-1] else {}
        quant = FakeQuant(net.graph, sources, limits, groups or {})
        net.quant = quant.to(next(net.parameters()).device).train(net.training)
        written |= dict.fromkeys(quant.ops, quant)


def freeze(*parts: Net) -> None:
    """Stop ranges and batch normalisation's statistics from here on."""
    for net in parts:
        cast(FakeQuant, net.quant).frozen.fill_(True)  # set by fake_quantize


NORM = ("weight", "bias", "running_mean", "running_var")  # of a batch normalisation in a state dict
_RANGE = re.compile(r"(?:.+\.)?quant\.ranges\.([^.]+)")
_SPANS = re.compile(r"(?:.+\.)?quant\.spans\.([^.]+)")
_CONV = re.compile(r"((?:.+\.)?layers\.([^.]+)\.)conv\.weight")


def learnt_ranges(state: dict[str, Tensor]) -> dict[str, Range]:
    """Return tensor -> (low, high) of a state dict of one or several nets; empty for one without simulated int8."""
    found = {match[1]: value.tolist() for key, value in state.items() if (match := _RANGE.fullmatch(key))}
    return {name: (low, high) for name, (low, high) in found.items()}


def learnt_spans(state: dict[str, Tensor]) -> dict[str, list[Range]]:
    """Return output -> (low, high) of each group of its channels; empty for a state dict that knows of none."""
    found = {match[1]: value.tolist() for key, value in state.items() if (match := _SPANS.fullmatch(key))}
    return {name: [(low, high) for low, high in spans] for name, spans in found.items()}


def learnt_weights(state: dict[str, Tensor]) -> dict[str, FloatWeights]:
    """Return Net.folded_weights() of a state dict of one or several nets."""
    weights = {}
    for prefix, name in (match.groups() for match in map(_CONV.fullmatch, state) if match):
        weight, bias = state[f"{prefix}conv.weight"], state.get(f"{prefix}conv.bias")
        if bias is None:
            gain, shift, mean, variance = (state[f"{prefix}bn.{key}"] for key in NORM)
            weight, bias = fold(weight, gain, shift, mean, variance, nn.BatchNorm2d(1).eps)
        weights[name] = in_numpy((weight, bias))
    return weights
