"""Walk back from a file's outputs through the operators that are left to the user's program."""

from collections.abc import Mapping, Sequence, Set
from typing import TypeVar

Value = TypeVar("Value", str, int)  # an ONNX file names its values, a .tflite file numbers its tensors


def read_by(tail: Mapping[Value, Sequence[Value]], outputs: Sequence[Value], live: Set[Value]) -> list[Value]:
    """Return the values that a tail of operators is computed from, going back from each output, first inputs first.

    tail: each value that the tail writes -> what its operator reads. live: the values that depend on what the network
    reads; others are constants.
    """
    found: dict[Value, None] = {}
    seen: set[Value] = set()
    left = list(outputs[::-1])
    while left:
        value = left.pop()
        if value in tail and value not in seen:
            left.extend(one for one in reversed(tail[value]) if one in live)
        elif value not in tail:
            found[value] = None
        seen.add(value)
    return list(found)
