"""What single lines guard against, each seen by no other test once: see mutants.py."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from kernels import kernel_library
from nets import random_model
from onnx import helper
from programs import run_host
from test_boxes import c_boxes
from test_engine import image_of, to_int8
from test_onnx_import import assert_imported, constant, small

from nni_mcunet.core import plan as planner
from nni_mcunet.core.arch import Schedule
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.costs import Costs
from nni_mcunet.core.errors import GraphError, Infeasible, ScheduleError
from nni_mcunet.core.graph import Graph, Op, Tensor
from nni_mcunet.core.kernels import in_place, overwrites
from nni_mcunet.core.latency import instructions
from nni_mcunet.core.place import Buffer, Life, check
from nni_mcunet.core.plan import best_schedule, fitting_plan, plan
from nni_mcunet.core.tiles import patch_bounds
from nni_mcunet.engine import detect, reference
from nni_mcunet.engine.dead import without_dead_channels
from nni_mcunet.engine.emit import write_sources
from nni_mcunet.engine.integers import INT32, MAX_RIGHT, integers, multiplier, requant
from nni_mcunet.engine.intervals import intervals
from nni_mcunet.engine.onnx_io import load_onnx, to_onnx
from nni_mcunet.engine.quant import QuantModel, QuantWeights, Scale, quantize_weights

RNG = np.random.default_rng(0)
FACTORS = {"gain": [1, -2, 3, 0.5], "shift": [1, 2, -3, 4], "mean": [0.5, 0, 1, -1], "var": [1, 2, 3, 4]}
GIVEN = [
    constant("w1", RNG.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32)),
    constant("w2", RNG.normal(0, 0.5, (4, 4, 1, 1)).astype(np.float32)),
    *(constant(name, np.float32(values)) for name, values in FACTORS.items()),
]


def node(kind, inputs, output, **fields):
    return helper.make_node(kind, inputs.split(), [output], name=f"n_{output}", **fields)


FIRST = node("Conv", "x w1", "c", pads=[1, 1, 1, 1])
TWICE_READ = {  # another reading of what a pass would fuse away
    "a sum's own clamp": [FIRST, node("Relu", "c", "r"), node("Add", "c r", "y")],
    "a clamp's shortcut": [FIRST, node("Relu", "c", "r"), node("Conv", "r w2", "d"), node("Add", "r d", "y")],
    "a sum with itself": [FIRST, node("Add", "c c", "y")],
    "a sum before another": [FIRST, node("Conv", "c w2", "d"), node("Add", "c d", "e"), node("Mul", "e d", "y")],
    "a factor behind": [FIRST, node("BatchNormalization", "c gain shift mean var", "b"), node("Add", "b c", "y")],
    "a factor before": [FIRST, node("Relu", "c", "r"), node("BatchNormalization", "r gain shift mean var", "b"),
                        node("Conv", "b w2", "d"), node("Mul", "d b", "y")],
    "a pad": [FIRST, node("Pad", "c pads", "p"), node("Conv", "p w2", "d"), node("Add", "d p", "y")],
}  # fmt: skip


@pytest.mark.parametrize("nodes", TWICE_READ.values(), ids=TWICE_READ)
def test_what_is_read_twice_is_not_fused(nodes, tmp_path):
    given = [*GIVEN, constant("pads", [0, 0, 1, 0, 0, 0, 0, 2])]
    onnx.save(small(nodes, given), tmp_path / "m.onnx")
    assert_imported(tmp_path / "m.onnx")


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
    stage = plan(graph, Schedule(10, 4), halo="cache").stages[0]
    assert [span["c1"].length for span in stage.new[0]] == [1, 0] * 5
    assert [span["c0"].length for span in stage.spans[0]] == [2, 2, 3, 2, 3, 2, 3, 2, 2, 0]
    assert equal_in_c(graph, tmp_path, Schedule(10, 4), halo="cache")


def test_a_grid_is_no_finer_than_its_map():
    assert patch_bounds(3, 3).hi.tolist() == [1, 2, 3]
    with pytest.raises(ScheduleError, match="4 patches along a stage output of 3: use at most 3"):
        patch_bounds(3, 2, 4)


@pytest.mark.parametrize("bias", [1.0, -3e4])
def test_the_bias_of_a_dead_channel_fits(bias):
    """Weights so small that a scale for them alone would not hold the bias in 32 bits, by far."""
    weight, steps = np.full((2, 1, 1, 1), 1e-9, np.float32), 1 / 255
    q = quantize_weights(weight, np.float32([bias, 0]), steps)
    assert q.bias[0] * float(q.scale[0]) * steps == pytest.approx(bias, rel=1e-5)
    # And what the zero point of the input adds to it, and all inputs at their ends: see integers.py.
    assert abs(int(q.bias[0])) <= 2**24 and q.weight[1, 0, 0, 0] == 127


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
    placed = {Schedule(2, 1 + at): SimpleNamespace(macs=m, arena=a, copied=0) for at, (m, _, a) in enumerate(rows)}
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


def test_a_map_with_the_scale_of_its_maxima_is_no_output(tmp_path):
    """Nobody rounds the convolution's map: its pool is what the file rounds. As an output it has no scale."""
    ops = Op("c", "conv", ("image",), 4), Op("m", "maxpool", ("c",), 4, (2, 2), (2, 2), block=1)
    graph = Graph("pooled", (Tensor("image", 8, 8, 3),), ops, ("m",)).verify()
    proto = to_onnx(random_model(np.random.default_rng(0), graph))
    kept = [n for n in proto.graph.node if not {"c.q", "c"} & set(n.output)]
    for node in kept:
        node.input[:] = ["c.f" if name == "c" else name for name in node.input]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    onnx.save(proto, tmp_path / "m.onnx")
    assert load_onnx(tmp_path / "m.onnx").graph.outputs == ("m",)
    proto.graph.output.append(helper.make_tensor_value_info("c.f", onnx.TensorProto.FLOAT, [1, 4, 8, 8]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="'c' has no QuantizeLinear before its max pool; quantize it whole"):
        load_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("batch", [2, 8, 10**9])
def test_a_batch_is_refused(batch, tmp_path):
    """The engine runs one picture; 0 and a name stand for an open one."""
    graph = [node("Conv", "x w1", "y")]
    onnx.save(small(graph, GIVEN, (batch, 3, 8, 8)), tmp_path / "m.onnx")
    with pytest.raises(GraphError, match=f"'x' has the shape .{batch}, 3, 8, 8.; export it as fixed NCHW of batch 1"):
        load_onnx(tmp_path / "m.onnx")
    for one in (1, "n"):
        onnx.save(small(graph, GIVEN, (one, 3, 8, 8)), tmp_path / "m.onnx")
        assert load_onnx(tmp_path / "m.onnx").graph.tensors["x"].h == 8


PARTS = ("w", "x", "y", "border", "table", "table0", "table1")


@pytest.mark.parametrize("order", [1, -1])
def test_names_that_another_s_constants_have_in_c(order, tmp_path):
    """A network whose layers are called as what belongs to the first one may be called in C."""
    nodes, x, c = [], "x", 3
    names = ["n", *(f"n_{part}" for part in PARTS)][::order]
    kinds = ["Conv", "AveragePool", "Tanh", "Concat", "Conv", "MaxPool", "Tanh", "Concat"]
    for at, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        fields = {"Concat": {"axis": 1}, "Tanh": {}}.get(kind, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})
        given = {"Concat": [x, x], "Conv": [x, f"w{c}"]}.get(kind, [x])
        c = {"Concat": 2 * c, "Conv": 4}.get(kind, c)
        x = f"t{at}" if at < len(PARTS) else "y"
        nodes.append(helper.make_node(kind, given, [x], name=name, **fields))
    onnx.save(
        small(nodes, [constant(f"w{n}", np.zeros((4, n, 3, 3), np.float32)) for n in (3, 8)]), tmp_path / "m.onnx"
    )
    graph = load_onnx(tmp_path / "m.onnx").graph
    assert equal_in_c(graph, tmp_path / "c", Schedule((2, 2), len(graph.ops)), halo="cache")


def own_residual(ratio: float, zero_point: int):
    """The integers of a 1x1 convolution whose residual's scale is `ratio` times its output's."""
    graph = Graph(
        "r", (Tensor("image", 2, 2, 1),), (Op("y", "conv", ("image",), 1, residual="image"),), ("y",)
    ).verify()
    weights = {"y": QuantWeights(np.full((1, 1, 1, 1), 1, np.int8), np.float32([1e-3]), np.zeros(1, np.int32))}
    return integers(QuantModel(graph, {"image": Scale(ratio, 0), "y": Scale(1.0, zero_point)}, weights))["y"]


@pytest.mark.parametrize("zero_point", [-128, 127])
def test_a_sum_with_its_residual_and_zero_point_stays_within_32_bits(zero_point):
    """Over ratios of scales just before and behind those where a bit less is left, at every step of the sum."""
    bits = set()
    for ratio in np.geomspace(60, 600, 1500):
        p = own_residual(float(ratio), zero_point)
        bits.add(p.res_bits)
        sums = requant(128 + np.abs(p.bias), p.mult, p.left, p.right)
        most = int(sums.max()) + 255 * p.res_mult + (1 << p.res_bits - 1) + (128 << p.res_bits)
        assert most < INT32, (ratio, p.res_bits)
    assert len(bits) > 2


def test_a_function_that_falls_and_rises_has_its_least_value_between_the_ends():
    op = Op("y", "act", ("image",), 1, act="hswish")
    graph = Graph("swish", (Tensor("image", 2, 2, 1),), (op,), ("y",)).verify()
    model = QuantModel(graph, {"image": Scale(0.03, 0), "y": Scale(0.02, -100)}, {})
    table = integers(model)["y"].table
    assert min(table[0], table[-1]) > table.min() == -119  # hswish(-1.5) is -0.375
    assert [end.tolist() for end in intervals(model)["y"]] == [[-119], [table.max()]]


def test_a_box_at_both_thresholds(tmp_path):
    """mmdet keeps an objectness of conf_thr or more, and a class score above score_thr."""
    meta = {"type": "yolov3", "classes": ["a"], "strides": [8], "anchors": [[[10, 10]]], "score_thr": 0.5,
            "conf_thr": 0.5, "nms_iou": 0.5, "max_per_img": 5}  # fmt: skip
    output = {"h": 1, "w": 1, "c": 6, "scale": 0.05, "zero_point": 0}
    params, lib = detect.detector(meta, [output]), kernel_library(tmp_path)
    for objectness, score, count in ((0, 1, 1), (-1, 1, 0), (0, 0, 0), (1, 2, 1)):
        maps = [np.int8([0, 0, 0, 0, objectness, score])]
        assert len(params.decode(maps)) == len(c_boxes(lib, params, maps)) == count, (objectness, score)


def test_padding_never_wins_a_maximum():
    op = Op("y", "maxpool", ("image",), 1, (3, 3), pad=(1, 1, 1, 1))
    graph = Graph("dark", (Tensor("image", 2, 2, 1),), (op,), ("y",)).verify()
    model = QuantModel(graph, dict.fromkeys(("image", "y"), Scale(0.1, 50)), {})
    picture = np.int8([-9, -3, -120, -70]).reshape(2, 2, 1)
    assert (reference.run(plan(graph), model, picture)["y"] == -3).all()


def test_fewer_channels_need_no_larger_arena():
    """Six inputs of a window are gathered in more scratch than eight, which on a small map is more than two saved."""
    ops = Op("a", "conv", ("image",), 8), Op("b", "conv", ("a",), 4, block=1, **THREE)
    graph = Graph("tight", (Tensor("image", 3, 3, 3),), ops, ("b",)).verify()
    model = random_model(np.random.default_rng(0), graph)
    weight, bias = model.weights["a"].weight.copy(), model.weights["a"].bias.copy()
    weight[:2], bias[:2] = 0, 0
    model = replace(model, weights=model.weights | {"a": replace(model.weights["a"], weight=weight, bias=bias)})
    whole, found = plan(graph), plan(without_dead_channels(model).graph)
    six = plan(replace(graph, ops=(replace(ops[0], cout=6), ops[1])).verify())
    assert six.arena > whole.arena >= found.arena and instructions(six) < instructions(whole)


SWEEP = np.geomspace(1e-9, 1e3, 400)


def accepted(model: QuantModel):
    try:
        return integers(model)
    except GraphError:
        return None


@pytest.mark.parametrize("zero_point", [-128, 5, 127])
def test_accumulators_that_overflow_are_refused(zero_point):
    """Exactly those: a sum of int8 products begins at the folded bias and is shifted left before the multiplier."""
    op = Op("y", "conv", ("image",), 2, (3, 3), groups=1)
    graph = Graph("sums", (Tensor("image", 5, 5, 4),), (op,), ("y",)).verify()
    weight = np.random.default_rng(0).integers(-127, 128, (2, 4, 3, 3)).astype(np.int8)
    q, seen = QuantWeights(weight, np.float32([0.01, 0.02]), np.int32([1000, -5])), set()
    for scale in SWEEP:
        model = QuantModel(graph, {"image": Scale(1.0, zero_point), "y": Scale(float(scale), 0)}, {"y": q})
        most = []
        for w, b, s in zip(weight.reshape(2, -1).astype(int), q.bias, q.scale, strict=True):
            folded = 128 * np.abs(w).sum() + abs(int(b) - zero_point * int(w.sum()))
            most.append(int(folded) << multiplier(float(s) / float(scale)).left)
        seen.add(accepted(model) is not None)
        assert (accepted(model) is not None) == (max(most) < INT32), scale
    assert seen == {True, False}


@pytest.mark.parametrize("kind", ["gap", "avgpool"])
def test_means_that_overflow_are_refused(kind):
    """A sum of n values begins at -n zero points: with partial sums it reaches 256 n."""
    k = {"k": (6, 6)} if kind == "avgpool" else {}
    graph = Graph("means", (Tensor("image", 6, 6, 1),), (Op("y", kind, ("image",), 1, **k),), ("y",)).verify()
    seen = set()
    for scale in SWEEP:
        model = QuantModel(graph, {"image": Scale(1.0, -128), "y": Scale(float(scale), 0)}, {})
        fits = 256 * 36 << multiplier(1 / (float(scale) * 36)).left < INT32
        seen.add(fits)
        assert (accepted(model) is not None) == fits, scale
    assert seen == {True, False}


@pytest.mark.parametrize("real", [1 - 2**-40, 0.5 - 2**-45, 2 - 2**-38, 4 - 2**-36, 2**-10 - 2**-60])
def test_a_multiplier_next_to_a_power_of_two(real):
    """Rounds up to it, which 31 bits of the fraction do not hold."""
    factor = multiplier(real)
    assert 2**30 <= factor.mult < 2**31 and 1 <= factor.right <= MAX_RIGHT
    assert factor.mult * 2.0 ** (factor.left - 32 - factor.right) == pytest.approx(real, rel=2**-30)
