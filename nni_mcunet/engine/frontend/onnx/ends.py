"""Cut an ONNX file at other values than its outputs: what follows them is neither read nor checked further."""

from collections.abc import Iterator, Sequence

import onnx

from ..outputs import chosen


def ending_at(proto: onnx.ModelProto, path: str, names: Sequence[str]) -> onnx.ModelProto:
    """Return the model with the outputs that the user names, each a node or what it writes. A value that the file
    rounds to 8 bits next ends where it is rounded. Raises UserError for a name that is none."""
    return with_outputs(proto, [_rounded(proto.graph, v) for v in chosen(path, names, _values(proto.graph))])


def with_outputs(proto: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """Return the model with these values as its outputs, in this order."""
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    declared = {value.name: value for value in proto.graph.output}
    del result.graph.output[:]
    result.graph.output.extend(declared.get(name, onnx.ValueInfoProto(name=name)) for name in values)
    return result


def _values(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of what nodes write, then the nodes by their own names."""
    for node in graph.node:
        for name in filter(None, node.output):
            yield name, name
    for node in graph.node:
        if node.name and node.output:
            yield node.name, node.output[0]


def _rounded(graph: onnx.GraphProto, value: str) -> str:
    """Return what QuantizeLinear makes of a value that nothing else reads; else the value."""
    readers = [node for node in graph.node if value in node.input]
    rounds = readers and all(node.op_type == "QuantizeLinear" for node in readers)
    return readers[0].output[0] if rounds else value
