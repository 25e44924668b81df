"""Find the values of a file at which a user ends the network by their names (`--outputs`). It knows no format."""

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from ...core.errors import UnsupportedOp, UserError
from ...core.validate import short
from .builder import plain_name

T = TypeVar("T", str, int)


def chosen(path: str, wanted: Sequence[str], known: Iterable[tuple[str, T]]) -> list[T]:
    """Return the values that `wanted` names, in its order.

    known: (name, value), the better name first where two values share one. A name may also be given as our graph has
    it, with underscores for what no name in C holds. Raises UserError for no name, an unknown one (with the nearest),
    one that several values have in our graph, and for two names of one value.
    """
    exact: dict[str, T] = {}
    for name, value in known:
        exact.setdefault(name, value)
    plain: dict[str, set[T]] = {}
    for name, value in exact.items():
        plain.setdefault(plain_name(name), set()).add(value)
    if not wanted:
        raise UserError(f"{path}: no output is named; give one name or more, or leave outputs out")
    found = [exact[name] if name in exact else _by_plain_name(path, name, plain, exact) for name in wanted]
    value, times = Counter(found).most_common(1)[0]
    if times > 1:
        twice = [name for name, one in zip(wanted, found, strict=True) if one == value]
        raise UserError(f"{path}: outputs '{twice[0]}' and '{twice[1]}' are one value; name it once")
    return found


def cut_text(path: str, ends: Sequence[str], first: UnsupportedOp, does: str) -> str:
    """Say where a network ends before its file does. first: why the file as a whole was refused; does: what the rest
    of it does, such as "decode boxes"."""
    what = str(first).removeprefix(f"{path}: ").split(":")[0].split(" is not known")[0]
    return (
        f"{path} ends at the maps {', '.join(ends)}: {what} and what follows {does} and have no weights, which is "
        "left to your program; --outputs NAME ... ends it elsewhere"
    )


def _by_plain_name(path: str, name: str, plain: dict[str, set[T]], exact: dict[str, T]) -> T:
    values = plain.get(plain_name(name), set())
    if len(values) == 1:
        return next(iter(values))
    if values:
        known = [n for n in exact if plain_name(n) == plain_name(name)]
        raise UserError(f"{path}: output '{name}' is one of {', '.join(known)}; name it as the file does")
    near = difflib.get_close_matches(name, [*exact, *plain], 3, 0.5)
    near = list(dict.fromkeys(next(n for n in exact if found in (n, plain_name(n))) for found in near))
    advice = f"did you mean {', '.join(near)}?" if near else f"its last are {', '.join([*exact][-3:])}"
    raise UserError(f"{path} has no layer or tensor {short(name)} to end at; {advice}")
