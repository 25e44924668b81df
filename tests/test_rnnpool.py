"""Recurrent pooling against the formulas written out, as a module and as an op; patches without a halo."""

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

from nni_mcunet.core.errors import ArchError, ScheduleError
from nni_mcunet.core.ir.arch import ArchSpec, Pool, Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.nn.net import Net, forward_apart
from nni_mcunet.core.nn.rnnpool import RNNPool
from nni_mcunet.core.plan.plan import plan


def pool(seed=0, channels=3, h1=5, h2=4, k=(4, 6), s=(2, 3)) -> RNNPool:
    torch.manual_seed(seed)
    module = RNNPool(channels, h1, h2, k, s)
    for parameter in module.parameters():  # zeta and nu, too, away from where their sigmoids are 1 and 0
        torch.nn.init.normal_(parameter)
    return module.double()


def sweep(cell, sequence):
    """FastGRNN's formulas, one vector at a time."""
    h = torch.zeros(len(cell.u), dtype=torch.double)
    for x in sequence:
        mixed = cell.w @ x + cell.u @ h
        z = torch.sigmoid(mixed + cell.bias_gate)
        candidate = torch.tanh(mixed + cell.bias_update)
        h = (torch.sigmoid(cell.zeta) * (1 - z) + torch.sigmoid(cell.nu)) * candidate + z * h
    return h


def test_equals_plain_loops():
    module, x = pool(), torch.rand(2, 3, 11, 13, dtype=torch.double)
    y = module(x)
    assert y.shape == (2, 16, 4, 3)
    for n in range(2):
        for i in range(4):
            for j in range(3):
                patch = x[n, :, 2 * i : 2 * i + 4, 3 * j : 3 * j + 6]
                rows = [sweep(module.rnn1, patch[:, r].T) for r in range(4)]
                columns = [sweep(module.rnn1, patch[:, :, c].T) for c in range(6)]
                ends = [sweep(module.rnn2, s) for s in (rows, rows[::-1], columns, columns[::-1])]
                assert torch.allclose(y[n, :, i, j], torch.cat(ends), atol=1e-12)


def test_a_transposed_picture_swaps_rows_and_columns():
    module, x = pool(k=(4, 4), s=(2, 2)), torch.rand(1, 3, 10, 8, dtype=torch.double)
    y, transposed = module(x), module(x.transpose(2, 3)).transpose(2, 3)
    assert torch.allclose(transposed, torch.cat([y[:, 8:], y[:, :8]], 1), atol=1e-12)


def test_gradients():
    module, x = pool(k=(2, 3), s=(2, 3)), torch.rand(1, 3, 4, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
    module(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_the_op_counts_what_the_module_does():
    """MACs by torch's counter, parameters by the module; the map is a fourth, 4 x hidden channels."""
    spec = ArchSpec.load(ROOT / "configs/arch/mobilenet_v2_rnnpool.json")
    graph = build_graph(spec)
    op, t = graph.op("stem_pool"), graph.tensors["stem_pool"]
    assert (t.h, t.w, t.c) == (28, 28, 64)
    module = RNNPool(32, op.hidden, op.cout // 4, op.k, op.s)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.rand(1, 32, 114, 114))
    assert counter.get_total_flops() == 2 * graph.op_macs(op) == 2 * 52_985_856
    assert sum(p.numel() for p in module.parameters()) == graph.op_params(op)


def test_pool_of_an_architecture():
    spec = ArchSpec.load(ROOT / "configs/arch/mobilenet_v2_rnnpool.json")
    assert spec.pool == Pool(6, 4, 16) and spec.depth == max(op.block for op in build_graph(spec).ops)
    for change, message in (
        ({"k": 3}, "pool.k is 3: expected windows of 4 at least"),
        ({"hidden": 0}, "pool.hidden is 0"),
        ({"h1": 8}, "pool has the unknown key 'h1'"),
    ):
        with pytest.raises(ArchError, match=message):
            ArchSpec.from_dict(spec.to_dict() | {"pool": {"k": 6, "s": 4, "hidden": 16} | change})
    with pytest.raises(ArchError, match="pool lacks the key 'hidden'"):
        ArchSpec.from_dict(spec.to_dict() | {"pool": {"k": 6, "s": 4}})


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net(build_graph(mobilenet_v2(96, 0.35, classes=None), taps=(2, 4))).eval()


@torch.no_grad()
def test_tiles_apart_equal_a_loop_over_tiles(net):
    """Each tile is a picture of its own to the first five blocks; the rest sees the tiles put together."""
    image, schedule = torch.rand(2, 3, 64, 96), Schedule((2, 3), 3)
    fine, coarse = forward_apart(net, schedule, image)
    stage = [op for op in net.graph.ops if op.block < 3]
    rows = []
    for i in range(2):
        tiles = []
        for j in range(3):
            values = {"image": image[:, :, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32]}
            for op in stage:
                values[op.name] = net.run(op, values)
            tiles.append(values[stage[-1].name])
        rows.append(torch.cat(tiles, 3))
    values = {stage[-1].name: torch.cat(rows, 2)}
    for op in net.graph.ops[len(stage) :]:
        values[op.name] = net.run(op, values)
    assert torch.allclose(fine, values[net.graph.outputs[0]], atol=1e-5)
    assert torch.allclose(coarse, values[net.graph.outputs[1]], atol=1e-5)
    assert not torch.allclose(fine, net(image)[0], atol=1e-3)  # another network than with a halo


def test_tiles_apart_train(net):
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    forward_apart(net, Schedule(2, 3), image)[1].sum().backward()
    assert image.grad.abs().sum() > 0


def test_what_is_not_cut_evenly(net):
    with pytest.raises(ScheduleError, match="an image of 64x68 is not cut into 2x2 tiles of whole strides of 4"):
        forward_apart(net, Schedule(2, 3), torch.rand(1, 3, 64, 68))
    with pytest.raises(ScheduleError, match=r"halo 'none': .* is not cut into 5 equal tiles"):
        plan(net.graph, Schedule(5, 3), halo="none")


def test_plan_without_a_halo(net):
    """No multiply-accumulate more than layer by layer, less memory than with a halo; the C engine does not run it."""
    apart, clipped = plan(net.graph, Schedule(2, 3), halo="none"), plan(net.graph, Schedule(2, 3))
    assert apart.overhead == 0 < clipped.overhead and apart.arena < clipped.arena
    with pytest.raises(ScheduleError, match="does not execute halo 'none'"):
        apart.executable()


def test_the_backbone_of_a_detector_trains_it():
    pytest.importorskip("mmdet")
    from detection import MCUNetBackbone

    arch = ArchSpec.load(ROOT / "configs/arch/mobilenet_v2_rnnpool_r416.json").to_dict() | {"resolution": [64, 64]}
    backbone = MCUNetBackbone(arch, out_indices=(1, 3))
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(96, 4, 4), (320, 2, 2)]
    sum(m.sum() for m in maps).backward()
    assert backbone.layers["stem_pool"].rnn1.w.grad.abs().sum() > 0
