"""Evaluate the nodes of an ONNX file that compute constants, by onnx's own reference implementation, as it is read.

Exporters write shapes, paddings and scales this way. A node that could grow is not evaluated: a file must not make a
constant of gigabytes out of two small ones.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from .file import Node
from .values import Values

MOST = 1 << 24  # elements
ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Where")
SAFE = (
    "Identity", "Cast", "Gather", "Unsqueeze", "Squeeze", "Concat", "Reshape", "Transpose", "Slice", "Neg", "Floor",
    "Ceil", "Sqrt", "Reciprocal", "Flatten", "ReduceProd", "QuantizeLinear", "Split", "Pad", "Expand", *ELEMENTWISE,
)  # fmt: skip


def fold(reader: Values, node: Node) -> bool:
    """Evaluate the node if it computes a constant. Raises GraphError where it cannot be."""
    if node.kind == "Constant":
        reader.constants[node.proto.output[0]] = _value(node)
        return True
    if node.kind in ("Shape", "Size") and (shape := _shape(reader, node)) is not None:
        first, last = node.attribute("start", 0), node.attribute("end", None)
        reader.constants[node.proto.output[0]] = np.array(
            shape[first:last] if node.kind == "Shape" else prod(shape), np.int64
        )
        return True
    given = [name for name in node.inputs if name]
    if not given or not all(map(reader.is_constant, given)):
        return False
    if node.kind == "ConstantOfShape":
        sides = reader.constant(given[0])
        _bound(node, sides.tolist())
        _run(reader, node, {given[0]: sides})
        return True
    if node.kind not in SAFE or (len(node.proto.output) != 1 and node.kind != "Split"):
        return False
    values = {name: reader.constant(name) for name in given}
    if node.kind in ELEMENTWISE:
        try:
            _bound(node, np.broadcast_shapes(*(v.shape for v in values.values())))
        except ValueError as error:
            node.wrong(str(error))
    if node.kind == "Gather":
        _bound(node, [v.size for v in values.values()])
    if node.kind == "Expand":
        _bound(node, [values[given[0]].size, *reader.constant(given[1]).reshape(-1).tolist()])
    if node.kind == "Pad":
        pads = reader.constant(given[1]) if len(given) > 1 else np.array(node.attribute("pads", ()))
        grown = int(np.abs(pads.astype(object)).sum())
        _bound(node, [n + grown for n in values[given[0]].shape])
    _run(reader, node, values)
    return True


def _shape(reader: Values, node: Node) -> tuple[int, ...] | None:
    name = node.inputs[0]
    if name in reader.features:
        return reader.features[name].shape
    return reader.constant(name).shape if reader.is_constant(name) else None


def _bound(node: Node, shape: Sequence[int]) -> None:
    if not all(n >= 0 for n in shape) or prod(shape) > MOST:
        node.wrong(f"makes a constant of {'x'.join(map(str, shape))} elements")


def _value(node: Node) -> np.ndarray:
    for name, value in node.attributes.items():
        if name == "value":
            try:
                return onnx.numpy_helper.to_array(value)
            except Exception as error:  # whatever is wrong with the bytes
                node.wrong(f"its value is broken ({error})")
        if name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
    node.refuse("no tensor, integer or float in it; export it as an initializer")


def _run(reader: Values, node: Node, values: dict[str, np.ndarray]) -> None:
    unknown = onnx.TypeProto()
    graph = helper.make_graph(
        [node.proto],
        "constant",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in values.items()
        ],
        [onnx.ValueInfoProto(name=name, type=unknown) for name in node.proto.output],
    )
    model = helper.make_model(graph, opset_imports=reader.proto.opset_import)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, values)
        reader.constants |= {n: np.asarray(v) for n, v in zip(node.proto.output, results, strict=True)}
    except Exception as error:  # the reference implementation raises whatever numpy does
        node.wrong(f"its constant cannot be computed ({' '.join(str(error).split())[:200]})")
