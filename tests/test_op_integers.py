"""Integers of the kinds other than convolutions against exact arithmetic, tables against torch, and what is refused."""

import ctypes
import warnings
from fractions import Fraction
from itertools import product
from math import exp, floor

import numpy as np
import pytest
import torch
from kernels import I8, I16, I32, U8, at, kernel_library
from nets import every_kind, random_model

from nni_mcunet.core.errors import GraphError
from nni_mcunet.core.ir.activations import ACTS
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.ir.kinds import SAME_SCALE
from nni_mcunet.core.nn.net import ACTIVATIONS
from nni_mcunet.core.plan.kernel_facts import constant_bytes, padded_taps
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.core.plan.segments import Axis
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.integers import integers
from nni_mcunet.engine.model import PROBABILITY, QuantModel, QuantWeights, Scale
from nni_mcunet.engine.ops import OPERATORS


def one_op(op, scales, *shape):
    """Integers of an op on inputs `a` and `b` of h x w x c, whose scales are given in the order a, b, output."""
    tensors = tuple(Tensor(n, *s) for n, s in zip("ab", (shape, shape), strict=True))
    graph = Graph("one", tensors, (op,), (op.name,)).verify()
    model = QuantModel(graph, dict(zip(("a", "b", op.name), scales, strict=True)), {})
    return graph, integers(model)[op.name]


class Sum(ctypes.Structure):
    _fields_ = [*((n, I32) for n in ("mult_a", "mult_b", "bias")), ("c", I16), ("bits", U8),
                *((n, I8) for n in ("zp_out", "lo", "hi"))]  # fmt: skip


class Factor(ctypes.Structure):
    _fields_ = [("mult", I32), ("left", U8), ("right", U8)]


class Product(ctypes.Structure):
    _fields_ = [("factor", Factor), ("c", I16), *((n, I8) for n in ("zp_a", "zp_b", "zp_out"))]


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    return kernel_library(tmp_path_factory.mktemp("kernels"))


def in_c(lib, kind, p):
    """Return what the C kernel makes of PAIRS, [a + 128][b + 128]."""
    sides = [ctypes.byref((I16 * 7)(256, 0, 256, 256, 0, 256, 0)) for _ in range(2)]
    if kind == "add":
        op = Sum(p.mult_a, p.mult_b, p.bias, 1, p.bits, p.zp_out, p.lo, p.hi)
    else:
        op = Product(Factor(*p.factor), 1, p.zp_a, p.zp_b, p.zp_out)
    a, b, out = np.ascontiguousarray(PAIRS[..., 0]), np.ascontiguousarray(PAIRS[..., 1]), np.zeros((256, 256), np.int8)
    getattr(lib, f"mcu_{kind}")(ctypes.byref(op), *sides, *(ctypes.c_void_p(at(m)) for m in (a, b, out)))
    return out


def whole(n_in, n_out=None):
    return Axis(n_in, 0, n_out or n_in, n_out or n_in, 0, n_in, 0)


PAIRS = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij"), -1).astype(np.int8)
THREE_SCALES = [
    (Scale(0.02, 3), Scale(0.03, -7), Scale(0.05, 1)),
    (Scale(0.02, -128), Scale(0.02, 127), Scale(0.02, -128)),
    (Scale(7.3, 127), Scale(1e-6, 127), Scale(11.0, -128)),
    (Scale(1e-9, -128), Scale(1e-9, -128), Scale(1e9, 127)),
    (Scale(1e9, 0), Scale(1e-4, 0), Scale(3e5, 127)),
]


def exact(value: Fraction, y: Scale, lo=-128, hi=127) -> int:
    """The value as int8 steps of y by the rounding rule, in exact arithmetic."""
    return min(max(floor(value / Fraction(y.scale) + Fraction(1, 2)) + y.zero_point, lo), hi)


@pytest.mark.parametrize("scales", THREE_SCALES)
@pytest.mark.parametrize("kind", ["add", "mul"])
def test_sums_and_products_are_rounded_once(lib, kind, scales):
    """On every pair of int8 values: the exact result, or near a tie its neighbour, where multipliers of 32 bits end;
    and the integers fit in 32 bits at every step, which Python's do not need to."""
    op = Op("y", kind, ("a", "b"), 1)
    _, p = one_op(op, scales, 256, 256, 1)
    got = OPERATORS[kind].run(op, p, [PAIRS[..., :1], PAIRS[..., 1:]], whole(256), whole(256))[..., 0]
    assert np.array_equal(in_c(lib, kind, p), got)
    a, b, y = scales
    edges = sorted({-128, -127, -1, 0, 1, 126, 127, a.zero_point, b.zero_point, *range(-128, 128, 17)})
    for i, j in product(edges, edges):
        left, right = (i - a.zero_point) * Fraction(a.scale), (j - b.zero_point) * Fraction(b.scale)
        value = left + right if kind == "add" else left * right
        steps = value / Fraction(y.scale)
        near_tie = abs(steps - floor(steps) - Fraction(1, 2)) <= max(Fraction(1, 10**4), abs(steps) / 10**4)
        assert abs(int(got[i + 128, j + 128]) - exact(value, y)) <= near_tie, (i, j)
        if kind == "add":
            assert all(abs(v) < 2**31 for v in (p.bias, i * p.mult_a + p.bias, i * p.mult_a + p.bias + j * p.mult_b))
            twin = y.zero_point + (i * p.mult_a + j * p.mult_b + p.bias) // 2**p.bits
        else:
            shifted = (i - a.zero_point) * (j - b.zero_point) << p.factor.left
            assert abs(shifted) < 2**31
            twin = y.zero_point + (shifted * p.factor.mult + (1 << 31 + p.factor.right) >> 32 + p.factor.right)
        assert got[i + 128, j + 128] == min(max(twin, -128), 127)


def test_clamp_of_a_sum():
    op = Op("y", "add", ("a", "b"), 1, act="clip", args=(-0.5, 0.26))
    _, p = one_op(op, (Scale(0.01, 5), Scale(0.01, -5), Scale(0.02, 10)), 4, 4, 1)
    assert (p.lo, p.hi) == (10 - 25, 10 + 13)


@pytest.mark.parametrize("zp", [-128, 0, 127])
@pytest.mark.parametrize(
    "k, s, pad", [((3, 3), (1, 1), (1, 1, 1, 1)), ((2, 5), (2, 1), (1, 2, 0, 4)), ((9, 1), (1, 1), (8, 0, 8, 0))]
)
def test_mean_counts_the_taps_inside(k, s, pad, zp):
    """Against a loop over exact means, on edge values."""
    rng = np.random.default_rng(0)
    op = Op("y", "avgpool", ("a",), 2, k, s, pad)
    graph = Graph("g", (Tensor("a", 7, 6, 2),), (op,), ("y",)).verify()
    x, y = Scale(0.02, zp), Scale(0.021, -3)
    p = integers(QuantModel(graph, {"a": x, "y": y}, {}))["y"]
    data = rng.choice([-128, -127, 0, 126, 127], (7, 6, 2)).astype(np.int8)
    segment = plan(graph).segments[0]
    got = OPERATORS[op.kind].run(op, p, [data], segment.axis(op, 0, 0), segment.axis(op, 1, 0))
    missing = 0
    for i, j, c in np.ndindex(got.shape):
        taps = [(i * s[0] - pad[0] + r, j * s[1] - pad[1] + q) for r, q in np.ndindex(k)]
        values = [int(data[r, q, c]) - zp for r, q in taps if 0 <= r < 7 and 0 <= q < 6]
        assert got[i, j, c] == exact(Fraction(sum(values), len(values)) * Fraction(x.scale), y)
        missing = max(missing, len(taps) - len(values))
    assert padded_taps(graph, op) == missing == len(p.border) and constant_bytes(graph, op) == 8 * missing


@pytest.mark.parametrize("scale", [1e-9, 0.004, 0.05, 1.3, 1e9])
@pytest.mark.parametrize("channels", [1, 2, 10, 1000])
def test_softmax_against_floats_and_itself(scale, channels):
    rng = np.random.default_rng(channels)
    op = Op("y", "softmax", ("a",), channels)
    graph = Graph("g", (Tensor("a", 4, 5, channels),), (op,), ("y",)).verify()
    p = integers(QuantModel(graph, {"a": Scale(scale, 4), "y": PROBABILITY}, {}))["y"]
    data = rng.integers(-128, 128, (4, 5, channels)).astype(np.int8)
    data[0], data[1, :, 1:] = 127, -128
    got = OPERATORS[op.kind].run(op, p, [data], whole(4), whole(5)).astype(int)
    for i, j in np.ndindex(4, 5):
        table = [int(p.table[int(data[i, j].max()) - int(q)]) for q in data[i, j]]
        assert max(512 * max(table) + sum(table), 2 * sum(table)) < 2**32
        twin = [min((512 * e + sum(table)) // (2 * sum(table)), 255) - 128 for e in table]
        assert got[i, j].tolist() == twin
    real = torch.from_numpy(data.astype(np.float64) * scale).softmax(2).numpy()
    assert np.abs((got + 128) / 256 - np.minimum(real, 255 / 256)).max() <= 0.5 / 256 + 1e-4
    assert p.table[0] >= 2**16 and int(p.table[1]) == floor(exp(-scale) * int(p.table[0]) + 0.5)


@pytest.mark.parametrize("act", [None, *ACTS])
def test_tables_against_torch(act):
    args = {"clip": (-0.7, 2.0), "leaky": (0.1,), "elu": (0.7,), "selu": (1.7, 1.05), "hsigmoid": (0.2, 0.5)}.get(
        act, ()
    )
    for x, y in (
        (Scale(0.05, 10), Scale(0.04, -20)),
        (Scale(1.0, -128), Scale(1 / 256, -128)),
        (Scale(1e9, 127), Scale(0.1, 0)),
    ):
        op = Op("y", "act", ("a",), 1, act=act, args=args)
        graph = Graph("g", (Tensor("a", 1, 256, 1),), (op,), ("y",)).verify()
        table = integers(QuantModel(graph, {"a": x, "y": y}, {}))["y"].table
        real = torch.from_numpy((np.arange(-128, 128) - x.zero_point) * x.scale)
        steps = ACTIVATIONS[act](real, *args).numpy() / y.scale + y.zero_point
        distance = np.abs(table - np.clip(steps, -128, 127))
        assert distance.max() <= 0.5 + 1e-6, act


# --- values that are refused


ABSURD = [float("nan"), float("inf"), 0.0, -0.1, 1e-40, 1e30]


@pytest.mark.parametrize("scale", ABSURD)
def test_absurd_scales_are_refused(scale):
    """It is refused for any tensor and any channel's weights, by name and without a warning of numpy's."""
    graph = every_kind()
    good = random_model(np.random.default_rng(0), graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in graph.tensors:
            model = QuantModel(graph, {**good.scales, name: Scale(scale, 0)}, good.weights)
            with pytest.raises(GraphError, match=f"{name}.* scale"):
                integers(model)
        q = good.weights["halves"]
        weights = QuantWeights(q.weight, np.where(np.arange(8) == 5, scale, q.scale).astype(np.float32), q.bias)
        with pytest.raises(GraphError, match=r"halves: .* channel 5 .* scale"):
            integers(QuantModel(graph, good.scales, {**good.weights, "halves": weights}))


@pytest.mark.parametrize("power", [-39, -20, 20, 39])
def test_extreme_scales_compute_or_are_refused(power):
    """Each tensor's scale in turn far from the rest: a GraphError, or integers with which patched equals whole."""
    graph = every_kind()
    rng = np.random.default_rng(0)
    good, image = random_model(rng, graph), rng.integers(-128, 128, (17, 14, 3)).astype(np.int8)
    for name in graph.tensors:
        scales = {**good.scales, name: Scale(2.0**power, -128)}
        scales |= {op.name: scales[graph.rounded_as(op.name)] for op in graph.ops if op.kind in SAME_SCALE}
        scales |= {op.name: PROBABILITY for op in graph.ops if op.kind == "softmax"}
        model = QuantModel(graph, scales, good.weights)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = [reference.run(plan(graph, s), model, image)["classes"] for s in (Schedule(), Schedule(2, 4))]
                assert np.array_equal(*found)
            except GraphError as error:
                assert "32 bits" in str(error)


@pytest.mark.parametrize(
    "op, message",
    [
        (Op("y", "avgpool", ("a",), 3, (2, 2), (2, 2), (2, 0, 0, 0)), r"y: a window .* \(.*\); pad by less"),
        (Op("y", "maxpool", ("a",), 3, (2, 2), (1, 1), (0, 0, 0, 2)), r"y: a window .* \(.*\); pad by less"),
        (Op("y", "upsample", ("a",), 3, s=(256, 1)), r"y: kernel \(1, 1\), stride \(256, 1\) above 255"),
        (Op("y", "pad", ("a",), 3, pad=(0, 32760, 0, 0)), "y: 8x32768x3 is too large"),
        (Op("y", "conv", ("a",), 40000), "y: 8x8x40000 is too large"),
        (Op("y", "gap", ("a",), 3), "needs more than 32 bits: its scale 1e-09 is too fine"),
    ],
)  # fmt: skip
def test_what_the_structs_cannot_hold(op, message):
    graph = Graph("g", (Tensor("a", 8, 8, 3),), (op,), ("y",)).verify()
    shape = (op.cout, 3, *op.k)
    weights = {"y": QuantWeights(np.zeros(shape, np.int8), np.ones(op.cout, np.float32), np.zeros(op.cout, np.int32))}
    y = Scale(1e-9, 0) if op.kind == "gap" else Scale(0.1, 0)
    with pytest.raises(GraphError, match=message):
        integers(QuantModel(graph, {"a": Scale(0.1, 0), "y": y}, weights))


def test_absurd_zero_points_and_biases_are_refused():
    graph = every_kind()
    good = random_model(np.random.default_rng(0), graph)
    for zero_point in (128, -129, 0.5):
        scales = {**good.scales, "sum": Scale(0.1, zero_point)}
        with pytest.raises(GraphError, match=f"sum has the zero point {zero_point}"):
            integers(QuantModel(graph, scales, good.weights))
    q = good.weights["less"]
    for bias in (np.full(6, 2**31 - 1), np.full(6, -(2**31))):
        weights = {**good.weights, "less": QuantWeights(q.weight, q.scale, bias.astype(np.int32))}
        with pytest.raises(GraphError, match=r"less: its channel \d sums to [\d,]+, beyond 32 bits: its bias"):
            integers(QuantModel(graph, good.scales, weights))
    weights = {**good.weights, "less": QuantWeights(q.weight[:5], q.scale, q.bias)}
    with pytest.raises(GraphError, match=r"less: weights \(5, 6, 1, 1\)"):
        integers(QuantModel(graph, good.scales, weights))


def test_a_scale_that_must_be_kept():
    for kind, message in (("pad", "keeps its input's scale"), ("softmax", "the scale 1/256")):
        graph = Graph("g", (Tensor("a", 8, 8, 3),), (Op("y", kind, ("a",), 3),), ("y",)).verify()
        with pytest.raises(GraphError, match=f"y: .*{message}"):
            integers(QuantModel(graph, {"a": Scale(0.1, 0), "y": Scale(0.2, 0)}, {}))
