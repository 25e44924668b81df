"""The way of the integers: rounding rule, ONNX both ways, patched == whole, reference == C == board, == onnxruntime."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from conftest import ROOT
from nets import random_graph, random_model
from onnx import TensorProto, helper, numpy_helper
from programs import run_host

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import GraphError, ScheduleError, UnsupportedOp
from nni_mcunet.core.ir.arch import ArchSpec, Schedule
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.ir.graph import Graph, Op, Tensor
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.plan import plan, split
from nni_mcunet.engine.codegen.sources import detector_params, write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx, to_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.integers import integers
from nni_mcunet.engine.model import Model, QuantModel, Scale, quantize
from nni_mcunet.engine.ops import OPERATORS
from nni_mcunet.engine.ops.requantise import multiplier, requant
from nni_mcunet.engine.quant.ort_session import ranges, session, to_input
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.host import build_host, run_sanitized
from nni_mcunet.search.data import digit_scenes as digits

DETECTOR = {
    "type": "yolov3",
    "classes": list(digits.CLASSES),
    "strides": [4, 8, 16],
    "anchors": [[[10, 12], [16, 18], [20, 26]], [[30, 30], [40, 44], [50, 50]], [[60, 70], [70, 70], [80, 90]]],
    "score_thr": 0.05,
    "conf_thr": 0.005,
    "nms_iou": 0.45,
    "max_per_img": 50,
}


def random_schedule(rng, graph):
    """Any cut the graph allows with any grid up to 5 x 5, rows and columns chosen separately."""
    cuts = []
    for n in range(1, graph.ops[-1].block + 2):
        try:
            cuts.append((n, graph.tensors[split(graph, n)[1]]))
        except ScheduleError:
            continue
    n, out = cuts[rng.integers(len(cuts))]
    return Schedule((int(rng.integers(1, min(5, out.h) + 1)), int(rng.integers(1, min(5, out.w) + 1))), n)


def image_of(rng, graph):
    t = graph.inputs[0]
    return rng.integers(0, 256, (t.h, t.w, t.c)).astype(np.uint8)


def to_int8(image):
    return (image.astype(np.int16) - 128).astype(np.int8)


@pytest.fixture(scope="module")
def detector():
    """A YOLOv3 of three scales on the digits' backbone at 96x96, random weights: net, images, float and int8 model."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    spec = ArchSpec.load(ROOT / "configs/arch/mcu_w50_r128.json")
    graph = build_graph(replace(spec, resolution=(96, 96)), YoloHead(10, (1, 2, 4)))
    images = [digits.scene(rng, (96, 96), "train")[0] for _ in range(16)]
    net, batch = Net(graph).train(), torch.from_numpy(to_input(np.stack(images)))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of this batch
    with torch.no_grad():
        net(batch)
    model = Model(graph.folded(), net.eval().folded_weights(), {"detector": DETECTOR})
    return net, images, model, quantize(model, ranges(model, images))


@pytest.mark.parametrize("real", [1e-7, 3e-4, 0.0123, 0.25, 0.4999999, 0.5, 0.75, 1.0, 3.7, 100.0])
def test_rounding_rule_against_big_integers(real):
    mult, left, right = multiplier(real)
    assert right >= 1 and abs(mult * 2.0 ** (left - 32 - right) / real - 1) < 1e-8
    limit = min(2**31 - 1 >> left, 2**30)
    values = [0, 1, -1, 7, -7, limit, -limit, limit // 3, -limit // 3]
    for acc in values:
        exact = ((acc << left) * mult + (1 << 31 + right)) >> 32 + right  # Python's integers have no width
        assert int(requant(acc, mult, left, right)) == exact


def test_scale_represents_zero_and_the_range():
    for low, high in ((0, 6), (-1, 3), (2, 5), (-4, -1), (0, 0)):
        scale = Scale.of_range(low, high)
        assert scale.dequantize(scale.quantize(np.zeros(1)))[0] == 0
        ends = np.array([min(low, 0), max(high, 0)], np.float32)
        assert np.abs(scale.dequantize(scale.quantize(ends)) - ends).max() <= scale.scale
    with pytest.raises(GraphError, match="no finite values"):
        Scale.of_range(0, float("nan"))


def test_patched_equals_whole():
    """Bit for bit: kernels 1..7, strides 1..3, odd and non-square sizes, residuals, zero points, p_h and p_w 1..5."""
    kinds = set()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, blocks=int(rng.integers(2, 7)))
        model, image = random_model(rng, graph), to_int8(image_of(rng, graph))
        whole = reference.run(plan(graph), model, image)
        schedule = random_schedule(rng, graph)
        patched = reference.run(plan(graph, schedule), model, image)
        for name in graph.outputs:
            assert np.array_equal(patched[name], whole[name]), (seed, schedule)
        if schedule.n:
            kinds |= {(op.kind, op.residual is not None, op.groups > 1) for op in graph.ops if op.block < schedule.n}
    assert len(kinds) == 5  # every kind of op was inside a patched segment: conv, with residual, dw, maxpool, upsample


def test_host_c_equals_reference(tmp_path):
    for seed in range(12):
        rng = np.random.default_rng(1000 + seed)
        graph = random_graph(rng, blocks=5)
        model, image = random_model(rng, graph), image_of(rng, graph)
        model = QuantModel(graph, {**model.scales, "image": Scale(1 / 255, -128)}, model.weights)
        p = plan(graph, random_schedule(rng, graph))
        report = run_host(write_sources(p, model, tmp_path / str(seed)), image)
        expected = reference.run(p, model, to_int8(image))
        for name, got in zip(graph.outputs, report["outputs"], strict=True):
            assert np.array_equal(got, expected[name].ravel()), (seed, p.schedule)


@pytest.mark.parametrize("schedule", [Schedule(), Schedule((3, 2), 3)])
def test_boards_equal_host_and_reference(detector, tmp_path, schedule):
    """One detector, C on the host, on the emulated M7 and M4 and in numpy: maps, boxes and arena, bit for bit."""
    _, images, _, model = detector
    p = plan(model.graph, schedule)
    folder = write_sources(p, model, tmp_path / "model")
    expected = reference.run(p, model, to_int8(images[0]))
    maps = [expected[name] for name in model.graph.outputs]
    boxes = detector_params(model).decode(maps)
    assert len(boxes) > 0
    host = build_host(folder)
    results = [{"outputs": host.run(images[0]), "boxes": host.detect()}, run_sanitized(folder, images[0])]
    for name in ("stm32h743", "stm32f412"):
        board = get_board(name)
        elf = build_firmware(folder, board, images[0])
        assert elf_report(elf)["arena_bytes"] == p.arena
        results.append(run_emulated(elf, board))
        assert 0 < results[-1]["stack_bytes"] < 4096 and results[-1]["instructions"] > p.macs
    for result in results:
        for got, want in zip(result["outputs"], maps, strict=True):
            assert np.array_equal(got, want.ravel())
        assert np.array_equal(result["boxes"], boxes)


@pytest.mark.parametrize("name", ["stm32h743", "stm32f412"])
def test_a_picture_of_more_than_a_megabyte_is_emulated(name, tmp_path):
    """The memory that stands for the camera is no limit of the board's."""
    image, rng = Tensor("image", 600, 640, 3), np.random.default_rng(0)
    graph = Graph("large", (image,), (Op("c", "conv", ("image",), 2, (3, 3), (8, 8)),), ("c",)).verify()
    model, picture = random_model(rng, graph), rng.integers(0, 256, (600, 640, 3)).astype(np.uint8)
    p, board = plan(graph, Schedule((5, 5), 1)), get_board(name)
    elf = build_firmware(write_sources(p, model, tmp_path / "model"), board, picture)
    (found,) = run_emulated(elf, board)["outputs"]
    assert np.array_equal(found, reference.run(p, model, to_int8(picture))["c"].ravel())


def test_each_layer_agrees_with_onnxruntime(detector):
    """Given the same int8 inputs a layer differs by one step at most, and hardly ever: float32 sums round elsewhere."""
    _, images, _, model = detector
    run, table, segment = session(model, every_tensor=True), integers(model), plan(model.graph).segments[0]
    names = [v.name for v in run.get_outputs()]
    differing = total = 0
    for image in images[:2]:
        values = zip(names, run.run(None, {"image": to_input(image)}), strict=True)
        tensors = {n: model.scales[n].quantize(v[0].transpose(1, 2, 0)) for n, v in values}
        tensors["image"] = to_int8(image)
        for op in model.graph.ops:
            sides = segment.axis(op, 0, 0), segment.axis(op, 1, 0)
            ours = OPERATORS[op.kind].run(op, table[op.name], [tensors[n] for n in op.reads], *sides)
            steps = np.abs(ours.astype(int) - tensors[op.name])
            assert steps.max() <= 1, op.name
            differing, total = differing + int((steps > 0).sum()), total + steps.size
    assert differing <= total * 1e-4, f"{differing} of {total} differ"


def test_outputs_agree_with_onnxruntime(detector):
    """Through all 30 layers, where single steps multiply: beyond one step of the output on at most 0.5 % of values."""
    _, images, _, model = detector
    run = session(model)
    beyond = total = 0
    for image in images[:4]:
        ours = reference.run(plan(model.graph), model, to_int8(image))
        theirs = run.run(None, {"image": to_input(image)})
        for name, value in zip(model.graph.outputs, theirs, strict=True):
            steps = model.scales[name].quantize(value[0].transpose(1, 2, 0)).astype(int) - ours[name]
            beyond, total = beyond + int((np.abs(steps) > 1).sum()), total + steps.size
    assert beyond <= total * 5e-3, f"{beyond} of {total} differ by more than one step"


def test_int8_is_close_to_float(detector):
    """In the first blocks: through more layers of random weights any error grows, float32's own too."""
    _, images, model, quantized = detector
    run = session(model, every_tensor=True)
    floats = dict(zip([v.name for v in run.get_outputs()], run.run(None, {"image": to_input(images[0])}), strict=True))
    ours = reference.run(plan(model.graph), quantized, to_int8(images[0]), keep=True)
    for op in (op for op in model.graph.ops if op.block <= 2):
        value = floats[op.name][0].transpose(1, 2, 0)
        error = value - quantized.scales[op.name].dequantize(ours[op.name])
        assert 10 * np.log10((value**2).sum() / (error**2).sum()) > 20, op.name  # dB


def test_onnx_round_trip(detector, tmp_path):
    net, images, model, quantized = detector
    loaded = load_onnx(save_onnx(model, tmp_path / "float.onnx"))
    assert loaded.graph == model.graph and loaded.meta == model.meta
    for name, pair in model.weights.items():
        assert all(np.array_equal(a, b) for a, b in zip(pair, loaded.weights[name], strict=True))
    loaded = load_onnx(save_onnx(quantized, tmp_path / "int8.onnx"))
    assert loaded.graph == quantized.graph and loaded.scales == quantized.scales and loaded.meta == quantized.meta
    for name, w in quantized.weights.items():
        assert np.array_equal(w.weight, loaded.weights[name].weight)
        assert np.array_equal(w.bias, loaded.weights[name].bias)
        assert np.array_equal(w.scale, loaded.weights[name].scale)
    theirs = session(model).run(None, {"image": to_input(images[0])})
    for ours, other in zip(net(torch.from_numpy(to_input(images[0]))), theirs, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), other, atol=2e-3)


def small_onnx(nodes, constants=(), shape=(1, 3, 8, 8)):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])
    graph = helper.make_graph(nodes, "g", [value], [out], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


WEIGHT = helper.make_tensor("w", TensorProto.FLOAT, (4, 3, 1, 1), np.zeros(12))


def quantized_onnx(tmp_path, model, change):
    """The QDQ file of a model after `change(proto)`."""
    proto = to_onnx(model)
    change(proto)
    onnx.save(proto, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def test_quantised_files_of_others(detector, tmp_path):
    """A float bias is rounded, one in other steps or with a zero point refused; a picture in another scale is the
    network's business."""
    quantized = detector[3]

    def constant(proto, name):
        return next(t for t in proto.graph.initializer if t.name == name)

    def float_bias(proto):
        node = next(n for n in proto.graph.node if n.op_type == "Conv" and n.name == "stem")
        steps = np.float32(quantized.scales["image"].scale) * quantized.weights["stem"].scale
        bias = quantized.weights["stem"].bias * steps
        proto.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), "float_bias"))
        node.input[2] = "float_bias"

    loaded = load_onnx(quantized_onnx(tmp_path, quantized, float_bias))
    assert np.abs(loaded.weights["stem"].bias - quantized.weights["stem"].bias).max() <= 1

    def other_steps(proto):
        scale = constant(proto, "stem.bias.scale")
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 2, scale.name))

    with pytest.raises(UnsupportedOp, match="'stem': the bias has another scale"):
        load_onnx(quantized_onnx(tmp_path, quantized, other_steps))

    def shifted(proto):
        scale = constant(proto, "stem.bias.zero_point")
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) + 5, scale.name))

    with pytest.raises(UnsupportedOp, match="'stem': the bias has a zero point"):
        load_onnx(quantized_onnx(tmp_path, quantized, shifted))

    def other_pixels(proto):
        constant(proto, "image.scale").CopyFrom(numpy_helper.from_array(np.float32(0.0186), "image.scale"))
        scale = constant(proto, "stem.bias.scale")
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(0.0186 * 255), scale.name))

    model = load_onnx(quantized_onnx(tmp_path, quantized, other_pixels))
    header = (write_sources(plan(model.graph), model, tmp_path / "c") / "mcu_model.h").read_text()
    assert "(q = byte - 128)" in header and "real = 0.0186000001 * (q - -128)" in header


def test_names_that_collide_or_are_no_c(tmp_path):
    """Two nodes of one name, a C keyword and a number: every layer is kept under a name of its own."""
    nodes = [helper.make_node("Conv", [x, w], [y], name=name)
             for x, w, y, name in (("x", "w", "p", "for"), ("p", "v", "q", "c/1"), ("q", "v", "r", "c.1"),
                                   ("r", "v", "y", "7"))]  # fmt: skip
    square = helper.make_tensor("v", TensorProto.FLOAT, (4, 4, 1, 1), np.zeros(16))
    onnx.save(small_onnx(nodes, [WEIGHT, square]), tmp_path / "m.onnx")
    assert [op.name for op in load_onnx(tmp_path / "m.onnx").graph.ops] == ["for", "c_1", "c_1_", "op_7"]


def test_broken_onnx_files(detector, tmp_path):
    data = to_onnx(detector[2]).SerializeToString()
    for name, content in (("empty", b""), ("truncated", data[: len(data) // 2]), ("text", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GraphError, match=f"{name}: not a valid ONNX file"):
            load_onnx(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_onnx(tmp_path / "absent.onnx")
    onnx.save(small_onnx([helper.make_node("Conv", ["x", "w"], ["y"])], [WEIGHT], ("n", 3, "h", 8)), tmp_path / "dyn")
    with pytest.raises(GraphError, match="export it as fixed NCHW"):
        load_onnx(tmp_path / "dyn")


def test_detector_meta_travels_with_the_file(detector, tmp_path):
    save_onnx(detector[3], tmp_path / "m.onnx")
    props = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert json.loads(props["mcunet"])["detector"] == DETECTOR
