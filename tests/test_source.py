"""The picture's source is part of the constraint: what its callback keeps counts beside the arena."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

import nni_mcunet as mcu
from nni_mcunet.api.planning import plan_with_room
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible, RoomWarning, UserError
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.board_plan import front_for_board, plan_for_board
from nni_mcunet.core.plan.picture_source import CAMERA_LINES, SOURCES, callback_bytes, source_bytes
from nni_mcunet.core.plan.plan import RANKS, best_schedule, plan, schedules
from nni_mcunet.core.view import STRETCH, View
from nni_mcunet.search.config import ConfigError, SearchConfig
from nni_mcunet.search.constraint import Limits, Violation
from nni_mcunet.search.space import load_space

BOARD = get_board("stm32f412")


def random_network(seed):
    space = load_space("demo")
    return space.spec(space.random(np.random.default_rng(seed)))


def with_limit(limit):
    return replace(BOARD, sram=limit + BOARD.reserved_sram)


@pytest.mark.parametrize("view", [STRETCH, View(pad=114)])
def test_a_source_takes_what_its_callback_takes(view):
    graph = build_graph(random_network(0))
    for schedule in schedules(graph)[:8]:
        for halo in ("clip", "cache/clip"):
            sizes = callback_bytes(plan(graph, schedule, halo=halo), view)
            for source in SOURCES:
                more = sizes.get("letterbox", 0) + (CAMERA_LINES if source == "lines" else 0)
                assert source_bytes(source, view)(graph, schedule, halo) == sizes[source] + more


@pytest.mark.parametrize("source", ["frame", "lines", "jpeg_420"])
@pytest.mark.parametrize("objective", ["macs", "sram"])
def test_the_best_schedule_is_the_best_of_those_that_leave_room(source, objective):
    beside, rank, chosen = source_bytes(source), RANKS[objective], set()
    for seed in range(4):
        graph = build_graph(random_network(seed))
        every = [plan(graph, s, halo=halo) for halo in ("clip", "cache") for s in schedules(graph)]
        needs = [p.arena + beside(graph, p.schedule, p.halo) for p in every]
        for limit in np.quantile(needs, [0, 0.02, 0.1, 0.5, 1]).astype(int).tolist():
            best = best_schedule(graph, with_limit(limit), objective, halos=("clip", "cache"), beside=beside)
            need = best.arena + beside(graph, best.schedule, best.halo)
            keys = [rank(p.macs, n, p.copied, 0) for p, n in zip(every, needs, strict=True) if n <= limit]
            assert need <= limit and rank(best.macs, need, best.copied, 0) == min(keys)
            chosen.add(best.schedule)
        with pytest.raises(Infeasible, match=r"with .* bytes for the picture's source") as error:
            best_schedule(graph, with_limit(min(needs) - 1), objective, halos=("clip", "cache"), beside=beside)
        assert error.value.needed == min(needs)
    assert len(chosen) > 1


def test_a_given_schedule_the_front_and_the_fastest_leave_room_too():
    graph, beside = build_graph(random_network(1)), source_bytes("lines")
    given = schedules(graph)[3]
    need = plan(graph, given).arena + beside(graph, given, "clip")
    assert plan_for_board(graph, with_limit(need), schedule=given, halo="clip", beside=beside).schedule == given
    with pytest.raises(Infeasible):
        plan_for_board(graph, with_limit(need - 1), schedule=given, halo="clip", beside=beside)
    for p in front_for_board(graph, with_limit(need), p_choices=(1, 2, 3), segments=1, beside=beside):
        assert p.arena + beside(p.graph, p.schedule, p.halo) <= need
    found = plan_for_board(graph, with_limit(need), objective="instructions", beside=beside)
    assert found.arena + beside(graph, found.schedule, found.halo) <= need


def test_a_search_counts_it():
    """A network that fits by itself may not fit beside its picture, and its schedule may be another."""
    others = set()
    for seed in range(6):
        spec = random_network(seed)
        bare = Limits(BOARD).check(spec)
        limit = bare.arena + 900
        found = Limits(with_limit(limit), source="lines").check(spec)
        if isinstance(found, Violation):
            others.add("none")
            assert found.what == "sram" and found.needed > limit
        else:
            others.add(found.schedule != bare.schedule)
            assert found.arena + source_bytes("lines")(build_graph(spec), found.schedule, found.schedule.halo) <= limit
    assert others != {False}


def test_what_is_no_source_is_refused():
    with pytest.raises(UserError, match="source is 'film': expected one of frame, rgb565, lines, jpeg_"):
        source_bytes("film")
    two = Graph("two", (Tensor("image", 8, 8, 2),), (Op("a", "conv", ("image",), 4, (3, 3)),), ("a",)).verify()
    with pytest.raises(UserError, match="the network reads 2 channels, which no picture has; use frame"):
        best_schedule(two, BOARD, beside=source_bytes("lines"))
    assert best_schedule(two, BOARD, beside=source_bytes("frame")).macs == two.macs
    with pytest.raises(ConfigError, match="source is 'film': expected one of frame"):
        SearchConfig(space="demo", board="stm32f412", supernet="x.pth", out="out", source="film")


def test_the_default_leaves_room_for_some_picture(recwarn):
    """Where the schedule of the least computation leaves room for none, another is taken, and said."""
    network = mcu.load("mcunet_in0")
    bare = mcu.best_schedule(network, BOARD)
    assert plan_with_room(network, network.graph, BOARD, {}).schedule == bare.schedule and not recwarn
    tight = with_limit(bare.arena + 1000)
    with pytest.warns(RoomWarning, match=f"leaves 1,000 of {tight.arena_limit:,} bytes.*room for jpeg_420"):
        found = plan_with_room(network, network.graph, tight, {})
    assert found.schedule == mcu.best_schedule(network, tight, source="jpeg_420").schedule
    assert found.schedule != bare.schedule and found.macs >= bare.macs
    least = with_limit(mcu.best_schedule(network, BOARD, objective="sram").arena)
    with pytest.warns(RoomWarning, match="no schedule leaves it"):
        full = plan_with_room(network, network.graph, least, {})
    assert full.schedule == mcu.best_schedule(network, least).schedule


def test_compile_leaves_room(tmp_path, shared):
    """Unless it is told what the picture comes from, or how many bytes there are."""
    model = mcu.load(shared / "models/vww1/vww1_int8_qlinear.onnx")
    first = mcu.compile(model, BOARD, tmp_path / "first")
    tight = with_limit(first.plan.arena + 500)
    with pytest.warns(RoomWarning, match="taking the schedule that leaves room"):
        found = mcu.compile(model, tight, tmp_path / "tight")
    assert found.plan.arena < first.plan.arena
    with warnings.catch_warnings():
        warnings.simplefilter("error", RoomWarning)
        for i, how in enumerate(({"source": "frame"}, {"arena_kb": tight.arena_limit // 1024})):
            assert mcu.compile(model, tight, tmp_path / str(i), **how).plan.arena > found.plan.arena
