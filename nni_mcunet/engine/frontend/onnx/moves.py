"""Read and write the operators that copy values to other places: Split, Slice, Gather, Tile, Expand, SpaceToDepth,
DepthToSpace. Handlers and entries of STEPS as in operators.py.
"""

import numpy as np

from ....core.ir.graph import Op
from ....core.plan.kernel_facts import is_run
from ..feature import Feature
from ..moved import Moved, moved, spread, tiled
from .file import Node
from .values import Values
from .writer import Step, Steps, Writer


def _axis(node: Node, x: Feature | Moved, default: int = 0) -> int:
    axis = node.attribute("axis", default)
    if not -len(x.shape) <= axis < len(x.shape):
        node.wrong(f"axis {axis} of {len(x.shape)}")
    return int(axis % len(x.shape))


def split(reader: Values, node: Node) -> list[Feature | Moved]:
    """Read Split, into parts of given sizes or of one."""
    x, outputs = reader.view(node, whole=True), len(node.proto.output)
    axis = _axis(node, x)
    n, each = x.shape[axis], -(-x.shape[axis] // outputs)
    sizes = _whole_numbers(reader, node, 1) if node.has(1) else node.attribute("split", None)
    sizes = list(sizes or [min(each, n - each * i) for i in range(outputs)])
    if sum(sizes) != n or min(sizes) < 1 or len(sizes) != outputs:
        node.wrong(f"parts of {sizes} of {list(x.shape)}")
    ends = np.cumsum(sizes)
    return [_chosen(node, x, axis, np.arange(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


def slice_(reader: Values, node: Node) -> Feature | Moved:
    """Read Slice, with constant starts, ends and steps."""
    x = reader.view(node, whole=True)
    if reader.opset < 10:  # they are attributes
        starts, ends = (list(node.attribute(name, ())) for name in ("starts", "ends"))
        axes = list(node.attribute("axes", range(len(starts))))
    else:
        starts, ends = (_whole_numbers(reader, node, i) for i in (1, 2))
        axes = _whole_numbers(reader, node, 3) if node.has(3) else list(range(len(starts)))
    steps = _whole_numbers(reader, node, 4) if node.has(4) else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or not all(steps):
        node.wrong(f"starts {starts}, ends {ends}, axes {axes} and steps {steps}")
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not -len(x.shape) <= axis < len(x.shape):
            node.wrong(f"axis {axis} of {len(x.shape)}")
        n = x.shape[axis]
        first, last = (0, n) if step > 0 else (-1, n - 1)
        begin, stop = (min(max(at + n if at < 0 else at, first), last) for at in (start, end))
        x = _chosen(node, x, axis, np.arange(begin, stop, step))
    return x


def gather(reader: Values, node: Node) -> Feature | Moved:
    """Read Gather: a constant choice along one axis."""
    x, indices = reader.view(node, whole=True), reader.array(node, 1)
    axis = _axis(node, x)
    if indices.dtype.kind not in "iu" or indices.ndim > 1 or not (abs(indices + 0.5) < x.shape[axis]).all():
        node.wrong(f"indices {indices.tolist()} of {list(x.shape)}")
    found = _chosen(node, x, axis, indices.reshape(-1) % x.shape[axis])
    return found if indices.ndim else moved(node, found, lambda index: index.squeeze(axis))


def tile(reader: Values, node: Node) -> Feature | Moved:
    """Read Tile, with constant repeats."""
    x, times = reader.view(node, whole=True), _whole_numbers(reader, node, 1)
    if len(times) != len(x.shape):
        node.wrong(f"repeats {list(x.shape)} {times} times")
    return tiled(node, x, times)


def expand(reader: Values, node: Node) -> Feature | Moved:
    """Read Expand to a constant shape."""
    return spread(node, reader.view(node, whole=True), _whole_numbers(reader, node, 1))


def _whole_numbers(reader: Values, node: Node, i: int) -> list[int]:
    value = reader.array(node, i)
    if value.dtype.kind != "i" or value.ndim != 1:
        node.wrong(f"'{node.inputs[i]}' holds {value.dtype} of {list(value.shape)}, expected a row of whole numbers")
    return [int(n) for n in value]


def _chosen(node: Node, x: Feature | Moved, axis: int, places: np.ndarray) -> Feature | Moved:
    """Return the `places` of a dimension; the map itself where that is all of it."""
    if np.array_equal(places, np.arange(x.shape[axis])):
        return x
    return moved(node, x, lambda index: index.take(places, axis))


def depth_to_space(reader: Values, node: Node) -> Feature | Moved:
    """Read DepthToSpace of either mode, also of a batch."""
    b, crd = _block(node), node.attribute("mode", "DCR") == "CRD"
    if (batch := _batch(reader, node)) is not None:
        if batch.shape[1] % (b * b):
            node.wrong(f"blocks of {b} of {batch.shape[1]} channels")
        n, c, h, w = batch.shape
        divided, perm = ((c // b**2, b, b), (0, 1, 4, 2, 5, 3)) if crd else ((b, b, c // b**2), (0, 3, 4, 1, 5, 2))
        shape = n, c // b**2, h * b, w * b
        return moved(node, batch, lambda i: i.reshape(n, *divided, h, w).transpose(perm).reshape(shape))
    x = reader.map(node).tensor
    if x.c % (b * b):
        node.wrong(f"blocks of {b} of {x.c} channels")
    if crd:
        channels = np.arange(x.c).reshape(-1, b * b).T.ravel()
        x = reader.add(node, "take", (x,), x.c, channels=tuple(channels.tolist()))
    return Feature.of(reader.add(node, "depth_to_space", (x,), x.c // (b * b), s=(b, b)))


def space_to_depth(reader: Values, node: Node) -> Feature | Moved:
    """Read SpaceToDepth, also of a batch."""
    b = _block(node)
    if (batch := _batch(reader, node)) is not None:
        n, c, h, w = batch.shape
        if h % b or w % b:
            node.wrong(f"blocks of {b} of {h}x{w}")
        shape = n, b * b * c, h // b, w // b
        return moved(
            node, batch, lambda i: i.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4).reshape(shape)
        )
    x = reader.map(node).tensor
    if x.h % b or x.w % b:
        node.wrong(f"blocks of {b} of {x.h}x{x.w}")
    return Feature.of(reader.add(node, "space_to_depth", (x,), x.c * b * b, k=(b, b), s=(b, b)))


def _batch(reader: Values, node: Node) -> Feature | Moved | None:
    """Return what the node reads where it is several maps: the channels or the phases of one, as tf2onnx writes
    SPACE_TO_BATCH_ND."""
    x = reader.view(node)
    return x if len(x.shape) == 4 and x.shape[0] > 1 else None


def _block(node: Node) -> int:
    b = node.attribute("blocksize", 0)
    return b if b > 0 else node.wrong(f"blocksize {b}")


NODES = {
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Tile": tile,
    "Expand": expand,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}


def crop(writer: Writer, op: Op, s: tuple[int, int] = (1, 1)) -> list[Step]:
    """Return the Slice of an op's input without what negative pads leave out, of every s-th row and column."""
    x = writer.model.graph.input_of(op)
    top, left, bottom, right = (max(-p, 0) for p in op.pad)
    return _sliced(writer, op, (2, 3), (top, left), (x.h - bottom, x.w - right), s)


def _sliced(
    writer: Writer, op: Op, axes: tuple[int, ...], starts: tuple[int, ...], ends: tuple[int, ...], s: tuple[int, ...]
) -> list[Step]:
    of = {"starts": starts, "ends": ends, "axes": axes, "steps": s}
    return [("Slice", [writer.constant(f"{op.name}.{axes[0]}.{name}", np.array(v)) for name, v in of.items()], {})]


def _take(writer: Writer, op: Op) -> list[Step]:
    c = writer.model.graph.input_of(op).c
    steps = crop(writer, op, op.s) if any(op.pad) or op.s != (1, 1) else []
    if is_run(op.channels):
        first, end = op.channels[0], op.channels[-1] + 1
        return steps if (first, end) == (0, c) else [*steps, *_sliced(writer, op, (1,), (first,), (end,), (1,))]
    if -1 in op.channels:  # the channel behind the last is of zeros
        steps += [("Pad", [writer.constant(f"{op.name}.pads", np.array([0, 0, 0, 0, 0, 1, 0, 0]))], {})]
    channels = np.array([n if n >= 0 else c for n in op.channels])
    return [*steps, ("Gather", [writer.constant(f"{op.name}.channels", channels)], {"axis": 1})]


def _space_to_depth(writer: Writer, op: Op) -> list[Step]:
    x, y, (down, right) = writer.model.graph.input_of(op), writer.model.graph.tensors[op.name], op.s
    if down == right:
        return [("SpaceToDepth", [], {"blocksize": down})]
    return _turned(writer, op, [1, x.c, y.h, down, y.w, right], [0, 3, 5, 1, 2, 4], [1, y.c, y.h, y.w])


def _depth_to_space(writer: Writer, op: Op) -> list[Step]:
    x, (down, right) = writer.model.graph.input_of(op), op.s
    h, w = x.h * down, x.w * right
    steps: list[Step] = [("DepthToSpace", [], {"blocksize": down})]
    if down != right:
        steps = _turned(writer, op, [1, down, right, op.cout, x.h, x.w], [0, 3, 4, 1, 5, 2], [1, op.cout, h, w])
    if not any(op.pad):
        return steps
    return steps + _sliced(writer, op, (2, 3), (0, 0), (h + op.pad[2], w + op.pad[3]), (1, 1))


def _turned(writer: Writer, op: Op, divided: list[int], perm: list[int], whole: list[int]) -> list[Step]:
    """Return the Transpose of a map whose axes a Reshape divides."""
    shapes = [writer.constant(f"{op.name}.{name}", np.array(v)) for name, v in (("divided", divided), ("whole", whole))]
    return [("Reshape", shapes[:1], {}), ("Transpose", [], {"perm": perm}), ("Reshape", shapes[1:], {})]


STEPS: dict[str, Steps] = {"take": _take, "space_to_depth": _space_to_depth, "depth_to_space": _depth_to_space}
