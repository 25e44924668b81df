"""The cached halo as halo_cache.py and the planner have it: what is computed, what is kept, what it costs."""

from dataclasses import replace

import numpy as np
import pytest
from nets import any_graph, random_graph, random_model

from nni_mcunet.core.boards import KB, get_board
from nni_mcunet.core.errors import Infeasible, ScheduleError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.plan.kernel_facts import ANALYTIC, CORTEX_M, in_place
from nni_mcunet.core.plan.plan import best_schedule, fitting_plan, pareto, plan, schedules
from nni_mcunet.core.plan.schedule_costs import costs
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.lower import reference

GRIDS = (2, 3, (1, 3), (4, 1), (3, 5))


def graph_of(seed):
    rng = np.random.default_rng(seed)
    return (any_graph if seed % 2 else random_graph)(rng, blocks=int(rng.integers(2, 8)))


def patched(graph):
    return [s for s in schedules(graph, GRIDS) if s.n]


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_every_position_is_computed_once_at_most(first):
    """Patches compute disjoint positions, of the same hull as recomputing ones, and hold what recomputing ones need."""
    for seed in range(first, first + 10):
        graph = graph_of(seed)
        for schedule in patched(graph):
            clip, cache = (plan(graph, schedule, halo=halo).segments[0] for halo in ("clip", "cache"))
            for axis in range(2):
                for op in clip.ops:
                    need, new, tile = (
                        [s[op.name] for s in spans[axis]] for spans in (clip.spans, cache.new, cache.spans)
                    )
                    assert {i for s in need for i in range(*s)} == {i for s in new for i in range(*s)}
                    assert sum(s.length for s in new) == len({i for s in new for i in range(*s)})
                    assert all(t.lo <= n.lo and t.hi == n.hi for t, n in zip(tile, new, strict=True))
                    assert all(t.lo >= n.lo for t, n in zip(tile, need, strict=True))


def test_costs_are_those_of_the_plan():
    """Computed for all schedules in one pass, with their caches."""
    for seed in range(60):
        graph, kernels = graph_of(seed), ANALYTIC if seed % 3 == 0 else CORTEX_M
        every = schedules(graph, GRIDS)
        plans = [plan(graph, s, kernels, "cache") for s in every]
        assert costs(graph, every, kernels, "cache") == [(p.macs, p.peak, p.copied) for p in plans], seed


def test_same_padding_computes_every_position_exactly_once():
    """So that the overhead of a network of the paper is nothing, at any cut and grid."""
    graph = build_graph(mobilenet_v2(96, 0.35))
    for schedule in patched(graph):
        p = plan(graph, schedule, halo="cache")
        assert p.macs == graph.macs and p.arena >= p.peak


def test_caches_of_mobilenet_v2():
    """By hand, n = 2: only the depth-wise of block 1 has a halo; it reads 2 rows and columns of the 112 x 112 x 32 map
    again, of which each patch of a 2 x 2 grid holds 57 rows at most in the second row and 57 in the first."""
    p = plan(build_graph(mobilenet_v2()), Schedule(2, 2), ANALYTIC, "cache")
    rows = [spans["stem"] for spans in p.segments[0].spans[0]]
    assert [tuple(span) for span in rows] == [(0, 57), (55, 112)]
    assert {name: p.buffers[at].size for name, at in p.cache.items()} == {
        "stem:rows": 2 * 112 * 32,
        "stem:cols": 2 * 57 * 32,
    }
    # Copied there and back: the 2 rows once over the full width, the 2 columns in the height of both tiles.
    assert p.copied == 2 * 32 * (2 * 112 + 2 * (57 + 57))


def test_mobilenet_v2_in_the_paper_s_172_kb_without_recomputation():
    """The paper's Table 1 has 172 kB at +10 %, which are 9.3 % where border patches are clipped."""
    graph, board = build_graph(mobilenet_v2()), replace(get_board("H743"), flash=4 << 20).with_arena(172 * KB)
    assert plan(graph, Schedule(4, 5)).overhead == pytest.approx(0.0928, abs=1e-4)
    best = best_schedule(graph, board, p_choices=range(1, 9), halos=("clip", "cache"))
    assert best.halo == "cache" and best.overhead == 0 and best.arena <= 172 * KB
    least = best_schedule(graph, board, "sram", range(1, 9), halos=("clip", "cache"))
    assert least.overhead == 0 and least.arena <= 136 * KB


def test_the_cheapest_plan_may_cache():
    graph, board = build_graph(mobilenet_v2(width=0.5)), get_board("H743")
    halos = ("clip", "cache")
    clip, best = best_schedule(graph, board), best_schedule(graph, board, halos=halos)
    assert best.halo == "cache" and best.macs == graph.macs < clip.macs and best.arena <= board.arena_limit
    every = [plan(graph, s, halo="cache") for s in schedules(graph)]
    assert best.copied == min(p.copied for p in every if p.arena <= board.arena_limit)
    small = best_schedule(graph, board, "sram", halos=halos)
    front = pareto(graph, halos=halos)
    assert front[-1].arena == small.arena and front[0].macs == graph.macs


def test_a_network_that_fits_whole_is_not_cut():
    """No patches and so no copies, though a cached halo would compute no more in less memory."""
    graph = build_graph(mobilenet_v2(96, 0.35))
    assert best_schedule(graph, get_board("H743"), halos=("clip", "cache")).schedule == Schedule()


def test_the_halo_of_a_given_schedule():
    """The one that fits at the least computation; what is lacking is stated for the smaller."""
    graph, schedule, halos = build_graph(mobilenet_v2()), Schedule(4, 5), ("clip", "cache")
    clip, cache = (plan(graph, schedule, halo=halo).arena for halo in halos)

    def fitted(arena):
        board = replace(get_board("H743"), flash=4 << 20).with_arena(arena)
        return fitting_plan(graph, board, schedule, halos=halos)

    assert clip < cache and fitted(cache).halo == "cache" and fitted(cache - 1).halo == "clip"
    with pytest.raises(Infeasible) as error:
        fitted(clip - 1)
    assert error.value.needed == clip


def test_not_in_place_onto_cached_positions():
    """A depth-wise convolution overwrites its input, though that tile begins with cached positions: they were handed on
    before. A projection whose own tile begins with them does not write onto the shortcut as it does layer by layer."""
    graph = build_graph(mobilenet_v2(96, 0.35))
    whole, p = plan(graph), plan(graph, Schedule(2, 7), halo="cache")
    targets = {graph.ops[index].name: target for index, target in in_place(graph).items()}
    segment, seen = p.segments[0], set()
    for op in segment.ops:
        if op.name in targets and op.name != segment.out:
            shared, cached = p.home[op.name] == p.home[targets[op.name]], f"{op.name}:rows" in p.cache
            assert shared == (not cached) and whole.home[op.name] == whole.home[targets[op.name]]
            seen.add((op.residual is not None, cached, f"{targets[op.name]}:rows" in p.cache))
    assert seen == {(False, False, True), (True, True, True), (True, False, True)}


def test_the_engine_refuses_what_it_does_not_execute(tmp_path):
    rng = np.random.default_rng(0)
    graph = random_graph(rng)
    model, schedule = random_model(rng, graph), schedules(graph, GRIDS)[1]
    p = plan(graph, schedule, halo="full")
    wanted = "does not execute halo 'full': plan with halo 'clip' or 'cache' or 'narrow'"
    with pytest.raises(ScheduleError, match=wanted):
        reference.run(p, model, None)
    with pytest.raises(ScheduleError, match=wanted):
        write_sources(p, model, tmp_path)
    with pytest.raises(ScheduleError, match=wanted):
        best_schedule(graph, get_board("H743"), halos=("full",))
    with pytest.raises(ScheduleError, match="halo is 'keep': expected one of clip, cache, narrow"):
        plan(graph, schedule, halo="keep")
    assert plan(graph, halo="cache").halo == "clip"  # per layer there is no halo
