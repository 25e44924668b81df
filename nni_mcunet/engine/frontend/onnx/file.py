"""Read and check an ONNX file before anything in it is understood: its nodes, and which of them matter."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from ....core.errors import GraphError
from ....core.types import FilePath, Plain, PlainDict
from ....core.validate import check_names, file_bytes
from ..builder import Layer

CEIL_MENDED = 22  # the opset from which onnx infers the shape of a pool with ceil_mode as runtimes compute it
A_SCALE_A_CHANNEL, ROUNDED = 13, ("QuantizeLinear", "DequantizeLinear")  # the opset from which these have one
UNCHECKED = "nni_mcunet.unchecked"  # a domain of no operators


def load(path: FilePath) -> onnx.ModelProto:
    """Read a model and the files beside it that hold its constants. Raises FileNotFoundError, and GraphError for a
    file that is no valid ONNX, or that names files which are not there or lie elsewhere."""
    return parse(file_bytes(path, kind=GraphError), str(path))


def parse(data: bytes, path: str) -> onnx.ModelProto:
    """Return the model that the bytes of a file hold; `path` is what messages call it. Raises GraphError."""
    try:
        proto = onnx.load_model_from_string(data)
        _load_outside(path, proto)
        _check(proto)
        for name in _names(proto.graph):
            name.encode()  # protobuf gives names that are no UTF-8 as bytes
    except GraphError:
        raise
    except Exception as error:  # protobuf and the checker raise types of their own
        reason = " ".join(str(error).split())[:500] or "empty file"  # one line; the node's name comes last
        if found := re.search(r"No Op registered for (\w+) with domain_version of (\d+)", reason):
            later = max(_first_opset(found[1]), A_SCALE_A_CHANNEL if found[1] in ROUNDED else 0)
            if later > int(found[2]):
                raise GraphError(
                    f"{path}: {found[1]} came with opset {later} and the file says {found[2]}: convert the model again "
                    f"with opset {later} or later (tf2onnx: --opset {later})"
                ) from None
        again = "export it again"
        if "::DequantizeLinear:10) has input size 1" in reason:  # tf2onnx leaves the scales of channels out
            again = f"convert the model again with opset {A_SCALE_A_CHANNEL} or later (tf2onnx: --opset 13)"
        kind = "neither a .tflite file nor a valid ONNX file" if path.endswith(".tflite") else "not a valid ONNX file"
        raise GraphError(f"{path}: {kind} ({reason}); {again}") from None
    return proto


def _first_opset(kind: str) -> int:
    """Return the opset with which an operator of ONNX came, 0 where there is none of that name."""
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.name == kind and not s.domain]
    return min((s.since_version for s in schemas), default=0)


def _load_outside(path: str, proto: onnx.ModelProto) -> None:
    """Read the constants that lie in files of their own beside the model, as torch's exporter leaves them. Raises
    GraphError for a name that leads out of the folder."""
    files: dict[str, bytes] = {}
    for tensor in _tensors(proto.graph):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        name, first = entry.get("location", ""), int(entry.get("offset", 0))
        check_names([name], path, GraphError)
        beside = Path(path).parent / name
        if not beside.exists():
            raise GraphError(f"{path}: its constants are in the file {name}, which is not beside it; copy it there")
        if name not in files:
            files[name] = file_bytes(beside, kind=GraphError)
        length = int(entry.get("length", len(files[name])))
        if min(first, length) < 0:
            raise GraphError(f"{path}: '{tensor.name}' is {length} bytes from {first} on of {name}; export it again")
        tensor.raw_data = files[name][first:][:length]
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (a.t for a in node.attribute if a.HasField("t"))


def _check(proto: onnx.ModelProto) -> None:
    """Check a model with onnx's checker. It asks for the shapes of outputs, which some exporters leave out: here they
    are inferred, or, where nothing says them, any."""
    if not all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        inferred, copy = onnx.shape_inference.infer_shapes(_inferable(proto)), onnx.ModelProto()
        copy.CopyFrom(proto)
        del copy.graph.output[:]
        copy.graph.output.extend(inferred.graph.output)
        for value in copy.graph.output:
            value.type.tensor_type.shape.SetInParent()
        proto = copy
    onnx.checker.check_model(proto)
    onnx.checker.check_model(_inferable(proto), full_check=True)


def _inferable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model as onnx can infer its shapes: without those of some operators. A Slice of a map of negative
    length ends the process. Before opset 22 a pool with ceil_mode gets a window too many where the last one begins in
    the padding, which onnxruntime and PyTorch leave out."""
    opset = max((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), default=0)
    nodes = enumerate(proto.graph.node)
    at = [i for i, n in nodes if n.op_type == "Slice" or (opset < CEIL_MENDED and is_ceil_pool(n))]
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for i in at:
        copy.graph.node[i].domain = UNCHECKED
    if at:
        copy.opset_import.append(helper.make_opsetid(UNCHECKED, 1))
    return copy


def is_ceil_pool(node: onnx.NodeProto) -> bool:
    """Tell whether it is a pool that rounds its size up."""
    return any(a.name == "ceil_mode" and a.i for a in node.attribute)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    yield graph.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
    for thing in (*graph.initializer, *graph.input, *graph.output):
        yield thing.name


@dataclass(frozen=True)
class Node(Layer):
    """A node of the file with what its handler asks for."""

    path: str
    kind: str
    name: str
    proto: onnx.NodeProto

    @classmethod
    def of(cls, path: str, proto: onnx.NodeProto) -> "Node":
        """Return the node of the file `path`. One without a name is called as its first output."""
        return cls(path, proto.op_type, proto.name or (proto.output[0] if proto.output else "?"), proto)

    @property
    def inputs(self) -> list[str]:
        """Names of the values that it reads, empty for those left away."""
        return list(self.proto.input)

    @cached_property
    def attributes(self) -> PlainDict:
        """The attributes by name. Raises GraphError for one that is broken."""
        try:
            return {a.name: helper.get_attribute_value(a) for a in self.proto.attribute}
        except ValueError as error:
            raise GraphError(f"{self.path}: {self.kind} at '{self.name}': {error}; export it again") from None

    def attribute(self, name: str, default: Plain) -> Plain:
        """Return the value of an attribute, text as str."""
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def has(self, i: int) -> bool:
        """Tell whether it reads an input i."""
        return i < len(self.proto.input) and bool(self.proto.input[i])


def needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on: exporters leave others behind, and runtimes drop them."""
    wanted, found = {value.name for value in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


def shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Return the int64 constants of one dimension by name, such as a Reshape's shape. Broken ones are left out."""
    tensors = [*graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    tensor = onnx.TensorProto()
                    tensor.CopyFrom(attribute.t)
                    tensor.name = node.output[0]
                    tensors.append(tensor)
    found = {}
    for tensor in tensors:
        if tensor.data_type == TensorProto.INT64 and len(tensor.dims) == 1 and 0 < tensor.dims[0] <= 8:
            with contextlib.suppress(Exception):  # whatever is wrong with the bytes is said where they are read
                found[tensor.name] = numpy_helper.to_array(tensor).tolist()
    return found
