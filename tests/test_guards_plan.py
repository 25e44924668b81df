"""Try what single lines of the planner guard against, each seen by no other test once: see mutants.py."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from nets import random_model
from programs import run_host
from test_engine import image_of, to_int8

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible, ScheduleError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan import plan as planner
from nni_mcunet.core.plan.arena import Buffer, Life, check
from nni_mcunet.core.plan.kernel_facts import in_place, overwrites
from nni_mcunet.core.plan.plan import best_schedule, fitting_plan, plan
from nni_mcunet.core.plan.schedule_costs import Costs
from nni_mcunet.core.plan.tiles import patch_bounds
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.lower import reference


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("k", [1, 3])
def test_no_residual_is_overwritten_that_is_the_input(groups, k, tmp_path):
    """Every output channel reads all channels (its window) of the map, which the first output would spoil."""
    window = {"k": (k, k), "pad": (k // 2,) * 4}
    ops = Op("x", "conv", ("image",), 8), Op("y", "conv", ("x",), 8, residual="x", groups=groups, **window)
    graph = Graph("own", (Tensor("image", 9, 7, 3),), ops, ("y",)).verify()
    assert overwrites(graph, ops[1]) == () and 1 not in in_place(graph)
    assert equal_in_c(graph, tmp_path)


THREE = {"k": (3, 3), "pad": (1, 1, 1, 1)}


def equal_in_c(graph, folder, *schedule, **halo) -> bool:
    rng = np.random.default_rng(1)
    model, image = random_model(rng, graph), image_of(rng, graph)
    want = reference.run(plan(graph), model, to_int8(image))
    got = run_host(write_sources(plan(graph, *schedule, **halo), model, folder), image)["outputs"]
    return all(np.array_equal(g, w.ravel()) for g, w in zip(got, want.values(), strict=True))


@pytest.mark.parametrize("pad", [(3, 1, 0, 1), (0, 1, 3, 1), (1, 3, 1, 0), (2, 2, 1, 1)])
def test_a_convolution_that_enlarges_is_not_in_place(pad, tmp_path):
    """A row written would be one that is still to be read."""
    dw = Op("y", "conv", ("x",), 4, (3, 3), pad=pad, groups=4)
    graph = Graph("grows", (Tensor("image", 7, 7, 3),), (Op("x", "conv", ("image",), 4), dw), ("y",)).verify()
    assert overwrites(graph, dw) == () and overwrites(graph, replace(dw, pad=(1, 1, 1, 1))) == ("x",)
    assert equal_in_c(graph, tmp_path)


def test_a_gate_is_not_overwritten(tmp_path):
    """It is smaller than the product, and read for every position of it."""
    ops = (
        Op("x", "conv", ("image",), 4), Op("gate", "gap", ("x",), 4), Op("y", "mul", ("x", "gate"), 4),
        Op("z", "add", ("y", "x"), 4),
    )  # fmt: skip
    graph = Graph("gated", (Tensor("image", 7, 7, 3),), ops, ("z",)).verify()
    assert overwrites(graph, ops[2]) == ("x",) and 2 not in in_place(graph)
    assert equal_in_c(graph, tmp_path)


@pytest.mark.parametrize("size, pad", [((12, 12), (1, 1, 2, 1)), ((12, 12), (0, 1, 1, 1)), ((12, 9), (1, 1, 1, 1))])
def test_a_square_map_with_uneven_windows(size, pad):
    """Rows and columns are alike where everything is: the planner then computes them once."""
    ops = [Op(f"c{i}", "conv", (x,), 3, (3, 3), pad=pad, block=i) for i, x in enumerate(("image", "c0", "c1"))]
    graph = Graph("nearly", (Tensor("image", *size, 3),), tuple(ops), ("c2",)).verify()
    rng = np.random.default_rng(0)
    model, image = random_model(rng, graph), to_int8(image_of(rng, graph))
    want = reference.run(plan(graph), model, image)["c2"]
    for n, halo in product((1, 2, 3), ("clip", "cache")):
        assert np.array_equal(reference.run(plan(graph, Schedule(3, n), halo=halo), model, image)["c2"], want)


@pytest.mark.parametrize("pad", [(1, 0, 0, 1), (0, 2, 1, 0)])
def test_a_padded_window_of_one_is_no_pointwise_convolution(pad, tmp_path):
    """It reads no position at the rim, and others than those it writes."""
    ops = Op("x", "conv", ("image",), 4, **THREE), Op("y", "conv", ("x",), 4, pad=pad, block=1)
    graph = Graph("rim", (Tensor("image", 6, 6, 3),), ops, ("y",)).verify()
    assert equal_in_c(graph, tmp_path / "whole") and equal_in_c(graph, tmp_path / "patched", Schedule((3, 2), 2))


def test_patches_that_compute_nothing_hand_on_what_later_ones_need(tmp_path):
    """Every other patch of one row finds the row before it doubled: the first two maps then have nothing new. The last
    patch, behind which none comes, holds nothing of what nobody reads any more."""
    ops = [Op(f"c{i}", "conv", (x,), 3, (3, 3), pad=(1,) * 4, block=i) for i, x in enumerate(("image", "c0"))]
    ops += [Op("up", "upsample", ("c1",), 3, s=(2, 2), block=2), Op("y", "conv", ("up",), 3, block=3)]
    graph = Graph("doubled", (Tensor("image", 5, 5, 3),), tuple(ops), ("y",)).verify()
    segment = plan(graph, Schedule(10, 4), halo="cache").segments[0]
    assert [span["c1"].length for span in segment.new[0]] == [1, 0] * 5
    assert [span["c0"].length for span in segment.spans[0]] == [2, 2, 3, 2, 3, 2, 3, 2, 2, 0]
    assert equal_in_c(graph, tmp_path, Schedule(10, 4), halo="cache")


def test_a_grid_is_no_finer_than_its_map():
    assert patch_bounds(3, 3).hi.tolist() == [1, 2, 3]
    with pytest.raises(ScheduleError, match="4 patches along a segment output of 3: use at most 3"):
        patch_bounds(3, 2, 4)


def test_a_given_schedule_is_held_against_the_flash():
    ops = Op("a", "conv", ("image",), 16, (3, 3)), Op("b", "conv", ("a",), 8, block=1)
    graph = Graph("fits", (Tensor("image", 12, 12, 3),), ops, ("b",)).verify()
    needed, board = plan(graph).flash, get_board("H743")
    for schedule in (Schedule(), Schedule(2, 2)):
        enough = replace(board, flash=board.flash - board.model_limit + needed)
        assert fitting_plan(graph, enough, schedule).flash == enough.model_limit == needed
        with pytest.raises(Infeasible) as error:
            fitting_plan(graph, replace(enough, flash=enough.flash - 1), schedule)
        assert (error.value.what, error.value.needed, error.value.limit) == ("flash", needed, needed - 1)


def test_a_placement_may_need_more_than_its_lower_bound(monkeypatch):
    """It is then compared by what it needs: it may not fit, and a later one of the same computation may be better."""
    graph = Graph("one", (Tensor("image", 8, 8, 3),), (Op("a", "conv", ("image",), 4, (3, 3)),), ("a",)).verify()
    rows = [(10, 50, 60), (10, 55, 57), (20, 40, 41), (20, 40, 40), (30, 39, 45)]  # macs, peak, arena
    placed = {
        Schedule(2, 1 + at): SimpleNamespace(macs=m, arena=a, copied=0, schedule=Schedule(), graph=graph)
        for at, (m, _, a) in enumerate(rows)
    }
    costs = [Costs(macs, peak, 0) for macs, peak, _ in rows]
    candidates = [(cost, schedule, "clip") for cost, schedule in zip(costs, placed, strict=True)]
    monkeypatch.setattr(planner, "_candidates", lambda *_: candidates)
    monkeypatch.setattr(planner, "plan", lambda graph, schedule, *_: placed[schedule])
    assert [(p.macs, p.arena) for p in planner.pareto(graph)] == [(10, 57), (20, 40)]
    board = replace(get_board("H743"), reserved_sram=0)
    for limit, found in ((60, (10, 57)), (57, (10, 57)), (56, (20, 40)), (40, (20, 40))):
        best = planner.best_schedule(graph, replace(board, sram=limit))
        assert (best.macs, best.arena) == found, limit
    with pytest.raises(Infeasible) as error:
        planner.best_schedule(graph, replace(board, sram=39))
    assert error.value.needed == 40


def test_buffers_at_one_place_are_found():
    with pytest.raises(AssertionError, match="buffers a and b overlap"):
        check([Buffer(name, (Life(0, 1, 8),), 16) for name in "ab"], 24)


def test_the_flash_limit_leaves_the_runtime_its_part():
    graph = Graph("one", (Tensor("image", 8, 8, 3),), (Op("a", "conv", ("image",), 64, (3, 3)),), ("a",)).verify()
    board = replace(get_board("H743"), flash=plan(graph).flash + 1000, reserved_flash=1000)
    assert best_schedule(graph, board).flash == board.model_limit
    with pytest.raises(Infeasible) as error:
        best_schedule(graph, replace(board, reserved_flash=1001))
    assert (error.value.what, error.value.limit) == ("flash", board.model_limit - 1)
