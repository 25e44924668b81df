"""Write the ops that copy values to other places as ONNX has them: Slice, Gather, DepthToSpace and their kind. Entries
of STEPS as in operators.py.
"""

import numpy as np

from ....core.ir.graph import Op
from ....core.plan.kernel_facts import is_run
from .writer import Step, Steps, Writer


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
