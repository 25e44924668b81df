"""Writes small .tflite files, and runs any with TensorFlow Lite's reference kernels (LiteRT, BUILTIN_REF)."""

from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}
OPTIONS = {
    "FULLY_CONNECTED": "FullyConnectedOptions", "CONV_2D": "Conv2DOptions", "RESHAPE": "ReshapeOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "MAX_POOL_2D": "Pool2DOptions",
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "SOFTMAX": "SoftmaxOptions",
    "MEAN": "ReducerOptions", "LEAKY_RELU": "LeakyReluOptions", "CONCATENATION": "ConcatenationOptions",
    "SPLIT": "SplitOptions", "STRIDED_SLICE": "StridedSliceOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions", "TRANSPOSE_CONV": "TransposeConvOptions",
    "SQUEEZE": "SqueezeOptions",
    "GATHER": "GatherOptions", "SPACE_TO_DEPTH": "SpaceToDepthOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions", "SPLIT_V": "SplitVOptions",
    "HARD_SWISH": "HardSwishOptions", "TRANSPOSE": "TransposeOptions",
    "PAD": "PadOptions", "QUANTIZE": "QuantizeOptions", "SUM": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions", "REDUCE_MAX": "ReducerOptions", "GELU": "GeluOptions",
    "PACK": "PackOptions", "UNPACK": "UnpackOptions", "SHAPE": "ShapeOptions", "DIV": "DivOptions",
    "SPACE_TO_BATCH_ND": "SpaceToBatchNDOptions", "BATCH_TO_SPACE_ND": "BatchToSpaceNDOptions",
}  # fmt: skip

# Operators with int8 in their first version.
FIRST = ("DEPTH_TO_SPACE", "HARD_SWISH", "PRELU", "RELU_N1_TO_1", "RELU_0_TO_1", "RESHAPE", "ABS", "GELU", "EXP", "LOG",
         "SHAPE", "PACK", "EXPAND_DIMS", "TILE")  # fmt: skip


class Writer:
    """A file of one graph: tensors and operators are appended, `write` gives its bytes."""

    def __init__(self):
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version, self.model.description = 3, "made by a test"
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], [self.graph]
        self.graph.tensors, self.graph.operators, self.graph.name = [], [], "main"

    def tensor(self, name, shape, kind="int8", scale=None, zero=0, data=None, axis=0) -> int:
        """scale: one number, or one for each step along `axis`. data: a constant's values."""
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name, list(shape), TYPES[kind], 0
        if scale is not None:
            t.quantization = schema.QuantizationParametersT()
            t.quantization.scale = np.atleast_1d(np.float32(scale)).tolist()
            t.quantization.zeroPoint = np.broadcast_to(zero, len(t.quantization.scale)).tolist()
            t.quantization.quantizedDimension = axis
        if data is not None:
            values = schema.BufferT()
            values.data = np.frombuffer(np.ascontiguousarray(data, kind).tobytes(), np.uint8)
            t.buffer = len(self.model.buffers)
            self.model.buffers.append(values)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def op(self, kind, inputs, outputs, **options) -> None:
        op, code, version = schema.OperatorT(), schema.OperatorCodeT(), 1 if kind in FIRST else 2
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        op.opcodeIndex, op.inputs, op.outputs = len(self.model.operatorCodes), list(inputs), list(outputs)
        if kind in OPTIONS:
            op.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[kind])
            op.builtinOptions = getattr(schema, OPTIONS[kind] + "T")()
            for name, value in options.items():
                assert hasattr(op.builtinOptions, name), f"{OPTIONS[kind]} has no {name}"
                setattr(op.builtinOptions, name, value)
        self.model.operatorCodes.append(code)
        self.graph.operators.append(op)

    def write(self, inputs, outputs) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class Reference:
    """TensorFlow Lite's reference kernels on a file. shape: of its input, where the file leaves it open."""

    def __init__(self, data: bytes, shape: tuple[int, ...] | None = None):
        self.run = Interpreter(
            model_content=data,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        if shape:
            self.run.resize_tensor_input(self.run.get_input_details()[0]["index"], shape)
        self.run.allocate_tensors()

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        for given, value in zip(self.run.get_input_details(), values, strict=True):
            self.run.set_tensor(given["index"], value.reshape(given["shape"]))
        self.run.invoke()
        return [self.run.get_tensor(found["index"]) for found in self.run.get_output_details()]

    def tensor(self, index: int) -> np.ndarray:
        return self.run.get_tensor(index)


class Layers(Writer):
    """Layers of random int8 values, one behind another: each method takes and returns a Map."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.rng, self.names = rng, 0

    def map(self, shape, scale=None, zero=None) -> "Map":
        """A tensor with a scale that distinguishes its values, unless one is given."""
        scale = float(np.float32(2.0 ** self.rng.uniform(-6, -3) if scale is None else scale))
        zero, self.names = int(self.rng.integers(-128, 128)) if zero is None else zero, self.names + 1
        return Map(self.tensor(f"t{self.names}", shape, "int8", scale, zero), tuple(shape), scale, zero)

    def leave_open(self, x: "Map", *dims: int) -> "Map":
        """Let the file say of these dimensions that they are known only where it runs."""
        tensor = self.graph.tensors[x.index]
        tensor.shape = [1 if i in dims else n for i, n in enumerate(x.shape)]
        tensor.shapeSignature = [-1 if i in dims else n for i, n in enumerate(x.shape)]
        return x

    def constant(self, values, kind="int32", scale=None, zero=0, axis=0) -> int:
        self.names += 1
        values = np.asarray(values)
        return self.tensor(f"c{self.names}", values.shape, kind, scale, zero, values, axis)

    def same(self, kind, x, shape, *constants, **options) -> "Map":
        """An operator that keeps the scale."""
        y = self.map(shape, x.scale, x.zero)
        self.op(kind, [x.index, *constants], [y.index], **options)
        return y

    def new(self, kind, *maps, shape=None, scale=None, zero=None, **options) -> "Map":
        """An operator with a scale of its own, of one or several maps."""
        y = self.map(shape or maps[0].shape, scale, zero)
        self.op(kind, [m if isinstance(m, int) else m.index for m in maps], [y.index], **options)
        return y

    def conv(self, x, cout, k=(1, 1), s=(1, 1), same=True, act=0, dilation=(1, 1), depthwise=False, groups=1, fine=1.0):
        """CONV_2D, or DEPTHWISE_CONV_2D with cout a multiple of c. fine: by how much factors grow."""
        _, h, w, c = x.shape
        shape = (1, *k, cout) if depthwise else (cout, *k, c // groups)
        weight = self.rng.integers(-127, 128, shape)
        scales = 2.0 ** self.rng.uniform(-9, -6, cout)
        taps = int(np.prod(k)) * (1 if depthwise else c // groups)
        bias = self.rng.integers(-2000, 2000, cout)
        wide = [(n - 1) * d + 1 for n, d in zip(k, dilation, strict=True)]
        size = [-(-n // t) if same else (n - e) // t + 1 for n, e, t in zip((h, w), wide, s, strict=True)]
        y = self.map((1, *size, cout), x.scale * scales.mean() * taps**0.5 * 70 / fine)
        inputs = [x.index, self.constant(weight, "int8", scales, axis=3 if depthwise else 0),
                  self.constant(bias, "int32", x.scale * np.float32(scales))]  # fmt: skip
        options = {"depthMultiplier": cout // c} if depthwise else {}
        self.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, [y.index], padding=int(not same), strideH=s[0],
                strideW=s[1], dilationHFactor=dilation[0], dilationWFactor=dilation[1], fusedActivationFunction=act,
                **options)  # fmt: skip
        return y

    def transposed(self, x, cout, k, s, size=None, same=True, act=0):
        """TRANSPOSE_CONV to `size` rows and columns, by default s times as many."""
        _, h, w, c = x.shape
        size = size or [n * t if same else (n - 1) * t + e for n, t, e in zip((h, w), s, k, strict=True)]
        scales = 2.0 ** self.rng.uniform(-9, -6, cout)
        y = self.map((1, *size, cout), x.scale * scales.mean() * (np.prod(k) * c / np.prod(s)) ** 0.5 * 70)
        weight, bias = self.rng.integers(-127, 128, (cout, *k, c)), self.rng.integers(-2000, 2000, cout)
        inputs = [self.constant([1, *size, cout]), self.constant(weight, "int8", scales), x.index,
                  self.constant(bias, "int32", x.scale * np.float32(scales))]  # fmt: skip
        self.op("TRANSPOSE_CONV", inputs, [y.index], padding=int(not same), strideH=s[0], strideW=s[1],
                fusedActivationFunction=act)  # fmt: skip
        return y

    def connected(self, x, cout, act=0):
        """FULLY_CONNECTED of all of x."""
        n, scale = int(np.prod(x.shape)), 2.0 ** self.rng.uniform(-9, -6)
        y = self.map((1, cout), x.scale * scale * n**0.5 * 70)
        bias = self.rng.integers(-2000, 2000, cout)
        inputs = [x.index, self.constant(self.rng.integers(-127, 128, (cout, n)), "int8", scale),
                  self.constant(bias, "int32", x.scale * np.float32(scale))]  # fmt: skip
        self.op("FULLY_CONNECTED", inputs, [y.index], fusedActivationFunction=act)
        return y

    def pool(self, kind, x, k, s, same=True, act=0):
        _, h, w, c = x.shape
        size = [-(-n // t) if same else (n - e) // t + 1 for n, e, t in zip((h, w), k, s, strict=True)]
        return self.same(kind, x, (1, *size, c), padding=int(not same), strideH=s[0], strideW=s[1], filterHeight=k[0],
                         filterWidth=k[1], fusedActivationFunction=act)  # fmt: skip


@dataclass(frozen=True)
class Map:
    """A tensor of a file that Layers writes."""

    index: int
    shape: tuple[int, ...]
    scale: float
    zero: int
