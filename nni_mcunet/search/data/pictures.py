"""Read pictures that exist, and give their two views: a random one to train on, a fixed one to judge by.

../../pictures.py says how a file becomes pixels and what the view to judge by is, for boards too. A picture that cannot
be read to its end is a DataError with its name; nothing is skipped in silence.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from ...core.types import PlainDict
from ...core.view import View
from ...pictures import PictureError, load, seen
from .classification import Classification
from .source import DataError, Key, Sample, interval, natural, share
from .split import JUDGED, fingerprint

RATIO = (3 / 4, 4 / 3)  # width to height of a random crop, before it is stretched to the resolution
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

Item = TypeVar("Item")  # (what `read` takes, label)


class Pictures:
    """Serve as the source of pictures that exist.

    splits  split -> sequence of (item, label)
    read    (item, view) -> the picture of an item as RGB
    names   of the classes, in the order of their labels, where they are for people to read

    Options:

    crop    [low, high] of a training crop's area, as a fraction of the picture
    jitter  a training picture's brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter
    keep    share of the side that an evaluation's centred crop keeps: its view
    """

    def __init__(
        self,
        splits: Mapping[str, Sequence[tuple[Any, int]]],
        read: Callable[[Any, View], Image.Image],
        classes: int,
        options: PlainDict,
        names: Sequence[str] = (),
    ):
        self.names = list(names)
        self.splits, self.read, self.task = splits, read, Classification(classes)
        self.crop, self.view = interval(options["crop"], "crop"), View(share(options["keep"], "keep"))
        self.jitter = share(options["jitter"], "jitter", low=0)
        self.sizes = {split: len(items) for split, items in splits.items()}
        self.identity = {"files": {split: fingerprint(splits[split]) for split in JUDGED}}

    def sample(self, key: Key) -> Sample:
        """Return a picture's training view where the key has a seed, else the view that judges: uint8 (3, h, w), and
        its label."""
        item, label = self.splits[key.split][key.index]
        image = self.read(item, self.view)
        if key.seed is None:
            return _tensor(seen(image, key.resolution, self.view)), label
        return training_view(image, key.resolution, self.crop, self.jitter, key.seed), label


def read_picture(path: str | Path, view: View) -> Image.Image:
    """Read a file as RGB, see ../../pictures.py. Raises DataError with its name."""
    try:
        return load(path, view)
    except FileNotFoundError:
        raise DataError(f"data: the picture {path} is missing") from None
    except OSError as error:
        raise DataError(f"data: the picture {path} cannot be read ({error.strerror})") from None
    except PictureError as error:
        raise DataError(f"data: {error}, or take it out of the folder") from None


def split_off(items: Sequence[Item], held_out: int, seed: int) -> dict[str, list[Item]]:
    """Split as the paper does for validation: `held_out` random pictures of the training set are no longer trained on.
    Raises DataError."""
    natural(held_out, f"held_out (of {len(items)} training pictures)", 1, len(items) - 1)
    order = np.random.default_rng(seed).permutation(len(items))
    return {"held_out": [items[i] for i in order[:held_out]], "train": [items[i] for i in order[held_out:]]}


def training_view(
    image: Image.Image, resolution: tuple[int, int], crop: tuple[float, float], jitter: float, seed: tuple[int, ...]
) -> Tensor:
    """Take a random resized crop, a horizontal flip and colour jitter in random order, as for ImageNet: uint8 (3, h,
    w)."""
    rng, (h, w) = np.random.default_rng(seed), resolution
    view = image.resize((w, h), Image.Resampling.BILINEAR, box=_crop_box(rng, image.width, image.height, crop))
    if rng.random() < 0.5:
        view = ImageOps.mirror(view)
    if jitter:
        for at in rng.permutation(len(ENHANCERS)):
            view = ENHANCERS[at](view).enhance(rng.uniform(1 - jitter, 1 + jitter))
    return _tensor(np.array(view))


def _crop_box(
    rng: np.random.Generator, width: int, height: int, crop: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Draw a box of random area and shape; after ten that do not fit the picture, take all of it (Szegedy et al.
    2015)."""
    for _ in range(10):
        area, ratio = width * height * rng.uniform(*crop), np.exp(rng.uniform(*np.log(RATIO)))
        w, h = np.sqrt(area * ratio), np.sqrt(area / ratio)
        if w <= width and h <= height:
            x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return x, y, x + w, y + h
    return 0, 0, width, height


def _tensor(pixels: np.ndarray) -> Tensor:
    """Turn uint8 (h, w, 3) into (3, h, w)."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
