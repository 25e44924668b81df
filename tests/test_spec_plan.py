"""Why a search is fast: networks are planned part by part, and the answers are those of planning their graphs."""

from dataclasses import replace

import numpy as np
import pytest

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import GraphError, Infeasible
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.ir.build import YoloHead, YoloxHead, build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.arena import Buffer, Life, arranged, check, lower_bound, neighbours, place
from nni_mcunet.core.plan.kernel_facts import graph_constants
from nni_mcunet.core.plan.parts import spec_constants
from nni_mcunet.core.plan.plan import best_schedule, plan, schedules
from nni_mcunet.core.plan.spec_plan import best_of_row, row_of
from nni_mcunet.search.constraint import Fit, Limits
from nni_mcunet.search.space import load_space

SPACES = ("mcunet384", "mobilenetv2", "detect416", "person128x160")
ANY_FLASH = replace(get_board("h743"), flash=1 << 30)


def random_spec(rng, space):
    return space.spec(space.random(rng))


def odd_spec(rng):
    """Any blocks, of any kernel and stride, with and without a head, on pictures of any shape."""
    stages = []
    for _ in range(int(rng.integers(1, 5))):
        blocks = []
        for _ in range(int(rng.integers(1, 4))):
            k, c = int(rng.choice([0, 1, 3, 5, 7])), int(rng.choice([4, 6, 8]))
            mid = int(rng.choice([4, 6, 8, 24])) if k else 0
            plain, se = bool(k and rng.random() < 0.2), 2 if k and rng.random() < 0.1 else 0
            groups = 2 if rng.random() < 0.1 else 1
            blocks.append(Block(k, int(rng.integers(1, 4)) if k else 1, mid, c, groups if k else 1, False, se, plain))
        stages.append(tuple(blocks))
    size = tuple(int(v) for v in rng.integers(17, 70, 2))
    head = None if rng.random() < 0.5 else 16
    return ArchSpec("odd", size, 8, tuple(stages), head, None if rng.random() < 0.1 else 5)


def planned(spec, head, board, p_choices):
    """Plan the graph: the schedule and its costs, or the bytes of the smallest arena."""
    try:
        found = best_schedule(build_graph(spec, head), board, p_choices=p_choices)
        return found.schedule, found.macs, found.arena
    except Infeasible as error:
        return error.needed


def by_parts(spec, head, board, p_choices):
    """Plan part by part, None where that does not know."""
    row = row_of(spec, head)
    found = row and best_of_row(row, board.arena_limit, p_choices)
    if not found:
        return None
    return tuple(found) if found.arena <= board.arena_limit else found.arena


@pytest.mark.parametrize("name", SPACES)
def test_parts_say_what_graphs_say(name):
    space, rng, known = load_space(name), np.random.default_rng(0), 0
    last = len(space.stages)
    heads = [None] if name in ("mcunet384", "mobilenetv2") else [YoloHead(3, (last - 2, last)), YoloxHead(2, (1, last))]
    for _ in range(12):
        spec = random_spec(rng, space)
        for head in heads:
            for limit in (40_000, 90_000, 400_000):
                board = ANY_FLASH.with_arena(limit)
                found = by_parts(spec, head, board, (1, 2, 3, 4))
                assert found in (None, planned(spec, head, board, (1, 2, 3, 4))), (spec, head, limit)
                known += found is not None
    assert known > 33 * len(heads)


def test_parts_of_any_blocks_say_what_graphs_say():
    rng, known = np.random.default_rng(1), 0
    for _ in range(160):
        spec, p_choices = odd_spec(rng), ((1, 2, 3, 4), (5, 3), (1,))[rng.integers(3)]
        try:
            build_graph(spec)
        except GraphError:
            continue
        board = ANY_FLASH.with_arena(int(rng.choice([2_000, 8_000, 16_000, 30_000])))
        found = by_parts(spec, None, board, p_choices)
        assert found in (None, planned(spec, None, board, p_choices)), (spec, board.network_sram, p_choices)
        known += found is not None
    assert known > 45


def brute_force(spec, board):
    """The least computation, then the smallest arena, then the first of all schedules planned and placed."""
    graph = build_graph(spec)
    plans = [plan(graph, one) for one in schedules(graph)]
    fitting = [(p.macs, p.arena, at) for at, p in enumerate(plans) if p.arena <= board.arena_limit]
    return Fit.of(plans[min(fitting)[-1]]) if fitting else min(p.arena for p in plans)


def compare_with_brute_force(count, seed):
    space, rng, fit = load_space("mcunet384"), np.random.default_rng(seed), 0
    for _ in range(count):
        spec, board = random_spec(rng, space), ANY_FLASH.with_arena(int(rng.choice([60_000, 200_000, 500_000])))
        found, expected = Limits(replace(board, regions=())).check(spec), brute_force(spec, board)
        assert (found if isinstance(found, Fit) else found.needed) == expected, spec
        fit += isinstance(found, Fit)
    assert 0 < fit < count


def test_the_best_of_all_schedules_is_found():
    compare_with_brute_force(4, 0)


@pytest.mark.slow
def test_the_best_of_all_schedules_is_found_for_thousands():
    compare_with_brute_force(2000, 1)


@pytest.mark.parametrize("name", SPACES)
def test_constants_are_known_before_a_graph_is_built(name):
    space, rng = load_space(name), np.random.default_rng(0)
    last = len(space.stages)
    for _ in range(10):
        spec = random_spec(rng, space)
        for head in (None, YoloHead(3, (last - 2, last)), YoloxHead(2, (last - 1,))):
            if head is None or spec.resolution[0] % 32 == spec.resolution[1] % 32 == 0:
                graph = build_graph(spec, head).verify()
                assert spec_constants(spec, head) == graph_constants(graph)


def test_a_buffer_left_out_of_the_trials_finds_room():
    """Many small buffers and a few large ones, some of which are written over what they are made of."""
    rng, left_out = np.random.default_rng(0), 0
    for _ in range(80):
        buffers = []
        for i in range(int(rng.integers(3, 40))):
            start = int(rng.integers(0, 12))
            size = 4 * int(rng.integers(1, 400 if rng.random() < 0.3 else 12))
            over = ()
            ends = [j for j, b in enumerate(buffers) if b.lives[-1].end == start]
            if ends and rng.random() < 0.3:
                eaten = int(rng.choice(ends))
                over = eaten, 4 * int(rng.integers(0, size // 4 + 1)), buffers[eaten].size
            buffers.append(Buffer(str(i), (Life(start, start + int(rng.integers(0, 4)), size, *over),)))
        placed, arena = place(buffers)
        check(placed, arena)
        assert max(b.offset + b.size for b in placed) == arena
        spans = [(b.lives[0].start, b.lives[-1].end) for b in buffers]
        _, same, rest = arranged(neighbours(buffers), [b.size for b in buffers], spans, lower_bound(buffers))
        assert same == arena
        left_out += len(rest)
    assert left_out > 80


def test_nothing_runs_that_is_placed_wrong():
    graph = Graph("one", (Tensor("image", 8, 8, 3),), (Op("a", "conv", ("image",), 4, (3, 3)),), ("a",)).verify()
    found = plan(graph, schedules(graph)[1])
    first, *rest = found.buffers
    found.__dict__["_placed"] = (first._replace(lives=(Life(0, 9, found.arena + 1),)), *rest), found.arena
    with pytest.raises(AssertionError, match="outside"):
        found.executable()
