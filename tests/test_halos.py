"""The halo of each segment and axis: any mixture gives the bytes of the whole network, and costs what the plan says."""

from itertools import count

import numpy as np
import pytest
from cases import halo as random_halo
from nets import any_graph, random_graph, random_model
from programs import MACHINES, run_board, run_host
from test_engine import image_of, random_schedule, to_int8
from test_segments import random_segments
from test_stream import GRIDS, graph_of

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import ArchError, ScheduleError, UserError
from nni_mcunet.core.ir.arch import HALO_WORDS, ArchSpec, Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.plan.halo_cache import keeps
from nni_mcunet.core.plan.kernel_facts import ANALYTIC, CORTEX_M
from nni_mcunet.core.plan.plan import EXECUTED, best_schedule, plan, schedules
from nni_mcunet.core.plan.schedule_costs import costs
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.lower import reference


def case(seed):
    """Graph, integers, picture and a plan whose segments and axes differ in their halos, all from one seed."""
    rng = np.random.default_rng(seed)
    graph = any_graph(rng, int(rng.integers(2, 7)), 3) if seed % 2 else random_graph(rng, int(rng.integers(2, 7)))
    schedule = random_segments(rng, graph) or random_schedule(rng, graph)
    return graph, random_model(rng, graph), image_of(rng, graph), plan(graph, schedule, halo=random_halo(rng, schedule))


def features(p):
    """List what makes a plan hard: maps that are computed again between kept ones, and caches along one axis only."""
    for segment, (rows, cols) in zip(p.segments, p.schedule.halos, strict=False):
        if not segment.patched:
            continue
        yield from ({"two words"} if rows != cols and min(segment.grid) > 1 else ())
        for op in segment.ops:
            again = sum(sum(made[op.name]) for made in segment.computed) > p.graph.tensors[op.name].h * 2
            if "narrow" in (rows, cols) and not keeps(p.graph, op) and again:
                yield f"again {op.kind}"
            sides = [f"{op.name}:{side}" in p.cache for side in ("rows", "cols")]
            if any(sides) and not all(sides) and min(segment.grid) > 1 and op.name != segment.out:
                yield "one cache"
            if segment.new is not segment.spans and any(0 in made[op.name] for made in segment.computed):
                yield "idle"


def test_patched_equals_whole():
    seen = set()
    for seed in range(160):
        graph, model, image, p = case(seed)
        whole, found = (reference.run(q, model, to_int8(image)) for q in (plan(graph), p))
        for name in graph.outputs:
            assert np.array_equal(found[name], whole[name]), (seed, p.schedule)
        seen |= set(features(p))
    assert seen == {"two words", "again conv", "again upsample", "one cache", "idle"}


WANTED = ("two words", "again conv", "again upsample", "one cache", "idle")


def test_c_equals_reference(tmp_path):
    """On the host, and one case on both boards."""
    for i, what in enumerate(WANTED):
        graph, model, image, p = next(c for c in map(case, count(3000 + 1000 * i)) if what in features(c[3]))
        expected = reference.run(plan(graph), model, to_int8(image))
        sources = write_sources(p, model, tmp_path / str(i))
        for report in (run_host(sources, image), *(run_board(core, sources, image) for core in MACHINES if i == 1)):
            for name, got in zip(graph.outputs, report["outputs"], strict=True):
                assert np.array_equal(got, expected[name].ravel()), (what, p.schedule)


def test_costs_are_those_of_the_plan():
    """Computed for all schedules in one pass, for each halo of a segment."""
    for seed in range(60):
        graph, kernels, halo = graph_of(seed), ANALYTIC if seed % 3 == 0 else CORTEX_M, EXECUTED[2 + seed % 7]
        every = schedules(graph, GRIDS)
        plans = [plan(graph, s, kernels, halo) for s in every]
        assert costs(graph, every, kernels, halo) == [(p.macs, p.peak, p.copied) for p in plans], seed


def test_what_is_kept_is_not_computed_again():
    for seed in range(40):
        graph = graph_of(seed)
        for schedule in schedules(graph, GRIDS)[1:]:
            clip, cache, narrow = (plan(graph, schedule, halo=halo) for halo in HALO_WORDS)
            assert max(cache.macs, narrow.macs) <= clip.macs and clip.copied == 0


def test_narrow_caches_of_mobilenet_v2():
    """By hand: block 3 widens 56 x 56 x 24 to 144 channels for a 3x3 window, of which patches hand two rows on. Where
    they hand on its input, these are a sixth of the bytes, and two rows a patch of the convolution are done again."""
    graph = build_graph(mobilenet_v2()).folded()
    cache, narrow = (plan(graph, Schedule((4, 1), 4), halo=halo) for halo in ("cache", "narrow"))
    sizes = [{name: p.unplaced[at].size for name, at in p.cache.items()} for p in (cache, narrow)]
    assert [size.get("s1_b1_exp:rows") for size in sizes] == [2 * 56 * 144, None]
    assert [size["s1_b0_proj:rows"] for size in sizes] == [56 * 24, 2 * 56 * 24]  # a row for the shortcut


def test_one_spelling(tmp_path):
    segments = ((4, 4), 5), ((1, 1), 7), ((2, 2), 9)
    said = Schedule(*segments[0], segments[1:], "cache/cache,clip/narrow")
    assert said.halo == "cache,clip/narrow" and said.halos == (("cache",) * 2, ("clip",) * 2, ("clip", "narrow"))
    assert Schedule(*segments[0], segments[1:], "clip/clip,clip").halo == "clip" == Schedule(halo="cache/clip").halo
    spec = ArchSpec.load("configs/arch/mcunet_in3.json")
    spec = type(spec)(**{**vars(spec), "schedule": said})
    assert ArchSpec.load(spec.save(tmp_path / "arch.json")) == spec
    for bad in ("", "cache/", "cache/keep", "clip,", ["clip"], "clip/clip/clip", "Clip"):
        with pytest.raises(ArchError, match="expected one of clip, cache, narrow"):
            Schedule((2, 2), 3, halo=bad)
    with pytest.raises(ArchError, match="2 halos for 1 segments in patches"):
        Schedule((2, 2), 3, halo="clip,cache")


def test_a_halo_a_segment_needs_a_schedule():
    import nni_mcunet as mcu

    with pytest.raises(ScheduleError, match="needs a schedule that says the segments"):
        mcu.best_schedule("mcunet_in0", "stm32f412", halo="cache,clip")
    with pytest.raises(UserError, match="2 halos for 1 segments"):
        mcu.plan("mcunet_in0", mcu.Schedule(2, 3), halo="cache,clip")
    found = mcu.best_schedule("mcunet_in0", "stm32f412", arena_kb=20, halo="narrow/cache")
    assert found.halo == "narrow/cache" and found.arena <= 20 * 1024


def test_the_memory_of_mcunet_in3():
    """At 5 % more computation the arena falls by a quarter where segments and axes choose their halo."""
    graph = build_graph(ArchSpec.load("configs/arch/mcunet_in3.json")).folded()
    common = {"p_choices": [(a, b) for a in (1, 2, 3, 6) for b in (1, 3, 6)], "segments": 2, "max_overhead": 0.05}
    one, two = (
        best_schedule(graph, get_board("H743"), "sram", halos=h, **common) for h in (("clip", "cache"), EXECUTED)
    )
    assert two.arena < 0.75 * one.arena and two.overhead <= 0.05
