"""An ONNX file before anything in it is understood: read and checked, its nodes, and which of them matter."""

from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import TensorProto, helper

from ..core.errors import GraphError, UnsupportedOp
from ..core.validate import file_bytes

# What TensorFlow's converters leave between a picture and its transposition to NCHW.
BEFORE_LAYOUT = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity", "Add", "Sub", "Mul", "Div")


def load(path) -> onnx.ModelProto:
    """Raises FileNotFoundError, and GraphError for what is no valid ONNX file."""
    data = file_bytes(path, kind=GraphError)
    try:
        proto = onnx.load_model_from_string(data)
        apart = [t.name for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL]
        if not apart:
            onnx.checker.check_model(proto, full_check=True)
        for name in _names(proto.graph):
            name.encode()  # protobuf gives names that are no UTF-8 as bytes
    except Exception as error:  # protobuf and the checker raise types of their own
        reason = " ".join(str(error).split())[:500] or "empty file"  # one line; the node's name comes last
        raise GraphError(f"{path}: not a valid ONNX file ({reason}); export it again") from None
    if apart:
        raise GraphError(f"{path}: '{apart[0]}' is in a file of its own; save the model as one file")
    return proto


def _names(graph: onnx.GraphProto):
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for thing in (*graph.initializer, *graph.input, *graph.output):
        yield thing.name


@dataclass(frozen=True)
class Node:
    """A node of the file with what its handler asks for."""

    path: str
    proto: onnx.NodeProto
    opset: int

    @property
    def kind(self) -> str:
        return self.proto.op_type

    @property
    def name(self) -> str:
        return self.proto.name or (self.proto.output[0] if self.proto.output else "?")

    @property
    def inputs(self) -> list[str]:
        return list(self.proto.input)

    @cached_property
    def attributes(self) -> dict:
        try:
            return {a.name: helper.get_attribute_value(a) for a in self.proto.attribute}
        except ValueError as error:
            raise GraphError(f"{self.path}: {self.kind} at '{self.name}': {error}; export it again") from None

    def attribute(self, name: str, default):
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def has(self, i: int) -> bool:
        return i < len(self.proto.input) and bool(self.proto.input[i])

    def refuse(self, why: str):
        """Raises UnsupportedOp; `why` ends with the way out."""
        raise UnsupportedOp(f"{self.path}: {self.kind} at '{self.name}': {why}")

    def wrong(self, why: str):
        """Raises GraphError for what no exporter would write."""
        raise GraphError(f"{self.path}: {self.kind} at '{self.name}': {why}; export it again")


def needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the outputs depend on: exporters leave others behind, and runtimes drop them."""
    wanted, found = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def is_channels_last(nodes: list[onnx.NodeProto], name: str) -> bool:
    """Do all ways from the input lead, through nothing but BEFORE_LAYOUT, to a transposition from NHWC to NCHW?"""
    names, turns = {name}, []
    for node in nodes:
        if names.isdisjoint(node.input):
            continue
        if node.op_type == "Transpose":
            turns.append({a.name: list(a.ints) for a in node.attribute}.get("perm"))
        elif node.op_type in BEFORE_LAYOUT:
            names.update(node.output)
        else:
            return False
    return bool(turns) and all(turn == [0, 3, 1, 2] for turn in turns)
