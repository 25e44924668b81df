"""Read an ONNX file as Graph + weights (+ scales): ours, and those of other exporters.

It reads float files, QDQ files and QLinear* files (also com.microsoft's), opset 11 and later, NCHW, batch 1. One pass
over the nodes that an output depends on: operators.py (with linear.py and layout.py) and quantized.py say what each
operator is in our graph, fuse.py then fuses what a kernel does at once. Whatever is not known is refused by name. A
file that arrives quantised keeps its integers.
"""

import numpy as np
import onnx
from onnx import numpy_helper

from ....core.errors import GraphError, UnsupportedOp, UserError
from ....core.types import FilePath, Floats, PlainDict
from ....core.validate import parse_json
from ....core.view import STRETCH, View
from ...model import Model, QuantModel
from ..builder import Builder
from ..feature import Feature, Integers
from .boxes import without_boxes
from .constants import fold
from .file import Node, is_channels_last, load, needed, shapes
from .layout import MOVES
from .operators import NODES
from .quantized import QUANTIZED
from .write import META_KEY

DOMAINS = ("", "ai.onnx", "com.microsoft")
LEAST_OPSET = 11


def load_onnx(path: FilePath, size: tuple[int, int] | None = None) -> Model | QuantModel:
    """Return the Model of a float file, the QuantModel of a quantised one.

    size: (h, w) of the image, for a file that leaves them open. Raises FileNotFoundError, GraphError for a file that
    is no valid ONNX or whose numbers are none to compute with, UnsupportedOp naming the node.
    """
    return Reader(without_boxes(load(path)), str(path), size).read()


class Reader(Builder):
    """Hold what the handlers build, and what each ONNX value is: a feature, a constant or integers with a scale."""

    def __init__(self, proto: onnx.ModelProto, path: str, size: tuple[int, int] | None) -> None:
        super().__init__(path)
        self.proto, self.size = proto, size
        self.features: dict[str, Feature] = {}
        self.shortened = False  # by a window that lies in the padding and which the shapes in the file count
        self.rounded: set[str] = set()  # features that are integers in the file, for real numbers
        self.integers: dict[str, Integers] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.initializers = {t.name: t for t in proto.graph.initializer}
        self.opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)

    def read(self) -> Model | QuantModel:
        """Return what the file holds. Raises GraphError or UnsupportedOp."""
        if self.opset < LEAST_OPSET:
            raise UnsupportedOp(
                f"{self.path}: opset {self.opset}, expected {LEAST_OPSET} or later: onnx.version_converter converts it"
            )
        meta = self._metadata()
        blocks = meta.pop("blocks", {})
        nodes = needed(self.proto.graph)
        read, constants = {name for node in nodes for name in node.input}, shapes(self.proto.graph)
        for value in self.proto.graph.input:
            if value.name in read and value.name not in self.initializers:
                self._input(value, "hwc" if is_channels_last(nodes, value, constants) else "chw")
        for proto in nodes:
            self._node(Node.of(self.path, proto))
        self.images()
        outputs = tuple(self._output(value) for value in self.proto.graph.output)
        return self.model(self.proto.graph.name or "onnx", outputs, meta, blocks)

    def _metadata(self) -> PlainDict:
        for entry in self.proto.metadata_props:
            if entry.key == META_KEY:
                meta = parse_json(entry.value, f"{self.path}: metadata '{META_KEY}'", GraphError)
                if not isinstance(meta, dict) or not isinstance(meta.get("detector", {}), dict):
                    raise GraphError(f"{self.path}: metadata '{META_KEY}' describes no detector; export again")
                self._check_view(meta)
                return meta
        return {}

    def _check_view(self, meta: PlainDict) -> None:
        try:
            View.parse(meta.get("view", str(STRETCH)))
        except UserError as error:
            raise GraphError(f"{self.path}: metadata '{META_KEY}': {error}; export again") from None

    def _input(self, value: onnx.ValueInfoProto, order: str) -> None:
        """Add an input. order: "chw" for NCHW, "hwc" for NHWC. An input of three dimensions is one channel: batch,
        height, width."""
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        order = "hw" if len(shape) == 3 else order
        if len(shape) == 1 + len(order) and self.size:
            for axis, length in zip("hw", self.size, strict=True):
                at = 1 + order.index(axis)
                if shape[at] not in (0, length):
                    raise GraphError(f"{self.path}: the input is fixed at {shape}, not for pictures of {self.size}")
                shape[at] = length
        if len(shape) != 1 + len(order) or min(shape[1:]) < 1 or shape[0] not in (0, 1):
            raise GraphError(
                f"{self.path}: input '{value.name}' has the shape {shape}; export it as fixed NCHW of batch 1, or give "
                "the picture's size where height and width are open"
            )
        sides = dict(zip(order, shape[1:], strict=True))
        tensor = self.add_image(value.name, sides["h"], sides["w"], sides.get("c", 1))
        self.features[value.name] = Feature.of(tensor, order)

    def _node(self, node: Node) -> None:
        if node.proto.domain not in DOMAINS:
            node.refuse(f"operators of '{node.proto.domain}' are not known; export with ONNX's own")
        if fold(self, node):
            return
        handler = NODES.get(node.kind) or QUANTIZED.get(node.kind)
        if handler is None:
            names = ", ".join(sorted({*NODES, *QUANTIZED}))
            raise UnsupportedOp(
                f"{self.path}: {node.kind} at '{node.name}' is not known; rewrite the model without it. Known: {names}"
            )
        moved = node.kind in MOVES and node.inputs[0] in self.rounded
        if node.kind in NODES and not moved and not self.rounded.isdisjoint(node.inputs):
            node.refuse("computes with 8-bit integers as if they were numbers; put a DequantizeLinear before it")
        result = handler(self, node)
        if isinstance(result, Feature):
            self.features[node.proto.output[0]] = result
            if moved or (node.kind in QUANTIZED and node.kind != "DequantizeLinear"):
                self.rounded.add(node.proto.output[0])

    def _output(self, value: onnx.ValueInfoProto) -> str:
        name = self.output(value.name, self.features.get(value.name))
        shape = self.features[value.name].shape
        declared = [] if self.shortened else [d.dim_value for d in value.type.tensor_type.shape.dim]
        fits = all(a in (0, b) for a, b in zip(declared, shape, strict=False))
        if declared and (len(declared) != len(shape) or not fits):
            raise GraphError(f"{self.path}: output '{value.name}' is {declared}, its nodes give {list(shape)}")
        return name

    # Handlers ask for these.

    def feature(self, node: Node, i: int = 0) -> Feature:
        """Return the map that is the input i of a node. Raises UnsupportedOp for a constant, GraphError for nothing."""
        name = node.inputs[i] if node.has(i) else ""
        if name in self.features:
            return self.features[name]
        if name in self.constants or name in self.initializers or name in self.integers:
            node.refuse(f"reads the constant '{name}' where a feature map is expected; export it without")
        node.wrong(f"reads '{name}', which no node before it writes")

    def map(self, node: Node, i: int = 0) -> Feature:
        """Return the input i of a node that only takes an NCHW map. Raises UnsupportedOp, GraphError."""
        found = self.feature(node, i)
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
            node.refuse(f"'{name}' has many scales; quantize it with one")
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
