"""Parse a .tflite file into plain tensors and operators. The flatbuffer is read with TensorFlow's own schema (package
`tflite`); nothing here knows what an operator means. A file that is damaged raises GraphError, whatever it says.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tflite

from ....core.errors import GraphError
from ....core.types import FilePath
from ....core.validate import file_bytes, short
from ..builder import Layer

BUILTIN_CODE = 10  # place of an operator code's own number in the table of its fields
IDENTIFIER = b"TFL3"  # at byte 4
MOST = 1 << 16  # tensors, operators, or elements of a shape or list of inputs
TYPES = {code: name.lower() for name, code in vars(tflite.TensorType).items() if isinstance(code, int)}
ARRAYS = {
    "float32": np.float32, "float16": np.float16, "int32": np.int32, "uint8": np.uint8, "int64": np.int64,
    "int16": np.int16, "int8": np.int8,
}  # fmt: skip
_ACT = ("FusedActivationFunction",)
_WINDOW = ("Padding", "StrideH", "StrideW", *_ACT)
_DILATION = ("DilationHFactor", "DilationWFactor")
# Operator -> the table of its options in the schema, and the fields that are read of it.
OPTIONS = {
    "CONV_2D": ("Conv2DOptions", (*_WINDOW, *_DILATION)),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_WINDOW, *_DILATION)),
    "TRANSPOSE_CONV": ("TransposeConvOptions", _WINDOW),
    "AVERAGE_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "MAX_POOL_2D": ("Pool2DOptions", (*_WINDOW, "FilterHeight", "FilterWidth")),
    "FULLY_CONNECTED": ("FullyConnectedOptions", (*_ACT, "WeightsFormat")),
    "ADD": ("AddOptions", _ACT),
    "SUB": ("SubOptions", _ACT),
    "MUL": ("MulOptions", _ACT),
    "DIV": ("DivOptions", _ACT),
    "PACK": ("PackOptions", ("Axis",)),
    "UNPACK": ("UnpackOptions", ("Axis",)),
    "GATHER": ("GatherOptions", ("Axis", "BatchDims")),
    "REDUCE_PROD": ("ReducerOptions", ("KeepDims",)),
    "GELU": ("GeluOptions", ("Approximate",)),
    "CONCATENATION": ("ConcatenationOptions", (*_ACT, "Axis")),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", ("BlockSize",)),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", ("BlockSize",)),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", ("AlignCorners", "HalfPixelCenters")),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
}


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file. open: the dimensions of its shape that are known only where it runs, the batch for
    instance, and count as 1 until then. kind: its type, "int8" for instance; data: its values where it is a constant;
    scale and zero: one for the whole, or one for each step along `axis`; none for a tensor that is not quantised."""

    name: str
    shape: tuple[int, ...]
    open: tuple[int, ...]
    kind: str
    data: np.ndarray | None
    scale: np.ndarray
    zero: np.ndarray
    axis: int


@dataclass(frozen=True)
class Operator(Layer):
    """An operator of the file: its inputs and outputs are indices of tensors, -1 for an input that is left out."""

    path: str
    kind: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    index: int  # in the file's list, as viewers number it

    @property
    def place(self) -> str:
        """Return what it is and where it stands, as errors say it."""
        return f"operator {self.index}, {self.kind} at '{self.name}'"

    def has(self, i: int) -> bool:
        """Tell whether the operator has the input i."""
        return i < len(self.inputs) and self.inputs[i] >= 0

    def option(self, name: str) -> Any:  # noqa: ANN401  as the schema has it: a number or a flag
        """Return the value of an option; the schema's default where the file leaves it out. Raises GraphError where the
        operator has no options of its own kind."""
        if name not in self.options:
            self.wrong(f"its options have no {name}")
        return self.options[name]


@dataclass(frozen=True)
class File:
    """A file's one graph. inputs, outputs: indices of its tensors, -1 for one that is left out."""

    name: str
    tensors: list[FileTensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def needed(self) -> list[Operator]:
        """Return the operators that the outputs depend on."""
        wanted, found = set(self.outputs), []
        for op in reversed(self.operators):
            if wanted.intersection(op.outputs):
                wanted.update(op.inputs)
                found.append(op)
        return found[::-1]


def is_tflite(head: bytes) -> bool:
    """Tell whether these first bytes, eight at least, begin a .tflite file."""
    return head[4:8] == IDENTIFIER


def load(path: FilePath) -> File:
    """Return what the file holds. Raises FileNotFoundError, and GraphError for what is no .tflite file of one graph."""
    data = file_bytes(path, kind=GraphError)
    if not is_tflite(data):
        raise GraphError(f"{path}: not a .tflite file (no TFL3 at byte 4)")
    try:
        found = _parse(str(path), data)
    except GraphError:
        raise
    except Exception as error:  # the schema's accessors raise whatever the bytes make of them
        reason = " ".join(str(error).split())[:200]
        raise GraphError(f"{path}: not a valid .tflite file ({reason}); convert again") from None
    return found


def _parse(path: str, data: bytes) -> File:
    model = tflite.Model.GetRootAs(data, 0)
    if model.SubgraphsLength() != 1:
        raise GraphError(f"{path}: {model.SubgraphsLength()} graphs, expected one; convert without control flow")
    graph = model.Subgraphs(0)
    codes = [_kind(model.OperatorCodes(i)) for i in _upto(path, model.OperatorCodesLength())]
    tensors = [_tensor(path, model, graph.Tensors(i)) for i in _upto(path, graph.TensorsLength())]
    operators = [_operator(path, codes, tensors, graph.Operators(i), i) for i in _upto(path, graph.OperatorsLength())]
    ends = [_indices(path, tensors, values) for values in (_ints(graph, "Inputs"), _ints(graph, "Outputs"))]
    _check_written_once(path, tensors, operators, ends[0])
    return File((graph.Name() or b"").decode(), tensors, operators, *ends)


def _check_written_once(
    path: str, tensors: list[FileTensor], operators: list[Operator], inputs: tuple[int, ...]
) -> None:
    """Raise GraphError where a tensor has two values: TFLite gives what was written last in memory."""
    first: dict[int, str] = dict.fromkeys(inputs, "is the network's input")
    first |= {i: "is a constant" for i, tensor in enumerate(tensors) if tensor.data is not None}
    for op in operators:
        for index in op.outputs:
            if index in first:
                raise GraphError(
                    f"{path}: {op.place} writes '{tensors[index].name}', which {first[index]}; convert again"
                )
            first[index] = f"operator {op.index} writes, too"


def _upto(path: str, count: int) -> range:
    if count > MOST:
        raise GraphError(f"{path}: a list of {count} in it, expected at most {MOST}; convert again")
    return range(count)


def _ints(table: tflite.SubGraph | tflite.Tensor | tflite.Operator, name: str) -> list[int]:
    """Return a vector of integers of a table."""
    count = getattr(table, f"{name}Length")()
    if count > MOST:
        raise ValueError(f"{name} of {count}")
    return [int(v) for v in getattr(table, f"{name}AsNumpy")()] if count else []


def _indices(path: str, tensors: list[FileTensor], values: list[int]) -> tuple[int, ...]:
    wrong = [v for v in values if not -1 <= v < len(tensors)]
    if wrong:
        raise GraphError(f"{path}: names tensor {wrong[0]} of {len(tensors)}; convert again")
    return tuple(values)


def _kind(code: tflite.OperatorCode) -> str:
    """Return the operator's name in the schema; of a custom one its own."""
    # The greater of two counts: old files have one, some tools only the other. The package's BuiltinCode() gives the
    # first in place of the second where that is below 127.
    table = code._tab
    at = table.Offset(BUILTIN_CODE)
    own = int(np.frombuffer(table.Bytes, "<i4", 1, at + table.Pos)[0]) if at else 0
    number = max(own, code.DeprecatedBuiltinCode())
    if number == tflite.BuiltinOperator.CUSTOM:
        return f"custom operator {short((code.CustomCode() or b'').decode(errors='replace'))}"
    return tflite.BUILTIN_OPCODE2NAME.get(number, f"operator {number}")


def _tensor(path: str, model: tflite.Model, tensor: tflite.Tensor) -> FileTensor:
    name, shape = (tensor.Name() or b"").decode(), tuple(_ints(tensor, "Shape"))
    kind = TYPES.get(tensor.Type(), f"type {tensor.Type()}")
    if not 0 <= tensor.Buffer() < model.BuffersLength():
        raise GraphError(f"{path}: tensor '{name}' has no buffer; convert again")
    buffer, found = model.Buffers(tensor.Buffer()), None
    if buffer.Offset() > 1 or buffer.Size() > 1:
        raise GraphError(f"{path}: tensor '{name}' is stored behind the flatbuffer; convert it to a smaller file")
    if buffer.DataLength():
        if kind not in ARRAYS or tensor.Sparsity() is not None:
            sparse = "sparse " if tensor.Sparsity() is not None else ""
            raise GraphError(f"{path}: constant '{name}' is {sparse}{kind}; convert with dense 8-bit weights")
        if buffer.DataLength() != np.prod(shape, dtype=object) * np.dtype(ARRAYS[kind]).itemsize:
            size = buffer.DataLength()
            raise GraphError(f"{path}: constant '{name}' has {size} bytes for {list(shape)}; convert again")
        found = buffer.DataAsNumpy().view(ARRAYS[kind]).reshape(shape)  # no copy: many tensors may name one buffer
    scale, zero, axis = _quantization(path, name, tensor.Quantization())
    signature = _ints(tensor, "ShapeSignature")
    unknown = tuple(i for i, n in enumerate(signature) if n == -1) if len(signature) == len(shape) else ()
    return FileTensor(name, shape, unknown, kind, found, scale, zero, axis)


def _quantization(
    path: str, name: str, given: tflite.QuantizationParameters | None
) -> tuple[np.ndarray, np.ndarray, int]:
    if given is None or not given.ScaleLength():
        return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    if given.Details() is not None:
        raise GraphError(f"{path}: tensor '{name}' is quantised in blocks; convert with one scale a channel")
    scale = np.array(given.ScaleAsNumpy(), np.float32)
    zero = np.array(given.ZeroPointAsNumpy(), np.int64) if given.ZeroPointLength() else np.zeros(len(scale), np.int64)
    if len(zero) not in (1, len(scale)) or not np.isfinite(scale).all():
        raise GraphError(f"{path}: tensor '{name}' has {len(scale)} scales and {len(zero)} zero points; convert again")
    return scale, np.broadcast_to(zero, scale.shape), given.QuantizedDimension()


def _operator(path: str, codes: list[str], tensors: list[FileTensor], given: tflite.Operator, index: int) -> Operator:
    if given.OpcodeIndex() >= len(codes):
        raise GraphError(f"{path}: operator {index} has the code {given.OpcodeIndex()} of {len(codes)}; convert again")
    kind = codes[given.OpcodeIndex()]
    inputs, outputs = (_indices(path, tensors, _ints(given, side)) for side in ("Inputs", "Outputs"))
    if not outputs or min(outputs) < 0:
        raise GraphError(f"{path}: operator {index}, {kind}, writes nothing; convert again")
    name = tensors[outputs[0]].name.split(";")[0] or f"{kind.lower()}_{outputs[0]}"
    return Operator(path, kind, name, inputs, outputs, _options(kind, given), index)


@cache
def _union(name: str) -> int:
    """Return the number that a file has for this kind of options."""
    return int(getattr(tflite.BuiltinOptions, name))


def _options(kind: str, given: tflite.Operator) -> dict[str, Any]:
    if kind not in OPTIONS:
        return {}
    name, fields = OPTIONS[kind]
    table = getattr(tflite, name)()
    at = given.BuiltinOptions()
    if at is None or given.BuiltinOptionsType() != _union(name):
        return {}
    table.Init(at.Bytes, at.Pos)
    return {field: getattr(table, field)() for field in fields}
