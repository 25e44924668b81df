"""From float to int8 by pictures or by a checkpoint: quantize(), and its steps as `mcunet quantize` takes them."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import Note, UserError
from ..core.types import FilePath
from ..engine.frontend.fuse import of_pixels
from ..engine.model import Model, QuantModel, input_shape, view_of
from ..engine.quant.post_training import calibrated, unlike
from ..engine.quant.range_methods import METHODS, percentile
from ..engine.quant.sqnr import Row, lost, report
from ..engine.run.pictures import read_pictures, with_view
from .data_sets import DataSet, training_pictures
from .inputs import number, one_of, path_of, user_errors
from .networks import Network, dims_of, load, load_for
from .preprocessing import Preprocessing
from .samples import gathered, picture_of

if TYPE_CHECKING:
    from .networks import Source
    from .samples import Samples

MEASURED = 32  # calibration pictures at most on which the SQNR is measured


class QuantizationWarning(Note):
    """Int8 leaves next to nothing of an output: the message says why and what helps."""


@user_errors
def quantize(
    network: "Source",
    pictures: "Samples | None" = None,
    *,
    size: tuple[int, int] | None = None,
    outputs: Sequence[str] | None = None,
    qat: FilePath | None = None,
    images: int = 128,
    names: FilePath | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    bgr: bool = False,
    view: str | None = None,
    method: str = "mse",
    percent: float = 99.99,
    equalize: bool = True,
    compensate: bool = True,
    correct_bias: bool = True,
) -> Network:
    """Return a float network as int8: weights per channel, activations per tensor, calibrated on pictures; then measure
    what int8 costs (`sqnr`, in dB for each output).

    pictures      a folder of JPEG, PNG or .npy files or of folders by class, a .npy file, an mmdet config or a search's
                  data such as "folder:photos" or a mapping (their training pictures), or arrays: an
                  array, tensor, Dataset, DataLoader or other iterable, each uint8 (h, w, c) of the network's size, a
                  file, or floats (c, h, w) as the network reads them, one by one or in batches; of a module
                  whose first layer is a Conv1d floats (c, positions), a Linear (features,)
    size          (h, w) of the image in pixels, for a module and pictures that are files
    outputs       where the network ends, as load() takes them
    qat           a checkpoint of quantisation-aware training, which has its own ranges; pictures then only measure
    images        use so many of the pictures at most; names: a text file that lists those of a folder to use
    mean, std     the network reads (pixel - mean) / std, a number or one a channel (default 0 and 255); bgr: in that
                  order. Floats are made pixels by the same numbers
    view          how it sees a picture file, where its own file does not say: "stretch", "letterbox:114" or
                  "crop:0.875"
    method        how ranges are clipped: "mse", "minmax", "moving-average", "percentile" (with percent) or "entropy"
    equalize      make the channels' ranges alike first; compensate: round the weights of a sum together, so that their
                  errors cancel; correct_bias: take back the mean error of int8

    Raises UserError for a network without weights or of int8, and for pictures that are none, GraphError for a network
    whose sums could overflow. Warns (QuantizationWarning) of an output that int8 loses.

    >>> int8 = mcu.quantize("model.onnx", pictures="photos")
    >>> int8.save("model.int8.onnx")
    """
    if pictures is None and qat is None:
        load(network)  # whatever is wrong with it is said first
        raise UserError("no pictures and no qat: expected pictures to calibrate on, or a checkpoint with the ranges")
    found = None if pictures is None else gathered(pictures, images, dims_of(network))
    source = load_for(network, found, size, outputs)
    model = float_model(source, mean, std, bgr, view)
    preprocessing = Preprocessing.of(source.image[2], mean, std, bgr)
    calibration = [] if found is None else list(read(found, model, images, names, preprocessing=preprocessing))
    if qat is not None:
        from ..bridge import of_checkpoint  # imports torch and mmdet

        int8 = of_checkpoint(model, str(path_of(qat, "qat")))
    else:
        int8 = to_int8(model, calibration, method, percent, equalize, compensate, correct_bias)
    rows = report(model, int8, calibration[:MEASURED]) if calibration else []
    for text in losses(model, int8, rows):
        warnings.warn(text, QuantizationWarning, stacklevel=3)
    return replace(
        source,
        graph=int8.graph,
        model=int8,
        layers=tuple(rows),
        pictures=len(calibration),
        preprocessing=preprocessing,
        example=calibration[0] if calibration else None,
    )


def float_model(
    network: Network,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    bgr: bool,
    view: str | None,
) -> Model:
    """Return the network's float model as one that reads RGB pixels / 255, with its view. Raises UserError for a
    network of another kind, and what Preprocessing.of and of_pixels raise."""
    model = with_view(network.float_model(), view)
    reads = Preprocessing.of(network.image[2], mean, std, bgr)
    return of_pixels(model, reads.mean, reads.std, bgr)


def read(
    pictures: "Samples",
    model: Model,
    images: int,
    names: FilePath | None = None,
    options: dict[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Iterator[np.ndarray]:
    """Yield at most `images` pictures, evenly spread, each uint8 (h, w, c) as the network sees it. options: what to
    merge into an mmdet config; preprocessing: how floats come from pixels. Raises UserError for what is no picture or
    of another shape."""
    found, shape, view = gathered(pictures, images), input_shape(model), view_of(model)
    if isinstance(found, DataSet):
        return training_pictures(found.open(), model, images)
    if isinstance(found, list):
        return (picture_of(one, shape, view, preprocessing) for one in found)
    path = path_of(found, "pictures")
    if path.suffix == ".py":
        from .. import bridge  # imports torch and mmdet

        return bridge.training_pictures(str(path), options, images, model)
    return read_pictures(path, shape, view, None if names is None else str(path_of(names, "names")), images)


def to_int8(
    model: Model,
    calibration: list[np.ndarray],
    method: str = "mse",
    percent: float = 99.99,
    equalize: bool = True,
    compensate: bool = True,
    correct_bias: bool = True,
) -> QuantModel:
    """Return the int8 model after training, by the method named. Raises UserError for an unknown one, and what
    `calibrated` raises."""
    one_of("method", method, tuple(METHODS))
    if method == "percentile" and not 50 <= number("percent", percent) <= 100:
        raise UserError(f"percent is {percent:g}: expected a percentage of 50 to 100, such as 99.99")
    found = partial(percentile, percent=percent) if method == "percentile" else METHODS[method]
    return calibrated(model, calibration, found, equalize, compensate, correct_bias)


def losses(model: Model, int8: QuantModel, rows: Sequence[Row]) -> list[str]:
    """Return a line for each output of which int8 leaves next to nothing, with what helps."""
    more = "give more of the training pictures to calibrate on, or train for int8 (qat)"
    return [
        f"int8 loses the output '{row.name}' ({row.total:.1f} dB): {unlike(model, row.name) or more}"
        for row in lost(list(rows), int8.graph.outputs)
    ]
