"""A head before a global mean in slices of channels: the bytes of the whole one, less memory, no computation more."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from nets import random_model
from programs import run_board, run_host

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import ArchError, ScheduleError
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.head_slices import heads, sliced
from nni_mcunet.core.plan.plan import best_schedule, pareto, plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.lower import reference

SAME = {"k": (3, 3), "pad": (1, 1, 1, 1)}


def network(cout: int = 37, twice: bool = False, **head) -> Graph:
    """A stem of 9 x 7 positions, a head of `cout` channels, its global mean and a fully connected layer."""
    common = {"twice": twice}
    ops = [
        Op("stem", "conv", ("image",), 6, s=(2, 2), act="relu", **SAME, **common),
        Op("head", "conv", ("stem",), cout, act="relu6", block=1, **head, **common),
        Op("mean", "gap", ("head",), cout, block=2, **common),
        Op("fc", "conv", ("mean",), 5, block=2, **common),
    ]
    return Graph("sliced", (Tensor("image", 17, 13, 3),), tuple(ops), ("fc",)).verify()


CASES = {
    "odd channels": (network(), 3),
    "3x3": (network(21, **SAME), 2),
    "rounds twice": (network(24, twice=True), 6),
    "more slices than fours": (network(9), 64),
    "one slice of few channels": (network(5), 2),
    "the mean is an output": (replace(network(16), outputs=("fc", "mean")), 4),
}


@pytest.mark.parametrize("what", CASES)
def test_slices_give_the_whole_head(what, tmp_path):
    """Reference, C on the host and, of one case, on a board; patches before it or not."""
    graph, slices = CASES[what]
    rng = np.random.default_rng(0)
    model, image = random_model(rng, graph), rng.integers(0, 256, (17, 13, 3)).astype(np.uint8)
    picture = (image.astype(np.int16) - 128).astype(np.int8)
    wanted = reference.run(plan(graph), model, picture)
    for schedule in (Schedule(slices=slices), Schedule((3, 2), 1, halo="narrow", slices=slices)):
        p = plan(graph, schedule)
        assert p.macs == graph.macs and (len(p.graph.ops) > len(graph.ops)) == (what != "one slice of few channels")
        found = reference.run(p, model, picture)
        assert all(np.array_equal(found[name], wanted[name]) for name in graph.outputs)
    sources = write_sources(p, model, tmp_path)
    boards = ("cortex-m4",) if what == "rounds twice" else ()
    for report in (run_host(sources, image), *(run_board(core, sources, image) for core in boards)):
        for name, got in zip(graph.outputs, report["outputs"], strict=True):
            assert np.array_equal(got, wanted[name].ravel()), what


def test_which_heads_are_cut():
    """Not one that something else reads, that has a residual or groups, or whose map is small."""
    graph = network()
    assert heads(graph) == {"head": "mean"}
    stem, head, mean, fc = graph.ops
    others = {
        "an output": replace(graph, outputs=("fc", "head")),
        "a residual": replace(graph, ops=(stem, replace(head, cout=6, residual="stem"), replace(mean, cout=6), fc)),
        "groups": replace(graph, ops=(stem, replace(head, cout=12, groups=3), replace(mean, cout=12), fc)),
        "few positions": replace(graph, inputs=(Tensor("image", 2, 2, 3),)),
    }
    for what, other in others.items():
        assert not heads(other.verify()), what
        with pytest.raises(ScheduleError, match="slices = 2: sliced has no convolution that a global mean"):
            plan(other, Schedule(slices=2))


def test_names_are_free():
    """A layer may be called like a slice."""
    graph = network(8)
    ops = tuple(replace(op, name="head_0", inputs=op.inputs) if op.name == "fc" else op for op in graph.ops)
    names = [op.name for op in sliced(replace(graph, ops=ops, outputs=("head_0",)), 2).graph.ops]
    assert names == ["stem", "head_0_", "mean_0", "head_4", "mean_4", "mean", "head_0"]


def test_the_floor_of_mobilenet_v2_w35():
    """Its head of 5 x 5 x 1280 is the floor: 33,280 bytes under any schedule."""
    graph = build_graph(ArchSpec.load(ROOT / "configs/arch/mobilenet_v2_w35_r144.json")).folded()
    grids = [(a, b) for a in (2, 4, 6, 9) for b in (1, 2, 3, 6)]
    whole, found = (pareto(graph, grids, segments=3, halos=("cache",), slices=s) for s in (1, 16))
    assert min(p.arena for p in whole) == 33_280
    least = min((p for p in found if p.macs == graph.macs), key=lambda p: p.arena)
    assert least.arena <= 26_528 and 1 < least.schedule.slices < 16


def test_slices_are_taken_where_they_are_needed():
    """As few as fit, and none in a search."""
    graph = build_graph(ArchSpec.load(ROOT / "configs/arch/mobilenet_v2_w35_r144.json")).folded()
    board = replace(get_board("H743"), flash=1 << 30)
    assert plan_for_board(graph, board).schedule.slices == 1
    tight = board.with_arena(32 * 1024)
    found = plan_for_board(graph, tight, p_choices=(1, 3, 4, 6))
    assert found.arena <= 32 * 1024 and found.schedule.slices == 2
    assert "the head in 2 slices" in str(found.schedule)
    one = best_schedule(graph, board, "sram", (1, 6), halos=("cache",), segments=2)
    assert one.schedule.slices == 1 and one.arena >= 33_280


def test_files(tmp_path):
    spec = ArchSpec.load(ROOT / "configs/arch/mcunet_in3.json")
    for schedule in (Schedule((2, 2), 3, slices=4), Schedule(slices=4)):
        one = replace(spec, schedule=schedule)
        assert ArchSpec.load(one.save(tmp_path / "arch.json")) == one
    for bad in (0, 65, "4", 1.5):
        with pytest.raises(ArchError, match=r"schedule\.slices is"):
            Schedule(slices=bad)


@pytest.mark.parametrize("side", [1, 2])
def test_a_fully_connected_net(side, tmp_path):
    """One position at a time takes a quarter of the scratch: input, output and that are 2,048 bytes of 640-128-640.
    Four positions go together. The kernels are shut in what their arguments name."""
    image = Tensor("image", side, side, 640)
    ops = [
        Op(f"fc{i}", "conv", (x,), c)
        for i, (x, c) in enumerate(zip(("image", "fc0", "fc1"), (128, 128, 640), strict=True))
    ]
    graph = Graph("fc", (image,), tuple(ops), ("fc2",)).verify()
    rng = np.random.default_rng(0)
    model, picture = random_model(rng, graph), rng.integers(0, 256, (side, side, 640)).astype(np.uint8)
    p = plan(graph)
    assert p.arena == (2_048 if side == 1 else 7_808)
    wanted = reference.run(p, model, (picture.astype(np.int16) - 128).astype(np.int8))
    report = run_board("cortex-m4", write_sources(p, model, tmp_path), picture, guarded=True)
    assert np.array_equal(report["outputs"][0], wanted["fc2"].ravel())
