"""Try what single lines of the integers guard against, each seen by no other test once: see mutants.py."""

from dataclasses import replace

import numpy as np
import pytest
from kernels import kernel_library
from nets import random_model
from test_boxes import c_boxes
from test_guards_plan import THREE

from nni_mcunet.core.errors import GraphError
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.latency import instructions
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine import detect
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.dead_channels import without_dead_channels
from nni_mcunet.engine.lower.integers import integers
from nni_mcunet.engine.lower.intervals import intervals
from nni_mcunet.engine.model import QuantModel, QuantWeights, Scale, quantize_weights
from nni_mcunet.engine.ops.requantise import INT32, MAX_RIGHT, multiplier, requant


@pytest.mark.parametrize("bias", [1.0, -3e4])
def test_the_bias_of_a_dead_channel_fits(bias):
    """Weights so small that a scale chosen only for them would not hold the bias in 32 bits, by far."""
    weight, steps = np.full((2, 1, 1, 1), 1e-9, np.float32), 1 / 255
    q = quantize_weights(weight, np.float32([bias, 0]), steps)
    assert q.bias[0] * float(q.scale[0]) * steps == pytest.approx(bias, rel=1e-5)
    # And what the zero point of the input adds to it, and all inputs at their ends: see ops/conv.py.
    assert abs(int(q.bias[0])) <= 2**24 and q.weight[1, 0, 0, 0] == 127


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


def test_a_yolox_box_at_the_threshold(tmp_path):
    """mmdet keeps a product of score_thr or more: here 1/4, of two halves."""
    meta = {"type": "yolox", "classes": ["a"], "strides": [8], "score_thr": 0.25, "nms_iou": 0.5, "max_per_img": 5}
    output = {"h": 1, "w": 1, "scale": 0.05, "zero_point": 0}
    params, lib = detect.detector(meta, [output | {"c": c} for c in (1, 4, 1)]), kernel_library(tmp_path)
    for objectness, score, count in ((0, 0, 1), (-1, 0, 0), (0, -1, 0), (1, -1, 0), (2, -1, 1), (127, -22, 0)):
        maps = [np.int8([score]), np.int8([0, 0, 0, 0]), np.int8([objectness])]
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
