"""Read ONNX's operators that change the layout of a map and no value: nothing is left of them in our graph. Handlers as
in operators.py."""

from collections.abc import Sequence

import numpy as np

from ..feature import Feature
from ..moved import Moved, reshaped, transposed
from .file import Node
from .values import Values


def axes_of(reader: Values, node: Node, i: int, dims: int) -> list[int] | None:
    """Return `axes`, each from 0, None where there are none. They are an attribute or, in later opsets, the input i."""
    axes = reader.array(node, i).reshape(-1).tolist() if node.has(i) else node.attribute("axes", None)
    if axes is None:
        return None
    if not all(type(a) is int and -dims <= a < dims for a in axes):
        node.wrong(f"axes {axes} of {dims}")
    return [a % dims for a in axes]


def alias(reader: Values, node: Node) -> Feature | Moved | None:
    """Read an operator that changes nothing: Identity, Dropout, also of a quantised constant."""
    if node.has(0) and node.inputs[0] in reader.integers:
        reader.integers[node.proto.output[0]] = reader.integers[node.inputs[0]]
        return None
    if node.kind == "Dropout" and node.has(2) and reader.array(node, 2).any():
        node.refuse("it is in training mode; export the model in eval mode")
    return reader.view(node)


def cast(reader: Values, node: Node) -> Feature | Moved:
    """Read Cast: to another type of real numbers, of which we have one."""
    if node.attribute("to", 1) not in (1, 10, 11, 16):
        node.refuse("casts a map to integers; leave it away")
    return reader.view(node)


def _reshaped(node: Node, x: Feature | Moved, shape: Sequence[int]) -> Feature | Moved:
    return reshaped(node, x, shape) or node.wrong(f"{list(x.shape)} has not the elements of {list(shape)}")


def reshape(reader: Values, node: Node) -> Feature | Moved:
    """Read Reshape, whose shape may have 0 for a length that stays and -1 for one that follows."""
    x, wanted = reader.view(node), reader.array(node, 1).reshape(-1).tolist()
    if not all(type(n) is int for n in wanted):
        node.wrong(f"the shape {wanted}")
    if not node.attribute("allowzero", 0):
        wanted = [x.shape[i] if n == 0 and i < len(x.shape) else n for i, n in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = int(np.prod([float(n) for n in wanted if n != -1]))
        wanted = [(int(np.prod(x.shape)) // rest if rest else 0) if n == -1 else n for n in wanted]
    if len(wanted) in (3, 4):
        reader.unfolded = reader.unfolded or tuple(wanted)
    return _reshaped(node, x, wanted)


def flatten(reader: Values, node: Node) -> Feature | Moved:
    """Read Flatten."""
    x, axis = reader.view(node), node.attribute("axis", 1)
    if not -len(x.shape) <= axis <= len(x.shape):
        node.wrong(f"axis {axis} of {len(x.shape)}")
    axis = axis % len(x.shape) if axis < len(x.shape) else axis
    return _reshaped(node, x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))


def squeeze(reader: Values, node: Node) -> Feature | Moved:
    """Read Squeeze."""
    x = reader.view(node)
    axes = axes_of(reader, node, 1, len(x.shape))
    axes = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else axes
    if any(x.shape[a] != 1 for a in axes):
        node.wrong(f"axes {axes} of {list(x.shape)}")
    return _reshaped(node, x, [n for i, n in enumerate(x.shape) if i not in axes])


def unsqueeze(reader: Values, node: Node) -> Feature | Moved:
    """Read Unsqueeze."""
    x = reader.view(node)
    given = reader.array(node, 1).reshape(-1) if node.has(1) else node.attribute("axes", ())
    dims = len(x.shape) + len(given)
    axes = axes_of(reader, node, 1, dims) or []
    if len(set(axes)) != len(given) or dims > 8:
        node.wrong(f"axes {axes}")
    rest = iter(x.shape)
    return _reshaped(node, x, [1 if i in axes else next(rest) for i in range(dims)])


def transpose(reader: Values, node: Node) -> Feature | Moved:
    """Read Transpose."""
    x = reader.view(node)
    perm = node.attribute("perm", list(range(len(x.shape)))[::-1])
    return transposed(node, x, perm)


# Operators that take integers for real numbers as they are.
MOVES = (
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Concat", "Pad", "Resize",
    "MaxPool", "GlobalMaxPool", "Split", "Slice", "Gather", "Tile", "Expand", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
LAYOUT = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Identity": alias,
    "Dropout": alias,
    "Cast": cast,
}
