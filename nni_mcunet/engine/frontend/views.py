"""Keep what each value of a file is to its reader, whatever the format: a map under the file's layout, or elements of
one that are still moved. Ops move them only where another op has to read them.
"""

from typing import Generic, TypeVar

from .builder import Builder
from .feature import Feature
from .moved import Moved, refuse_order, settled

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
        them already, as it is tried for a map of one picture."""
        shape = self.features[key].shape
        return self._settled(key) if whole or (len(shape), shape[0]) == (4, 1) else self.features[key]

    def _settled(self, key: Key) -> Feature | Moved:
        found = self.features[key]
        if isinstance(found, Moved):
            found = self.features[key] = settled(self, found) or found
        return found
