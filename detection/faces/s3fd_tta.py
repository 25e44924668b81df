"""Run the multi-scale test with which S3FD and its followers report WIDER FACE, by mmdet's own test-time augmentation:
`tta_pipeline` and `tta_model` of the config, `mcunet test --tta`. It takes one picture at a time (batch_size 1)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmcv.transforms import BaseTransform, Compose
from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from nni_mcunet.core.types import PlainDict

INF = float("inf")


class View(NamedTuple):
    """Hold a picture's scale, whether it is mirrored, and the faces believed there: of a longer side above `least`, a
    shorter one below `most`, in pixels of the file."""

    scale: float
    flip: bool = False
    least: float = 0
    most: float = INF


def views(h: int, w: int, pixels: int) -> list[View]:
    """List the views of a picture that may be enlarged to so many pixels: as it is (or as large as that) and its mirror
    image, half of it for faces above 30 pixels, and twice, four times, ... to the full size for those below 100."""
    largest = (pixels / (h * w)) ** 0.5
    half = min(0.5, 0.5 * largest) if largest < 0.75 else 0.5
    found = [View(min(1.0, largest)), View(min(1.0, largest), flip=True), View(half, least=30)]
    if largest <= 1:
        return [*found, View((half + largest) / 2, least=30)]
    scale = 2.0
    while scale < largest:
        found.append(View(scale, most=100))
        scale *= 2
    return [*found, View(largest, most=100)]


@TRANSFORMS.register_module()
class FaceViews(BaseTransform):
    """Give mmdet's TestTimeAug the `views`, whose number depends on the picture; each goes through `transforms`.

    pixels  the largest picture's, S3FD's 1700 x 1200
    """

    def __init__(self, transforms: Sequence[PlainDict], pixels: int = 1700 * 1200) -> None:
        self.pixels = pixels
        self.transforms = Compose(transforms)

    def transform(self, results: PlainDict) -> PlainDict:
        """Return the packed views, a list for each key."""
        h, w = results["img"].shape[:2]
        packed = [self._view(results, view) for view in views(h, w, self.pixels)]
        return {key: [one[key] for one in packed] for key in packed[0]}

    def _view(self, results: PlainDict, view: View) -> PlainDict:
        resize = TRANSFORMS.build(dict(type="Resize", scale_factor=view.scale, keep_ratio=True))
        flip = TRANSFORMS.build(dict(type="RandomFlip", prob=float(view.flip)))
        seen = flip(resize(dict(results)))
        return self.transforms(seen | {"believed": (view.least, view.most)})


@MODELS.register_module()
class FaceTTAModel(DetTTAModel):
    """Merge the views' boxes: each view gives its believed ones, and boxes that overlap are made one (`vote`)."""

    def __init__(self, iou_threshold: float = 0.3, max_per_img: int = 750, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iou_threshold, self.max_per_img = iou_threshold, max_per_img

    def _merge_single_sample(self, data_samples: list[DetDataSample]) -> DetDataSample:
        all_boxes: list[Tensor] = []
        all_scores: list[Tensor] = []
        for sample in data_samples:
            found, (least, most) = sample.pred_instances, sample.metainfo["believed"]
            sides = found.bboxes[:, 2:] - found.bboxes[:, :2]
            believed = (sides.amax(1) > least) & (sides.amin(1) < most)
            all_boxes.append(found.bboxes[believed])
            all_scores.append(found.scores[believed])
        boxes, scores = self.merge_aug_bboxes(all_boxes, all_scores, [sample.metainfo for sample in data_samples])
        boxes, scores = vote(boxes, scores, self.iou_threshold)
        kept = scores.argsort(descending=True)[: self.max_per_img]
        labels = torch.zeros(len(kept), dtype=torch.long, device=kept.device)
        data_samples[0].pred_instances = InstanceData(bboxes=boxes[kept], scores=scores[kept], labels=labels)
        return data_samples[0]


def vote(boxes: Tensor, scores: Tensor, iou_threshold: float) -> tuple[Tensor, Tensor]:
    """Vote on boxes (n, 4) with scores (n,): the best box takes up all that overlap it by the threshold, with the mean
    of their boxes weighted by score and its own score; then the best of the rest. A box that nothing overlaps is
    kept, which S3FD's code drops."""
    order = scores.argsort(descending=True)
    boxes, scores = boxes[order], scores[order]
    merged, best = [boxes[:0]], [scores[:0]]
    while len(boxes):
        near = bbox_overlaps(boxes[:1], boxes)[0] >= iou_threshold
        near[0] = True
        weights = scores[near] / scores[near].sum()
        merged.append((weights[:, None] * boxes[near]).sum(0, keepdim=True))
        best.append(scores[:1])
        boxes, scores = boxes[~near], scores[~near]
    return torch.cat(merged), torch.cat(best)
