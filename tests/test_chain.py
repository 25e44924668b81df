"""Why a search is fast: chains in closed form, the few schedules looked at first, constants before a graph."""

from dataclasses import replace

import numpy as np
import pytest

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import GraphError, Infeasible
from nni_mcunet.core.ir.build import YoloHead, YoloxHead, build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan import plan as planner
from nni_mcunet.core.plan.arena import Life
from nni_mcunet.core.plan.chain import chain, lengths
from nni_mcunet.core.plan.kernel_facts import graph_constants
from nni_mcunet.core.plan.plan import best_schedule, plan, schedules
from nni_mcunet.core.plan.spec_constants import spec_constants
from nni_mcunet.core.plan.tiles import patch_bounds, patch_spans
from nni_mcunet.search.space import load_space

SPACES = ("mcunet384", "mobilenetv2", "detect416", "person128x160")


def random_chain(rng):
    """Windows of any stride and padding, some with shortcuts, from any earlier map of that size."""
    image = Tensor("image", int(rng.integers(9, 40)), int(rng.integers(9, 40)), 4)
    ops = []
    for i in range(int(rng.integers(1, 7))):
        k, s = (int(v) for v in rng.integers(1, [6, 4]))
        pad = tuple(int(v) for v in rng.integers(-1 if k > 1 else 0, k + 1, 4))
        names = ["image", *(op.name for op in ops)]
        near = Op(f"a{i}", "conv", (names[-1],), 4, (k, k), (s, s), pad)
        try:
            tensors = Graph("", (image,), (*ops, near), ()).tensors
        except GraphError:
            continue
        y = tensors[near.name]
        same = [n for n in names if (tensors[n].h, tensors[n].w) == (y.h, y.w)]
        read = str(rng.choice(same)) if same and rng.random() < 0.5 else None
        ops.append(replace(near, residual=read))
    return Graph("chain", (image,), tuple(ops), (ops[-1].name,)) if ops else random_chain(rng)


def test_a_chain_says_what_spans_say():
    rng, found = np.random.default_rng(0), 0
    for _ in range(600):
        graph = random_chain(rng)
        for axis in (0, 1):
            made = chain(graph, len(graph.ops), axis)
            if made is None:
                continue
            found += 1
            out = graph.tensors[graph.outputs[0]]
            for p in range(1, min(4, out.w if axis else out.h) + 1):
                most, total = lengths(made, [(out.name, p)])
                spans = patch_spans(graph, graph.ops, {out.name: patch_bounds(out.w if axis else out.h, p)}, axis)
                for name, span in spans.items():
                    at = made.at[name]
                    assert (most[at, 0], total[at, 0]) == (span.length.max(), span.length.sum()), (graph, name, p)
    assert found > 60


def test_networks_of_blocks_are_chains():
    for name in SPACES:
        space = load_space(name)
        graph = build_graph(space.spec(space.random(np.random.default_rng(0))))
        assert chain(graph, max(size for size, _ in graph.block_ends[:-2]), 0)


def test_the_few_looked_at_first_are_enough(monkeypatch):
    """The least computation that fits a small memory is found where more than those few must be looked at."""
    space, rng = load_space("mcunet384"), np.random.default_rng(1)
    board = replace(get_board("F412"), flash=1 << 30)
    for _ in range(12):
        graph = build_graph(space.spec(space.random(rng)))
        for sram in (60_000, 150_000, 400_000):
            ends = []
            for few in (1, 8, None):
                monkeypatch.setattr(planner, "FEW", few)
                try:
                    found = best_schedule(graph, replace(board, sram=sram))
                    ends.append((found.schedule, found.arena, found.macs))
                except Infeasible as error:
                    ends.append(error.needed)
            assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("name", SPACES)
def test_constants_are_known_before_a_graph_is_built(name):
    space, rng = load_space(name), np.random.default_rng(0)
    last = len(space.stages)
    for _ in range(10):
        spec = space.spec(space.random(rng))
        for head in (None, YoloHead(3, (last - 2, last)), YoloxHead(2, (last - 1,))):
            if head is None or spec.resolution[0] % 32 == spec.resolution[1] % 32 == 0:
                graph = build_graph(spec, head).verify()
                assert spec_constants(spec, head) == graph_constants(graph)


def test_nothing_runs_that_is_placed_wrong():
    graph = Graph("one", (Tensor("image", 8, 8, 3),), (Op("a", "conv", ("image",), 4, (3, 3)),), ("a",)).verify()
    found = plan(graph, schedules(graph)[1])
    first, *rest = found.buffers
    found.__dict__["_placed"] = (first._replace(lives=(Life(0, 9, found.arena + 1),)), *rest), found.arena
    with pytest.raises(AssertionError, match="outside"):
        found.executable()
