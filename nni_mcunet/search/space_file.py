"""Check the YAML or JSON of a search space: keys, choices, resolutions and stages, read into plain values."""

import math
import re
from dataclasses import dataclass, fields
from typing import Any

from ..core.errors import UserError
from ..core.ir.arch import Block, natural
from ..core.types import Plain, PlainDict
from ..core.validate import check_keys, short

CHOICES = ("k", "e", "d", "w")
WIDTHS = ("stage", "block", "net")
MOST = 1 << 16  # the largest choice: 65,536 times as wide fits no board


class SpaceError(UserError):
    """Report a malformed search space, or a candidate that is not of it."""


@dataclass(frozen=True)
class StageSpace:
    """Hold a stage: base channels c (times w), stride s of its first block, and the choices of its genes."""

    c: int
    s: int
    k: tuple[int, ...]
    e: tuple[int, ...]
    d: tuple[int, ...]
    w: tuple[float, ...]


def resolution(value: int | str) -> tuple[int, int]:
    """Return (h, w) of a resolution as a space spells it: 96 is (96, 96), "128x160" is (128, 160)."""
    if not isinstance(value, str):
        return value, value
    h, w = value.split("x")
    return int(h), int(w)


def spell(h: int, w: int) -> int | str:
    """Spell (h, w) as a space does, the inverse of `resolution`."""
    return h if h == w else f"{h}x{w}"


def read_resolutions(values: Plain) -> tuple[int | str, ...]:
    """Read the choices of r, by rising number of pixels. Raises SpaceError."""
    values = values if isinstance(values, (list, tuple)) else [values]
    for value in values:
        named = isinstance(value, str) and re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", value)
        if not named and (isinstance(value, (str, bool)) or not isinstance(value, int) or value <= 0):
            raise SpaceError(f"r has {short(value)}: expected a positive integer or 'HEIGHTxWIDTH', as in 128x160")
        if named and spell(*resolution(value)) != value:
            raise SpaceError(f"r has {short(value)}: a square is spelt {resolution(value)[0]}")
    if not values:
        raise SpaceError("r is []: expected a list of resolutions")
    return tuple(sorted(set(values), key=lambda value: (math.prod(resolution(value)), resolution(value))))


def read_choices(values: Plain, what: str) -> tuple[Any, ...]:
    """Read the choices of k, e, d (integers) or w (numbers), in rising order. Raises SpaceError."""
    values = values if isinstance(values, (list, tuple)) else [values]
    kinds, kind = ((int, float), "numbers") if what.endswith(": w") else ((int,), "integers")
    if not values or not all(isinstance(v, kinds) and not isinstance(v, bool) and 0 < v <= MOST for v in values):
        raise SpaceError(f"{what} is {short(values)}: expected a list of positive {kind}, {MOST:,} at most")
    return tuple(sorted(set(values)))


def read_stage(i: int, stage: Plain, common: PlainDict) -> StageSpace:
    """Read stage i, with the choices of `common` that it does not say itself. Raises SpaceError or ArchError."""
    names = {f.name for f in fields(StageSpace)}
    check_keys(stage, sorted(names), f"stage {i}", kind=SpaceError)
    stage = common | stage
    missing = sorted(names - set(stage))
    if missing:
        raise SpaceError(f"stage {i} lacks the key '{missing[0]}'")
    c, s = natural(stage["c"], f"stage {i}: c"), natural(stage["s"], f"stage {i}: s", high=4)
    space = StageSpace(c, s, **{name: read_choices(stage[name], f"stage {i}: {name}") for name in CHOICES})
    natural(space.d[-1], f"stage {i}: d", high=100)
    for k in space.k:
        Block(k, s, c, c)  # so that an even kernel between two odd ones is an error now
    return space


def read_width(width: Plain, stages: tuple[StageSpace, ...]) -> str:
    """Read which layers one w scales. Raises SpaceError."""
    if width not in WIDTHS:
        raise SpaceError(f"width is {short(width)}: expected one of {', '.join(WIDTHS)}")
    if width == "net" and len({stage.w for stage in stages}) > 1:
        raise SpaceError("width is 'net', one w for all stages, but the stages differ in their choices of w")
    return width
