"""The planner's short cuts change no answer: costs, best schedule and Pareto front against plan() on every schedule."""

from dataclasses import replace

import numpy as np
import pytest
from nets import any_graph, random_graph

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible, ScheduleError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.cut_points import cuts
from nni_mcunet.core.plan.kernel_facts import ANALYTIC, CORTEX_M
from nni_mcunet.core.plan.latency import fastest
from nni_mcunet.core.plan.multi_segment import several_segments
from nni_mcunet.core.plan.plan import EXECUTED, SEGMENTS, best_schedule, fitting_plan, pareto, plan, schedules, split
from nni_mcunet.core.plan.schedule_costs import costs
from nni_mcunet.search.space import load_space

GRIDS = (1, 2, 3, (1, 3), (2, 1), (3, 4))


def candidate(seed):
    """Graph and grids: a random network of the search space, or any graph the planner claims to handle."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        of_seed = any_graph if seed % 4 == 1 else random_graph
        return of_seed(rng, blocks=int(rng.integers(2, 8))), GRIDS
    space = load_space("mcunet384")
    genes = space.random(rng)
    return build_graph(space.spec(genes | {"r": min(genes["r"], 160)})), (1, 2, 3, 4)


def brute_force(plans, limit, rank):
    """The best plan that fits, or the smallest arena there is."""
    fitting = [p for p in plans if p.arena <= limit]
    return min(fitting, key=rank) if fitting else min(p.arena for p in plans)


@pytest.mark.parametrize("first", range(0, 240, 12))
def test_best_schedule_equals_brute_force(first):
    """Every cost is exact, and the best plan (or what is needed for one) is that of plan() on all schedules."""
    for seed in range(first, first + 12):
        graph, grids = candidate(seed)
        kernels = ANALYTIC if seed % 3 == 0 else CORTEX_M
        every = schedules(graph, grids)
        plans = [plan(graph, s, kernels) for s in every]
        assert costs(graph, every, kernels) == [(p.macs, p.peak, p.copied) for p in plans]
        arenas = sorted({p.arena for p in plans})
        for objective, rank in (("macs", lambda p: (p.macs, p.arena)), ("sram", lambda p: (p.arena, p.macs))):
            for limit in (arenas[0] - 1, arenas[0], arenas[len(arenas) // 3], arenas[-1]):
                board = replace(get_board("H743"), sram=limit, reserved_sram=0, flash=1 << 30)
                expected = brute_force(plans, limit, rank)
                try:
                    found = best_schedule(graph, board, objective, grids, kernels=kernels)
                    assert (found.schedule, found.macs, found.arena, found.buffers) == (
                        expected.schedule, expected.macs, expected.arena, expected.buffers
                    ), (seed, limit)  # fmt: skip
                except Infeasible as error:
                    assert (error.what, error.needed, error.limit) == ("sram", expected, limit), seed


@pytest.mark.parametrize("seed", range(0, 40))
def test_pareto_front(seed):
    graph, grids = candidate(seed)
    points = {(p.macs, p.arena) for p in (plan(graph, s) for s in schedules(graph, grids))}
    front = {a for a in points if not any(b != a and b[0] <= a[0] and b[1] <= a[1] for b in points)}
    assert [(p.macs, p.arena) for p in pareto(graph, grids)] == sorted(front)


@pytest.mark.parametrize("seed", range(0, 60))
def test_cuts_are_what_split_accepts(seed):
    rng = np.random.default_rng(seed)
    detector = build_graph(mobilenet_v2((96, 64), 0.35, None), YoloHead(3, (2, 4)))
    for graph in (random_graph(rng), any_graph(rng), detector):
        found = {}
        for n in range(0, graph.ops[-1].block + 3):
            try:
                ops, out = split(graph, n)
            except ScheduleError:
                continue
            found[n] = len(ops), out
        assert cuts(graph) == found


def test_a_refused_end_names_those_that_are_not():
    graph = build_graph(mobilenet_v2((96, 64), 0.35, None), YoloHead(3, (2, 4)))
    first, blocks = max(cuts(graph)), graph.ops[-1].block + 1
    with pytest.raises(ScheduleError, match=f"a segment from block 0 may end at n = 1 to {first}$"):
        split(graph, first + 1)
    with pytest.raises(ScheduleError, match=rf"a segment from block {first} may end at n = {first + 1} to \d+") as said:
        split(graph, blocks, first)
    split(graph, int(str(said.value).split(" to ")[-1].split(",")[0]), first)


def test_non_square_grids_are_offered_when_asked():
    graph = build_graph(mobilenet_v2(96, 0.35))
    assert Schedule((1, 3), 4) in schedules(graph, GRIDS)
    assert {s.p for s in schedules(graph)} == {(1, 1), (2, 2), (3, 3), (4, 4)}


def test_an_image_read_behind_the_patch_stage_is_no_cut():
    """The segment holds a tile of the image only; an op behind it that reads the image again would read that tile."""
    image = Tensor("image", 8, 8, 4)
    ops = [Op(f"c{i}", "conv", (x,), 4, block=i) for i, x in enumerate(("image", "c0", "c1"))]
    graph = Graph("again", (image,), (*ops[:2], replace(ops[2], residual="image")), ("c2",)).verify()
    with pytest.raises(ScheduleError, match="one tensor, not c1, image"):
        split(graph, 2)
    with pytest.raises(ScheduleError, match="behind block 1 the picture image is read again"):
        split(graph, 2, patched=False)
    assert list(cuts(graph)) == [3]
    wide = Op("e", "conv", ("c1",), 64, block=2), Op("d", "conv", ("e",), 4, residual="image", block=2)
    graph = Graph("wide", (image,), (*[replace(op, k=(3, 3), pad=(1,) * 4) for op in ops[:2]], *wide), ("d",)).verify()
    for cost, schedule in several_segments(graph, (2,), None, CORTEX_M, ["clip"], 3):
        assert plan(graph, schedule).macs == cost.macs


def test_unknown_objective():
    with pytest.raises(ScheduleError, match="objective 'flash': expected one of macs, sram"):
        best_schedule(build_graph(mobilenet_v2(96, 0.35)), get_board("H743"), "flash")


def test_a_board_and_wishes_have_one_plan():
    """plan_for_board is the planner's own answer to each wish, and refuses what it would pass over in silence."""
    graph, board = build_graph(mobilenet_v2(96, 0.35)).folded(), get_board("H743").with_arena(32 * 1024)
    several = best_schedule(graph, board, halos=EXECUTED, segments=SEGMENTS)
    assert plan_for_board(graph, board) == several and several.schedule.then
    one, least = {"halo": "clip", "segments": 1}, {"objective": "sram", "max_overhead": 0.05}
    assert plan_for_board(graph, board, **one) == best_schedule(graph, board)
    assert plan_for_board(graph, board, **least) == best_schedule(
        graph, board, "sram", halos=EXECUTED, segments=SEGMENTS, max_overhead=0.05
    )
    assert plan_for_board(graph, board, objective="instructions") == fastest(graph, board)
    given = Schedule(3, 5)
    assert plan_for_board(graph, board, schedule=given) == fitting_plan(graph, board, given, halos=EXECUTED)
    assert plan_for_board(graph, board, schedule=given, halo="clip").halo == "clip"
    for wish in ({"objective": "sram"}, {"segments": 1}, {"max_overhead": 0.1}):
        with pytest.raises(ScheduleError, match="leave out objective, segments, max_overhead"):
            plan_for_board(graph, board, schedule=given, **wish)
    for wish in ({"segments": 1}, {"max_overhead": 0.0}):
        with pytest.raises(ScheduleError, match="'instructions' heeds neither"):
            plan_for_board(graph, board, objective="instructions", **wish)
    with pytest.raises(ScheduleError, match="objective 'flash': expected one of macs, sram, instructions"):
        plan_for_board(graph, board, objective="flash")
