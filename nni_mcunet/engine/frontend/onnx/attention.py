"""Write attention as ONNX has it: MatMul of two maps, whose channels a Reshape divides into heads. Entries of STEPS as
in operators.py.
"""

import numpy as np

from ....core.ir.graph import Op
from .writer import Step, Steps, Writer


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
