"""Walk back from a file's outputs through the operators that are left to the user's program."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value", str, int)  # an ONNX file names its values, a .tflite file numbers its tensors

ROWS, CLASSES, BOXES = "arrange positions in rows", "score or choose classes", "decode boxes"  # what a tail does


class Ends(NamedTuple, Generic[Value]):
    """The values at which a network ends before its file does, and what the rest does, as outputs.cut_text says it."""

    values: list[Value]
    does: str


def purpose(kinds: Iterable[str], choices: Iterable[str], moves: Iterable[str]) -> str:
    """Say what operators of these kinds do. choices: the kinds that name the greatest; moves: those that put values in
    another place, or round or squash each."""
    others = set(kinds).difference(moves)
    if not others:
        return ROWS
    return CLASSES if others <= set(choices) else BOXES


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
