"""Networks of every kind of op: patched == whole, reference == C == boards, and what the integers mean in floats."""

from itertools import count

import numpy as np
import pytest
import torch
from nets import any_graph, every_kind, random_graph, random_model
from programs import run_host
from test_engine import image_of, random_schedule, to_int8

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible, ScheduleError, UnsupportedOp, UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block, Schedule
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.graph import KINDS, Graph, Op, Tensor
from nni_mcunet.core.ir.kinds import FACTS
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.kernel_facts import in_place
from nni_mcunet.core.plan.plan import plan, split
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel, Scale
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.host import build_host, run_sanitized


def case(seed, channels=None):
    """Graph, integers, picture and schedule, all from one seed."""
    rng = np.random.default_rng(seed)
    graph = any_graph(rng, int(rng.integers(2, 7)), channels=channels)
    model = random_model(rng, graph, float(rng.choice([1 / 255, 1 / 40])))
    return graph, model, image_of(rng, graph), random_schedule(rng, graph)


def overwritten(p):
    """(kind, whether a larger tile lay there) of every op that runs in place inside the patched segment."""
    segment = p.segments[0]
    for index, target in in_place(p.graph).items() if segment.patched else ():
        op = p.graph.ops[index]
        if (
            op in segment.ops
            and p.home[op.name] == p.home.get(target)
            and target not in {t.name for t in p.graph.inputs}
        ):
            yield op.kind, any(lengths[target] != lengths[op.name] for lengths in segment.lengths)


def test_patched_equals_whole():
    """Bit for bit, every kind the patched segment may hold, whatever tiles meet there."""
    kinds, in_segment = set(), {kind for kind in KINDS if not FACTS[kind].whole_map}
    for seed in range(200):
        graph, model, image, schedule = case(seed)
        whole, patched = (reference.run(p, model, to_int8(image)) for p in (plan(graph), plan(graph, schedule)))
        for name in graph.outputs:
            assert np.array_equal(patched[name], whole[name]), (seed, schedule)
        kinds |= {op.kind for op in graph.ops if op.block < schedule.n}
    assert kinds == in_segment


def test_host_c_equals_reference_in_place(tmp_path):
    """Patched plans in which sums and products overwrite the larger tile of an input, and what else runs in place."""
    wanted = [("add", True), ("mul", True), ("add", False), ("mul", False), ("act", False), ("softmax", False)]
    for what in wanted:
        cases = (case(seed, 3) for seed in count(5000))
        graph, model, image, schedule = next(c for c in cases if what in overwritten(plan(c[0], c[3])))
        p = plan(graph, schedule)
        report = run_host(write_sources(p, model, tmp_path / f"{what[0]}{what[1]}"), image)
        expected = reference.run(p, model, to_int8(image))
        for name, got in zip(graph.outputs, report["outputs"], strict=True):
            assert np.array_equal(got, expected[name].ravel()), what


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
    """Gates over maps, in place, behind a patched segment of the first blocks: MnasNet-A1's kinds of block."""
    blocks = (Block(3, 1, 16, 8),), (Block(3, 2, 24, 12), Block(5, 2, 36, 16, se=4), Block(5, 1, 48, 16, se=4))
    graph = build_graph(ArchSpec("se", (40, 33), 8, blocks)).folded()
    gates = [i for i, op in enumerate(graph.ops) if op.kind == "mul"]
    assert len(gates) == 2 and all(in_place(graph)[i] == graph.ops[i].inputs[0] for i in gates)
    rng = np.random.default_rng(0)
    model, image, p = random_model(rng, graph), image_of(rng, graph), plan(graph, Schedule(2, 3))
    report = run_host(write_sources(p, model, tmp_path), image)
    expected = reference.run(p, model, to_int8(image))[graph.outputs[0]]
    assert len(np.unique(expected)) > 10
    assert np.array_equal(report["outputs"][0], expected.ravel())


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_a_picture_of_any_channels(channels, tmp_path):
    """The programs of the boards and of this machine hand it over as they do RGB."""
    rng = np.random.default_rng(10 + channels)
    graph = random_graph(rng, 3, image=channels)
    model, picture = random_model(rng, graph), image_of(rng, graph)
    p = plan(graph, random_schedule(rng, graph))
    host = build_host(write_sources(p, model, tmp_path))
    assert host.input_shape == picture.shape and picture.shape[2] == channels
    expected = reference.run(p, model, to_int8(picture))
    assert len(np.unique(expected[graph.outputs[0]])) > 20
    for name, found in zip(graph.outputs, host.run(picture), strict=True):
        assert np.array_equal(found, expected[name].ravel())
    with pytest.raises(UserError, match=rf"the model reads \(\d+, \d+, {channels}\)"):
        host.run(picture[..., :1].repeat(3, 2))


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


def test_a_gate_ends_the_patch_segment():
    """Its factors come from the whole map, by whatever op; a product of two maps of one size may stay."""
    ops = (Op("c", "conv", ("image",), 3), Op("g", "conv", ("c",), 3, (8, 8), block=1),
           Op("m", "mul", ("c", "g"), 3, block=1), Op("s", "mul", ("c", "c"), 3, block=1))  # fmt: skip
    image = Tensor("image", 8, 8, 3)
    with pytest.raises(ScheduleError, match="m needs the whole map"):
        split(Graph("gated", (image,), ops[:3], ("m",)).verify(), 2)
    assert split(Graph("squared", (image,), (ops[0], ops[3]), ("s",)).verify(), 2)[1] == "s"


def test_padding_wider_than_the_kernel():
    """A tile of nothing but padding holds one position that it never reads."""
    rng = np.random.default_rng(5)
    ops = (Op("c", "conv", ("image",), 4, (1, 1), (1, 1), (3, 2, 4, 6)), Op("p", "pad", ("c",), 4, pad=(5, 0, 0, 9)))
    graph = Graph("g", (Tensor("image", 6, 5, 3),), ops, ("p",)).verify()
    model, image = random_model(rng, graph), to_int8(image_of(rng, graph))
    want = reference.run(plan(graph), model, image)["p"]
    for p in ((5, 5), (1, 7), (9, 2)):
        assert np.array_equal(reference.run(plan(graph, Schedule(p, 1)), model, image)["p"], want)
