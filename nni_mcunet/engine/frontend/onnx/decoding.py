"""Find where a file stops being a network and begins to decode boxes or to choose classes: behind its last maps.

Exporters put decoding into the file: maps are reshaped to rows of positions, joined, split, scaled by strides and
anchors, sorted, suppressed. The engine leaves that to the user's C. A file is only cut where all that is cut off has no
weights and leads to the outputs, and where a node that the reader refuses puts positions into another order or all that
follows joins or sorts them or names the greatest. Everything else stays refused.
"""

from collections.abc import Set

import numpy as np
import onnx
from onnx import numpy_helper

from ..tail import CLASSES, Ends, purpose, read_by
from .file import needed, shapes

LAYOUT = ("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Cast")
CHOICES = ("ArgMax", "ArgMin", "TopK", "LogSoftmax")
JOINS = ("Concat", "QLinearConcat", "NonMaxSuppression")
# Kinds of nodes without weights that decode boxes.
DECODING = {
    *LAYOUT, *JOINS, *CHOICES, "Split", "Slice", "Gather", "GatherElements", "GatherND", "ScatterND", "Expand", "Tile",
    "Shape", "Range", "Where", "ConstantOfShape", "NonZero", "ReduceMax", "ReduceMin", "ReduceSum", "Add", "Sum",
    "Sub", "Mul", "Div", "Mod", "Pow", "Exp", "Sqrt", "Neg", "Floor", "Ceil", "Round", "Min", "Max", "Clip", "Sigmoid",
    "Tanh", "Softmax", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not",
    "QuantizeLinear", "DequantizeLinear", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax",
}  # fmt: skip
# Linear nodes decode where their weights are 0, 1, 2, ...: the expectation of a distance (DFL, Li et al. 2020).
EXPECTATIONS = ("Conv", "MatMul", "Gemm")
# Kinds that the decoding takes with it where nothing else reads them: the network ends at its last convolutions.
BEFORE = {*LAYOUT, "Concat", "QLinearConcat", "Split", "Slice", "Sigmoid", "Softmax", "QuantizeLinear",
          "DequantizeLinear", "QLinearSigmoid", "QLinearSoftmax"}  # fmt: skip


def maps_before(graph: onnx.GraphProto, refused: Set[str]) -> Ends[str] | None:
    """Return the values at which the network ends, in the order in which what follows reads them; outputs that do not
    depend on it stay outputs. refused: first outputs of the nodes that the reader refuses. None where what they lead to
    is neither decoding nor a choice."""
    nodes = needed(graph)
    live = _live(graph, nodes)
    tail = {i for i, node in enumerate(nodes) if node.output[0] in refused}
    stopped = [nodes[i] for i in tail]
    decoded: set[str] = set()
    for i, node in enumerate(nodes):
        if i in tail or not decoded.isdisjoint(node.input):
            tail.add(i)
            decoded.update(node.output)
    if not all(_decodes(graph, nodes, nodes[i], live) for i in tail) or not _is_clear(graph, nodes, tail, stopped):
        return None
    outputs = [value.name for value in graph.output]
    kinds = {nodes[i].op_type for i in tail if not live.isdisjoint(nodes[i].output)}
    does = purpose(kinds, CHOICES, BEFORE)
    if does != CLASSES or not kinds.isdisjoint(JOINS):
        tail = _with_what_leads_there(nodes, tail, outputs, live)
    reads = {name: list(nodes[i].input) for i in tail for name in nodes[i].output}
    ends = Ends(read_by(reads, outputs, live), does)
    return ends if {name for node in nodes for name in node.output}.issuperset(ends.values) else None


def _live(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> set[str]:
    """Return the values that depend on what the network reads, not on its shape only."""
    constants = {tensor.name for tensor in graph.initializer}
    found = {value.name for value in graph.input} - constants
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and not found.isdisjoint(node.input):
            found.update(name for name in node.output if name)
    return found


def _is_clear(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], tail: set[int], stopped: list[onnx.NodeProto]
) -> bool:
    """Tell whether positions are joined or sorted, the greatest is named, or channels become anchors for good: no map
    of four dimensions comes out again, as it does of a channel shuffle."""
    if any(nodes[i].op_type in (*JOINS, *CHOICES) for i in tail):
        return True
    known = shapes(graph)
    four = any(len(known.get(name, ())) == 4 for i in tail if nodes[i].op_type == "Reshape" for name in nodes[i].input)
    return not four and all(node.op_type in ("Reshape", "Transpose") for node in stopped)


def _decodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], node: onnx.NodeProto, live: set[str]) -> bool:
    if node.op_type in DECODING:
        return True
    weights = [name for name in node.input if name not in live]
    if node.op_type not in EXPECTATIONS or len(weights) != 1:
        return False
    value = _constant(graph, nodes, weights[0])
    return value is not None and np.allclose(value.reshape(-1), np.arange(value.size), rtol=0.02, atol=0.1)


def _constant(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str) -> np.ndarray | None:
    """Return a constant in real numbers, None for one that is computed otherwise than by dequantising."""
    for tensor in graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    writer = next(node for node in nodes if name in node.output)
    if writer.op_type == "Constant":
        return next((numpy_helper.to_array(a.t) for a in writer.attribute if a.name == "value"), None)
    if writer.op_type == "Identity":
        return _constant(graph, nodes, writer.input[0])
    if writer.op_type != "DequantizeLinear":
        return None
    parts = [_constant(graph, nodes, one) for one in writer.input]
    if any(part is None or (i and part.size != 1) for i, part in enumerate(parts)):
        return None
    values, scale, *zero = (np.asarray(part, np.float64) for part in parts)
    return (values - (zero[0] if zero else 0)) * scale


def _with_what_leads_there(nodes: list[onnx.NodeProto], tail: set[int], outputs: list[str], live: set[str]) -> set[int]:
    """Return the tail with the nodes before it that only it reads, back to the last convolutions."""
    readers: dict[str, set[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, set()).add(i)
    found = set(tail)
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        lone = all(readers.get(name, set()) <= found and name not in outputs for name in node.output)
        if i not in found and node.op_type in BEFORE and lone and not live.isdisjoint(node.input):
            found.add(i)
    writers = {name: i for i, node in enumerate(nodes) for name in node.output}
    for i in sorted(found - tail):  # a map that the file rounds ends rounded
        if nodes[i].op_type == "QuantizeLinear" and writers.get(nodes[i].input[0]) not in found:
            found.remove(i)
    return found
