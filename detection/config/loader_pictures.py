"""Read single pictures of a config's loaders, as they are tested on: to calibrate, to compare, to flash."""

from collections.abc import Iterator
from copy import deepcopy

import numpy as np
from mmengine.config import Config

from ..data.data_files import open_pictures
from ..data.datasets import leaves
from .config_shape import dataset_of


def input_pictures(cfg: Config, most: int, loader: str = "train_dataloader") -> Iterator[np.ndarray]:
    """Yield at most so many pictures of a loader's data set, evenly spread, as they are tested on: (h, w, 3) uint8 RGB
    of the network's size, without augmentation."""
    pipeline = deepcopy(next(leaves(dataset_of(cfg, "test_dataloader"))).pipeline)
    if loader == "train_dataloader" and pipeline[0]["type"] == "LoadImageFromFile":
        pipeline[0]["type"] = "LoadPicture"  # passes over a broken one, as training does
    data = open_pictures(deepcopy(dataset_of(cfg, loader)), pipeline=pipeline)
    count = min(most, len(data))
    for i in range(count):
        yield np.ascontiguousarray(data[i * len(data) // count]["inputs"].permute(1, 2, 0).numpy()[..., ::-1])


def busy_picture(cfg: Config, objects: int = 3) -> str:
    """Return the path of the first test picture with at least so many objects, or else of the one with the most."""
    data = open_pictures(deepcopy(dataset_of(cfg, "test_dataloader")), pipeline=[])
    infos = [data.get_data_info(i) for i in range(len(data))]
    counts = [min(len(info["instances"]), objects) for info in infos]
    return infos[counts.index(max(counts))]["img_path"]
