"""The kinds of op beside plain convolutions: patched == whole, reference == C == board, integers against exact
arithmetic, tables against torch, and what is refused."""

import subprocess
import warnings
from fractions import Fraction
from itertools import count, product
from math import exp, floor

import numpy as np
import pytest
import torch
from nets import any_graph, random_model
from test_engine import image_of, random_schedule, to_int8

from nni_mcunet.core.acts import ACTS
from nni_mcunet.core.arch import ArchSpec, Block, Schedule
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.build import build_graph
from nni_mcunet.core.errors import GraphError, Infeasible, ScheduleError, UnsupportedOp
from nni_mcunet.core.graph import KINDS, Graph, Op, Tensor
from nni_mcunet.core.kernels import constant_bytes, in_place, padded_taps
from nni_mcunet.core.net import ACTIVATIONS, Net
from nni_mcunet.core.plan import plan, split
from nni_mcunet.core.stages import Axis
from nni_mcunet.engine import reference
from nni_mcunet.engine.emit import write_sources
from nni_mcunet.engine.firmware import WARNINGS, build_firmware, build_host, run_emulated, run_sanitized
from nni_mcunet.engine.integers import integers
from nni_mcunet.engine.quant import PROBABILITY, QuantModel, QuantWeights, Scale


def case(seed, channels=None):
    """Graph, integers, picture and schedule, all from one seed."""
    rng = np.random.default_rng(seed)
    graph = any_graph(rng, int(rng.integers(2, 7)), channels=channels)
    model = random_model(rng, graph, float(rng.choice([1 / 255, 1 / 40])))
    return graph, model, image_of(rng, graph), random_schedule(rng, graph)


def overwritten(p):
    """(kind, whether a larger tile lay there) of every op that runs in place inside the patch stage."""
    stage = p.stages[0]
    for index, target in in_place(p.graph).items() if stage.patched else ():
        op = p.graph.ops[index]
        if op in stage.ops and p.home[op.name] == p.home.get(target) and target not in {t.name for t in p.graph.inputs}:
            yield op.kind, any(lengths[target] != lengths[op.name] for lengths in stage.lengths)


def test_patched_equals_whole():
    """Bit for bit, every kind the patch stage may hold, whatever tiles meet there."""
    kinds, in_stage = set(), set(KINDS) - {"gap"}
    for seed in range(200):
        graph, model, image, schedule = case(seed)
        whole, patched = (reference.run(p, model, to_int8(image)) for p in (plan(graph), plan(graph, schedule)))
        for name in graph.outputs:
            assert np.array_equal(patched[name], whole[name]), (seed, schedule)
        kinds |= {op.kind for op in graph.ops if op.block < schedule.n}
    assert kinds == in_stage


def test_host_c_equals_reference_in_place(tmp_path):
    """Patched plans in which sums and products overwrite the larger tile of an input, and what else runs in place."""
    wanted = [("add", True), ("mul", True), ("add", False), ("mul", False), ("act", False), ("softmax", False)]
    for what in wanted:
        cases = (case(seed, 3) for seed in count(5000))
        graph, model, image, schedule = next(c for c in cases if what in overwritten(plan(c[0], c[3])))
        p = plan(graph, schedule)
        host = build_host(write_sources(p, model, tmp_path / f"{what[0]}{what[1]}"))
        expected = reference.run(p, model, to_int8(image))
        assert host.arena_bytes == p.arena
        for name, got in zip(graph.outputs, host.run(image), strict=True):
            assert np.array_equal(got, expected[name].ravel()), what


def every_kind():
    """One network with every kind, and both sorts of product, concat input, window and group."""
    image, ops = Tensor("image", 17, 14, 3), []

    def add(name, kind, inputs, cout, block, **fields):
        ops.append(Op(name, kind, tuple(inputs.split()), cout, block=block, **fields))

    three = dict(k=(3, 3), pad=(1, 1, 1, 1))
    add("stem", "conv", "image", 8, 0, act="clip", args=(-3.0, 2.0), **three)
    add("halves", "conv", "stem", 8, 1, groups=2, **three)
    add("wide", "conv", "halves", 16, 1, groups=8, s=(2, 2), act="relu", **three)
    add("mean", "avgpool", "wide", 16, 2, **three)
    add("most", "maxpool", "wide", 16, 2, **three)
    add("sum", "add", "mean most", 16, 2, act="relu6")
    add("squared", "mul", "sum mean", 16, 2)
    add("both", "concat", "squared most wide", 48, 3)
    add("smooth", "act", "both", 48, 3, act="hswish")
    add("rim", "pad", "smooth", 48, 3, pad=(3, 0, 2, 5))
    add("less", "conv", "rim", 6, 3)
    add("twice", "upsample", "less", 6, 4, s=(2, 1))
    add("squeeze", "gap", "twice", 6, 5)
    add("gate", "act", "squeeze", 6, 5, act="sigmoid")
    add("scaled", "mul", "twice gate", 6, 5)
    add("classes", "softmax", "scaled", 6, 5)
    return Graph("every", (image,), tuple(ops), ("scaled", "classes")).verify()


@pytest.mark.parametrize("schedule", [Schedule(), Schedule((3, 2), 4)])
def test_boards_equal_reference(tmp_path, schedule):
    rng, graph = np.random.default_rng(1), every_kind()
    assert {op.kind for op in graph.ops} == set(KINDS)
    model, image, p = random_model(rng, graph, 1 / 20), image_of(rng, graph), plan(graph, schedule)
    folder = write_sources(p, model, tmp_path)
    expected = reference.run(p, model, to_int8(image))
    assert len(np.unique(expected["scaled"])) > 30 and len(np.unique(expected["classes"])) > 5
    results = [run_sanitized(folder, image)]
    for name in ("stm32h743", "stm32f412"):
        results.append(run_emulated(build_firmware(folder, get_board(name), image), get_board(name)))
    for result in results:
        for got, name in zip(result["outputs"], graph.outputs, strict=True):
            assert np.array_equal(got, expected[name].ravel())


def test_squeeze_excite_network_through_c(tmp_path):
    """Gates over maps, in place, behind a patch stage of the first blocks: MnasNet-A1's kinds of block."""
    blocks = (Block(3, 1, 16, 8),), (Block(3, 2, 24, 12), Block(5, 2, 36, 16, se=4), Block(5, 1, 48, 16, se=4))
    graph = build_graph(ArchSpec("se", (40, 33), 8, blocks)).folded()
    gates = [i for i, op in enumerate(graph.ops) if op.kind == "mul"]
    assert len(gates) == 2 and all(in_place(graph)[i] == graph.ops[i].inputs[0] for i in gates)
    rng = np.random.default_rng(0)
    model, image, p = random_model(rng, graph), image_of(rng, graph), plan(graph, Schedule(2, 3))
    host = build_host(write_sources(p, model, tmp_path))
    expected = reference.run(p, model, to_int8(image))[graph.outputs[0]]
    assert len(np.unique(expected)) > 10
    assert np.array_equal(host.run(image)[0], expected.ravel())


def test_a_picture_of_any_channels_compiles(tmp_path):
    """The reading callback fills any input; only the boards' own programs feed three channels."""
    graph, model, _, schedule = case(3, 1)
    folder = write_sources(plan(graph, schedule), model, tmp_path)
    command = ["gcc", *WARNINGS, "-c", "mcu_model.c"]
    assert subprocess.run(command, cwd=folder).returncode == 0
    with pytest.raises(RuntimeError, match="three channels"):
        build_host(folder)


# Integers against exact arithmetic


def one_op(op, scales, *shape):
    """Integers of an op on inputs `a` and `b` of h x w x c, whose scales are given in the order a, b, output."""
    tensors = tuple(Tensor(n, *s) for n, s in zip("ab", (shape, shape), strict=True))
    graph = Graph("one", tensors, (op,), (op.name,)).verify()
    model = QuantModel(graph, dict(zip(("a", "b", op.name), scales, strict=True)), {})
    return graph, integers(model)[op.name]


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
def test_sums_and_products_are_rounded_once(kind, scales):
    """On every pair of int8 values: the exact result, or beside a tie its neighbour, where multipliers of 32 bits end;
    and the integers fit in 32 bits at every step, which Python's do not need to."""
    op = Op("y", kind, ("a", "b"), 1)
    _, p = one_op(op, scales, 256, 256, 1)
    got = reference.run_op(op, p, [PAIRS[..., :1], PAIRS[..., 1:]], [(whole(256), whole(256))])[..., 0]
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
    stage = plan(graph).stages[0]
    got = reference.run_op(op, p, [data], [(stage.axis(op, 0, 0), stage.axis(op, 1, 0))])
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
    got = reference.run_op(op, p, [data], [(whole(4), whole(5))]).astype(int)
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
    args = {"clip": (-0.7, 2.0), "leaky": (0.1,), "hsigmoid": (0.2, 0.5)}.get(act, ())
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


def test_reference_is_close_to_torch():
    """The integers of a network of every kind mean what Net computes in floats."""
    rng, graph = np.random.default_rng(2), every_kind()
    model, image = random_model(rng, graph, 1 / 20), image_of(rng, graph)
    tensors = reference.run(plan(graph), model, to_int8(image), keep=True)
    net = Net(graph).eval()
    for op in graph.ops:
        if op.kind == "conv":
            weights, x = model.weights[op.name], model.scales[op.inputs[0]]
            conv = net.layers[op.name].conv
            conv.weight.data = torch.from_numpy(weights.weight * weights.scale[:, None, None, None]).float()
            conv.bias.data = torch.from_numpy(weights.bias * weights.scale * x.scale).float()
        values = {
            n: torch.from_numpy(model.scales[n].dequantize(tensors[n]).transpose(2, 0, 1))[None] for n in op.reads
        }
        with torch.no_grad():
            real = net.run(op, values)[0].numpy().transpose(1, 2, 0)
        y = model.scales[op.name]
        steps = np.clip(real / y.scale + y.zero_point, -128, 127) - tensors[op.name]
        assert np.abs(steps).max() <= 0.51, op.name


# What is refused


ABSURD = [float("nan"), float("inf"), 0.0, -0.1, 1e-40, 1e30]


@pytest.mark.parametrize("scale", ABSURD)
def test_absurd_scales_are_refused(scale):
    """Of any tensor and of any channel's weights, by name and without a warning of numpy's."""
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
    good, image = random_model(np.random.default_rng(0), graph), np.zeros((17, 14, 3), np.int8)
    for name in graph.tensors:
        scales = {**good.scales, name: Scale(2.0**power, -128)}
        scales |= {"rim": scales["smooth"], "twice": scales["less"], "most": scales["wide"], "classes": PROBABILITY}
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
        (Op("y", "avgpool", ("a",), 3, (2, 2), (2, 2), (2, 0, 0, 0)), "y: a window lies in the padding"),
        (Op("y", "maxpool", ("a",), 3, (2, 2), (1, 1), (0, 0, 0, 2)), "y: a window lies in the padding"),
        (Op("y", "upsample", ("a",), 3, s=(256, 1)), r"y: kernel \(1, 1\), stride \(256, 1\) above 255"),
        (Op("y", "pad", ("a",), 3, pad=(0, 32760, 0, 0)), "y: 8x32768x3 is too large"),
        (Op("y", "conv", ("a",), 40000), "y: 8x8x40000 is too large"),
        (Op("y", "gap", ("a",), 3), "can overflow 32 bits"),
    ],
)  # fmt: skip
def test_what_the_structs_cannot_hold(op, message):
    graph = Graph("g", (Tensor("a", 8, 8, 3),), (op,), ("y",)).verify()
    shape = (op.cout, 3, *op.k)
    weights = {"y": QuantWeights(np.zeros(shape, np.int8), np.ones(op.cout, np.float32), np.zeros(op.cout, np.int32))}
    y = Scale(1e-9, 0) if op.kind == "gap" else Scale(0.1, 0)
    with pytest.raises(GraphError, match=message):
        integers(QuantModel(graph, {"a": Scale(0.1, 0), "y": y}, weights))


def test_a_scale_that_must_be_kept():
    for kind, message in (("pad", "keeps its input's scale"), ("softmax", "the scale 1/256")):
        graph = Graph("g", (Tensor("a", 8, 8, 3),), (Op("y", kind, ("a",), 3),), ("y",)).verify()
        with pytest.raises(GraphError, match=f"y: .*{message}"):
            integers(QuantModel(graph, {"a": Scale(0.1, 0), "y": Scale(0.2, 0)}, {}))


def test_arena_and_inputs_of_the_generated_code(tmp_path):
    graph = Graph("g", (Tensor("a", 8, 8, 3), Tensor("b", 8, 8, 3)), (Op("y", "add", ("a", "b"), 3),), ("y",)).verify()
    model = QuantModel(graph, dict.fromkeys("aby", Scale(0.1, 0)), {})
    with pytest.raises(UnsupportedOp, match="g: 2 inputs"):
        write_sources(plan(graph), model, tmp_path)
    wide = [Op(f"u{i}", "upsample", ("image" if i < 2 else "u0",), 8000, s=(2, 2)) for i in range(2)]
    graph = Graph(
        "g", (Tensor("image", 150, 150, 8000),), (*wide, Op("y", "concat", ("u0", "u1"), 16000)), ("y",)
    ).verify()
    with pytest.raises(Infeasible, match="offsets of 32 bits"):
        write_sources(plan(graph), QuantModel(graph, dict.fromkeys(graph.tensors, Scale(0.1, 0)), {}), tmp_path)


def test_a_gate_ends_the_patch_stage():
    """Its factors come from the whole map, by whatever op; a product of two maps of one size may stay."""
    ops = (Op("c", "conv", ("image",), 3), Op("g", "conv", ("c",), 3, (8, 8), block=1),
           Op("m", "mul", ("c", "g"), 3, block=1), Op("s", "mul", ("c", "c"), 3, block=1))  # fmt: skip
    image = Tensor("image", 8, 8, 3)
    with pytest.raises(ScheduleError, match="m needs the whole map"):
        split(Graph("gated", (image,), ops[:3], ("m",)).verify(), 2)
    assert split(Graph("squared", (image,), (ops[0], ops[3]), ("s",)).verify(), 2)[1] == "s"


def test_padding_wider_than_the_kernel():
    """A tile of padding alone holds one position that it never reads."""
    rng = np.random.default_rng(5)
    ops = (Op("c", "conv", ("image",), 4, (1, 1), (1, 1), (3, 2, 4, 6)), Op("p", "pad", ("c",), 4, pad=(5, 0, 0, 9)))
    graph = Graph("g", (Tensor("image", 6, 5, 3),), ops, ("p",)).verify()
    model, image = random_model(rng, graph), to_int8(image_of(rng, graph))
    want = reference.run(plan(graph), model, image)["p"]
    for p in ((5, 5), (1, 7), (9, 2)):
        assert np.array_equal(reference.run(plan(graph, Schedule(p, 1)), model, image)["p"], want)
