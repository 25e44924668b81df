"""Quantisation-aware training: what is simulated is what is deployed, integer by integer; gradients; phases; resume."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from nets import random_graph
from torch.nn import functional as F

from nni_mcunet.core.errors import UnsupportedOp, UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import BACKBONE, NECK, YOLO, YOLOX, YoloHead, YoloxHead, build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.nn.qat import (
    OBSERVE,
    fake_quantize,
    freeze,
    learnt_ranges,
    learnt_weights,
    quantize_weights,
    scale_of_range,
)
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine import model as quant
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model, QuantModel, Scale, quantize
from nni_mcunet.engine.quant.post_training import learnt
from nni_mcunet.paper.baselines import face_baseline

BLOCKS = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16), Block(5, 1, 32, 16)), (Block(3, 2, 48, 24),),
          (Block(3, 2, 72, 40),))  # fmt: skip
SPEC = ArchSpec("small_r64", 64, 8, BLOCKS)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def images(graph: Graph, n: int, seed: int = 0) -> torch.Tensor:
    """(n, c, h, w) of bytes / 255: noise on ramps, so that maps are not all alike."""
    t, rng = graph.inputs[0], np.random.default_rng(seed)
    ramps = rng.uniform(-1, 1, (n, t.c, 2, 1, 1))
    waves = ramps[:, :, 0] * np.linspace(0, 1, t.h)[:, None] + ramps[:, :, 1] * np.linspace(0, 1, t.w)
    return torch.from_numpy((128 + 90 * waves + rng.normal(0, 20, waves.shape)).clip(0, 255).round() / 255).float()


def train(nets, x: torch.Tensor, steps: int, lr: float = 0.01, frozen: int = 3) -> None:
    """So many steps of nets in a row, the last `frozen` of them frozen, that pull the outputs' means to 1."""
    optimizer = torch.optim.SGD([p for net in nets for p in net.parameters()], lr, momentum=0.9)
    for step in range(steps):
        if step == steps - frozen:
            freeze(*nets)
        loss = sum((y.mean() - 1) ** 2 + 1e-3 * y.square().mean() for y in run(nets, x).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for net in nets for p in net.parameters()], 1.0)
        optimizer.step()


def run(nets, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs of parts of a network by name, passed from each to the next."""
    values = {nets[0].graph.inputs[0].name: x}
    for net in nets:
        outputs = net(*(values[t.name] for t in net.graph.inputs))
        values |= dict(zip(net.graph.outputs, outputs, strict=True))
    return {name: values[name] for name in nets[-1].graph.outputs}


def state_of(nets) -> dict[str, torch.Tensor]:
    return {f"part{i}.{key}": value for i, net in enumerate(nets) for key, value in net.state_dict().items()}


def deployed(graph: Graph, nets) -> QuantModel:
    state = state_of(nets)
    return quantize(Model(graph.folded(), learnt_weights(state)), learnt_ranges(state))


def with_norm(graph: Graph) -> Graph:
    """Batch normalisation in every other convolution."""
    return replace(graph, ops=tuple(replace(op, norm=op.kind == "conv" and i % 2 == 0)
                                    for i, op in enumerate(graph.ops)))  # fmt: skip


def of_every_kind() -> Graph:
    """Asymmetric pads, residuals, dw, pools, SE (gap, act, mul), upsample, add, concat, pad, softmax."""
    ops = (
        Op("stem", "conv", ("image",), 8, (3, 3), (2, 2), (0, 0, 1, 1), act="relu6", norm=True),
        Op("dw", "conv", ("stem",), 8, (3, 3), pad=(1, 1, 1, 1), groups=8, act="relu", norm=True),
        Op("se_pool", "gap", ("dw",), 8),
        Op("se_red", "conv", ("se_pool",), 4, act="relu"),
        Op("se_gate", "conv", ("se_red",), 8),
        Op("se_act", "act", ("se_gate",), 8, act="hsigmoid"),
        Op("se_mul", "mul", ("dw", "se_act"), 8),
        Op("proj", "conv", ("se_mul",), 8, residual="stem", norm=True),
        Op("small", "maxpool", ("proj",), 8, (2, 2), (2, 2)),
        Op("mean", "avgpool", ("proj",), 8, (2, 2), (2, 2)),
        Op("both", "concat", ("small", "mean"), 16),
        Op("group", "conv", ("both",), 8, (3, 3), pad=(1, 1, 1, 1), groups=2, act="clip", args=(-1.0, 4.0), norm=True),
        Op("up", "upsample", ("group",), 8, s=(2, 2)),
        Op("sum", "add", ("up", "proj"), 8, act="relu"),
        Op("wide", "pad", ("sum",), 8, pad=(1, 0, 0, 1)),
        Op("swish", "act", ("wide",), 8, act="hswish"),
        Op("classes", "conv", ("swish",), 5),
        Op("scores", "softmax", ("classes",), 5),
    )
    return Graph("every", (Tensor("image", 16, 20, 3),), ops, ("sum", "scores")).verify()


def three_parts(head: YoloHead | YoloxHead = YoloHead(3, (1, 3), 16)) -> tuple[Graph, list[Graph]]:  # noqa: B008
    graph = build_graph(SPEC, head)
    return graph, [graph.part(names) for names in (BACKBONE, NECK, YOLO if isinstance(head, YoloHead) else YOLOX)]


def cases():
    whole, parts = three_parts()
    yield pytest.param(whole, parts, id="detector")
    whole, parts = three_parts(YoloxHead(3, (1, 3), 16, 8, 1))
    yield pytest.param(whole, parts, id="yolox")
    every = of_every_kind()
    yield pytest.param(every, [every], id="every kind")
    for seed in (3, 8, 11):
        graph = with_norm(random_graph(np.random.default_rng(seed), blocks=6))
        yield pytest.param(graph, [graph], id=f"random{seed}")


def test_the_formulas_are_the_engines():
    rng = np.random.default_rng(0)
    ranges = rng.normal(0, 10.0 ** rng.integers(-8, 5, (500, 1)), (500, 2)).astype(np.float32)
    ranges = np.vstack([np.sort(ranges), [[0, 0], [0, 6], [2, 5], [-4, -1], [-1e-9, 0], [-1, 1]]]).astype(np.float32)
    for low, high in ranges:
        scale, zero_point = scale_of_range(torch.tensor([low, high]))
        assert Scale(scale.item(), zero_point.item()) == Scale.of_range(low, high)
    for _ in range(50):
        cout, step = int(rng.integers(1, 20)), np.float32(10.0 ** rng.uniform(-6, 1))
        weight = rng.normal(0, 10.0 ** rng.uniform(-6, 1, (cout, 1, 1, 1)), (cout, 3, 2, 3)).astype(np.float32)
        bias = rng.normal(0, 10.0 ** rng.uniform(-6, 4, cout)).astype(np.float32)  # many large ones: the scale's floor
        weight[rng.random(cout) < 0.1] = 0
        theirs = quant.quantize_weights(weight, bias, float(step))
        ours = quantize_weights(torch.from_numpy(weight), torch.from_numpy(bias), torch.tensor(step))
        for a, b in zip(ours, (theirs.weight, theirs.scale, theirs.bias), strict=True):
            assert np.array_equal(a.numpy(), b)


@pytest.mark.parametrize("graph, parts", cases())
def test_what_is_simulated_is_what_is_deployed(graph, parts, monkeypatch):
    """The weights and biases that convolutions are computed with, and the grids that maps lie on, against the
    integers and scales of the exported model."""
    torch.manual_seed(0)
    nets = [Net(part).train() for part in parts]
    fake_quantize(*nets)
    train(nets, images(graph, 4), OBSERVE + 6)
    model, seen, maps = deployed(graph, [net.eval() for net in nets]), [], {}
    convolve, forward = F.conv2d, type(nets[0].quant).forward

    def watched(x, weight, bias, **how):
        seen.append((weight.detach().numpy(), bias.detach().numpy()))
        return convolve(x, weight, bias, **how)

    def keep(self, op, y):
        maps[op.name] = y = forward(self, op, y)
        return y

    monkeypatch.setattr(F, "conv2d", watched)
    monkeypatch.setattr(type(nets[0].quant), "forward", keep)
    with torch.no_grad():
        run(nets, images(graph, 2, seed=1))
    convs = [op for part in parts for op in part.ops if op.kind == "conv"]
    assert len(convs) == len(seen) == len(model.weights)
    for op, (weight, bias) in zip(convs, seen, strict=True):
        q, step_in = model.weights[op.name], model.scales[op.inputs[0]].scale
        assert np.array_equal(weight, q.weight * q.scale[:, None, None, None])
        assert np.array_equal(bias, (q.bias * (step_in * q.scale.astype(np.float64))).astype(np.float32))
    assert maps.keys() == {op.name for op in graph.ops}
    for name, y in maps.items():
        scale = model.scales[name]
        assert np.array_equal(y.numpy(), scale.dequantize(scale.quantize(y.numpy()))), name


def test_parts_share_scales():
    """A neck's bias is in steps of its input's scale, which the backbone knows."""
    graph, parts = three_parts()
    torch.manual_seed(0)
    nets = [Net(part).train() for part in parts]
    fake_quantize(*nets)
    train(nets, images(graph, 4), OBSERVE + 4)
    whole = Net(graph)
    fake_quantize(whole)
    whole.load_state_dict({key: value for net in nets for key, value in net.state_dict().items()})
    x = images(graph, 2, seed=1)
    with torch.no_grad():
        for ours, theirs in zip(run([net.eval() for net in nets], x).values(), whole.eval()(x), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("seed", range(6))
def test_simulation_against_the_integer_engine(seed):
    """Every op on the reference's own inputs, rounded to its grid, against the reference's integers. A sum that lies on
    a tie, and a residual, whose multiplier has 16 bits, may fall to the other side: by one step, in under a thousandth.
    (Through many layers such steps spread: two maps of a deep network may differ by several.)"""
    graph = with_norm(random_graph(np.random.default_rng(seed), blocks=6, size=(24, 28)))
    torch.manual_seed(seed)
    net = Net(graph).train()
    fake_quantize(net)
    train([net], images(graph, 4), OBSERVE + 6)
    model, apart = deployed(graph, [net.eval()]), []
    for picture in (images(graph, 2, seed=1) * 255).round().permute(0, 2, 3, 1).numpy():
        exact = reference.run(plan(graph), model, (picture - 128).astype(np.int8), keep=True)
        real = {name: model.scales[name].dequantize(q) for name, q in exact.items()}
        values = {name: torch.from_numpy(y).permute(2, 0, 1)[None] for name, y in real.items()}
        for op in graph.ops:
            with torch.no_grad():
                y = net.quant(op, net.run(op, values))[0].permute(1, 2, 0)
            ours = model.scales[op.name].quantize(y.numpy())
            apart.append(np.abs(ours.astype(int) - exact[op.name]).ravel())
    apart = np.concatenate(apart)
    assert apart.max() <= 1 and (apart == 0).mean() > 0.999


def test_gradients_flow_straight_through_and_stop_at_the_clamp():
    graph = Graph("one", (Tensor("image", 4, 4, 1),), (Op("a", "conv", ("image",), 1),), ("a",)).verify()
    net = Net(graph).train()
    fake_quantize(net)
    net.quant.batches.fill_(OBSERVE)
    freeze(net)
    net.quant.ranges.a.copy_(torch.tensor([-0.1, 0.5]))
    with torch.no_grad():
        net.layers.a.conv.weight.fill_(1.0)
    x = torch.linspace(0, 1, 16).reshape(1, 1, 4, 4).requires_grad_()
    (y,) = net(x)
    y.sum().backward()
    inside = x.detach() < 0.5
    assert torch.equal(x.grad, inside.float()) and y.max() <= 0.5 + 1e-3
    pixels = (x.detach() * 255).round() / 255
    assert net.layers.a.conv.weight.grad.item() == pytest.approx(pixels[inside].sum().item(), rel=1e-5)
    assert net.layers.a.conv.bias.grad.item() == inside.sum()


def test_every_parameter_is_trained_in_every_phase():
    graph = of_every_kind()
    torch.manual_seed(0)
    net = Net(graph).train()
    fake_quantize(net)
    for frozen in (False, True):
        train([net], images(graph, 4), OBSERVE + 3, frozen=2 * frozen)
        net.zero_grad()
        sum(y.square().mean() for y in net(images(graph, 2))).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        assert net.layers.stem.conv.weight.grad.abs().sum() > 0 and net.layers.proj.bn.weight.grad.abs().sum() > 0


def test_phases():
    """Float at first; then simulated, statistics and ranges moving; frozen, nothing moves but what is trained."""
    graph = of_every_kind()
    torch.manual_seed(0)
    net, x = Net(graph).train(), images(graph, 4)
    twin = copy.deepcopy(net)
    fake_quantize(net)
    for _ in range(OBSERVE):
        assert all(torch.equal(a, b) for a, b in zip(net(x), twin(x), strict=True))
    moving = {key for key in net.state_dict() if key.endswith(("running_mean", "running_var")) or "ranges." in key}
    before = copy.deepcopy(net.state_dict())
    assert all(not torch.equal(a, b) for a, b in zip(net(images(graph, 4, 1)), twin(x), strict=True))
    after = copy.deepcopy(net.state_dict())
    assert {key for key in before if not torch.equal(before[key], after[key])} >= moving - {"quant.ranges.se_red"}
    freeze(net)
    net.train()(images(graph, 4, 2))
    assert all(torch.equal(value, after[key]) for key, value in net.state_dict().items() if key != "quant.frozen")
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(net.train()(x), net.eval()(x), strict=True))  # as deployed


def test_the_outputs_ranges_are_cut():
    graph, parts = three_parts()
    torch.manual_seed(0)
    nets, x = [Net(part).train() for part in parts], images(graph, 4)
    fake_quantize(*nets, outputs=(-0.01, 0.02))
    train(nets, x, OBSERVE + 2, frozen=0)
    ranges = learnt_ranges(state_of(nets))
    for name, y in run([net.eval() for net in nets], x).items():
        assert ranges[name] == pytest.approx((-0.01, 0.02)) and y.max() - y.min() < 0.0301
    assert all(high > 0.05 for name, (_, high) in ranges.items() if name not in graph.outputs)


def test_a_channel_that_is_switched_off_stays_finite():
    graph = of_every_kind()
    net = Net(graph).train()
    with torch.no_grad():
        net.layers.dw.bn.weight[::2] = 0
    fake_quantize(net)
    train([net], images(graph, 4), OBSERVE + 3)
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_a_state_goes_on_where_it_was():
    """Weights, statistics, ranges and phase are all in the state dict; an inactive one computes as float."""
    graph = of_every_kind()
    torch.manual_seed(0)
    net, x = Net(graph).train(), images(graph, 4)
    fake_quantize(net)
    train([net], x, OBSERVE + 2, frozen=0)
    other = Net(graph).train()
    fake_quantize(other)
    other.load_state_dict(net.state_dict())
    for each in (net, other):
        train([each], x, 3, frozen=1)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert learnt_ranges(Net(graph).state_dict()) == {}


def test_what_cannot_be_deployed_is_refused():
    with pytest.raises(UnsupportedOp, match="prelu has no int8 form"):
        fake_quantize(Net(face_baseline("extd_32")))
    graph, other = of_every_kind(), build_graph(SPEC)
    net = Net(graph).train()
    model = Model(graph.folded(), net.folded_weights())
    with pytest.raises(UserError, match="no range of 'stem': it is not of quantisation-aware training"):
        learnt(model, learnt_weights(net.state_dict()), {})
    with pytest.raises(UserError, match="no 'dw' of this shape"):
        learnt(model, learnt_weights(Net(other).state_dict()), dict.fromkeys(graph.tensors, (0, 1)))
