"""Take what a network is calibrated on and run with, in any form that people have it: files, pictures as uint8, or
floats as the network reads them. All of it becomes pixels, for that is what the generated C reads."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..core.errors import UserError
from ..core.types import FilePath, Picture, Plain, PlainDict
from ..core.validate import integer, short
from ..core.view import View
from ..engine.model import checked_picture
from ..engine.run.pictures import ARRAY, load_picture, spread
from .data_sets import DataSet
from .inputs import path_of
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch

    Sample: TypeAlias = FilePath | np.ndarray | torch.Tensor
    Samples: TypeAlias = Sample | DataSet | PlainDict | Iterable[Sample | Sequence[Any]] | torch.utils.data.Dataset[Any]


def gathered(samples: "Samples", most: int, dims: int = 3) -> "DataSet | FilePath | list[FilePath | np.ndarray]":
    """Return at most `most` samples, one by one: of a sequence, an array or a Dataset evenly spread, of an iterable
    (a DataLoader) the first. A data set, a file or folder is returned as it is. An array of four dimensions is a
    batch; of a tuple (picture, label) the first counts. dims: of one sample; signals (channels, positions) become
    (channels, 1, positions), vectors (features,) become (features, 1, 1). Raises UserError for anything else."""
    integer(most, "images", 1)
    if (data := DataSet.of(samples)) is not None:
        return data
    if isinstance(samples, (str, os.PathLike)):
        return path_of(samples, "samples")
    found = as_array(samples)
    if isinstance(found, np.ndarray):
        return spread(list(_singles(found, dims)), most)
    if isinstance(samples, Sequence):
        return spread([one for item in samples for one in _singles(item, dims)], most)
    if isinstance(samples, Sized) and hasattr(samples, "__getitem__"):
        items = (samples[i] for i in spread(list(range(len(samples))), most))
        return [one for item in items for one in _singles(item, dims)][:most]
    if not isinstance(samples, Iterable):
        raise UserError(f"pictures is {short(samples)}: expected a folder, an array, a tensor or an iterable of them")
    return list(islice((one for item in samples for one in _singles(item, dims)), most))


def _singles(item: object, dims: int = 3) -> "Iterator[FilePath | np.ndarray]":
    """Yield the samples of one item: those of a batch, or itself."""
    found = as_array(item[0] if isinstance(item, (tuple, list)) and item else item)
    if dims == 2 and isinstance(found, np.ndarray) and found.ndim in (2, 3):
        yield from found[..., None, :].reshape(-1, found.shape[-2], 1, found.shape[-1])
    elif dims == 1 and isinstance(found, np.ndarray) and found.ndim in (1, 2):
        one = (found.shape[-1], 1, 1) if is_floats(found) else (1, 1, found.shape[-1])
        yield from found.reshape(-1, *one)
    elif isinstance(found, np.ndarray) and found.ndim == 4:
        yield from found
    else:
        yield found


def as_array(sample: Plain) -> Plain:
    """Return a tensor as an array of the CPU, of bytes (h, w, c) instead of (c, h, w), in a batch, too; anything else
    as it is. This imports no torch."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(sample, torch.Tensor):
        return sample
    found = sample.detach().cpu()
    found = found.float() if found.is_floating_point() else found
    array: np.ndarray = found.numpy()
    return np.moveaxis(array, -3, -1) if array.dtype == np.uint8 and array.ndim >= 3 else array


def is_floats(sample: object) -> bool:
    """Tell whether it is an array of real numbers: what a network reads, where bytes are a picture."""
    return isinstance(sample, np.ndarray) and np.issubdtype(sample.dtype, np.floating)


def picture_of(
    picture: "Sample", shape: tuple[int, int, int], view: View, reads: Preprocessing | None = None
) -> Picture:
    """Return one picture as uint8 of `shape` (h, w, c): a file as the view sees it, an array of uint8 as it is, one of
    floats (c, h, w), of a signal also (c, positions), of a vector (features,), which `reads` makes pixels. Raises
    UserError for another type, or an array of another shape."""
    if isinstance(picture, (str, os.PathLike)):
        return load_picture(path_of(picture, "picture"), shape[:2], view, shape[2])
    found = as_array(picture)
    if not isinstance(found, np.ndarray):
        raise UserError(f"picture is {short(picture)}: expected a file, or a numpy array of uint8 {shape}")
    found = found[0] if found.ndim == 4 and len(found) == 1 else found
    if shape[:2] == (1, 1) and found.shape in (shape[2:], (1, *shape[2:])):
        found = found.reshape((shape[2], 1, 1) if is_floats(found) else shape)
    if reads is None or not is_floats(found):
        return checked_picture(found, shape)
    if shape[0] == 1 and found.shape in (shape[:0:-1], (1, *shape[:0:-1])):
        found = found.reshape(shape[2], *shape[:2])
    if found.shape != (shape[2], *shape[:2]):
        raise UserError(
            f"a sample of {found.shape} {found.dtype}; the model reads {(shape[2], *shape[:2])} as floats, or "
            f"{shape} uint8"
        )
    return reads.pixels(found)


def is_photograph(picture: "Sample") -> bool:
    """Tell whether a picture is a JPEG, PNG or the like, whose bytes stand for colours, and no array."""
    return isinstance(picture, (str, os.PathLike)) and Path(picture).suffix.lower() != ARRAY
