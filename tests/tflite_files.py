"""Writes small .tflite files, and runs any with TensorFlow Lite's reference kernels (LiteRT, BUILTIN_REF)."""

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
    "SQUEEZE": "SqueezeOptions", "HARD_SWISH": "HardSwishOptions", "TRANSPOSE": "TransposeOptions",
    "PAD": "PadOptions", "QUANTIZE": "QuantizeOptions", "SUM": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
}  # fmt: skip

FIRST = ("HARD_SWISH", "PRELU")  # operators with int8 in their first version


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
    """TensorFlow Lite's reference kernels on a file."""

    def __init__(self, data: bytes):
        self.run = Interpreter(
            model_content=data,
            experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
            experimental_preserve_all_tensors=True,
        )
        self.run.allocate_tensors()

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        for given, value in zip(self.run.get_input_details(), values, strict=True):
            self.run.set_tensor(given["index"], value.reshape(given["shape"]))
        self.run.invoke()
        return [self.run.get_tensor(found["index"]) for found in self.run.get_output_details()]

    def tensor(self, index: int) -> np.ndarray:
        return self.run.get_tensor(index)
