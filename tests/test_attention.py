"""Attention: products of positions with positions and sums of positions by their weights, head by head. In floats they
are torch's, in integers onnxruntime's within a step; the C of them is held by the tests of every kind."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from nets import random_model
from onnx import helper
from test_onnx_import import assert_imported, constant, export, small
from torch import nn

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.frontend.onnx import save_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.dead_channels import without_dead_channels
from nni_mcunet.engine.ops import OPERATORS
from nni_mcunet.engine.quant.ort_session import session, to_input
from nni_mcunet.engine.run.host import build_host

HEADS, DEPTH, VALUES = 2, 3, 4
IMAGE = Tensor("image", 4, 3, 3)
COUNT = IMAGE.h * IMAGE.w


def attention() -> Graph:
    ops = (
        Op("query", "conv", ("image",), HEADS * DEPTH),
        Op("key", "conv", ("image",), HEADS * DEPTH),
        Op("value", "conv", ("image",), HEADS * VALUES),
        Op("scores", "attention_scores", ("query", "key"), COUNT, groups=HEADS),
        Op("weights", "softmax", ("scores",), COUNT),
        Op("out", "attention_sum", ("weights", "value"), HEADS * VALUES, groups=HEADS),
    )
    return Graph("attention", (IMAGE,), ops, ("out", "scores"))


def test_of_a_square_picture(tmp_path):
    """Positions of scores are no columns, though those of all other maps are alike."""
    image = replace(IMAGE, h=4, w=4)
    ops = [replace(op, cout=16) if op.name in ("scores", "weights") else op for op in attention().ops]
    graph = Graph("square", (image,), tuple(ops), ("out", "scores")).verify()
    found = plan(graph)
    for axis, side in enumerate("hw"):
        lengths = found.segments[0].lengths[axis]
        assert all(lengths[name] == [getattr(graph.tensors[name], side)] for name in graph.tensors), lengths
    model = random_model(np.random.default_rng(0), graph)
    picture = np.random.default_rng(1).integers(0, 256, (4, 4, image.c)).astype(np.uint8)
    wanted = reference.run(found, model, (picture.astype(np.int16) - 128).astype(np.int8))
    for name, got in zip(graph.outputs, build_host(write_sources(found, model, tmp_path)).run(picture), strict=True):
        assert np.array_equal(got, wanted[name].ravel())


def test_in_floats_it_is_torchs():
    torch.manual_seed(0)
    graph = replace(attention(), outputs=("out", "scores", "query", "key", "value")).verify()
    out, scores, *maps = Net(graph)(torch.rand(2, IMAGE.c, IMAGE.h, IMAGE.w))
    query, key, value = (found.reshape(2, HEADS, -1, COUNT).mT for found in maps)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=1.0)
    torch.testing.assert_close(out.reshape(2, HEADS, VALUES, COUNT).mT, wanted)
    torch.testing.assert_close(scores, torch.einsum("ngpi,ngji->njpg", query, key))


@pytest.mark.parametrize("seed", range(4))
def test_in_integers_it_is_onnxruntimes_within_a_step(seed):
    model = random_model(np.random.default_rng(seed), attention().verify())
    picture = np.random.default_rng(seed).integers(0, 256, (IMAGE.h, IMAGE.w, IMAGE.c)).astype(np.uint8)
    image = np.round(picture / 255 / model.scales["image"].scale) + model.scales["image"].zero_point
    run, maps = session(model, every_tensor=True), {"image": np.clip(image, -128, 127).astype(np.int8)}
    for value, found in zip(run.get_outputs(), run.run(None, {"image": to_input(picture)}), strict=True):
        at = model.scales[value.name]
        maps[value.name] = (np.round(found[0] / at.scale) + at.zero_point).astype(np.int8).transpose(1, 2, 0)
    for name, ours in reference.each(plan(model.graph), model, maps).items():
        assert np.abs(ours.astype(int) - maps[name]).max() <= 1, name
        assert len(np.unique(ours)) > 4 or name == "weights", name


@pytest.mark.parametrize("name", ["scores", "out"])
def test_bounds_hold(name):
    """Random extremes stay within them."""
    rng = np.random.default_rng(0)
    model = random_model(rng, attention().verify())
    op, maps = model.graph.op(name), [model.graph.tensors[n] for n in model.graph.op(name).inputs]
    of = OPERATORS[op.kind]
    integers, found = of.integers(model, op), plan(model.graph).segments[0]
    sides = found.axis(op, 0, 0), found.axis(op, 1, 0)
    low, high = of.interval(model.graph, op, integers, [(np.full(m.c, -128), np.full(m.c, 127)) for m in maps])
    values = [
        of.run(op, integers, [rng.choice([-128, 127], (m.h, m.w, m.c)).astype(np.int8) for m in maps], *sides)
        for _ in range(200)
    ]
    assert (np.min(values, (0, 1, 2)) >= low).all() and (np.max(values, (0, 1, 2)) <= high).all()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"query": {"cout": 8}}, "attention_scores of 2 heads and 12 channels does not fit 4x3x8 and 4x3x6"),
        ({"scores": {"groups": 4}}, "attention_scores of 4 heads"),
        ({"scores": {"cout": 11}, "weights": {"cout": 11}}, "attention_scores of 2 heads and 11 channels"),
        ({"out": {"groups": 4}}, "attention_sum of 4 heads and 8 channels does not fit 12x2x12 and 4x3x8"),
        ({"out": {"cout": 4}}, "attention_sum of 2 heads and 4 channels"),
    ],
)
def test_what_does_not_fit(changes, words):
    graph = attention()
    ops = tuple(replace(op, **changes.get(op.name, {})) for op in graph.ops)
    with pytest.raises(GraphError, match=words):
        replace(graph, ops=ops).verify()


def test_its_multiply_accumulates_are_counted():
    graph = attention().verify()
    assert graph.op_macs(graph.op("scores")) == COUNT * COUNT * HEADS * DEPTH
    assert graph.op_macs(graph.op("out")) == COUNT * COUNT * HEADS * VALUES


def test_the_second_map_keeps_its_channels():
    """A channel of the values that is constant is no dead one: it is summed by weights."""
    rng = np.random.default_rng(0)
    model = random_model(rng, attention().verify())
    model.weights["value"].weight[3] = model.weights["key"].weight[1] = 0
    smaller = without_dead_channels(model)
    picture = rng.integers(-128, 128, (IMAGE.h, IMAGE.w, IMAGE.c)).astype(np.int8)
    found = [reference.run(plan(one.graph), one, picture)["out"] for one in (model, smaller)]
    assert np.array_equal(*found)


class Attention(nn.Module):
    """As ultralytics' C2PSA has it where `rows` is false, else as transformers have it: rows of positions, a factor
    behind the product."""

    def __init__(self, heads: int, depth: int, values: int, rows: bool):
        super().__init__()
        self.sizes, self.heads, self.rows = [depth, depth, values], heads, rows
        self.qkv = nn.Conv2d(8, heads * sum(self.sizes), 1)

    def forward(self, x):
        x = nn.functional.relu(self.qkv(x))
        n, _, h, w = x.shape
        query, key, value = x.view(n, self.heads, -1, h * w).split(self.sizes, 2)
        if self.rows:
            scores = query.transpose(-2, -1) @ key * 0.3
            y = scores.softmax(-1) @ value.transpose(-2, -1)
            return y.transpose(-2, -1).reshape(n, -1, h, w) + 1
        scores = (query * 0.3).transpose(-2, -1) @ key
        return (value @ scores.softmax(-1).transpose(-2, -1)).view(n, -1, h, w) + value.reshape(n, -1, h, w)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("heads", [1, 2])
def test_torchs_export_is_read(heads, rows, tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2), Attention(heads, 4, 6, rows), nn.Conv2d(6 * heads, 5, 1))
    model = assert_imported(export(net, tmp_path / "m.onnx", size=(11, 15)))
    kinds = [op.kind for op in model.graph.ops]
    assert kinds.count("attention_scores") == kinds.count("softmax") == kinds.count("attention_sum") == 1
    assert "take" not in kinds  # convolutions write queries, keys and values


@pytest.mark.parametrize("seed", range(2))
def test_a_file_of_ours_is_read_as_it_was(seed, tmp_path):
    model = random_model(np.random.default_rng(seed), attention().verify())
    assert load_model(save_onnx(model, tmp_path / "m.onnx")).graph.ops == model.graph.ops


@pytest.mark.parametrize("inputs", [("h", "t"), ("x", "x")])  # channels with channels, and rows with columns
def test_other_products_of_maps_are_refused(inputs, tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "four"], ["h"]),
        helper.make_node("Transpose", ["h"], ["t"], perm=(0, 1, 3, 2)),
        helper.make_node("MatMul", inputs, ["y"], name="m"),
    ]
    onnx.save(small(nodes, [constant("four", [1, 2, 3, 64])], (1, 6, 8, 8)), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedOp, match=r"MatMul at 'm': of two maps, .*: expected the attention of positions"):
        load_model(tmp_path / "m.onnx")
