"""Decide which anchor is to find which face: S3FD's scale compensation (Zhang et al. 2017, section 3.2), an mmdet
assigner.

A face of a size between two anchors' overlaps neither well and would be trained on by one anchor at most. A second
step gives more anchors to it, at a lower overlap.
"""

from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

VARIANTS = ("image", "face")


@TASK_UTILS.register_module()
class ScaleCompensationAssigner(BaseAssigner):
    """Assign anchors to faces in two steps. First, an anchor belongs to the face it overlaps most, if by `pos_iou_thr`;
    and the best anchor of each face to that face (the later one of two). Then anchors that are still free and
    overlap by more than `low_iou_thr` are handed out, best first:

    compensation "image"  as EdgeML's code, which the paper follows: to the face each overlaps most, as many as the mean
                          of the number of faces whose best overlap reaches pos_iou_thr and high_iou_thr (rounded down)
    compensation "face"   as S3FD's paper: to each face with fewer anchors than the faces have on average (rounded to
                          the nearest number), in the faces' order, until it has as many

    An anchor that is covered by more than `ignore_iof_thr` by an ignored face and belongs to no other is trained on
    neither way.
    """

    def __init__(
        self,
        compensation: str = "image",
        pos_iou_thr: float = 0.35,
        low_iou_thr: float = 0.1,
        high_iou_thr: float = 0.5,
        ignore_iof_thr: float = 0.5,
    ) -> None:
        if compensation not in VARIANTS:
            raise ValueError(f"compensation is '{compensation}': expected one of {', '.join(VARIANTS)}")
        self.compensation, self.ignore_iof_thr = compensation, ignore_iof_thr
        self.pos_iou_thr, self.low_iou_thr, self.high_iou_thr = pos_iou_thr, low_iou_thr, high_iou_thr

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """Return gt_inds (anchors,): 0 background, 1.. the face, -1 not trained on."""
        anchors, faces = pred_instances.priors, gt_instances.bboxes
        overlaps = bbox_overlaps(faces, anchors)
        assigned = anchors.new_full((len(anchors),), -1, dtype=torch.long)
        if len(faces):
            assigned = self.match(overlaps)
        labels = torch.where(assigned >= 0, 0, -1)  # the one class
        inds = assigned + 1
        if gt_instances_ignore is not None and len(gt_instances_ignore.bboxes):
            covered = bbox_overlaps(anchors, gt_instances_ignore.bboxes, mode="iof").amax(1)
            inds[(covered > self.ignore_iof_thr) & (inds == 0)] = -1
        greatest = overlaps.amax(0) if len(faces) else anchors.new_zeros(len(anchors))
        return AssignResult(len(faces), inds, greatest, labels=labels)

    def match(self, overlaps: Tensor) -> Tensor:
        """Return (anchors,), the face of each anchor or -1, from the IoU (faces, anchors) of at least one face."""
        best, face = overlaps.max(0)
        taken = best >= self.pos_iou_thr
        best_of_face, anchor_of_face = overlaps.max(1)
        for i, (anchor, iou) in enumerate(zip(anchor_of_face.tolist(), best_of_face.tolist(), strict=True)):
            if iou > 0:  # a face that no anchor overlaps gets none
                face[anchor], taken[anchor] = i, True
        if self.compensation == "image":
            reach = [int((best_of_face >= thr).sum()) for thr in (self.pos_iou_thr, self.high_iou_thr)]
            taken[self._free(best, taken, sum(reach) // 2)] = True
        else:
            counts = torch.bincount(face[taken], minlength=len(overlaps))
            average = round(counts.float().mean().item())
            for i in (counts < average).nonzero().flatten().tolist():
                more = self._free(overlaps[i], taken, average - int(counts[i]))
                face[more], taken[more] = i, True
        return torch.where(taken, face, -1)

    def _free(self, overlaps: Tensor, taken: Tensor, most: int) -> Tensor:
        """Return the indices of at most so many anchors that are not taken and overlap by more than low_iou_thr, best
        first, and the first of equal ones (a face inside several anchors)."""
        values, anchors = overlaps.masked_fill(taken, -1).sort(descending=True, stable=True)
        return anchors[:most][values[:most] > self.low_iou_thr]
