"""Keep what each tensor of a .tflite file is to its reader: a feature, or a constant. A handler asks it for the inputs
of its operator, and appends ops that write in the file's scales.
"""

from math import prod
from typing import Any, NoReturn

import numpy as np

from ....core.errors import GraphError
from ....core.ir.graph import Tensor
from ....core.types import Floats
from ...model import Scale
from ..divided import vector_as_map
from ..feature import Feature, kept
from ..moved import Moved
from ..scales import GREATEST, LEAST
from ..views import Views
from .file import File, FileTensor, Operator

INT16 = "computes with int16 activations (16x8); convert the model with int8 ones (TFLITE_BUILTINS_INT8)"
UINT8 = (
    "computes in uint8, as TensorFlow's first converter wrote it: convert the model with int8, or give the ONNX file "
    "that tf2onnx makes of this one (--opset 13)"
)
WHOLE = "quantize the whole model to int8 (the converter's TFLITE_BUILTINS_INT8), or give the float file"


class Values(Views[int]):
    """Hold the graph that handlers build, and say of each tensor of the file whether it is a feature or a constant."""

    def __init__(self, file: File, path: str) -> None:
        super().__init__(path)
        self.file = file
        self.constants = {i: t.data for i, t in enumerate(file.tensors) if t.data is not None}
        self.reals: dict[int, Any] = {}  # float tensors of an int8 file, see islands.py
        self.once: set[str] = set()  # ops that round as ours do
        self.quantized = any(file.tensors[i].kind in ("int8", "uint8") for op in file.needed() for i in op.outputs)

    def tensor(self, op: Operator, i: int) -> FileTensor:
        """Return input i of an operator as the file has it. Raises GraphError where there is none."""
        return self.file.tensors[op.inputs[i]] if op.has(i) else op.wrong(f"has no input {i}")

    def feature(self, op: Operator, i: int = 0) -> Feature:
        """Return the map that is input i, behind the ops that move its elements. Raises UnsupportedOp for a constant
        and for an order of elements that no ops give, GraphError for nothing."""
        self.view(op, i)
        return self.given(op.inputs[i])

    def view(self, op: Operator, i: int = 0, whole: bool = False) -> Feature | Moved:
        """Return the same, or elements that are moved on before an op has to give them. whole: not where an op can give
        them already."""
        declared, index = self.tensor(op, i), op.inputs[i]
        if index in self.features:
            return self.seen(index, whole)
        if index in self.constants:
            op.refuse(f"reads the constant '{declared.name}' where a feature map is expected; convert without it")
        op.wrong(f"reads '{declared.name}', which no operator before it writes")

    def map(self, op: Operator, i: int = 0) -> Tensor:
        """Return input i, a map of (1, height, width, channels). Raises UnsupportedOp for another."""
        t, axes = self.plane(op, i)
        if axes != "hwc":
            self._refuse_map(op, i)
        return t

    def plane(self, op: Operator, i: int = 0) -> tuple[Tensor, str]:
        """Return input i, and "hwc" where it is a map of (1, height, width, channels), "whc" where the file's height is
        the map's width, as of Keras' MaxPooling1D. Raises UnsupportedOp for another."""
        x = self.feature(op, i)
        if x.groups() is None and (spread := vector_as_map(self, op, x, "hwc")):
            x = self.features[op.inputs[i]] = spread
        for axes in ("hwc", "whc"):
            if (x.shape, x.order) == (Feature.of(x.tensor, axes).shape, kept(axes, x.tensor)):
                return x.tensor, axes
        self._refuse_map(op, i)

    def _refuse_map(self, op: Operator, i: int) -> NoReturn:
        op.refuse(
            f"reads '{self.tensor(op, i).name}' of {list(self.feature(op, i).shape)}, expected (1, height, width, "
            "channels); convert without the change of layout before it"
        )

    def declared(self, index: int, found: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that the file declares of a tensor, where that is open as in `found`, the shape that was
        computed: dimension by dimension, or by the number of elements."""
        tensor = self.file.tensors[index]
        if len(found) == len(tensor.shape):
            return tuple(n if i in tensor.open else m for i, (m, n) in enumerate(zip(tensor.shape, found, strict=True)))
        if len(tensor.open) != 1:
            return tensor.shape
        at, size = tensor.open[0], prod(found)
        rest = prod(n for i, n in enumerate(tensor.shape) if i != at)
        return tuple(size // rest if i == at and rest else n for i, n in enumerate(tensor.shape))

    def is_constant(self, op: Operator, i: int) -> bool:
        """Tell whether input i is a constant."""
        return op.has(i) and op.inputs[i] in self.constants

    def constant(self, op: Operator, i: int) -> np.ndarray:
        """Return the constant that is input i, as the file has it. Raises UnsupportedOp for a map."""
        declared = self.tensor(op, i)
        if op.inputs[i] not in self.constants:
            op.refuse(f"'{declared.name}' is not a constant; convert the model with it fixed")
        return self.constants[op.inputs[i]]

    def integers(self, op: Operator, i: int) -> list[int]:
        """Return a constant of whole numbers, such as a shape, one after the other. Raises GraphError for others."""
        value = self.constant(op, i)
        if value.dtype not in (np.int32, np.int64):
            op.wrong(f"'{self.tensor(op, i).name}' holds {value.dtype}")
        return value.reshape(-1).tolist()

    def numbers(self, op: Operator, i: int) -> Floats:
        """Return a constant in float32, dequantised if need be. Raises GraphError where it is not finite."""
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
        """Return the scale of the int8 tensor of this index. Raises UnsupportedOp for a tensor of another type."""
        declared = self.file.tensors[index]
        if declared.kind == "uint8":
            op.refuse(UINT8)
        if declared.kind == "int16":
            op.refuse(INT16)
        if declared.kind != "int8":
            op.refuse(f"computes with {declared.kind} in a quantised file; {WHOLE}")
        return self.scale_as_int8(declared)

    def scale_as_int8(self, declared: FileTensor) -> Scale:
        """Return the scale of an int8 tensor, or of a uint8 one as int8: -128 on the values and the zero point changes
        nothing. Raises GraphError for one that is none to compute with."""
        if declared.scale.size != 1 or not LEAST < float(declared.scale[0]) < GREATEST:
            raise GraphError(
                f"{self.path}: '{declared.name}' has not one scale between {LEAST:g} and {GREATEST:g}; {WHOLE}"
            )
        zero = int(declared.zero[0]) - (128 if declared.kind == "uint8" else 0)
        if not -128 <= zero <= 127:
            raise GraphError(f"{self.path}: '{declared.name}' has the zero point {declared.zero[0]}; convert again")
        return Scale(float(declared.scale[0]), zero)

    def put(self, op: Operator, kind: str, inputs: tuple[Tensor, ...], cout: int, **fields: Any) -> Tensor:
        """Append an op that writes the operator's first output, with the scale that the file gives it."""
        y = self.add(op, kind, inputs, cout, **fields)
        if self.quantized:
            self.scales[y.name] = self.scale(op, op.outputs[0])
        return y

    def put_table(self, op: Operator, x: Feature, table: np.ndarray, given: Scale, **fields: Any) -> Feature:
        """Append an op that looks int8 values up in a table (256,), or one a channel (c, 256), and writes them in the
        given scale."""
        y = self.add(op, "act", (x.tensor,), x.tensor.c, groups=1 if table.ndim == 1 else x.tensor.c, **fields)
        self.tables[y.name], self.scales[y.name] = table, given
        return Feature(y, x.order, x.shape)
