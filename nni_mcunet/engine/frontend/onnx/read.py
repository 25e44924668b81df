"""Read an ONNX file as Graph + weights (+ scales): ours, and those of other exporters.

It reads float files, QDQ files and QLinear* files (also com.microsoft's), opset 7 and later, NCHW, batch 1. One pass
over the nodes that an output depends on: operators.py (with linear.py and layout.py) and quantized.py say what each
operator is in our graph, fuse.py then fuses what a kernel does at once. Whatever is not known is refused by name. A
file that arrives quantised keeps its integers.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import onnx

from ....core.errors import CutWarning, GraphError, UnsupportedOp, UserError
from ....core.types import FilePath, PlainDict
from ....core.validate import parse_json
from ....core.view import STRETCH, View
from ...model import Model, QuantModel
from ..feature import Feature, kept
from ..outputs import cut_text
from .boxes import without_boxes
from .constants import fold
from .decoding import maps_before
from .ends import ending_at, with_outputs
from .file import Node, load, needed, parse
from .gains import with_gains, without_gains
from .inputs import Layout, first_tries
from .layout import MOVES
from .module_names import named_by_modules
from .operators import NODES
from .quantized import QUANTIZED
from .signals import change_of, on_a_signal
from .unknown import unknown
from .values import Values
from .write import META_KEY

DOMAINS = ("", "ai.onnx", "com.microsoft")
LEAST_OPSET = 7


def load_onnx(
    path: FilePath, size: tuple[int, int] | None = None, outputs: Sequence[str] | None = None
) -> Model | QuantModel:
    """Return the Model of a float file, the QuantModel of a quantised one.

    size: (h, w) of the image, for a file that leaves them open; outputs: nodes or values at which the network ends.
    Where none are given and the file decodes boxes or names a class, it ends at the maps before (CutWarning). Raises
    FileNotFoundError, GraphError for a file that is no valid ONNX or whose numbers are none to compute with, UserError
    for outputs that it lacks, UnsupportedOp naming the node.
    """
    (proto, gains), name = without_gains(without_boxes(load(path))), str(path)
    found = _up_to_boxes(proto, name, size) if outputs is None else _ending_at(proto, name, size, outputs)
    return with_gains(found, gains)


def _up_to_boxes(
    proto: onnx.ModelProto, path: str, size: tuple[int, int] | None, by_shape: bool = False
) -> Model | QuantModel:
    """Return the network up to the maps from which the file decodes boxes or names a class, the whole where it does
    neither. by_shape: as of `_tried`."""
    first: UnsupportedOp | None = None
    does = ""
    refused: set[str] = set()
    cut = proto
    while True:
        found, at = _tried(cut, path, size, by_shape)
        if not isinstance(found, UserError):
            if first:
                warnings.warn(cut_text(path, found.graph.outputs, first, does), CutWarning, stacklevel=2)
            return found
        if not isinstance(found, UnsupportedOp):
            raise found
        first = first or found
        refused.add(at)
        ends = maps_before(proto.graph, refused) if at else None
        if ends is None:
            raise first from None
        cut, does = with_outputs(proto, ends.values), ends.does


def _ending_at(
    proto: onnx.ModelProto, path: str, size: tuple[int, int] | None, outputs: Sequence[str]
) -> Model | QuantModel:
    """Return the network up to `outputs`: no detector any more, unless they are the maps of one."""
    cut = ending_at(proto, path, outputs)
    found, _ = _tried(cut, path, size)
    if isinstance(found, UserError):
        raise found
    if [v.name for v in cut.graph.output] == [v.name for v in proto.graph.output]:
        return found
    meta = {key: value for key, value in found.meta.items() if key != "detector"}
    if "equalized" in meta:  # factors of convolutions that are not there any more
        meta["equalized"] = {name: f for name, f in meta["equalized"].items() if name in found.graph.tensors}
    return replace(found, meta=meta)


def load_exported(data: bytes, name: str, outputs: Sequence[str] | None = None) -> tuple[Model | QuantModel, bool]:
    """Return what load_onnx does, for the bytes of a file that torch.onnx has exported, and whether it ends where the
    file does; layers have the names of their modules. name: of the module that it was made of, as the network and
    messages are called. Raises what load_onnx raises."""
    proto = named_by_modules(parse(data, name))
    proto.graph.name = name
    if outputs is not None:
        return _ending_at(proto, name, None, outputs), False
    found, _ = _tried(proto, name, None, by_shape=True)
    if isinstance(found, UserError):
        return _up_to_boxes(proto, name, None, by_shape=True), False
    return found, True


def _tried(
    proto: onnx.ModelProto, path: str, size: tuple[int, int] | None, by_shape: bool = False
) -> tuple[Model | QuantModel | UserError, str]:
    """Return what the file holds, under the first layout of its input that its nodes take; where there is none, the
    error under the layout that takes the most of them, and the first output of the node that raised it. by_shape: the
    outputs' shapes have to say how they are counted."""
    nodes = needed(proto.graph)
    tries = first_tries(path, proto, nodes, size)
    furthest, stopped, at = -1, UserError(), ""
    for inputs in tries:  # which grows
        reader = Reader(proto, path, nodes, inputs, by_shape)
        try:
            return reader.read(), ""
        except UserError as error:
            if reader.done > furthest:
                furthest, stopped, at = reader.done, error, reader.at
        tries += [(other,) for other in reader.others() if (other,) not in tries]
    return stopped, at


class Reader(Values):
    """Go through a file, node by node. nodes: those to read; inputs: the layout of each input; done: nodes read;
    by_shape: whether the outputs' shapes have to say how they are counted."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        path: str,
        nodes: list[onnx.NodeProto],
        inputs: tuple[Layout, ...],
        by_shape: bool,
    ) -> None:
        super().__init__(proto, path, inputs)
        self.nodes, self.by_shape, self.done = nodes, by_shape, 0
        self.at = ""  # first output of the node that is being read

    def read(self) -> Model | QuantModel:
        """Return what the file holds. Raises GraphError or UnsupportedOp."""
        if self.opset < LEAST_OPSET:
            raise UnsupportedOp(
                f"{self.path}: opset {self.opset}, expected {LEAST_OPSET} or later: onnx.version_converter converts it"
            )
        meta = self._metadata()
        blocks = meta.pop("blocks", {})
        for layout in self.inputs:
            tensor = self.add_image(layout.name, layout.h, layout.w, layout.c)
            self.features[layout.name] = Feature(tensor, kept(layout.order, tensor), layout.shape)
        for proto in self.nodes:
            self.at = proto.output[0]
            self._node(Node.of(self.path, proto))
            self.done += 1
        self.images()
        outputs = tuple(self._output(value) for value in self.proto.graph.output)
        return self.model(self.proto.graph.name, outputs, meta, blocks)

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

    def _node(self, node: Node) -> None:
        if node.proto.domain not in DOMAINS:
            node.refuse(f"operators of '{node.proto.domain}' are not known; export with ONNX's own")
        if fold(self, node):
            return
        handler = NODES.get(node.kind) or QUANTIZED.get(node.kind)
        if handler is None:
            unknown(node)
        moved = node.kind in MOVES and node.inputs[0] in self.rounded
        if node.kind in NODES and not moved and not self.rounded.isdisjoint(node.inputs):
            node.refuse("computes with 8-bit integers as if they were numbers; put a DequantizeLinear before it")
        change = change_of(self, node)
        found = on_a_signal(self, node, change, handler) if change else handler(self, node)
        results = found if isinstance(found, Sequence) else [found]
        for name, result in zip(node.proto.output, results, strict=False):
            if result is not None:
                self.features[name] = result
                if moved or (node.kind in QUANTIZED and node.kind != "DequantizeLinear"):
                    self.rounded.add(name)

    def _output(self, value: onnx.ValueInfoProto) -> str:
        self.at = next((node.output[0] for node in self.proto.graph.node if value.name in node.output), "")
        found = self.given(value.name) if value.name in self.features else None
        name = self.output(value.name, found)
        shape = self.features[value.name].shape
        if self.by_shape and found and found.looks_like_a_map:
            raise GraphError(
                f"{self.path}: output '{name}' of {list(shape)} counts its channels last, which its shape does not "
                "tell: return the map as (1, channels, height, width), or one with other sides"
            )
        declared = [] if self.shortened else [max(d.dim_value, 0) for d in value.type.tensor_type.shape.dim]
        fits = all(a in (0, b) for a, b in zip(declared, shape, strict=False))
        if declared and (len(declared) != len(shape) or not fits):
            raise GraphError(f"{self.path}: output '{value.name}' is {declared}, its nodes give {list(shape)}")
        return name
