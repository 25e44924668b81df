"""From .tflite to C: every file's outputs equal LiteRT's reference kernels in every value, in numpy, on the host and on
a board, whole and in patches; what is not known is refused by name, and damage is no crash."""

import numpy as np
import pytest
from programs import run_series
from tflite_files import Layers, Reference
from tflite_nets import NETS, classifier, enlarged, floats, opened, sequence
from theirs import run

from nni_mcunet.core.boards import CORES
from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan.kernel_facts import constant_bytes
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.frontend.onnx import to_onnx
from nni_mcunet.engine.frontend.tflite import is_tflite, load_tflite
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.lower.dead_channels import without_dead_channels
from nni_mcunet.engine.model import Model, QuantModel
from nni_mcunet.engine.run.host import build_host


@pytest.fixture
def made(tmp_path):
    """(path of a file, LiteRT's kernels for it) of one of NETS."""

    def make(name: str, seed: int):
        data = NETS[name](np.random.default_rng(seed))
        path = tmp_path / f"{name}{seed}.tflite"
        path.write_bytes(data)
        return path, Reference(data)

    return make


def pictures(model, count: int):
    image, rng = model.graph.inputs[0], np.random.default_rng(9)
    return rng.integers(0, 256, (count, image.h, image.w, image.c)).astype(np.uint8)


def expected(run: Reference, picture: np.ndarray) -> list[np.ndarray]:
    return [value.ravel() for value in run((picture.astype(int) - 128).astype(np.int8))]


def assert_numpy_equal(run: Reference, model: QuantModel, schedule: Schedule, count: int) -> None:
    for picture in pictures(model, count):
        found = reference.run(plan(model.graph, schedule), model, (picture.astype(int) - 128).astype(np.int8))
        for name, want in zip(model.graph.outputs, expected(run, picture), strict=True):
            assert np.array_equal(found[name].ravel(), want), name


def assert_c_equal(run: Reference, model: QuantModel, folder, schedule: Schedule, count: int) -> None:
    host = build_host(write_sources(plan(model.graph, schedule), model, folder))
    for picture in pictures(model, count):
        for got, want in zip(host.run(picture), expected(run, picture), strict=True):
            assert np.array_equal(got, want), np.flatnonzero(got != want)[:9]


def assert_board_equal(
    run: Reference, model: QuantModel, folder, schedule: Schedule, count: int, core: str = "cortex-m4"
) -> None:
    given = pictures(model, count)
    write_sources(plan(model.graph, schedule), model, folder, weights_lie=CORES[core].weights)
    for picture, outputs in zip(given, run_series(core, folder, given), strict=True):
        for got, want in zip(outputs, expected(run, picture), strict=True):
            assert np.array_equal(got, want), np.flatnonzero(got != want)[:9]


@pytest.mark.parametrize("name", NETS)
def test_numpy_equals_litert(made, name):
    for seed in range(8):
        path, run = made(name, seed)
        model = load_tflite(path)
        assert_numpy_equal(run, model, Schedule((2, 3), 3) if seed % 2 else Schedule(), 2)
        assert_numpy_equal(run, without_dead_channels(model), Schedule(), 1)


@pytest.mark.parametrize("name", NETS)
def test_c_equals_litert(made, tmp_path, name):
    path, run = made(name, 1)
    assert_c_equal(run, load_tflite(path), tmp_path / "patched", Schedule((2, 3), 3), 20)


@pytest.mark.parametrize("net, n", [(sequence, 2), (opened, 1), (enlarged, 2)])
def test_a_sequence_equals_litert(tmp_path, net, n):
    """A map of one row, in patches along it."""
    path = tmp_path / "sequence.tflite"
    path.write_bytes(net(np.random.default_rng(0)))
    run, model = Reference(path.read_bytes()), load_tflite(path)
    for schedule in (Schedule(), Schedule((1, 3), n)):
        assert_numpy_equal(run, model, schedule, 5)
    assert_c_equal(run, model, tmp_path / "c", Schedule((1, 3), n), 5)


@pytest.mark.parametrize(
    "name, schedule",
    [
        ("classifier", Schedule((2, 2), 2)),
        ("detector", Schedule((1, 2), 2)),
        ("fine", Schedule()),
        ("by_channel", Schedule((2, 2), 2)),
        ("constants", Schedule((2, 1), 2)),
        ("functions", Schedule((1, 2), 2)),
        ("flat", Schedule()),
        ("indexed", Schedule((2, 2), 1)),
        ("latent", Schedule()),
        ("moves", Schedule((2, 2), 2)),
    ],
)
def test_a_board_equals_litert(made, tmp_path, name, schedule):
    """The assembly of the M4."""
    path, run = made(name, 5)
    assert_board_equal(run, load_tflite(path), tmp_path / "model", schedule, 4)


@pytest.mark.parametrize("name, schedule", [("classifier", Schedule((2, 2), 2)), ("by_channel", Schedule())])
def test_vectors_equal_litert(made, tmp_path, name, schedule):
    """The vectors of the M55 round twice as LiteRT does."""
    path, run = made(name, 5)
    assert_board_equal(run, load_tflite(path), tmp_path / "model", schedule, 4, "cortex-m55")


def test_dead_channels_take_their_tables_along(tmp_path):
    """A sum of one number a channel, of whose channels nobody reads the first four."""
    n = Layers(np.random.default_rng(0))
    image = n.map((1, 6, 5, 3), 1 / 255, -128)
    x = n.conv(image, 8, (3, 3))
    x = n.new("ADD", x, n.constant(np.arange(-40, 40, 10), "int8", x.scale * 2.0), fusedActivationFunction=0)
    x = n.same("SLICE", x, (1, 6, 5, 4), n.constant([0, 0, 0, 4]), n.constant([1, 6, 5, 4]))
    path = tmp_path / "net.tflite"
    path.write_bytes(n.write([image.index], [n.conv(x, 3).index]))
    model = load_tflite(path)
    smaller = without_dead_channels(model)
    (before, after) = (next(t for t in m.tables.values() if t.ndim == 2) for m in (model, smaller))
    assert before.shape == (8, 256) and after.shape == (4, 256)
    bytes_of = [sum(constant_bytes(m.graph, op) for op in m.graph.ops if op.kind == "act") for m in (model, smaller)]
    assert bytes_of == [8 * 256, 4 * 256]
    assert_c_equal(Reference(path.read_bytes()), smaller, tmp_path / "c", Schedule(), 2)


def one(operator: str, *shape, kind="int8", **options):
    """A file of one operator on an int8 map of this shape, (1, 4, 4, 8) unless given, that writes `kind`."""
    n = Layers(np.random.default_rng(0))
    if kind != "int8":
        x, y = n.map((1, 4, 4, 8)), n.tensor("y", (1, 4, 4, 8), kind, 0.1)
        n.op(operator, [x.index], [y])
        return n.write([x.index], [y])
    x = n.map(shape or (1, 4, 4, 8))
    y = n.new(operator, x, **options)
    return n.write([x.index], [y.index])


def padded(zero: int, ends) -> bytes:
    """A PAD whose output has a zero point of its own."""
    n = Layers(np.random.default_rng(0))
    x, y = n.map((1, 4, 4, 8), 0.1, 3), n.tensor("y", (1, 6, 4, 8), "int8", 0.1, zero)
    n.op("PAD", [x.index, n.constant(ends)], [y])
    return n.write([x.index], [y])


def padded_before_a_pool(value: int, end: int) -> bytes:
    """A PADV2 of rows with a value in front of a maximum pool of 2x2."""
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8), 0.1, 3)
    ends = n.constant([[0, 0], [0, end], [0, 0], [0, 0]])
    y = n.same("PADV2", x, (1, 4 + end, 4, 8), ends, n.constant([value], "int8", 0.1, 3))
    return n.write([x.index], [n.pool("MAX_POOL_2D", y, (2, 2), (1, 1), same=False).index])


def resized(height: int) -> bytes:
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8))
    y = n.same("RESIZE_NEAREST_NEIGHBOR", x, (1, height, 4, 8), n.constant([height, 4]))
    return n.write([x.index], [y.index])


def reduced(kind: str, axis: int) -> bytes:
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8))
    shape = [1 if i == axis else side for i, side in enumerate(x.shape)]
    return n.write([x.index], [n.same(kind, x, shape, n.constant([axis]), keepDims=True).index])


def one_row(number: int) -> bytes:
    n = Layers(np.random.default_rng(0))
    x, at = n.map((1, 4, 4, 8)), ([0, number], [1, number + 1], [1, 1])
    y = n.same("STRIDED_SLICE", x, (1, 4, 8), *map(n.constant, at), beginMask=1, endMask=1, shrinkAxisMask=2)
    return n.write([x.index], [y.index])


def written_twice(what: int) -> bytes:
    """Two operators, the second of which writes what the first one writes, or what it reads."""
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8))
    y = n.same("RELU", x, x.shape)
    n.op("RELU", [x.index], [(y, x)[what].index])
    return n.write([x.index], [y.index])


def of_type(kind: str, operator: str = "ADD") -> bytes:
    """An operator of a map and itself."""
    n = Layers(np.random.default_rng(0))
    x, y = (n.tensor(name, (1, 4, 4, 8), kind, 0.1, 0) for name in "xy")
    n.op(operator, [x, x], [y])
    return n.write([x], [y])


def in_float(kind: str, zero: int | None = None) -> bytes:
    """A float operator behind a DEQUANTIZE; with a zero point in front of a QUANTIZE."""
    n = Layers(np.random.default_rng(0))
    x = n.conv(n.map((1, 4, 4, 8)), 4)
    a, b = (n.tensor(name, x.shape, "float32") for name in "af")
    n.op("DEQUANTIZE", [x.index], [a])
    n.op(kind, [a], [b])
    y = n.tensor("y", x.shape, "int8", 0.1, zero or 0)
    n.op("QUANTIZE", [b], [y])
    return n.write([0], [b if zero is None else y])


def float_product() -> bytes:
    """A product, in float, of a map and what a convolution makes of it."""
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8))
    y, floats = n.conv(x, 8), [n.tensor(name, x.shape, "float32") for name in "abp"]
    n.op("DEQUANTIZE", [x.index], [floats[0]])
    n.op("DEQUANTIZE", [y.index], [floats[1]])
    n.op("MUL", floats[:2], [floats[2]], fusedActivationFunction=0)
    end = n.map(x.shape)
    n.op("QUANTIZE", [floats[2]], [end.index])
    return n.write([x.index], [end.index])


def with_weights(change) -> bytes:
    """A 1x1 convolution whose tensors a function changes: (weights', bias's TensorT, the writer)."""
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8))
    y = n.conv(x, 4)
    _, weight, bias = n.graph.operators[0].inputs
    change(n.graph.tensors[weight], n.graph.tensors[bias], n)
    return n.write([x.index], [y.index])


def negative_zero_points(weight, bias, n):
    weight.quantization.zeroPoint = [3] * 4


def along_inputs(weight, bias, n):
    weight.quantization.quantizedDimension = 1


def of_uint8(weight, bias, n):
    weight.type = 3


def sixteen_bits(weight, bias, n):
    bias.type = 4  # int64, twice as long as its buffer


def two_graphs(weight, bias, n):
    n.model.subgraphs.append(n.graph)


def with_numbers(kind: str, values, zero: int) -> bytes:
    """A (1, 4, 4, 8) map and a constant."""
    n = Layers(np.random.default_rng(0))
    x = n.map((1, 4, 4, 8))
    y = n.new(kind, x, n.constant(values, "int8", 0.1, zero), fusedActivationFunction=0)
    return n.write([x.index], [y.index])


EIGHT, PADS = np.arange(-4, 4), [[0, 0], [1, 1], [0, 0], [0, 0]]
REFUSED = {
    "summands of a map": (
        with_numbers("ADD", np.zeros((4, 4, 8)), 0),
        UnsupportedOp,
        r"ADD at 't3': 'c2' of \[4, 4, 8\] on \[1, 4, 4, 8\]: one number, or one a channel",
    ),
    "factors of a column": (with_numbers("MUL", EIGHT[:4, None], 0), UnsupportedOp, "one number, or one a channel, is"),
    "a quotient": (
        with_numbers("DIV", [3], 0),
        UnsupportedOp,
        "DIV at 't3': of int8 is not known: TFLite's own",
    ),
    "the greater of two maps": (of_type("int8", "MAXIMUM"), UnsupportedOp, "MAXIMUM at 'y': of two maps is not known"),
    "a product of maps": (
        one("BATCH_MATMUL"),
        UnsupportedOp,
        "BATCH_MATMUL at 't2' is not known; end the model",
    ),
    "lengths": (one("L2_NORMALIZATION"), UnsupportedOp, "L2_NORMALIZATION at 't2' is not known; end the model before"),
    "a bilinear resize": (one("RESIZE_BILINEAR"), UnsupportedOp, "RESIZE_BILINEAR at 't2' is not known"),
    "a float output": (in_float("EXP"), UnsupportedOp, "EXP at 'f': its output is float, and the C's are int8"),
    "a float sum of maps": (
        in_float("SUM", 0),
        UnsupportedOp,
        "SUM at 'f': computes in float and is no function",
    ),
    "a float product of two maps": (float_product(), UnsupportedOp, "MUL at 'p': computes in float of two maps; quan"),
    "a float function that is not finite": (
        in_float("LOG", 5),
        UnsupportedOp,
        "QUANTIZE at 'y': its input is not f",
    ),
    "slopes that are missing": (one("PRELU"), GraphError, "operator 0, PRELU at 't2': has no input 1; export it again"),
    "pads with a number too many": (padded(3, [0, 0, 1, 1, 0]), GraphError, r"PAD at 'y': 5 pads of \[1, 4, 4, 8\]"),
    "pads with another zero": (padded(4, PADS), UnsupportedOp, "PAD at 'y': has another zero point than its input"),
    "pads with a value that may win": (
        padded_before_a_pool(-127, 1),
        UnsupportedOp,
        "PADV2 at 't4': pads .* with zeros",
    ),
    "windows of padding": (padded_before_a_pool(-128, 2), UnsupportedOp, "PADV2 at 't4': pads .* with zeros"),
    "an enlargement by one and a half": (
        resized(6),
        UnsupportedOp,
        r"to \[6, 4\] from \[4, 4\]: each row and column equally often, or every n-th, is known; use a whole factor",
    ),
    "a row that is not there": (one_row(4), GraphError, "STRIDED_SLICE at 't5': index 4 is out of bounds"),
    "the greatest channel": (
        reduced("REDUCE_MAX", 3),
        UnsupportedOp,
        r"axes \[3\] of \[1, 4, 4, 8\]: height, width or",
    ),
    "the mean of rows": (reduced("MEAN", 1), UnsupportedOp, r"axes \[1\] of \[1, 4, 4, 8\]: height and width together"),
    "a float difference of one": (in_float("SUB", 0), GraphError, "operator 2, SUB at 'f': has no input 1"),
    "int16 inside": (
        one("ABS", kind="int16"),
        UnsupportedOp,
        "ABS at 'y': computes with int16 activations .16x8.;",
    ),
    "an unknown operator": (one("SIN"), UnsupportedOp, "SIN at 't2' is not known; end the model before it"),
    "int16": (of_type("int16"), GraphError, "holds int16, expected int8, uint8 or float32"),
    "uint8": (of_type("uint8"), UnsupportedOp, "computes in uint8, .* that tf2onnx makes of this one"),
    "weights of uint8": (with_weights(of_uint8), UnsupportedOp, "CONV_2D at 't2': computes in uint8, as TensorFlow's"),
    "zero points of weights": (with_weights(negative_zero_points), UnsupportedOp, "its weights have zero points"),
    "scales along the inputs": (with_weights(along_inputs), UnsupportedOp, "along another axis than the outputs'"),
    "a bias of int64": (with_weights(sixteen_bits), GraphError, "has 16 bytes for \\[4\\]; convert again"),
    "a tensor written twice": (written_twice(0), GraphError, "operator 1, RELU at 't2' writes 't2', which operator 0"),
    "an input that is written": (written_twice(1), GraphError, "writes 't1', which is the network's input; convert"),
    "two graphs": (with_weights(two_graphs), GraphError, "2 graphs, expected one"),
    "a batch": (one("RELU", 2, 4, 4, 8), GraphError, "expected one picture .1, height, width, channels."),
    "an activation of a sum": (one("SOFTMAX", scale=0.1, beta=1.0), UnsupportedOp, "expected 1 and 1/256"),
    "no flatbuffer": (b"\x20\0\0\0TFL3", GraphError, "not a valid .tflite file"),
    "another file": (b"PK\3\4....", GraphError, "not a .tflite file .no TFL3 at byte 4."),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_known_is_refused_by_name(tmp_path, what):
    data, error, message = REFUSED[what]
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        load_tflite(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_an_empty_file(tmp_path):
    (tmp_path / "net.tflite").touch()
    with pytest.raises(GraphError, match=r"net\.tflite is empty: copy it or convert"):
        load_model(tmp_path / "net.tflite")


def test_the_format_is_known_by_content(tmp_path):
    data, path = classifier(np.random.default_rng(0)), tmp_path / "model.onnx"
    path.write_bytes(data)
    assert is_tflite(data[:8]) and not is_tflite(b"\x08\x07\x12\x04onnx") and not is_tflite(b"")
    assert load_model(path).graph == load_model(path, (21, 19)).graph
    with pytest.raises(GraphError, match="the input is fixed at 21x19, expected 8x8"):
        load_model(path, (8, 8))


def test_a_float_file_is_a_float_model(tmp_path):
    (tmp_path / "float.tflite").write_bytes(floats())
    model = load_tflite(tmp_path / "float.tflite")
    assert isinstance(model, Model)
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype(np.float32)
    (want,) = Reference(floats())(x)
    (found,) = run(to_onnx(model), x.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), want, rtol=1e-4, atol=1e-5)


def test_tables_of_one_value(tmp_path):
    """A product of two functions of one map's values is a table. A function of each channel, or of other positions,
    makes none."""
    n = Layers(np.random.default_rng(0))
    image = n.map((1, 4, 4, 3), 1 / 255, -128)
    x = n.conv(image, 6, (3, 3))
    y = n.new("LEAKY_RELU", n.new("TANH", x, scale=1 / 128, zero=0), alpha=0.3)
    shifted = n.new("ADD", x, n.constant(np.arange(-60, 60, 20), "int8", x.scale), fusedActivationFunction=0)
    ends = [n.new("MUL", y, x, fusedActivationFunction=0), n.new("MUL", shifted, x, fusedActivationFunction=0)]
    path = tmp_path / "net.tflite"
    path.write_bytes(n.write([image.index], [end.index for end in ends]))
    model = load_tflite(path)
    assert [op.kind for op in model.graph.ops].count("mul") == 1
    assert_numpy_equal(Reference(path.read_bytes()), model, Schedule(), 3)
    turned = n.same("TRANSPOSE", y, x.shape, n.constant([0, 2, 1, 3]))
    path.write_bytes(n.write([image.index], [n.new("MUL", turned, x, fusedActivationFunction=0).index]))
    with pytest.raises(UnsupportedOp, match="sums and products of maps of one shape"):
        load_tflite(path)


def by_batches(again=(2, 1), crops=((0, 0), (0, 0)), same=False, s=(1, 1), between=None) -> bytes:
    """A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND along the rows; `between` reads in their middle."""
    n = Layers(np.random.default_rng(0))
    image = n.map((1, 8, 6, 4), 0.1, 3)
    x = n.same("SPACE_TO_BATCH_ND", image, (2, 5, 6, 4), n.constant([2, 1]), n.constant([[1, 1], [0, 0]]))
    y = n.conv(n.leave_open(x, 0), 4, (3, 1), s, same)
    z = n.same("BATCH_TO_SPACE_ND", n.leave_open(y, 0), (1, 6, 6, 4), n.constant(list(again)), n.constant(list(crops)))
    more = [between(n, x, y).index] if between else []
    return n.write([image.index], [n.leave_open(z, 0, 1).index, *more])


def test_a_dilation_by_batches(tmp_path):
    """A dilation of the rows is read; three operators that are not one dilated convolution are refused."""
    path = tmp_path / "net.tflite"
    path.write_bytes(by_batches())
    model = load_tflite(path)
    assert [op.k for op in model.graph.ops] == [(5, 1)]
    assert_numpy_equal(Reference(path.read_bytes()), model, Schedule(), 3)
    others = [
        {"again": (1, 2)},
        {"crops": ((2, 0), (0, 0))},
        {"same": True},
        {"s": (2, 1)},
        {"between": lambda n, x, y: y},
        {"between": lambda n, x, y: n.new("RELU", x)},
    ]
    for changes in others:
        path.write_bytes(by_batches(**changes))
        with pytest.raises(UnsupportedOp, match="operator 0, SPACE_TO_BATCH_ND at 't4' is not known"):
            load_tflite(path)


def test_an_open_size_is_given_or_asked_for(tmp_path):
    """Height and width that are known only where the file runs."""
    n = Layers(np.random.default_rng(0))
    x = image = n.leave_open(n.map((1, 12, 10, 3), 1 / 255, -128), 0, 1, 2)
    for _ in range(2):
        x = n.leave_open(n.conv(x, 5, (3, 3), (2, 2)), 0, 1, 2)
    path = tmp_path / "net.tflite"
    path.write_bytes(n.write([image.index], [x.index]))
    with pytest.raises(GraphError, match=r"leaves sides of \[-1, -1, -1, 3\] open; give the picture's size"):
        load_tflite(path)
    model, run = load_tflite(path, size=(12, 10)), Reference(path.read_bytes(), (1, 12, 10, 3))
    assert_numpy_equal(run, model, Schedule(), 3)


@pytest.mark.parametrize("name", NETS)
def test_damaged_files_are_no_crash(tmp_path, name):
    """Some bytes changed: an error that names the file, or a model that compiles."""
    rng, path, refused = np.random.default_rng(0), tmp_path / "damaged.tflite", 0
    data = np.frombuffer(NETS[name](rng), np.uint8)
    for _ in range(150):
        changed = data.copy()
        changed[rng.integers(0, len(data), rng.integers(1, 8))] = rng.integers(0, 256)
        path.write_bytes(changed[: len(data) if rng.integers(4) else rng.integers(len(data))].tobytes())
        try:
            model = load_tflite(path)
            p = plan(model.graph)
            if isinstance(model, QuantModel):
                image = model.graph.inputs[0]
                reference.run(p, model, np.zeros((image.h, image.w, image.c), np.int8))
        except (GraphError, UnsupportedOp) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30
