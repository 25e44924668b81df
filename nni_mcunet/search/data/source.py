"""Define what every source of pictures has in common: its error, the key of a sample, and the checks of its options.

A source is an object with `task` (see classification.py), `sizes` (split -> pictures) and
`sample(Key) -> (uint8 (3, h, w), label or other target)`. Its splits are "train", "held_out" (which judges candidates
during a search) and, where there is one, "test" (final figures).
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from ...core.errors import UserError
from ...core.files import listing
from ...core.types import Plain
from ...core.validate import integer, short
from .classification import Task


class DataError(UserError):
    """Report data that are not where or what they should be: the message says what was expected and what was found."""


class Key(NamedTuple):
    """Name one sample with everything it depends on, so that who makes it, and when, does not matter.

    resolution (h, w); seed: numbers from which the augmentation is drawn, None for the evaluation's view.
    """

    split: str
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls
    resolution: tuple[int, int]
    seed: tuple[int, ...] | None = None


Sample = tuple[Tensor, int]


class Source(Protocol):
    """Name what Data asks of a source: see above."""

    @property
    def task(self) -> Task:
        """The task that its targets are for."""

    @property
    def sizes(self) -> dict[str, int]:
        """Split -> pictures."""

    def sample(self, key: Key) -> tuple[Tensor, Any]:
        """Return uint8 (3, h, w), and the target."""


def natural(value: Plain, name: str, low: int = 0, high: int | None = None) -> int:
    """Check an integer from `low` to `high`. Raises DataError."""
    return integer(value, f"data: {name}", low, high, DataError)


def interval(value: Plain, name: str, high: float = 1.0) -> tuple[float, float]:
    """Check [low, high] with 0 < low <= high <= `high`. Raises DataError."""
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 2
        or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        or not 0 < value[0] <= value[1] <= high
    ):
        raise DataError(f"data: {name} is {short(value)}: expected [low, high] with 0 < low <= high <= {high:g}")
    return float(value[0]), float(value[1])


def share(value: Plain, name: str, low: float = 0.01) -> float:
    """Check a number from `low` to 1. Raises DataError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= 1:
        raise DataError(f"data: {name} is {short(value)}: expected a number from {low:g} to 1")
    return float(value)


def wanted(path: Path, layout: str, root: Path) -> Path:
    """Return `path` if it exists; else raise a DataError with the whole layout and what there is at the root."""
    if path.exists():
        return path
    if not root.is_dir():
        raise DataError(f"data: no folder {root}; expected there: {layout}")
    raise DataError(f"data: {path} is missing; expected in {root}: {layout}; found: {listing(root)}")
