"""Read a .tflite file as Graph + weights (+ scales): one of one graph with int8 activations, or a float one.

One pass over the operators that an output depends on: operators.py (with convolutions.py) says what each is in our
graph, fuse.py then fuses what a kernel does at once. A quantised file keeps its integers, and the rounding of
TensorFlow Lite's reference kernels. Whatever is not known is refused by name.
"""

from dataclasses import replace

import numpy as np

from ....core.errors import GraphError, UnsupportedOp
from ....core.ir.graph import Op, Tensor
from ...model import Model, QuantModel, Scale
from ..builder import Builder
from ..feature import Feature, kept
from ..scales import GREATEST, LEAST
from .file import File, FileTensor, Operator, load
from .operators import OPERATORS

ROUNDING = ("conv", "avgpool", "gap", "add", "mul", "softmax")  # kinds whose kernels round
WHOLE = "quantize the whole model to int8 (the converter's TFLITE_BUILTINS_INT8), or give the float file"


def load_tflite(path, size: tuple[int, int] | None = None) -> Model | QuantModel:
    """Return the Model of a float file, the QuantModel of an int8 one.

    size: (h, w) of the image, which these files fix. Raises FileNotFoundError, GraphError for another size and for a
    file that is no valid .tflite or whose numbers are none to compute with, UnsupportedOp naming the operator.
    """
    found = Reader(load(path), str(path)).read()
    image = found.graph.inputs[0]
    if size not in (None, (image.h, image.w)):
        raise GraphError(
            f"{path}: the input is fixed at {image.h}x{image.w}, expected {size[0]}x{size[1]}; convert again"
        )
    return found


class Reader(Builder):
    """Hold the graph that handlers build, and say of each tensor of the file whether it is a feature or a constant."""

    def __init__(self, file: File, path: str):
        super().__init__(path)
        self.file = file
        self.features: dict[int, Feature] = {}
        self.constants = {i: t.data for i, t in enumerate(file.tensors) if t.data is not None}
        self.once: set[str] = set()  # ops that round as ours do
        self.quantized = any(self.file.tensors[i].kind in ("int8", "uint8") for op in self.needed() for i in op.outputs)

    def read(self) -> Model | QuantModel:
        operators = self.needed()
        read = {i for op in operators for i in op.inputs}
        for index in self.file.inputs:
            if index in read:
                self._input(index)
        for op in operators:
            self._operator(op)
        self.images()
        outputs = tuple(self._output(index) for index in self.file.outputs)
        found = self.model(self.file.name or "tflite", outputs, {})
        if isinstance(found, Model):
            return found
        ops = [replace(op, twice=op.kind in ROUNDING and op.name not in self.once) for op in found.graph.ops]
        return replace(found, graph=replace(found.graph, ops=tuple(ops)))

    def needed(self) -> list[Operator]:
        """The operators that the outputs depend on."""
        wanted, found = set(self.file.outputs), []
        for op in reversed(self.file.operators):
            if wanted.intersection(op.outputs):
                wanted.update(op.inputs)
                found.append(op)
        return found[::-1]

    def _input(self, index: int) -> None:
        given = self.file.tensors[index] if index >= 0 else None
        shape = given.shape if given else ()
        if not 2 <= len(shape) <= 4 or shape[0] != 1 or min(shape) < 1:
            raise GraphError(
                f"{self.path}: input '{given.name if given else '?'}' has the shape {list(shape)}, expected one "
                "picture (1, height, width, channels); convert with a fixed batch of 1"
            )
        order = "hwc"[-(len(shape) - 1) :]
        lengths = dict(zip(order, shape[1:], strict=True))
        tensor = self.add_image(given.name, *(lengths.get(axis, 1) for axis in "hwc"))
        self.features[index] = Feature.of(tensor, order)
        if given.kind in ("int8", "uint8"):
            self.scales[tensor.name] = self.scale_as_int8(given)
        elif given.kind != "float32":
            raise GraphError(f"{self.path}: input '{given.name}' holds {given.kind}, expected int8, uint8 or float32")

    def _operator(self, op: Operator) -> None:
        handler = OPERATORS.get(op.kind)
        if handler is None:
            raise UnsupportedOp(
                f"{self.path}: {op.kind} at '{op.name}' is not known; end the model before it, or rewrite it with the "
                "operators in docs/tflite.md"
            )
        results = handler(self, op)
        results = results if isinstance(results, list) else [results]
        for index, feature in zip(op.outputs, results, strict=False):
            if feature is not None:
                self.features[index] = self._as_declared(op, feature, self.file.tensors[index])

    def _as_declared(self, op: Operator, feature: Feature, declared: FileTensor) -> Feature:
        """The feature under the shape that the file declares, which must hold as many elements."""
        if feature.shape == declared.shape:
            return feature
        squeezed = tuple(n for n in feature.shape if n > 1), tuple(n for n in declared.shape if n > 1)
        found = feature.reshaped(declared.shape) if squeezed[0] == squeezed[1] else None
        return found or op.wrong(f"writes {list(declared.shape)}, its inputs give {list(feature.shape)}")

    def _output(self, index: int) -> str:
        name = self.file.tensors[index].name if index >= 0 else "?"
        return self.output(name, self.features.get(index))

    # For the handlers.

    def tensor(self, op: Operator, i: int) -> FileTensor:
        """Input i of an operator, as the file has it. Raises GraphError where there is none."""
        return self.file.tensors[op.inputs[i]] if op.has(i) else op.wrong(f"has no input {i}")

    def feature(self, op: Operator, i: int = 0) -> Feature:
        declared = self.tensor(op, i)
        if op.inputs[i] in self.features:
            return self.features[op.inputs[i]]
        if op.inputs[i] in self.constants:
            op.refuse(f"reads the constant '{declared.name}' where a feature map is expected; convert without it")
        op.wrong(f"reads '{declared.name}', which no operator before it writes")

    def map(self, op: Operator, i: int = 0) -> Tensor:
        """A map of (1, height, width, channels)."""
        x = self.feature(op, i)
        t = x.tensor
        if x.shape != (1, t.h, t.w, t.c) or x.order != kept("hwc", t):
            op.refuse(f"reads '{self.tensor(op, i).name}' of {list(x.shape)}, expected (1, height, width, channels)")
        return t

    def is_constant(self, op: Operator, i: int) -> bool:
        return op.has(i) and op.inputs[i] in self.constants

    def constant(self, op: Operator, i: int) -> np.ndarray:
        declared = self.tensor(op, i)
        if op.inputs[i] not in self.constants:
            op.refuse(f"'{declared.name}' is not a constant; convert the model with it fixed")
        return self.constants[op.inputs[i]]

    def integers(self, op: Operator, i: int) -> list[int]:
        """A constant of whole numbers, such as a shape, one after the other."""
        value = self.constant(op, i)
        if value.dtype not in (np.int32, np.int64):
            op.wrong(f"'{self.tensor(op, i).name}' holds {value.dtype}")
        return value.reshape(-1).tolist()

    def numbers(self, op: Operator, i: int) -> np.ndarray:
        """A constant in float32, dequantised if need be. Raises GraphError where it is not finite."""
        value, declared = self.constant(op, i), self.tensor(op, i)
        if declared.scale.size:
            sides = [1] * value.ndim
            if declared.scale.size > 1:
                if not 0 <= declared.axis < value.ndim or value.shape[declared.axis] != declared.scale.size:
                    op.wrong(f"'{declared.name}' has {declared.scale.size} scales for {list(value.shape)}")
                sides[declared.axis] = -1
            value = (value.astype(np.float32) - declared.zero.reshape(sides)) * declared.scale.reshape(sides)
        with np.errstate(over="ignore"):
            value = value.astype(np.float32)
        if not np.isfinite(value).all():
            op.wrong(f"'{declared.name}' holds values that are not finite")
        return value

    def scale(self, op: Operator, index: int) -> Scale:
        """Scale of the int8 tensor of this index. Raises UnsupportedOp for a tensor of another type."""
        declared = self.file.tensors[index]
        if declared.kind == "uint8":
            op.refuse("computes with uint8 activations; convert the model with int8 ones")
        if declared.kind == "int16":
            op.refuse("computes with int16 activations (16x8); convert the model with int8 ones")
        if declared.kind != "int8":
            op.refuse(f"computes with {declared.kind} in a quantised file; {WHOLE}")
        return self.scale_as_int8(declared)

    def scale_as_int8(self, declared: FileTensor) -> Scale:
        """Scale of an int8 tensor, or of a uint8 one as int8: -128 on the values and the zero point changes nothing."""
        if declared.scale.size != 1 or not LEAST < float(declared.scale[0]) < GREATEST:
            raise GraphError(
                f"{self.path}: '{declared.name}' has not one scale between {LEAST:g} and {GREATEST:g}; {WHOLE}"
            )
        zero = int(declared.zero[0]) - (128 if declared.kind == "uint8" else 0)
        if not -128 <= zero <= 127:
            raise GraphError(f"{self.path}: '{declared.name}' has the zero point {declared.zero[0]}; convert again")
        return Scale(float(declared.scale[0]), zero)

    def put(self, op: Operator, kind: str, inputs: tuple[Tensor, ...], cout: int, **fields) -> Tensor:
        """Append an op that writes the operator's first output, with the scale that the file gives it."""
        y = self.add(op, kind, inputs, cout, **fields)
        if self.quantized:
            self.scales[y.name] = self.scale(op, op.outputs[0])
        return y

    def put_table(self, op: Operator, x: Feature, table: np.ndarray, given: Scale, **fields) -> Feature:
        """Append an op that looks int8 values up in a table (256,), and writes them in the given scale."""
        y = self.add(op, "act", (x.tensor,), x.tensor.c, **fields)
        self.tables[y.name], self.scales[y.name] = table, given
        return Feature(y, x.order, x.shape)

    def op_of(self, x: Feature) -> Op | None:
        """The op that writes a feature, None where it is the image."""
        return self.ops.get(x.tensor.name)
