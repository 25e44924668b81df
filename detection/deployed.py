"""A deployed detector beside mmdet's: under its test loop with the same pictures and metric, or picture by picture."""

from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from .config_shape import dataset_of
from .data_files import open_pictures
from .datasets import leaves


class DeployedDetector(BaseModel):
    """detect(rgb) takes a picture (h, w, 3) uint8 RGB of the network's size and returns boxes (n, 4) as x1, y1, x2, y2
    in its pixels, scores (n,) and labels (n,)."""

    def __init__(self, detect: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]):
        super().__init__(
            dict(type="mmdet.DetDataPreprocessor", mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=True)  # stays whole bytes
        )
        self.detect = detect

    def forward(self, inputs, data_samples, mode="predict"):
        for image, sample in zip(inputs, data_samples, strict=True):
            boxes, scores, labels = self.detect(image.byte().permute(1, 2, 0).cpu().numpy())
            boxes = torch.as_tensor(np.asarray(boxes, np.float32))
            scale = boxes.new_tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=boxes / scale,
                scores=torch.as_tensor(np.asarray(scores, np.float32)),
                labels=torch.as_tensor(np.asarray(labels, np.int64)),
            )
        return data_samples


def input_pictures(cfg: Config, most: int, loader: str = "train_dataloader") -> Iterator[np.ndarray]:
    """At most so many pictures of a loader's data set, evenly spread, as they are tested on: (h, w, 3) uint8 RGB of the
    network's size, without augmentation."""
    pipeline = deepcopy(next(leaves(dataset_of(cfg, "test_dataloader"))).pipeline)
    if loader == "train_dataloader" and pipeline[0]["type"] == "LoadImageFromFile":
        pipeline[0]["type"] = "LoadPicture"  # passes over a broken one, as training does
    data = open_pictures(deepcopy(dataset_of(cfg, loader)), pipeline=pipeline)
    count = min(most, len(data))
    for i in range(count):
        yield np.ascontiguousarray(data[i * len(data) // count]["inputs"].permute(1, 2, 0).numpy()[..., ::-1])


def busy_picture(cfg: Config, objects: int = 3) -> str:
    """Path of the first test picture with at least so many objects, or else of the one with the most."""
    data = open_pictures(deepcopy(dataset_of(cfg, "test_dataloader")), pipeline=[])
    infos = [data.get_data_info(i) for i in range(len(data))]
    counts = [min(len(info["instances"]), objects) for info in infos]
    return infos[counts.index(max(counts))]["img_path"]


@torch.no_grad()
def float_boxes(model, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What an mmdet detector (load_detector) finds in a picture (h, w, 3) uint8 RGB of its size, as DeployedDetector's
    detect gives it: boxes (n, 4) in its pixels, scores, labels."""
    size = rgb.shape[:2]
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1)))
    data = model.data_preprocessor(dict(inputs=[bgr], data_samples=[sample]), training=False)
    found = model.predict(data["inputs"], data["data_samples"], rescale=False)[0].pred_instances
    return tuple(found[k].cpu().numpy() for k in ("bboxes", "scores", "labels"))
