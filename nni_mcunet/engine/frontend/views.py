"""Keep what each value of a file is to its reader, whatever the format: a map under the file's layout, or elements of
one that are still moved. Ops move them only where another op has to read them.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from .builder import Builder, Layer
from .feature import Feature
from .moved import Moved, joined, refuse_order, settled

Key = TypeVar("Key", str, int)  # what a format calls a value by


class Views(Builder, Generic[Key]):
    """Hold what is built, and `features`, which map each value of the file is."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.features: dict[Key, Feature | Moved] = {}

    def given(self, key: Key) -> Feature:
        """Return the map that a value is, its elements moved by ops. Raises UnsupportedOp for an order that no ops
        give."""
        found = self._settled(key)
        return found if isinstance(found, Feature) else refuse_order(found)

    def seen(self, key: Key, whole: bool) -> Feature | Moved:
        """Return the same, or elements that are moved on before an op has to give them. whole: not where an op can give
        them already, as it is tried for a map of one picture. Positions that are divided or repeated are moved on: they
        may be the phases of a map, or half of a sequence's enlargement."""
        found = self.features[key]
        if isinstance(found, Moved) and (whole or (len(found.shape), found.shape[0]) == (4, 1)):
            plain = settled(self, found)
            if plain and (plain.groups() is not None or _keeps_positions(found, plain)):
                self.features[key] = plain
        return self.features[key]

    def joined(self, layer: Layer, keys: Sequence[Key], axis: int) -> Feature | None:
        """Return parts of one map joined along an axis, where ops give that; None where they do not."""
        parts = [self.features[key] for key in keys if key in self.features]
        found = joined(layer, parts, axis) if len(parts) == len(keys) > 1 else None
        return settled(self, found) if found else None

    def _settled(self, key: Key) -> Feature | Moved:
        found = self.features[key]
        if isinstance(found, Moved):
            found = self.features[key] = settled(self, found) or found
        return found


def _keeps_positions(x: Moved, y: Feature) -> bool:
    """Tell whether only channels are chosen or divided, as the heads of an attention are."""
    before, after = x.tensor, y.tensor
    return x.shape[0] == 1 and x.index.size <= before.size and (before.h, before.w) == (after.h, after.w)
