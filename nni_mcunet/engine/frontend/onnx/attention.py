"""Read and write attention as ONNX has it: MatMul of two maps, whose channels a Reshape divides into heads. Entries of
STEPS as in operators.py.
"""

import numpy as np

from ....core.ir.graph import Op, Tensor
from ....core.types import Ints
from ..feature import Feature, kept
from ..moved import Moved, moved
from .file import Node
from .values import Values
from .writer import Step, Steps, Writer


def product(reader: Values, node: Node) -> Feature | Moved:
    """Read MatMul of two maps: queries with keys, or values with the weights of positions, on either side. Raises
    UnsupportedOp for any other."""
    views = [moved(node, reader.view(node, i), lambda index: index) for i in (0, 1)]
    shapes = [view.shape for view in views]
    if len({shape[:-2] for shape in shapes}) == 1 and all(n == 1 for shape in shapes for n in shape[:-3]):
        left, right = (view.index.reshape(-1, *view.shape[-2:]) for view in views)
        (first, second), lead = (view.tensor for view in views), shapes[0][:-2]
        for maps, indices, order in (
            ((first, second), (left, right), (0, 1, 2)),
            ((second, first), (right.transpose(0, 2, 1), left.transpose(0, 2, 1)), (0, 2, 1)),
        ):
            if _are_weights(maps[0], indices[0]) and (channels := _channels(maps[1], indices[1])) is not None:
                values = _taken(reader, node, maps[1], channels)
                y = reader.add(node, "attention_sum", (maps[0], values), values.c, groups=maps[0].w)
                places = np.arange(y.size).reshape(y.h * y.w, maps[0].w, -1).transpose(1, 0, 2).transpose(order)
                return Moved(y, places.reshape(*lead, *places.shape[1:]), node)
        rows, columns = _channels(first, left), _channels(second, right.transpose(0, 2, 1))
        if rows is not None and columns is not None:
            both = _taken(reader, node, first, rows), _taken(reader, node, second, columns)
            y = reader.add(node, "attention_scores", both, right.shape[2], groups=len(left))
            return Feature(y, kept("whc", y), (*lead, left.shape[1], right.shape[2]))
    node.refuse(
        f"of two maps, {list(shapes[0])} and {list(shapes[1])}: expected the attention of positions, queries with keys "
        "or weights with values; end the model before it (--outputs)"
    )


def _are_weights(t: Tensor, index: Ints) -> bool:
    """Tell whether (heads, positions, positions) are scores as attention_scores writes them."""
    heads, rows, columns = index.shape
    places = np.arange(t.size).reshape(t.h, t.w, t.c).transpose(1, 0, 2)
    return (t.h, t.w, t.c) == (rows, heads, columns) and rows == columns and np.array_equal(places, index)


def _channels(t: Tensor, index: Ints) -> Ints | None:
    """Return the channels of (heads, positions, depth), head by head; None unless they are those of each position."""
    positions, channels = np.divmod(index, t.c)
    whole = index.shape[1] == t.h * t.w and (positions == np.arange(t.h * t.w)[None, :, None]).all()
    return channels[:, 0].ravel() if whole and (channels == channels[:, :1]).all() else None


def _taken(reader: Values, node: Node, t: Tensor, channels: Ints) -> Tensor:
    """Append a take of these channels, unless they are all."""
    numbers = tuple(channels.tolist())
    return t if numbers == tuple(range(t.c)) else reader.add(node, "take", (t,), len(numbers), channels=numbers)


def _divided(writer: Writer, op: Op) -> str:
    """Append the second map's Reshape to (1, heads, depth, positions); return the value."""
    other = writer.model.graph.tensors[op.inputs[1]]
    shape = writer.constant(f"{op.name}.second", np.array([1, op.groups, other.c // op.groups, other.h * other.w]))
    return writer.node("Reshape", [writer.float_name[other.name], shape], f"{op.name}.divided")


def _scores(writer: Writer, op: Op) -> list[Step]:
    x = writer.model.graph.input_of(op)
    shape = writer.constant(f"{op.name}.first", np.array([1, op.groups, x.c // op.groups, x.h * x.w]))
    return [
        ("Reshape", [shape], {}),
        ("Transpose", [], {"perm": [0, 1, 3, 2]}),
        ("MatMul", [_divided(writer, op)], {}),
        ("Transpose", [], {"perm": [0, 3, 2, 1]}),
    ]


def _sum(writer: Writer, op: Op) -> list[Step]:
    y, other = writer.model.graph.tensors[op.name], _divided(writer, op)
    turned = writer.node("Transpose", [other], f"{op.name}.turned", perm=[0, 1, 3, 2])
    shape = writer.constant(f"{op.name}.whole", np.array([1, y.c, y.h, y.w]))
    return [
        ("Transpose", [], {"perm": [0, 3, 2, 1]}),
        ("MatMul", [turned], {}),
        ("Transpose", [], {"perm": [0, 1, 3, 2]}),
        ("Reshape", [shape], {}),
    ]


STEPS: dict[str, Steps] = {"attention_scores": _scores, "attention_sum": _sum}
