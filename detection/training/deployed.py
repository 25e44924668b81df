"""Put a deployed detector beside mmdet's: under its test loop with the same pictures and metric, or picture by
picture."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor


class DeployedDetector(BaseModel):
    """Stand in for a detector in mmdet's test loop. detect(rgb) takes a picture (h, w, 3) uint8 RGB of the network's
    size and returns boxes (n, 4) as x1, y1, x2, y2 in its pixels, scores (n,) and labels (n,)."""

    def __init__(self, detect: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        super().__init__(
            dict(type="mmdet.DetDataPreprocessor", mean=[0, 0, 0], std=[1, 1, 1], bgr_to_rgb=True)  # stays whole bytes
        )
        self.detect = detect

    def forward(
        self, inputs: Sequence[Tensor], data_samples: Sequence[DetDataSample], mode: str = "predict"
    ) -> Sequence[DetDataSample]:
        """Detect in each of `inputs`, and put the boxes, in the file's pixels, into its sample."""
        for image, sample in zip(inputs, data_samples, strict=True):
            corners, scores, labels = self.detect(image.byte().permute(1, 2, 0).cpu().numpy())
            boxes = torch.as_tensor(np.asarray(corners, np.float32))
            scale = boxes.new_tensor(sample.scale_factor).repeat(2)
            sample.pred_instances = InstanceData(
                bboxes=boxes / scale,
                scores=torch.as_tensor(np.asarray(scores, np.float32)),
                labels=torch.as_tensor(np.asarray(labels, np.int64)),
            )
        return data_samples


@torch.no_grad()
def float_boxes(model: BaseDetector, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what an mmdet detector (load_detector) finds in a picture (h, w, 3) uint8 RGB of its size, as
    DeployedDetector's detect gives it: boxes (n, 4) in its pixels, scores, labels."""
    size = rgb.shape[:2]
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    bgr = torch.from_numpy(np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1)))
    data = model.data_preprocessor(dict(inputs=[bgr], data_samples=[sample]), training=False)
    found = model.predict(data["inputs"], data["data_samples"], rescale=False)[0].pred_instances
    return tuple(found[k].cpu().numpy() for k in ("bboxes", "scores", "labels"))
