"""Look into an int8 network: inspect() gives its ranges, scales and, with the float network and pictures, its SQNR."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import UserError
from ..core.outputs import check_outputs
from ..core.types import FilePath
from ..core.validate import short
from ..engine.model import Model, QuantModel
from ..engine.quant.equalize import equalized_like
from ..engine.quant.ort_session import statistics
from ..engine.quant.sqnr import Row, report
from ..engine.quant.summary import Entry, entries, table
from .inputs import path_of, user_errors
from .networks import Network, load
from .quantization import read

if TYPE_CHECKING:
    from .samples import Samples


@dataclass(frozen=True, eq=False)
class Inspection:
    """The parts of an int8 network; print them as a table with a line for each tensor.

    model     the int8 model
    source    the float model that it was made from, None where it was not given
    pictures  on which the two are compared, each uint8 (h, w, c); none without `source`
    """

    model: QuantModel
    source: Model | None = None
    pictures: list[np.ndarray] = field(default_factory=list)

    @property
    def tensors(self) -> list[Entry]:
        """Return range, scale and zero point of each tensor, and the spread of its weights' scales; the image first."""
        return entries(self.model)

    @cached_property
    def layers(self) -> list[Row]:
        """Return the SQNR of each layer's output in dB, none without `source`. Raises UserError where the two networks
        are not of one graph."""
        return [] if self.source is None else report(self.source, self.model, self.pictures)

    @user_errors
    def draw(self, layer: str, path: FilePath) -> None:
        """Draw the weights of a layer and, with `source`, its values as a picture `path` (.png). Raises UserError for a
        name that no layer has, and for one without anything to draw."""
        from ..profiling.pictures import layer_figure

        check_outputs({"path": (path_of(path, "path"), ".png")})
        name = self.model.graph.name
        if layer not in self.model.graph.tensors:
            raise UserError(f"{name} has no layer {short(layer)}; it has {', '.join(self.model.graph.tensors)}")
        if self.source is None and layer not in self.model.weights:
            raise UserError(f"'{layer}' has no weights to draw; give the float network and pictures for its values")
        found = None
        if self.source is not None:
            found = statistics(equalized_like(self.model, self.source), self.pictures)[layer].histogram
        layer_figure(self.model, layer, path, found)

    def __str__(self) -> str:
        return table(self.tensors, self.layers or None)


@user_errors
def inspect(
    network: FilePath | Network,
    source: FilePath | Network | None = None,
    pictures: "Samples | None" = None,
    *,
    images: int = 128,
    names: FilePath | None = None,
) -> Inspection:
    """Return what an int8 network is made of.

    source    the float network that it was made from; with pictures, which are as those of quantize()
    images    use so many of the pictures at most; names: a text file that lists those of a folder to use

    Raises UserError for a network that is not int8, a source that is not float, and one of source and pictures without
    the other.

    >>> print(mcu.inspect("model.int8.onnx"))
    >>> mcu.inspect("model.int8.onnx", "model.onnx", "photos").layers
    """
    if (source is None) != (pictures is None):
        raise UserError("source goes with pictures: give both or neither")
    int8 = load(network).int8_model()
    if source is None or pictures is None:
        return Inspection(int8)
    model = load(source).float_model()
    return Inspection(int8, model, list(read(pictures, model, images, names)))
