"""Find where a .tflite file stops being a network and begins to decode boxes or to choose classes.

As in ONNX files (onnx/decoding.py) that is left to the user's C. A file is only cut where all that is cut off has no
weights, leads to the outputs, and joins positions, sorts them or names the greatest.
"""

from collections.abc import Set

from ..tail import CLASSES, Ends, purpose, read_by
from .file import File, Operator

LAYOUT = ("RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "CAST")
CHOICES = ("ARG_MAX", "ARG_MIN", "TOPK_V2", "LOG_SOFTMAX")
JOINS = ("CONCATENATION", "NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5",
         "custom operator 'TFLite_Detection_PostProcess'")  # fmt: skip
# Operators without weights that decode boxes.
DECODING = {
    *LAYOUT, *CHOICES, *JOINS, "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "GATHER", "GATHER_ND", "PACK", "UNPACK",
    "SHAPE", "RANGE", "FILL", "TILE", "BROADCAST_TO", "SELECT", "SELECT_V2", "WHERE", "REDUCE_MAX", "REDUCE_MIN", "SUM",
    "ADD", "SUB", "MUL", "DIV", "POW", "EXP", "SQRT", "SQUARE", "NEG", "FLOOR", "CEIL", "ROUND", "MINIMUM", "MAXIMUM",
    "LOGISTIC", "TANH", "SOFTMAX", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "EQUAL", "RELU",
    "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT", "QUANTIZE", "DEQUANTIZE",
}  # fmt: skip
# Operators that the decoding takes with it where nothing else reads them: the network ends at its last convolutions.
BEFORE = {*LAYOUT, "CONCATENATION", "SPLIT", "SPLIT_V", "SLICE", "STRIDED_SLICE", "LOGISTIC", "SOFTMAX", "QUANTIZE",
          "DEQUANTIZE"}  # fmt: skip


def maps_before(file: File, refused: Set[int]) -> Ends[int] | None:
    """Return the tensors at which the network ends, in the order in which the decoding reads them; outputs that do not
    depend on it stay outputs. refused: outputs of operators that the reader refuses. None where what they lead to is no
    decoding."""
    operators = file.needed()
    tail: list[Operator] = []
    decoded = set(refused)
    for op in operators:
        if not decoded.isdisjoint((*op.inputs, *op.outputs)):
            tail.append(op)
            decoded.update(op.outputs)
    kinds = {op.kind for op in tail}
    if not kinds <= DECODING or kinds.isdisjoint((*JOINS, *CHOICES)):
        return None
    does, live = purpose(kinds, CHOICES, BEFORE), _live(file, operators)
    if does != CLASSES or not kinds.isdisjoint(JOINS):
        tail = _with_what_leads_there(file, operators, tail, live)
    written = {index for op in operators for index in op.outputs}
    reads = {index: op.inputs for op in tail for index in op.outputs}
    found = Ends(read_by(reads, file.outputs, live), does)
    return found if written.issuperset(found.values) else None


def _live(file: File, operators: list[Operator]) -> set[int]:
    """Return the tensors that depend on the values that the network reads."""
    found = set(file.inputs)
    for op in operators:
        if op.kind != "SHAPE" and not found.isdisjoint(op.inputs):
            found.update(op.outputs)
    return found


def _with_what_leads_there(
    file: File, operators: list[Operator], tail: list[Operator], live: Set[int]
) -> list[Operator]:
    """Return the tail with the operators before it that only it reads, back to the last convolutions."""
    found = list(tail)
    for op in reversed(operators):
        outside = [other for other in operators if other not in found]
        lone = not any(set(op.outputs) & {*other.inputs} for other in outside) and not set(op.outputs) & {*file.outputs}
        if op not in found and op.kind in BEFORE and lone and not live.isdisjoint(op.inputs):
            found.append(op)
    return found
