"""From float to int8 by pictures or by a checkpoint: quantize(), and its steps as `mcunet quantize` takes them."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import UserError
from ..core.types import FilePath
from ..core.validate import integer, short
from ..core.view import View
from ..engine.frontend.fuse import of_pixels
from ..engine.model import Model, QuantModel, checked_picture, input_shape, view_of
from ..engine.quant.post_training import calibrated, unlike
from ..engine.quant.range_methods import METHODS, percentile
from ..engine.quant.sqnr import Row, lost, report
from ..engine.run.pictures import ARRAY, load_picture, read_pictures, spread, with_view
from .inputs import number, numbers, one_of, path_of, user_errors
from .networks import Network, load

MEASURED = 32  # calibration pictures at most on which the SQNR is measured
Pictures = FilePath | np.ndarray | Iterable[FilePath | np.ndarray]


class QuantizationWarning(UserWarning):
    """Int8 leaves next to nothing of an output: the message says why and what helps."""


@user_errors
def quantize(
    network: FilePath | Network,
    pictures: Pictures | None = None,
    *,
    qat: FilePath | None = None,
    images: int = 128,
    names: FilePath | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    bgr: bool = False,
    view: str | None = None,
    method: str = "mse",
    percent: float = 99.99,
    equalize: bool = True,
    correct_bias: bool = True,
) -> Network:
    """Return a float network as int8: weights per channel, activations per tensor, calibrated on pictures; then measure
    what int8 costs (`sqnr`, in dB for each output).

    pictures      a folder of JPEG, PNG or .npy files, a .npy file, an mmdet config (its training set), an array or an
                  iterable of arrays, each uint8 (h, w, c) of the network's size, or of files
    qat           a checkpoint of quantisation-aware training, which has its own ranges; pictures then only measure
    images        use so many of the pictures at most; names: a text file that lists those of a folder to use
    mean, std     the network reads (pixel - mean) / std, a number a channel (default 0 and 255); bgr: in that order
    view          how it sees a picture file, where its own file does not say: "stretch" or "crop:0.875"
    method        how ranges are clipped: "mse", "minmax", "moving-average", "percentile" (with percent) or "entropy"

    Raises UserError for a network without weights or of int8, and for pictures that are none, GraphError for a network
    whose sums could overflow. Warns (QuantizationWarning) of an output that int8 loses.

    >>> int8 = mcu.quantize("model.onnx", pictures="photos")
    >>> int8.save("model.int8.onnx")
    """
    source = load(network)
    if pictures is None and qat is None:
        raise UserError("no pictures and no qat: expected pictures to calibrate on, or a checkpoint with the ranges")
    model = float_model(source, mean, std, bgr, view)
    calibration = [] if pictures is None else list(read(pictures, model, images, names))
    if qat is not None:
        from ..bridge import of_checkpoint  # imports torch and mmdet

        int8 = of_checkpoint(model, str(path_of(qat, "qat")))
    else:
        int8 = to_int8(model, calibration, method, percent, equalize, correct_bias)
    rows = report(model, int8, calibration[:MEASURED]) if calibration else []
    for text in losses(model, int8, rows):
        warnings.warn(text, QuantizationWarning, stacklevel=3)
    return Network(int8.graph, int8, source.source, source.schedule, tuple(rows), len(calibration))


def float_model(
    network: Network, mean: Sequence[float] | None, std: Sequence[float] | None, bgr: bool, view: str | None
) -> Model:
    """Return the network's float model as one that reads RGB pixels / 255, with its view. Raises UserError for a
    network of another kind."""
    return of_pixels(with_view(network.float_model(), view), numbers("mean", mean), numbers("std", std), bgr)


def read(
    pictures: Pictures, model: Model, images: int, names: FilePath | None = None, options: dict[str, Any] | None = None
) -> Iterator[np.ndarray]:
    """Yield at most `images` pictures, evenly spread, each uint8 (h, w, c) as the network sees it. options: what to
    merge into an mmdet config. Raises UserError for what is no picture or of another shape."""
    integer(images, "images", 1)
    shape, view = input_shape(model), view_of(model)
    if isinstance(pictures, (str, os.PathLike)):
        path = path_of(pictures, "pictures")
        if path.suffix == ".py":
            from ..bridge import training_pictures  # imports torch and mmdet

            return training_pictures(str(path), options, images)
        return read_pictures(path, shape, view, None if names is None else str(path_of(names, "names")), images)
    if isinstance(pictures, np.ndarray) and pictures.ndim == 3:
        pictures = [pictures]
    if not isinstance(pictures, (np.ndarray, Iterable)):
        raise UserError(f"pictures is {short(pictures)}: expected a folder, an array or an iterable of arrays")
    whole = isinstance(pictures, (np.ndarray, Sequence))
    some = spread(list(pictures), images) if whole else islice(pictures, images)
    return (picture_of(one, shape, view) for one in some)


def picture_of(picture: FilePath | np.ndarray, shape: tuple[int, int, int], view: View) -> np.ndarray:
    """Return one picture as uint8 of `shape` (h, w, c): a file as the view sees it, an array as it is. Raises UserError
    for another type, or an array of another shape."""
    if isinstance(picture, (str, os.PathLike)):
        return load_picture(path_of(picture, "picture"), shape[:2], view, shape[2])
    if not isinstance(picture, np.ndarray):
        raise UserError(f"picture is {short(picture)}: expected a file, or a numpy array of uint8 {shape}")
    return checked_picture(picture, shape)


def is_photograph(picture: FilePath | np.ndarray) -> bool:
    """Tell whether a picture is a JPEG, PNG or the like, whose bytes stand for colours, and no array."""
    return not isinstance(picture, np.ndarray) and Path(picture).suffix.lower() != ARRAY


def to_int8(
    model: Model, calibration: list[np.ndarray], method: str, percent: float, equalize: bool, correct_bias: bool
) -> QuantModel:
    """Return the int8 model after training, by the method named. Raises UserError for an unknown one, and what
    `calibrated` raises."""
    one_of("method", method, tuple(METHODS))
    if method == "percentile" and not 50 <= number("percent", percent) <= 100:
        raise UserError(f"percent is {percent:g}: expected a percentage of 50 to 100, such as 99.99")
    found = partial(percentile, percent=percent) if method == "percentile" else METHODS[method]
    return calibrated(model, calibration, found, equalize, correct_bias)


def losses(model: Model, int8: QuantModel, rows: Sequence[Row]) -> list[str]:
    """Return a line for each output of which int8 leaves next to nothing, with what helps."""
    more = "give more of the training pictures to calibrate on, or train for int8 (qat)"
    return [
        f"int8 loses the output '{row.name}' ({row.total:.1f} dB): {unlike(model, row.name) or more}"
        for row in lost(list(rows), int8.graph.outputs)
    ]
