"""Pictures to train and judge on: the embedded default, single handwritten digits (nni_mcunet.digits), no download.

Every batch is drawn from its own seed, so training can stop anywhere and go on exactly.
"""

import numpy as np
import torch
from torch import Tensor

from ..digits import scene

CLASSES = 10


def digit_batch(seed: list[int], split: str, count: int, resolution: int) -> tuple[Tensor, Tensor]:
    """`count` pictures of one digit each: float32 (count, 3, r, r) in [0, 1], and labels int64 (count,).

    split "train" or "val": no digit is in both. The glyph takes 0.8 to 0.95 of the picture.
    """
    rng = np.random.default_rng([*seed, split == "val", resolution])
    images, labels = [], []
    while len(labels) < count:
        image, _, label = scene(rng, (resolution, resolution), split, most=1, scale=(0.8, 0.95))
        if len(label):  # a glyph stretched beyond the picture is left out of the scene
            images.append(image)
            labels.append(int(label[0]))
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return stacked.float().div_(255).contiguous(), torch.tensor(labels)
