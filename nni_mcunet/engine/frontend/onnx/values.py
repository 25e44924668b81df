"""Keep what each value of an ONNX file is to its reader: a feature, a constant or integers with a scale. A handler asks
it for the inputs of its node. It goes through no file, which is read.py's part.
"""

from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from ....core.errors import GraphError
from ....core.types import Floats
from ..divided import vector_as_map
from ..feature import Feature, Integers
from ..moved import Moved, moved, settled
from ..views import Views
from .file import Node
from .inputs import Layout, unfolded


class Values(Views[str]):
    """Hold what the handlers build, and what each ONNX value is: a feature, a constant or integers with a scale.
    inputs: the layout of each input."""

    def __init__(self, proto: onnx.ModelProto, path: str, inputs: tuple[Layout, ...]) -> None:
        super().__init__(path)
        self.proto, self.inputs = proto, inputs
        self.shortened = False  # by a window that lies in the padding and which the shapes in the file count
        self.unfolded: tuple[int, ...] | None = None  # what the first Reshape to three or four dimensions gives
        self.rounded: set[str] = set()  # features that are integers in the file, for real numbers
        self.integers: dict[str, Integers] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.initializers = {t.name: t for t in proto.graph.initializer}
        self.opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)

    def feature(self, node: Node, i: int = 0) -> Feature:
        """Return the map that is the input i of a node, behind the ops that move its elements. Raises UnsupportedOp for
        a constant and for an order of elements that no ops give, GraphError for nothing."""
        self.view(node, i)
        return self.given(node.inputs[i])

    def view(self, node: Node, i: int = 0, whole: bool = False) -> Feature | Moved:
        """Return the same, or elements that are moved on before an op has to give them. whole: not where an op can give
        them already."""
        name = node.inputs[i] if node.has(i) else ""
        if name in self.features:
            return self.seen(name, whole)
        if name in self.constants or name in self.initializers or name in self.integers:
            node.refuse(f"reads the constant '{name}' where a feature map is expected; export it without")
        node.wrong(f"reads '{name}', which no node before it writes")

    def others(self) -> list[Layout]:
        """Return the layouts of the input that the nodes gave it, where it was none of four dimensions."""
        flat = self.inputs[0] if len(self.inputs) == 1 else None
        shape = self.unfolded
        return unfolded(flat, shape) if flat and shape and prod(shape) == flat.h * flat.w * flat.c else []

    def map(self, node: Node, i: int = 0) -> Feature:
        """Return the input i of a node that only takes an NCHW map. Raises UnsupportedOp, GraphError."""
        found = self.feature(node, i)
        if not found.is_map and not self.others():  # which are tried first
            found = vector_as_map(self, node, found, "chw") or found
        if not found.is_map:
            found = settled(self, moved(node, found, lambda index: index)) or found
        if not found.is_map:
            node.refuse(f"reads '{node.inputs[i]}' of {list(found.shape)}, no NCHW map; export the model as NCHW")
        return found

    def is_constant(self, name: str) -> bool:
        """Tell whether the ONNX name is that of a constant."""
        return name in self.constants or name in self.initializers

    def constant(self, name: str) -> np.ndarray:
        """Return a constant by its ONNX name. Raises GraphError for one that is broken."""
        if name not in self.constants:
            try:
                self.constants[name] = numpy_helper.to_array(self.initializers[name])
            except Exception as error:  # whatever is wrong with the bytes
                raise GraphError(f"{self.path}: constant '{name}' is broken ({error}); export it again") from None
        return self.constants[name]

    def array(self, node: Node, i: int) -> np.ndarray:
        """Return the constant that is the input i of a node. Raises UnsupportedOp for a map."""
        name = node.inputs[i] if node.has(i) else ""
        if not self.is_constant(name):
            node.refuse(f"'{name}' is not a constant; export the model with it fixed")
        return self.constant(name)

    def numbers(self, node: Node, i: int, finite: bool = True) -> Floats:
        """Return a float constant, dequantised if need be. Raises GraphError where it is not finite, or, if it need not
        be, no number."""
        name = node.inputs[i] if node.has(i) else ""
        value = self.integers[name].real if name in self.integers else self.array(node, i)
        if value is None:
            node.wrong(f"'{name}' has not one scale, or one for each step along its axis")
        if value.dtype.kind not in "fiub":
            node.wrong(f"'{node.inputs[i]}' holds {value.dtype}")
        with np.errstate(over="ignore"):
            value = value.astype(np.float32)
        if np.isnan(value).any() or (finite and np.isinf(value).any()):
            node.wrong(f"'{node.inputs[i]}' holds values that are not finite")
        return value

    def parameter(self, node: Node, i: int) -> np.ndarray | Integers:
        """Return a weight or bias: float, or as it came quantised."""
        name = node.inputs[i]
        return self.integers[name] if name in self.integers else self.numbers(node, i)
