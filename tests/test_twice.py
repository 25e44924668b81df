"""Whatever an op reads twice: patch by patch the bytes are those of layer by layer, and the planner's costs are exact.

The reference is held against itself under another plan, so that a fault in the plan is seen, which C would share.
"""

import tempfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import random_model, twice_graph
from test_dead import deadened, same

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import GraphError, ScheduleError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.cut_points import schedules
from nni_mcunet.core.plan.kernel_facts import CORTEX_M
from nni_mcunet.core.plan.multi_segment import several_segments
from nni_mcunet.core.plan.plan import EXECUTED, best_schedule, plan
from nni_mcunet.core.plan.schedule_costs import costs
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.dead_channels import without_dead_channels
from nni_mcunet.engine.lower.integers import integers
from nni_mcunet.engine.model import Model
from nni_mcunet.engine.quant.ort_session import session

HALOS = st.sampled_from(EXECUTED)
GRIDS = (2, (1, 3), (3, 1), (2, 4))


class Draws:
    """Answer twice_graph as a generator, by hypothesis, which looks for the smallest network that fails."""

    def __init__(self, draw):
        self.draw = draw

    def integers(self, low: int, high: int | None = None) -> int:
        return self.draw(st.integers(*(0, low - 1) if high is None else (low, high - 1)))

    def choice(self, things):
        return self.draw(st.sampled_from(things))

    def random(self) -> float:
        return self.integers(100) / 100


@st.composite
def networks(draw):
    return twice_graph(Draws(draw), draw(st.integers(1, 3)))


def quick(examples: int):
    slow = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
        HealthCheck.large_base_example,
    ]
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=slow)


def readings(plan):
    """List what patched segments read twice: how, and from where."""
    for at, segment in enumerate(plan.segments):
        own = {op.name for op in segment.ops}
        for op in segment.ops if segment.patched else ():
            if op.residual in op.inputs and max(op.k) > 1:
                yield "residual", "inside" if op.residual in own else "image" if at == 0 else "before the cut"
            if len(set(op.inputs)) < len(op.inputs):
                yield op.kind, "inside" if op.inputs[0] in own else "image" if at == 0 else "before the cut"


def equal(graph: Graph, model, picture, plans) -> None:
    """Every plan's outputs are those of the network layer by layer."""
    whole = reference.run(plan(graph), model, picture)
    for p in plans:
        for name, got in reference.run(p, model, picture).items():
            assert np.array_equal(got, whole[name]), (p.schedule, p.halo)


def model_of(seed: int, graph: Graph):
    """Integers for a graph and a picture; None where 32 bits do not hold them."""
    rng = np.random.default_rng(seed)
    model, t = random_model(rng, graph), graph.inputs[0]
    try:
        integers(model)
    except GraphError:
        return None
    return model, rng.integers(-128, 128, (t.h, t.w, t.c)).astype(np.int8)


def segments_of(data, graph: Graph) -> Schedule | None:
    """Two or three segments between any cuts; None where the graph does not allow them."""
    ends = sorted(data.draw(st.sets(st.integers(1, len(graph.ops)), min_size=1, max_size=3)))
    grids = [data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in ends]
    try:
        schedule = Schedule(grids[0], ends[0], tuple(zip(grids[1:], ends[1:], strict=True)))
        plan(graph, schedule)
    except ScheduleError:
        return None
    return schedule


def test_patched_equals_whole():
    seen = Counter()

    @quick(120)
    @given(networks(), st.integers(0, 99), st.data())
    def holds(graph, seed, data):
        found, every = model_of(seed, graph), schedules(graph, GRIDS)[1:]
        if found is None:
            return
        wanted = [data.draw(st.sampled_from(every))] if every else []
        wanted += [s for s in (segments_of(data, graph) for _ in range(2)) if s]
        plans = [plan(graph, s, halo=halo) for s in wanted for halo in ("clip", "cache", data.draw(HALOS))]
        seen.update(what for p in plans for what in set(readings(p)))
        equal(graph, *found, plans)

    holds()
    every = {(kind, where) for kind in ("residual", "add", "mul", "concat") for where in ("inside", "before the cut")}
    assert all(seen[what] >= 4 for what in every), seen


@quick(40)
@given(networks(), HALOS)
def test_costs_are_those_of_the_plan(graph, other):
    """It holds for every schedule; the best one is none that a plan beats, and its arena is that plan's."""
    every = schedules(graph, GRIDS)
    plans = {halo: [plan(graph, s, halo=halo) for s in every] for halo in {"clip", "cache", other}}
    for halo, found in plans.items():
        assert costs(graph, every, CORTEX_M, halo) == [(p.macs, p.peak, p.copied) for p in found]
        for cost, schedule in several_segments(graph, (2,), None, CORTEX_M, [halo], 2):
            p = plan(graph, schedule)
            assert (p.macs, p.peak, p.copied) == cost
    best = best_schedule(graph, get_board("H743"), "sram", GRIDS, halos=tuple(plans))
    assert best == plan(graph, best.schedule, halo=best.halo)
    assert best.arena == min(p.arena for found in plans.values() for p in found)


@quick(40)
@given(networks(), st.integers(0, 99))
def test_files_and_dead_channels(graph, seed):
    """Neither what the reader fuses nor what is removed as dead takes one reading for all."""
    found = model_of(seed, graph)
    if found is None:
        return
    model, picture = found
    with tempfile.TemporaryDirectory() as folder:
        again = load_onnx(save_onnx(model, f"{folder}/m.onnx"))
    wanted = list(reference.run(plan(graph), model, picture).values())
    assert np.array_equal(wanted, list(reference.run(plan(again.graph), again, picture).values()))
    model = deadened(np.random.default_rng(seed), model)
    smaller = without_dead_channels(model)
    assert same(*(reference.run(plan(m.graph), m, picture) for m in (model, smaller)))


@quick(40)
@given(networks(), st.integers(0, 99))
def test_float_files(graph, seed):
    """A float file and what the reader makes of it are one function to onnxruntime."""
    weights, rng = {}, np.random.default_rng(seed)
    for op in graph.ops:
        if op.kind == "conv":
            shape = op.cout, graph.input_of(op).c // op.groups, *op.k
            weights[op.name] = rng.normal(0, 0.3, shape).astype(np.float32), rng.normal(0, 0.3, op.cout).astype("f4")
    model, t = Model(graph, weights), graph.inputs[0]
    with tempfile.TemporaryDirectory() as folder:
        again = load_onnx(save_onnx(model, f"{folder}/m.onnx"))
    x = rng.random((1, t.c, t.h, t.w), np.float32)
    (one,), (other,) = (session(m).run(None, {m.graph.inputs[0].name: x}) for m in (model, again))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(one).max())


def by_hand(*ops: Op) -> Graph:
    """Two 3x3 windows around x, of 8 channels, the second of which ends the segment."""
    return Graph("sample", (Tensor("image", 24, 20, 8),), ops, (ops[-1].name,)).verify()


SAME = {"k": (3, 3), "pad": (1, 1, 1, 1)}
SAMPLES = {
    "depth-wise": {"groups": 8},
    "dense": {},
    "dense and a clamp": {"act": "relu"},
    "grouped": {"groups": 2},
}


@pytest.mark.parametrize("fields", SAMPLES.values(), ids=SAMPLES)
def test_the_map_itself_beside_its_convolution(fields):
    """y = x + conv(x), its window above 1: what a patch needs of x is the window, not the positions of y."""
    graph = by_hand(
        Op("x", "conv", ("image",), 8, **SAME),
        Op("y", "conv", ("x",), 8, residual="x", block=1, **SAME, **fields),
        Op("z", "conv", ("y",), 8, residual="y", block=2, **SAME, **fields),
    )
    plans = [plan(graph, s, halo=halo) for s in schedules(graph, (2, 3, (1, 4))) for halo in EXECUTED]
    equal(graph, *model_of(0, graph), plans)
    segment = plan(graph, Schedule(2, 3)).segments[0]
    assert [tuple(s["y"]) for s in segment.spans[0]] == [
        (0, 13),
        (11, 24),
    ]  # a row beyond the patch's 12 for the window
    assert [tuple(s["x"]) for s in segment.spans[0]] == [(0, 14), (10, 24)]


def test_given_samples(shared):
    for path in sorted((shared / "cases/own_input_residual").glob("*.int8.onnx")):
        model = load_onnx(path)
        t = model.graph.inputs[0]
        picture = np.random.default_rng(0).integers(-128, 128, (t.h, t.w, t.c)).astype(np.int8)
        wanted = schedules(model.graph, (2, (1, 3)))[-4:]
        equal(model.graph, model, picture, [plan(model.graph, s, halo=halo) for s in wanted for halo in EXECUTED])
