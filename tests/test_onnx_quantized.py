"""Files that arrive quantised: their integers are kept, and the engine gives what onnxruntime gives."""

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from programs import run_host
from test_onnx_import import NETS, constant, counted_our_way, export, small
from theirs import run

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.plan.plan import plan, schedules
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend.onnx import load_onnx, save_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel
from nni_mcunet.engine.run.host import build_host

KINDS = {
    "QDQ int8, per channel": (QuantFormat.QDQ, QuantType.QInt8, True),
    "QDQ uint8": (QuantFormat.QDQ, QuantType.QUInt8, False),
    "QLinear int8": (QuantFormat.QOperator, QuantType.QInt8, False),
    "QLinear uint8, per channel": (QuantFormat.QOperator, QuantType.QUInt8, True),
}


class Pictures(CalibrationDataReader):
    def __init__(self, name):
        rng = np.random.default_rng(0)
        self.rest = iter([{name: rng.random((1, 3, 20, 28), np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.rest, None)


def quantized(net, kind, folder):
    """A net of NETS by onnxruntime's own quantiser."""
    return quantized_file(export(NETS[net](), folder / "float.onnx"), *KINDS[kind])


def quantized_file(source, form, activation, per_channel, weight=QuantType.QInt8):
    path = source.with_name("quantised.onnx")
    logging.disable(logging.WARNING)
    quantize_static(str(source), str(path), Pictures(onnx.load(source).graph.input[0].name), quant_format=form,
                    activation_type=activation, weight_type=weight, per_channel=per_channel)  # fmt: skip
    logging.disable(logging.NOTSET)
    return path


def ours(model, real: np.ndarray) -> list[np.ndarray]:
    """The reference's outputs, dequantised, for an input (1, 3, h, w) of real numbers."""
    image = model.scales[model.graph.inputs[0].name].quantize(real[0].transpose(1, 2, 0))
    found = reference.run(plan(model.graph), model, image)
    return [model.scales[name].dequantize(found[name]).ravel() for name in model.graph.outputs]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("net", ["relu6", "hswish", "branches", "rows", "grouped", "spatial", "mean", "norm first"])
def test_what_onnxruntime_quantises(net, kind, tmp_path):
    """Within two steps of the output nearly everywhere: two roundings (ours and float32's) through all layers."""
    path = quantized(net, kind, tmp_path)
    model = load_onnx(path)
    image = np.random.default_rng(5).random((1, 3, 20, 28), np.float32)
    for name, mine, theirs in zip(model.graph.outputs, ours(model, image), run(onnx.load(path), image), strict=True):
        steps = np.abs(mine - counted_our_way(theirs)) / model.scales[name].scale
        assert (steps <= 2.1).mean() > 0.99 and steps.mean() < 0.5, (name, steps.max(), steps.mean())


def test_the_integers_are_the_files(tmp_path):
    """uint8 activations are int8 of a zero point less 128, weights and biases are the same bytes."""
    path = quantized("grouped", "QLinear uint8, per channel", tmp_path)
    proto = onnx.load(path)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    model = load_onnx(path)
    for op, node in zip(model.graph.ops, (n for n in proto.graph.node if n.op_type == "QLinearConv"), strict=True):
        weights, scale = model.weights[op.name], model.scales[op.name]
        assert np.array_equal(weights.weight, values[node.input[3]])
        assert np.array_equal(weights.bias, values[node.input[8]])
        assert scale.scale == values[node.input[6]] and scale.zero_point == int(values[node.input[7]]) - 128
    again = load_onnx(save_onnx(model, tmp_path / "again.onnx"))
    assert again.scales == model.scales and again.graph == model.graph


def test_half_quantised_files_are_refused(tmp_path):
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["t"], name="s"),
        helper.make_node("QuantizeLinear", ["t", "k", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "k", "z"], ["y"]),
    ]
    onnx.save(small(nodes, [constant("k", np.float32(0.1)), constant("z", np.int8(0))]), tmp_path / "m.onnx")
    with pytest.raises(GraphError, match="'x' has no scale while others have one; quantize it whole"):
        load_onnx(tmp_path / "m.onnx")


def qlinear_conv(**values):
    """One QLinearConv 1x1 on an int8 input; what is given replaces its constants."""
    given = {
        "s": np.float32(0.02), "z": np.int8(3), "w": np.full((4, 3, 1, 1), 5, np.int8),
        "ws": np.full(4, 0.01, np.float32),
        "wz": np.zeros(4, np.int8), "t": np.float32(0.05), "u": np.int8(-7), "b": np.arange(4, dtype=np.int32),
    } | values  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "t", "u", "b"], ["y"], name="c")
    kind = TensorProto.UINT8 if given["z"].dtype == np.uint8 else TensorProto.INT8
    return small([node], [constant(n, v) for n, v in given.items()], kind=kind)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"wz": np.full(3, 1, np.int8)}, "3 zero points for weights of .4, 3, 1, 1."),
        ({"s": np.float32(0)}, "QLinearConv at 'c': an activation of the scale 0"),
        ({"s": np.float32(np.nan)}, "'s' holds values that are not finite"),
        ({"t": np.float32(-1)}, "QLinearConv at 'c': an activation of the scale -1"),
        ({"ws": np.full(4, -1e-3, np.float32)}, "scales of 'w' that are negative"),
        ({"b": np.zeros(3, np.int32)}, "not one bias for each of 4 channels|not a valid ONNX"),
    ],
)  # fmt: skip
def test_malformed_integers(values, message, tmp_path):
    onnx.save(qlinear_conv(**values), tmp_path / "m.onnx")
    with pytest.raises((GraphError, UnsupportedOp), match=message):
        load_onnx(tmp_path / "m.onnx")


UNSIGNED = {"z": np.uint8(131), "u": np.uint8(121)}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"w": np.arange(90, 102, dtype=np.uint8).reshape(4, 3, 1, 1), "wz": np.uint8(120), **UNSIGNED},
        {"w": np.arange(122, 134, dtype=np.uint8).reshape(4, 3, 1, 1), "wz": np.full(4, 128, np.uint8), **UNSIGNED},
        {
            "w": np.arange(20, 260, 20, np.uint8).reshape(4, 3, 1, 1),
            "wz": np.uint8(96),
            **UNSIGNED,
            "t": np.float32(0.4),
        },
        {
            "w": 255 - np.eye(4, 3, dtype=np.uint8).reshape(4, 3, 1, 1),
            "wz": np.uint8(0),
            **UNSIGNED,
            "t": np.float32(2),
        },
        {"w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3, 1, 1), "wz": np.full(4, -3, np.int8)},
    ],
    ids=["symmetric", "uint8 of 120", "uint8 of 128", "uint8 of 96", "uint8 of 0", "int8 of -3"],
)
def test_one_convolution_is_exact(values, tmp_path):
    """Weights with a zero point, too, also where int8 does not hold them without it."""
    onnx.save(qlinear_conv(**values), tmp_path / "m.onnx")
    model = load_onnx(tmp_path / "m.onnx")
    image = np.random.default_rng(0).integers(-128, 128, (1, 3, 8, 8)).astype(np.int8)
    found = reference.run(plan(model.graph), model, image[0].transpose(1, 2, 0))[model.graph.outputs[0]]
    given = image.view(np.uint8) ^ 128 if "z" in values else image
    (theirs,) = run(onnx.load(tmp_path / "m.onnx"), given)
    same = theirs.view(np.int8) ^ -128 if "z" in values else theirs
    assert np.array_equal(found, same[0].transpose(1, 2, 0))


@pytest.mark.parametrize("net", ["relu6", "grouped", "spatial"])
def test_weights_of_uint8_with_zero_points(net, tmp_path):
    """A copy of its channel has as weight what exceeds int8 without the zero point."""
    module = NETS[net]()
    for weight in module.parameters():
        weight.data += 0.3 * weight.data.abs()  # more above zero than below
    source = export(module, tmp_path / "float.onnx")
    path = quantized_file(source, QuantFormat.QOperator, QuantType.QUInt8, False, QuantType.QUInt8)
    model, image = load_onnx(path), np.random.default_rng(5).random((1, 3, 20, 28), np.float32)
    assert any(op.kind == "take" for op in model.graph.ops)
    for name, mine, theirs in zip(model.graph.outputs, ours(model, image), run(onnx.load(path), image), strict=True):
        steps = np.abs(mine - counted_our_way(theirs)) / model.scales[name].scale
        assert (steps <= 2.1).mean() > 0.99 and steps.mean() < 0.5, (name, steps.max(), steps.mean())


@pytest.fixture(scope="module")
def vww(shared):
    """mcunet-vww1 as LiteRT's integers in QLinear operators, 7 pictures, and LiteRT's outputs."""
    path = shared / "models/vww1/vww1_int8_qlinear.onnx"
    data = np.load(shared / "models/vww1/io.npz")
    return path, load_onnx(path), data["input_nhwc_int8"], data["litert_output_int8"]


def test_vww1_gives_what_onnxruntime_and_litert_give(vww, tmp_path):
    path, model, images, litert = vww
    assert isinstance(model, QuantModel) and model.graph.macs == 11_578_816
    folder, proto = write_sources(plan(model.graph), model, tmp_path), onnx.load(path)
    host, pictures = build_host(folder), [(image.astype(np.int16) + 128).astype(np.uint8) for image in images]
    assert np.array_equal(run_host(folder, pictures[0])["outputs"][0], host.run(pictures[0])[0])
    for image, picture, theirs in zip(images, pictures, litert, strict=True):
        found = reference.run(plan(model.graph), model, image)[model.graph.outputs[0]].ravel()
        (raw,) = host.run(picture)
        assert np.array_equal(raw, found)
        (other,) = run(proto, image.transpose(2, 0, 1)[None])
        assert np.abs(found.astype(int) - other.ravel()).max() <= 1
        assert np.argmax(found) == np.argmax(theirs)


def every_schedule(vww, step):
    _, model, images, _ = vww
    (whole,) = reference.run(plan(model.graph), model, images[0]).values()
    tried = schedules(model.graph, p_choices=(2, 3, 4, (1, 3), (4, 2)))[1::step]
    for schedule in tried:
        (patched,) = reference.run(plan(model.graph, schedule), model, images[0]).values()
        assert np.array_equal(patched, whole), schedule
    return tried


def test_vww1_patched_is_vww1(vww):
    assert len(every_schedule(vww, 17)) > 5


@pytest.mark.slow
def test_vww1_patched_is_vww1_for_every_p_and_n(vww, tmp_path):
    """The reference for every grid and cut; the C for the deepest cut of each grid."""
    tried = every_schedule(vww, 1)
    _, model, images, _ = vww
    (whole,) = reference.run(plan(model.graph), model, images[1]).values()
    picture = (images[1].astype(np.int16) + 128).astype(np.uint8)
    for p in {s.p for s in tried}:
        for schedule in [s for s in tried if s.p == p][::4]:
            report = run_host(write_sources(plan(model.graph, schedule), model, tmp_path / str(schedule.n)), picture)
            assert np.array_equal(report["outputs"][0], whole.ravel()), schedule
