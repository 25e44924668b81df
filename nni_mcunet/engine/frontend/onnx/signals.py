"""Read operators on signals (1, channels, positions), as torch's Conv1d and its kind export them: as those on maps of
one row. The map, the weights and the attributes get a dimension for the height. A signal that a file counts as a map of
one column (1, channels, positions, 1), as Keras' 1-D layers do by turns, is read as one of one row, too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import onnx
from onnx import helper

from ..feature import Feature
from ..moved import Moved, reshaped, transposed
from .file import Node
from .values import Values

# Operators that want a height -> their constants that have an entry or a dimension for it.
WINDOWED = {
    "Conv": (1,), "ConvTranspose": (1,), "QLinearConv": (3,), "MaxPool": (), "AveragePool": (),
    "QLinearAveragePool": (), "Resize": (1, 2, 3), "Upsample": (1,),
}  # fmt: skip
# Their attributes that do, and what it is.
PER_SIDE = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_shape": 1, "scales": 1, "output_padding": 0,
            "pads": 0}  # fmt: skip
Found = TypeVar("Found")


@dataclass(frozen=True)
class Change:
    """Functions that make an operator on a signal one on a map of one row. view, back: of what it reads and gives;
    values: of weights; entries: of an attribute with `rows` of one for each side."""

    view: Callable[[Node, Feature | Moved], Feature | Moved | None]
    back: Callable[[Node, Feature | Moved], Feature | Moved | None]
    values: Callable[[np.ndarray], np.ndarray]
    entries: Callable[[np.ndarray, int], np.ndarray]  # (rows, sides), and the entry of the height


def change_of(reader: Values, node: Node) -> Change | None:
    """Return what makes the operator one on a map of one row, None for one that is, or that has no window."""
    found = reader.features.get(node.inputs[0]) if node.kind in WINDOWED and node.inputs else None
    if found is None:
        return None
    if len(found.shape) == 3:
        return WITH_HEIGHT
    return TURNED if isinstance(found, Feature) and found.is_turned else None


def on_a_signal(
    reader: Values, node: Node, change: Change, handler: Callable[[Values, Node], Found]
) -> Found | Feature | Moved:
    """Read the operator by the handler for maps. Raises what that raises."""
    attributes = {
        name: _changed(np.array(value), PER_SIDE[name], 2 if name == "pads" else 1, change)
        if name in PER_SIDE
        else value
        for name, value in node.attributes.items()
    }
    inputs = list(node.inputs)
    inputs[0] = _map_of(reader, node, change)
    for i in WINDOWED[node.kind]:
        if node.has(i):
            inputs[i] = _constant(reader, node, i, change)
    proto = onnx.NodeProto(input=inputs, output=node.proto.output)
    proto.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    y = handler(reader, replace(node, proto=proto))
    if not isinstance(y, Feature | Moved):
        return y
    return change.back(node, y) or node.wrong(f"gives {list(y.shape)}")


def _changed(values: np.ndarray, height: int, rows: int, change: Change) -> list[int] | list[float]:
    """Return the entries of an attribute or a constant, `rows` of one for each side; others as they are."""
    if values.ndim != 1 or values.size == 0 or values.size % rows:
        return values.tolist()
    found: list[int] | list[float] = change.entries(values.reshape(rows, -1), height).ravel().tolist()
    return found


def _map_of(reader: Values, node: Node, change: Change) -> str:
    """Return the name of the signal as a map."""
    x, name = reader.view(node), f"{node.inputs[0]} as a map"
    reader.features[name] = change.view(node, x) or node.wrong(f"reads {list(x.shape)}")
    if node.inputs[0] in reader.rounded:
        reader.rounded.add(name)
    return name


def _constant(reader: Values, node: Node, i: int, change: Change) -> str:
    """Return the name of a constant with an entry or a dimension for the height."""
    given = node.inputs[i]
    name = f"{given} of {node.name}"
    if given in reader.integers:
        found = reader.integers[given]
        reader.integers[name] = replace(found, values=change.values(found.values))
    else:
        values = reader.array(node, i)
        reader.constants[name] = (
            change.values(values) if values.ndim > 1 else np.array(_changed(values, 1, 1, change), values.dtype)
        )
    return name


def _with_height(entries: np.ndarray, height: int) -> np.ndarray:
    return np.insert(entries, entries.shape[1] - 1, height, 1)


WITH_HEIGHT = Change(
    view=lambda node, x: reshaped(node, x, (*x.shape[:2], 1, x.shape[2])),
    back=lambda node, y: reshaped(node, y, (*y.shape[:2], y.shape[3])),
    values=lambda values: values[:, :, None] if values.ndim == 3 else values,
    entries=_with_height,
)
TURNED = Change(
    view=lambda node, x: reshaped(node, x, (*x.shape[:2], *x.shape[:1:-1])),
    back=lambda node, y: transposed(node, y, (0, 1, 3, 2)) if len(y.shape) == 4 else None,
    values=lambda values: values.swapaxes(2, 3) if values.ndim == 4 else values,
    entries=lambda entries, height: np.concatenate([entries[:, :-2], entries[:, :-3:-1]], 1),
)
