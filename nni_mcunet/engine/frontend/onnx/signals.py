"""Read operators on signals (1, channels, positions), as torch's Conv1d and its kind export them: as those on maps of
one row. The map, the weights and the attributes get a dimension for the height.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import onnx
from onnx import helper

from ..feature import Feature
from ..moved import Moved, reshaped
from .file import Node
from .values import Values

# Operators that want a height -> their constants that have an entry or a dimension for it.
WINDOWED = {
    "Conv": (1,), "ConvTranspose": (1,), "QLinearConv": (3,), "MaxPool": (), "AveragePool": (),
    "QLinearAveragePool": (), "Resize": (1, 2, 3), "Upsample": (1,), "Pad": (1,),
}  # fmt: skip
# Their attributes that do, and what it is.
PER_SIDE = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_shape": 1, "scales": 1, "output_padding": 0,
            "pads": 0}  # fmt: skip
Found = TypeVar("Found")


def is_signal(reader: Values, node: Node) -> bool:
    """Tell whether it is such an operator on a signal."""
    found = reader.features.get(node.inputs[0]) if node.kind in WINDOWED and node.inputs else None
    return found is not None and len(found.shape) == 3


def on_a_signal(reader: Values, node: Node, handler: Callable[[Values, Node], Found]) -> Found | Feature | Moved:
    """Read the operator by the handler for maps. Raises what that raises, and UnsupportedOp for a Pad of some axes."""
    if node.kind == "Pad" and node.has(3):
        node.refuse("names axes of a signal: export it with the pads of all its dimensions")
    attributes = {
        name: _with_height(value, PER_SIDE[name], 2 if name == "pads" else 1) if name in PER_SIDE else value
        for name, value in node.attributes.items()
    }
    inputs = list(node.inputs)
    inputs[0] = _map_of(reader, node)
    for i in WINDOWED[node.kind]:
        if node.has(i):
            inputs[i] = _constant(reader, node, i)
    proto = onnx.NodeProto(input=inputs, output=node.proto.output)
    proto.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    y = handler(reader, replace(node, proto=proto))
    if not isinstance(y, Feature | Moved):
        return y
    *first, _, length = y.shape
    return reshaped(node, y, (*first, length)) or node.wrong(f"gives {list(y.shape)}")


def _with_height(values: list[int] | list[float], height: int, rows: int) -> list[int] | list[float]:
    """Return an entry for each dimension, or `rows` of them, with that of the height before the last."""
    each = np.array(values).reshape(rows, -1)
    found: list[int] | list[float] = np.insert(each, each.shape[1] - 1, height, 1).ravel().tolist()
    return found


def _map_of(reader: Values, node: Node) -> str:
    """Return the name of the signal as a map."""
    x, name = reader.view(node), f"{node.inputs[0]} as a map"
    found = reshaped(node, x, (*x.shape[:2], 1, x.shape[2]))
    reader.features[name] = found or node.wrong(f"reads {list(x.shape)}")
    if node.inputs[0] in reader.rounded:
        reader.rounded.add(name)
    return name


def _constant(reader: Values, node: Node, i: int) -> str:
    """Return the name of a constant with an entry or a dimension for the height."""
    given = node.inputs[i]
    name = f"{given} of {node.name}"
    if given in reader.integers:
        found = reader.integers[given]
        reader.integers[name] = replace(found, values=_higher(node, found.values))
    else:
        reader.constants[name] = _higher(node, reader.array(node, i))
    return name


def _higher(node: Node, values: np.ndarray) -> np.ndarray:
    if values.ndim == 3:
        return values[:, :, None]
    rows = 2 if node.kind == "Pad" else 1
    if values.ndim != 1 or values.size != 3 * rows:
        return values  # a Resize's unused inputs; the handler refuses others
    return np.array(_with_height(values.tolist(), 0 if node.kind == "Pad" else 1, rows), values.dtype)
