""".tflite files for fuzz.py: small networks, what may be wrong with a file, and LiteRT's kernels to compare with.

A damage changes the unpacked flatbuffer. One whose number the schema has no room for is dropped; raw_bytes has the
files that no writer makes.
"""

import struct
from contextlib import suppress
from functools import cache

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from damage import FLOATS, NUMBERS, loaded, pick
from fuzz_onnx import run as run_onnx
from tflite_files import Reference
from tflite_nets import NETS, floats, opened

from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import to_onnx
from nni_mcunet.engine.frontend.tflite.operators import OPERATORS
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import Model

SUFFIX, REFERENCE = ".tflite", "LiteRT"
INT32 = [n for n in NUMBERS if -(2**31) <= n < 2**31]
UNKNOWN = (
    "SIN",
    "CUSTOM",
    "WHILE",
    "LSTM",
    "RESIZE_BILINEAR",
    "SUM",
    "ARG_MAX",
    "SHAPE",
    "PACK",
    "CAST",
)


@cache
def files() -> list[bytes]:
    """Int8 and float networks that together have most kinds of operators."""
    nets = [opened, *NETS.values()]
    return [floats(), *(net(np.random.default_rng(seed)) for net in nets for seed in range(8))]


def rewire(rng, graph, model):
    """An input becomes another tensor: cycles, constants as maps, maps as constants, none."""
    op = pick(rng, [op for op in graph.operators if len(op.inputs)])
    op.inputs[rng.integers(len(op.inputs))] = pick(rng, [*range(len(graph.tensors)), -1, len(graph.tensors)])


def rename_output(rng, graph, model):
    pick(rng, graph.operators).outputs[0] = pick(rng, [*range(len(graph.tensors)), -1])


def ends(rng, graph, model):
    """An input or output of the graph is another tensor, or one more."""
    side = pick(rng, [graph.inputs, graph.outputs])
    tensor = pick(rng, range(len(graph.tensors)))
    if rng.random() < 0.3:
        side.append(tensor)
    else:
        side[rng.integers(len(side))] = tensor


def lose(rng, graph, model):
    lists = graph.operators, graph.tensors, graph.inputs, graph.outputs, model.buffers, model.operatorCodes
    items = pick(rng, [items for items in lists if len(items)])
    del items[rng.integers(len(items))]


def lose_end(rng, graph, model):
    op = pick(rng, graph.operators)
    ends = pick(rng, [ends for ends in (op.inputs, op.outputs) if len(ends)])
    del ends[rng.integers(len(ends))]


def shuffle(rng, graph, model):
    a, b = rng.integers(len(graph.operators), size=2)
    graph.operators[a], graph.operators[b] = graph.operators[b], graph.operators[a]


def twice(rng, graph, model):
    graph.operators.insert(int(rng.integers(len(graph.operators) + 1)), pick(rng, graph.operators))


def operator(rng, graph, model):
    """Another operator under the options of the first."""
    code = pick(rng, model.operatorCodes)
    code.builtinCode = getattr(schema.BuiltinOperator, pick(rng, [*OPERATORS, *UNKNOWN]))
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)


def options(rng, graph, model):
    """A field of an operator's options; or the options of another operator, or none."""
    op = pick(rng, graph.operators)
    if rng.random() < 0.2:
        other = pick(rng, graph.operators)
        op.builtinOptions, op.builtinOptionsType = pick(
            rng, [(other.builtinOptions, other.builtinOptionsType), (None, 0)]
        )
        return
    fields = vars(op.builtinOptions) if op.builtinOptions else {}
    name = pick(rng, fields)
    if isinstance(fields[name], float):
        setattr(op.builtinOptions, name, float(pick(rng, FLOATS)))
    elif isinstance(fields[name], (bool, int)):
        setattr(op.builtinOptions, name, type(fields[name])(pick(rng, (0, 1, 2, 3, 4, *INT32))))


def shape(rng, graph, model):
    tensor = pick(rng, graph.tensors)
    if len(tensor.shape) and rng.random() < 0.8:
        tensor.shape[rng.integers(len(tensor.shape))] = pick(rng, INT32)
    else:
        tensor.shape = pick(rng, [[], tensor.shape[::-1], [*tensor.shape, 1], [int(np.prod(tensor.shape) % 2**31)]])


def element_type(rng, graph, model):
    pick(rng, graph.tensors).type = int(rng.integers(21))


def buffer(rng, graph, model):
    """A tensor has another's values, or none."""
    pick(rng, graph.tensors).buffer = pick(rng, [*range(len(model.buffers)), len(model.buffers), 2**32 - 1])


def constant(rng, graph, model):
    """Values of a constant: absurd ones of its kind, more or fewer of them."""
    found = pick(rng, [b for b in model.buffers if b.data is not None and len(b.data)])
    data = np.array(found.data, np.uint8)
    four = len(data) % 4 == 0
    if rng.random() < 0.2:
        data = pick(rng, [data[:-1], data[:0], np.tile(data, 2), np.zeros_like(data), data | 0x80])
    elif four and rng.random() < 0.5:
        data.view(np.int32)[rng.integers(len(data) // 4)] = pick(rng, INT32)
    elif four and rng.random() < 0.3:
        data.view(np.float32)[rng.integers(len(data) // 4)] = pick(rng, FLOATS)
    else:
        data[rng.integers(len(data))] = rng.integers(256)
    found.data = data


def quantization(rng, graph, model):
    """Scales, zero points, their number and their axis."""
    given = pick(rng, [t.quantization for t in graph.tensors if t.quantization and t.quantization.scale is not None])
    what = rng.integers(5)
    if what == 0:
        given.scale[rng.integers(len(given.scale))] = float(pick(rng, FLOATS))
    elif what == 1:
        given.scale = [float(v) * pick(rng, (1e-20, 1e-3, 0.5, 2.0, 100.0, 1e20)) for v in given.scale]
    elif what == 2:
        given.zeroPoint[rng.integers(len(given.zeroPoint))] = pick(rng, (-128, 127, 5, *NUMBERS))
    elif what == 3:
        given.quantizedDimension = pick(rng, (0, 1, 2, 3, *INT32))
    else:
        scale, zero = given.scale, given.zeroPoint
        some = ([], []), (scale[:1], zero[:1]), (scale * 2, zero * 2), (scale, [])
        given.scale, given.zeroPoint = pick(rng, some)


def names(rng, graph, model):
    pick(rng, graph.tensors).name = pick(
        rng, ["", "for", "*/ int x; /*", '"', "a" * 5000, "\n#error", pick(rng, graph.tensors).name]
    )
    graph.name = pick(rng, [graph.name, "*/ boom", ""])


def graphs(rng, graph, model):
    if rng.random() < 0.5:
        model.subgraphs.append(graph)
    else:
        model.version = pick(rng, (0, 1, 2, 7))


DAMAGES = (rewire, rewire, rename_output, ends, lose, lose_end, shuffle, twice, operator, operator, options, options,
           shape, element_type, buffer, constant, constant, quantization, quantization, names, graphs)  # fmt: skip
REFUSES = (LookupError, struct.error, TypeError, OverflowError)  # of a damage that finds nothing, or that has no room


def damaged(rng, data: bytes, count: int) -> tuple[list[str], bytes]:
    """The names of `count` damages or fewer, and the file with them."""
    done = []
    for _ in range(count):
        damage = pick(rng, DAMAGES)
        with suppress(*REFUSES), np.errstate(all="ignore"):
            model = unpacked(data)
            damage(rng, model.subgraphs[0], model)
            data = packed(model)
            done.append(damage.__name__)
    return done, data


def unpacked(data: bytes):
    """The model, with lists wherever the schema's reader gives arrays."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    quantizations = [t.quantization for t in graph.tensors if t.quantization]
    for owner in (graph, *graph.operators, *graph.tensors, *quantizations):
        for name, value in vars(owner).items():
            if isinstance(value, np.ndarray):
                setattr(owner, name, value.tolist())
    return model


def packed(model) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def compared(path) -> str:
    """ "same", "other" or why it was not compared."""
    model, cut = loaded(path)
    if cut:
        return "cut"
    data = path.read_bytes()
    image = model.graph.inputs[0]
    q = np.random.default_rng(0).integers(-128, 128, (image.h, image.w, image.c)).astype(np.int8)
    real = (q.astype(np.float32) + 128) / 255
    try:
        run = Reference(data)
        (declared,) = run.run.get_input_details()
        if isinstance(model, Model):
            theirs = run(real)
        elif declared["dtype"] == np.float32:
            theirs = run(model.scales[image.name].dequantize(q).astype(np.float32))
        else:
            theirs = run((q.astype(np.int16) + (128 if declared["dtype"] == np.uint8 else 0)).astype(declared["dtype"]))
    except Exception:  # whatever LiteRT has against it
        return "LiteRT refuses it"
    if isinstance(model, Model):
        return _close(model, real, theirs)
    ours = reference.run(plan(model.graph), model, q)
    for name, value in zip(model.graph.outputs, theirs, strict=True):
        found = ours[name].ravel()
        if value.dtype == np.float32:
            value = np.round(value / np.float32(model.scales[name].scale)) + model.scales[name].zero_point
        elif value.dtype == np.uint8:
            value = value.astype(np.int16) - 128
        if not np.array_equal(found, value.ravel()):
            return "other"
    return "same"


def _close(model: Model, real: np.ndarray, theirs: list[np.ndarray]) -> str:
    """A float model by onnxruntime, to one in 1,000 of each output's greatest value."""
    ours = run_onnx(to_onnx(model), real.transpose(2, 0, 1)[None])
    for a, b in zip(ours, theirs, strict=True):
        a = (a.transpose(0, 2, 3, 1) if a.ndim == 4 else a).ravel()
        b = b.ravel().astype(np.float64)
        if not np.isfinite(b).all() or np.abs(b).max() > 1e12:
            return "LiteRT overflows"
        if a.shape != b.shape or np.abs(a - b).max() > max(1e-6, 1e-3 * np.abs(b).max()):
            return "other"
    return "same"
