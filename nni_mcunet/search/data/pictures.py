"""Sources of pictures that exist: reading them, and their two views: a random one to train on, a fixed one to judge by.

Every picture becomes RGB: grey, palette and CMYK are converted, an alpha channel is dropped. One that cannot be read to
its end is a DataError with its name; nothing is skipped in silence.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .source import DataError, Key, Sample

RATIO = (3 / 4, 4 / 3)  # width to height of a random crop, before it is stretched to the resolution
JITTER = (0.4, 0.4, 0.4)  # brightness, contrast, saturation


class Pictures:
    """splits: split -> sequence of (item, label); load(item) opens the picture of an item.

    crop  range of a training crop's area, as a fraction of the picture
    keep  share of the side that an evaluation's centred crop keeps
    """

    def __init__(
        self, splits: dict[str, Sequence], load: Callable, classes: int, crop: tuple[float, float], keep: float
    ):
        self.splits, self.load, self.classes, self.crop, self.keep = splits, load, classes, crop, keep
        self.sizes = {split: len(items) for split, items in splits.items()}

    def sample(self, key: Key) -> Sample:
        item, label = self.splits[key.split][key.index]
        image = self.load(item)
        if key.seed is None:
            return evaluation_view(image, key.resolution, self.keep), label
        return training_view(image, key.resolution, self.crop, key.seed), label


def read_picture(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"data: the picture {path} is missing") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"data: {path} is no readable picture ({error}): replace it or take it out of the folder"
        ) from None


def split_off(items: Sequence, held_out: int, seed: int) -> dict[str, list]:
    """The paper's validation split: `held_out` random pictures of the training set are no longer trained on."""
    if not 0 < held_out < len(items):
        raise DataError(
            f"data: held_out is {held_out}, to be taken out of {len(items)} training pictures: give a number in between"
        )
    order = np.random.default_rng(seed).permutation(len(items))
    return {"held_out": [items[i] for i in order[:held_out]], "train": [items[i] for i in order[held_out:]]}


def evaluation_view(image: Image.Image, resolution: tuple[int, int], keep: float) -> Tensor:
    """The largest centred part with the resolution's shape, less a margin, resized: uint8 (3, h, w). The same as
    resizing until the picture covers resolution / keep and cutting the centre out."""
    h, w = resolution
    scale = keep * min(image.height / h, image.width / w)
    x, y = (image.width - w * scale) / 2, (image.height - h * scale) / 2
    box = (x, y, x + w * scale, y + h * scale)
    return _tensor(image.resize((w, h), Image.Resampling.BILINEAR, box=box))


def training_view(image: Image.Image, resolution: tuple[int, int], crop: tuple[float, float], seed) -> Tensor:
    """Random resized crop, horizontal flip and colour jitter as kornia draws them: uint8 (3, h, w)."""
    h, w = resolution
    boxes, flip_and_jitter = _augmentation(resolution, crop)
    with torch.random.fork_rng(devices=[]):  # kornia draws from torch's global generator
        state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        torch.default_generator.manual_seed(int(state >> np.uint64(1)))
        corners = boxes((1, 3, image.height, image.width))["src"][0]
        (x, y), (right, bottom) = corners[0].tolist(), corners[2].tolist()
        part = image.resize((w, h), Image.Resampling.BILINEAR, box=(x, y, right + 1, bottom + 1))
        view = flip_and_jitter(_tensor(part)[None].float() / 255)
    return (view[0].clamp(0, 1) * 255).round().to(torch.uint8)


@cache
def _augmentation(resolution: tuple[int, int], crop: tuple[float, float]):
    import kornia.augmentation as K  # half a second, and only training needs it
    from kornia.augmentation.random_generator import ResizedCropGenerator

    jitter = K.ColorJitter(*JITTER, hue=0.0, p=1.0)
    return ResizedCropGenerator(resolution, scale=crop, ratio=RATIO), torch.nn.Sequential(
        K.RandomHorizontalFlip(p=0.5), jitter
    )


def _tensor(image: Image.Image) -> Tensor:
    """uint8 RGB (3, h, w)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
