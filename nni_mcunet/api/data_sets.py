"""Name a classifier's data set as a search's --data does: what accuracy is counted on and int8 is calibrated on."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import UserError
from ..core.types import Picture, PlainDict
from ..core.validate import short
from ..engine.model import Model, QuantModel, view_of
from ..engine.run.pictures import spread

if TYPE_CHECKING:
    from ..search.data import Data

KIND = re.compile(r"[a-z][a-z0-9]*")


@dataclass(frozen=True)
class DataSet:
    """A data set that is not opened yet: "KIND:ROOT" such as "folder:photos", YAML in braces, or a mapping."""

    named: str | PlainDict

    @classmethod
    def of(cls, given: object) -> "DataSet | None":
        """Return the data set that `given` names; None for a file, a folder and everything else."""
        if isinstance(given, cls):
            return given
        if isinstance(given, dict):
            return cls(given)
        if not isinstance(given, str) or os.path.exists(given):
            return None
        kind = given.partition(":")[0]
        if given.startswith("{"):
            return cls(given)
        if not KIND.fullmatch(kind):
            return None
        from ..search.data import KINDS  # imports torch

        return cls(given) if kind in KINDS else None

    def open(self) -> "Data":
        """Open it as a search does. Raises DataError, and UserError for one that is not of pictures by class."""
        from ..search.data import open_data, parse_data
        from ..search.data.classification import Classification

        if not isinstance(self.named, (str, dict)):
            raise UserError(f"data is {short(self.named)}: expected 'KIND:ROOT' or a mapping with kind and root")
        opened = open_data(parse_data(self.named) if isinstance(self.named, str) else self.named)
        if not isinstance(opened.task, Classification):
            raise UserError(f"data {short(self.named)}: pictures with boxes; a detector is tested by mcunet test")
        return opened


def training_pictures(data: "Data", model: Model | QuantModel, most: int) -> Iterator[Picture]:
    """Yield at most `most` pictures that train, none that judges, evenly spread: uint8 (h, w, 3) by the view of the
    model. Raises UserError for a model that does not read colour, DataError where nothing trains."""
    image = model.graph.inputs[0]
    if image.c != 3:
        raise UserError(f"{model.graph.name} reads {image.c} channels, and a data set's pictures have 3")
    chosen = spread(list(range(data.size("train"))), most)
    return (picture for picture, _ in data.as_deployed("train", (image.h, image.w), view_of(model), chosen))
