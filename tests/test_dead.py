"""Dead channels are removed exactly: the same outputs bit for bit, borders and patches included."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from nets import any_graph, random_graph, random_model

from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.plan.latency import instructions
from nni_mcunet.core.plan.plan import plan, schedules
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.dead_channels import channels, without_dead_channels
from nni_mcunet.engine.lower.intervals import intervals
from nni_mcunet.engine.model import QuantModel, QuantWeights, Scale
from nni_mcunet.engine.run.host import build_host


def deadened(rng: np.random.Generator, model: QuantModel) -> QuantModel:
    """Biases far below (or, seldom, above) what the weights reach, in many channels, most of them the same in every
    convolution: dead in both members of a sum. Behind them a ReLU, mostly. Some weights are zero."""
    common = np.repeat(rng.random(512) < 0.5, 2)
    ops = tuple(
        replace(op, act="relu", args=()) if op.kind in ("conv", "add") and rng.random() < 0.8 else op
        for op in model.graph.ops
    )
    weights = {}
    for name, q in model.weights.items():
        n = len(q.bias)
        chosen = np.where(rng.random(n) < 0.9, common[:n], rng.random(n) < 0.3)
        far = chosen * np.where(rng.random(n) < 0.9, -1, 1) * (1 << 22)
        weight = q.weight * (rng.random((1, q.weight.shape[1], 1, 1)) < 0.9)
        weights[name] = QuantWeights(weight.astype(np.int8), q.scale, (q.bias + far).astype(np.int32))
    return replace(model, graph=replace(model.graph, ops=ops), weights=weights)


def pictures(rng: np.random.Generator, image: Tensor) -> list[np.ndarray]:
    """Random ones, all black, all white and checkerboards, int8."""
    shape, board = (image.h, image.w, image.c), np.indices((image.h, image.w)).sum(0) % 2
    extremes = [np.full(shape, -128), np.full(shape, 127)]
    boards = [np.broadcast_to(np.where(board == turn, -128, 127)[..., None], shape) for turn in (0, 1)]
    return [data.astype(np.int8) for data in (*extremes, *boards, rng.integers(-128, 128, shape))]


def branches() -> Graph:
    """Every kind of op between a first convolution and a last one that may drop what is dead in each of them."""
    image, ops = Tensor("image", 17, 14, 3), []

    def add(name, kind, inputs, cout=16, **fields):
        ops.append(Op(name, kind, tuple(inputs.split()), cout, block=len(ops), **fields))

    three = dict(k=(3, 3), pad=(1, 1, 1, 1))
    add("stem", "conv", "image", **three)
    add("dw", "conv", "stem", groups=16, **three)
    add("pairs", "conv", "dw", groups=8, **three)
    add("proj", "conv", "pairs", residual="stem")
    add("mean", "avgpool", "proj", **three)
    add("most", "maxpool", "proj", **three)
    add("sum", "add", "mean most")
    add("squared", "mul", "sum mean")
    add("both", "concat", "squared most proj", 48)
    add("smooth", "act", "both", 48, act="hswish")
    add("rim", "pad", "smooth", 48, pad=(3, 0, 2, 5))
    add("twice", "upsample", "rim", 48, s=(2, 1))
    add("packed", "space_to_depth", "twice", 96, k=(2, 1), s=(2, 1))
    add("unpacked", "depth_to_space", "packed", 48, s=(2, 1))
    add("turned", "take", "unpacked", 48, channels=tuple(range(47, -1, -1)))
    add("squeeze", "gap", "turned", 48)
    add("gate", "act", "squeeze", 48, act="sigmoid")
    add("scaled", "mul", "turned gate", 48)
    add("less", "conv", "scaled", 6, **three)
    add("classes", "softmax", "less", 6)
    return Graph("branches", (image,), tuple(ops), ("less", "classes")).verify()


def models(seed: int) -> QuantModel:
    rng = np.random.default_rng(seed)
    graph = (random_graph(rng, channels=(2, 17)), any_graph(rng), branches())[seed % 3]
    return deadened(rng, random_model(rng, graph))


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("seed", range(24))
def test_every_value_lies_in_its_interval(seed):
    model = models(seed)
    found = intervals(model)
    for picture in pictures(np.random.default_rng(seed), model.graph.inputs[0]):
        for name, data in reference.run(plan(model.graph), model, picture, keep=True).items():
            assert (data >= found[name][0]).all() and (data <= found[name][1]).all(), name


def test_intervals_are_reached():
    """One convolution: its bounds are its extremes over all pictures of two values, border windows included."""
    rng = np.random.default_rng(5)
    op = Op("conv", "conv", ("image",), 6, (2, 2), (1, 1), (1, 0, 0, 1), act="relu6")
    model = random_model(rng, Graph("tiny", (Tensor("image", 2, 2, 2),), (op,), ("conv",)).verify())
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    found = [
        reference.run(plan(model.graph), model, p.reshape(2, 2, 2))["conv"] for p in (255 * bits - 128).astype(np.int8)
    ]
    lo, hi = intervals(model)["conv"]
    assert np.array_equal(np.min(found, (0, 1, 2)), lo) and np.array_equal(np.max(found, (0, 1, 2)), hi)


@pytest.mark.parametrize("seed", range(40))
def test_the_same_outputs(seed):
    """Under patches, too, whose borders are not the picture's."""
    model, rng = models(seed), np.random.default_rng(seed)
    smaller = without_dead_channels(model)
    whole = plan(model.graph)
    assert instructions(plan(smaller.graph)) <= instructions(whole) and plan(smaller.graph).arena <= whole.arena
    patched = [plan(smaller.graph, s) for s in schedules(smaller.graph, (1, 3))]
    for picture in pictures(rng, model.graph.inputs[0]):
        wanted = reference.run(whole, model, picture)
        for found in (plan(smaller.graph), patched[int(rng.integers(len(patched)))]):
            assert same(wanted, reference.run(found, smaller, picture))


def test_networks_shrink():
    """Most of the random ones do, and what is left has nothing more to remove."""
    before = after = 0
    for seed in range(24):
        model = models(seed)
        smaller = without_dead_channels(model)
        assert channels(without_dead_channels(smaller).graph) == channels(smaller.graph)
        before, after = before + channels(model.graph), after + channels(smaller.graph)
    assert after < 0.9 * before


@pytest.mark.parametrize("seed", (0, 5, 8, 10))  # half of them have every kind
def test_the_compiled_c(seed, tmp_path):
    model = models(seed)
    smaller = without_dead_channels(model)
    assert channels(smaller.graph) < channels(model.graph)
    host = build_host(write_sources(plan(smaller.graph), smaller, tmp_path))
    for picture in pictures(np.random.default_rng(seed), model.graph.inputs[0]):
        wanted = reference.run(plan(model.graph), model, picture)
        found = host.run((picture.astype(np.int16) + 128).astype(np.uint8))
        assert all(np.array_equal(wanted[n].ravel(), f) for n, f in zip(model.graph.outputs, found, strict=True))


def constant_first(pad: int, value: int) -> QuantModel:
    """A 1x1 convolution of which channel 0 is `value` everywhere (zero point -128), and a 3x3 one, padded or not."""
    ops = (Op("first", "conv", ("image",), 9), Op("second", "conv", ("first",), 4, (3, 3), pad=(pad,) * 4))
    graph = Graph("two", (Tensor("image", 8, 8, 3),), ops, ("second",)).verify()
    rng = np.random.default_rng(0)
    first, second = (
        rng.integers(-127, 128, (op.cout, c, *op.k)).astype(np.int8) for op, c in zip(ops, (3, 9), strict=True)
    )
    first[0] = 0
    bias = np.full(9, 9000, np.int32)
    bias[0] = (value + 128) * 128
    weights = {"first": QuantWeights(first, np.full(9, 1 / 128, np.float32), bias),
               "second": QuantWeights(second, np.full(4, 1 / 128, np.float32), np.zeros(4, np.int32))}  # fmt: skip
    return QuantModel(graph, {"image": Scale(1, 0), "first": Scale(1, -128), "second": Scale(40, 0)}, weights)


@pytest.mark.parametrize("pad, value, gone", [(0, 5, 1), (1, -128, 1), (1, 5, 0)])
def test_a_padded_reader_keeps_constants_other_than_the_zero_point(pad, value, gone):
    model = constant_first(pad, value)
    lo, hi = (end[0] for end in intervals(model)["first"])
    assert lo == hi == value
    smaller = without_dead_channels(model)
    assert smaller.graph.op("first").cout == 9 - gone
    for picture in pictures(np.random.default_rng(0), model.graph.inputs[0]):
        ours = reference.run(plan(smaller.graph), smaller, picture)
        assert same(ours, reference.run(plan(model.graph), model, picture))


def test_outputs_and_picture_keep_their_shapes():
    model = constant_first(0, 5)
    graph = replace(model.graph, outputs=("first", "second"))
    assert without_dead_channels(replace(model, graph=graph)).graph == graph


def test_the_rounding_of_a_residual_stays():
    """Fewer channels would let integers() take more fraction bits for a sum, and round otherwise."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(60):
        graph = random_graph(rng, channels=(2, 9))
        model = deadened(rng, random_model(rng, graph))
        smaller = without_dead_channels(model)
        found += any(bits < 16 for bits in smaller.residual_bits.values()) and channels(smaller.graph) < channels(graph)
        for picture in pictures(rng, graph.inputs[0])[3:]:
            assert same(
                reference.run(plan(graph), model, picture), reference.run(plan(smaller.graph), smaller, picture)
            )
    assert found >= 5


def test_mcunet_vww1(shared):
    """Trained weights: 5.5 % of the multiply-accumulates are of dead channels."""
    model = load_onnx(shared / "models/vww1/vww1_int8_qlinear.onnx")
    smaller = without_dead_channels(model)
    assert smaller.graph.macs < 0.95 * model.graph.macs and smaller.graph.outputs == model.graph.outputs
    for picture in np.load(shared / "models/vww1/io.npz")["input_nhwc_int8"][:2]:
        wanted = reference.run(plan(model.graph), model, picture)
        assert same(wanted, reference.run(plan(smaller.graph), smaller, picture))


def test_the_generator_removes_them_unless_told_to_keep_them(shared, tmp_path):
    facts = {}
    for more in ("", "--keep-dead-channels"):
        out = tmp_path / f"fw{more}"
        command = [
            sys.executable,
            "tools/generate.py",
            shared / "models/vww1/vww1_int8_qlinear.onnx",
            "--board",
            "F412",
        ]
        done = subprocess.run([*command, "-o", out, *more.split()], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        facts[more] = json.loads((out / "plan.json").read_text())
        assert ("dead channels: MACs 11,578,816 -> " in done.stdout) == (not more)
    less, kept = facts.values()
    assert less["macs"] < 0.95 * kept["macs"] and less["constant_bytes"] < kept["constant_bytes"]
