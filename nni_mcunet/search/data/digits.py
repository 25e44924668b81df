"""Draw the embedded default: pictures with one handwritten digit each (digit_scenes.py), drawn anew for every sample.

Options: scale [low, high], the digit's side as a fraction of the picture's shorter side (0.2 to 0.4 makes the harder
task "find one small digit in a large picture"); held_out and test, pictures of these splits. No digit is in two splits.
"""

import numpy as np
import torch

from ...core.types import PlainDict
from .classification import Classification
from .digit_scenes import CLASSES, TRAIN_GLYPHS, scene
from .source import DataError, Key, Sample, interval, natural

SPLITS = ("train", "held_out", "test")
OPTIONS = {"scale": [0.8, 0.95], "held_out": 256, "test": 512}
SMALLEST = 8  # pixels of a glyph's side: what the original pictures have


class Digits:
    """Serve as the source of drawn pictures: no file is read."""

    def __init__(self, options: PlainDict):
        self.task = Classification(len(CLASSES))
        self.scale = interval(options["scale"], "scale", 0.95)
        sizes = {split: natural(options[split], split, low=1) for split in ("held_out", "test")}
        self.sizes = {"train": TRAIN_GLYPHS} | sizes  # drawn anew, there is no end of them: an epoch by name only

    def sample(self, key: Key) -> Sample:
        """Draw a picture, uint8 (3, h, w), and its digit."""
        if min(key.resolution) * self.scale[0] < SMALLEST:
            raise DataError(f"data: scale {self.scale[0]:g} of {min(key.resolution)} pixels is under {SMALLEST} pixels")
        rng = np.random.default_rng([SPLITS.index(key.split), *(key.seed or (key.index,))])
        labels = np.zeros(0, np.int64)
        while not len(labels):  # a glyph stretched beyond the picture is left out of the scene
            image, _, labels = scene(rng, key.resolution, key.split, most=1, scale=self.scale)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), int(labels[0])
