"""The latency estimate against the emulated boards, and its place in the search's constraint."""

import runpy
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from nets import random_model

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import BoardError, Infeasible
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.ir.kinds import SAME_SCALE
from nni_mcunet.core.plan import latency
from nni_mcunet.core.plan.latency import cycles, fastest, instructions, milliseconds
from nni_mcunet.core.plan.plan import best_schedule, plan
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.model import PIXELS
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.timing.layer_cycles import run_profiled
from nni_mcunet.search.constraint import Limits, Violation
from nni_mcunet.search.space import load_space

DEMO = load_space("demo")


@pytest.mark.parametrize(
    "seed, board, schedule, halo",
    [(0, "f412", None, "clip"), (1, "h743", (3, 4), "clip"), (2, "f412", (2, 3), "clip"), (1, "f412", (6, 4), "cache")],
)
def test_within_five_percent_of_the_emulated_board(tmp_path, seed, board, schedule, halo):
    rng, board = np.random.default_rng(seed), get_board(board)
    graph = build_graph(DEMO.spec(DEMO.random(rng)), YoloHead(3, (2, 4)) if seed else None).folded()
    found = plan(graph, Schedule((schedule[0],) * 2, schedule[1]) if schedule else None, halo=halo)
    model = random_model(rng, graph)
    model.scales["image"] = PIXELS
    for op in graph.ops:  # as calibrated: a clamp's ends are those of int8
        if op.act == "relu6":
            model.scales[op.name] = replace(model.scales[op.name], zero_point=-128)
        elif op.kind in SAME_SCALE:
            model.scales[op.name] = model.scales[op.inputs[0]]
    write_library(tmp_path, found, model, board)
    image = graph.inputs[0]
    picture = rng.integers(0, 256, (image.h, image.w, 3)).astype(np.uint8)
    roomy = replace(board, sram=1 << 20)
    run, layers = run_profiled(build_firmware(tmp_path, roomy, picture), roomy)
    if board.core == "cortex-m4":  # an M7's order of loads takes more instructions, and fewer cycles
        assert instructions(found) == pytest.approx(run["instructions"], rel=0.05)
    assert cycles(found, roomy) == pytest.approx(sum(layer.cycles for layer in layers.values()), rel=0.07)


def test_the_tables_are_as_the_benchmark_writes_them(monkeypatch):
    """A fit anew then shows in a diff as the numbers that moved."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    tool = runpy.run_path(str(ROOT / "benchmarks/calibrate_cycles.py"))
    assert tool["as_json"](latency.INSTRUCTIONS, latency.CYCLES) == latency.TABLES.read_text()
    assert [*latency.INSTRUCTIONS] == [*tool["FITTED"]] == [*latency.CYCLES["cortex-m4"]]


def test_patches_cost_their_recomputed_tiles():
    graph = build_graph(DEMO.spec(DEMO.largest()))
    whole, patched = plan(graph), plan(graph, Schedule((4, 4), 6))
    assert instructions(patched) / instructions(whole) > 1 + 0.8 * patched.overhead > 1.1


def test_the_fastest_schedule(monkeypatch):
    """mcunet-in0 in 18 kB: nothing is computed twice, unless copies are dearer than some recomputation."""
    graph, board = build_graph(ArchSpec.load(ROOT / "configs/arch/mcunet_in0.json")), get_board("f412")
    tight = board.with_arena(18_000)
    assert fastest(graph, tight).arena <= tight.arena_limit < plan(graph).arena
    assert fastest(graph, board).schedule == Schedule()
    with pytest.raises(Infeasible, match="bytes of sram"):
        fastest(graph, board.with_arena(12_000))
    monkeypatch.setitem(latency.INSTRUCTIONS, "halo", {"copied": 100, "copies": 0})
    least, found = best_schedule(graph, tight, halos=("clip", "cache")), fastest(graph, tight)
    assert (least.halo, found.halo) == ("cache", "clip") and found.macs > least.macs == graph.macs
    assert instructions(found) < instructions(least) and found.arena <= tight.arena_limit


def test_milliseconds_are_the_boards():
    found = plan(build_graph(DEMO.spec(DEMO.smallest())))
    f412, h743 = get_board("f412"), get_board("h743")
    for board in (f412, h743):
        assert milliseconds(found, board) == cycles(found, board) / board.clock_hz * 1e3
    assert instructions(found) < cycles(found, f412) < 2 * instructions(found)
    assert 0.5 * instructions(found) < cycles(found, h743) < cycles(found, f412)
    assert milliseconds(found, replace(f412, cycles_per_instruction=2.0)) == pytest.approx(instructions(found) / 50e3)
    with pytest.raises(BoardError, match=r"cortex-m23.*cycles_per_instruction"):
        milliseconds(found, replace(f412, core="cortex-m23"))


def test_a_latency_limit_is_a_constraint():
    spec = DEMO.spec(DEMO.largest())
    fit = Limits(get_board("h743")).check(spec)
    ms = milliseconds(plan(build_graph(spec), fit.schedule), get_board("h743"))
    verdict = Limits(get_board("h743"), max_ms=ms / 2).check(spec)
    assert isinstance(verdict, Violation) and verdict.what == "latency"
    assert verdict.needed == ms and verdict.ratio == pytest.approx(2) and "ms needed" in str(verdict)
    assert "(+100%)" in str(verdict)
    assert not isinstance(Limits(get_board("h743"), max_ms=ms).check(spec), Violation)
