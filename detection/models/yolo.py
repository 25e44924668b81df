"""Run MCUNet's YOLOv3 in mmdet: its head is a walk of the graph (core.ir.build).

mmdet's part is around the layers: losses, target assignment, decoding. Its maps run coarse to fine, the graph's
predictions fine to coarse; the head turns them round, here and nowhere else.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import YOLOV3Head
from mmdet.models.utils import multi_apply
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor, nn

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir import box_channels
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import YOLO, YoloHead, build_graph
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.types import Groups, PlainDict

from .backbone import read_arch
from .detector import GraphDetector

IGNORE_IOF = 0.5  # share of an anchor's area, as mmdet's MaxIoUAssigner and s3fd_match.py have it


def yolo_graph(backbone: PlainDict, neck: PlainDict, bbox_head: PlainDict) -> tuple[ArchSpec, YoloHead, Graph]:
    """Build the network that the three parts of a detector's config describe, each value being said in one of them
    only. Raises UserError, ArchError."""
    spec = read_arch(backbone["arch"])
    anchors = bbox_head["anchors"]
    if len(anchors) != len(backbone["out_indices"]) or len({len(a) for a in anchors}) != 1:
        raise UserError(
            f"bbox_head.anchors has {[len(a) for a in anchors]} anchors for the stages "
            f"{tuple(backbone['out_indices'])} of backbone.out_indices: expected as many for each stage"
        )
    yolo = YoloHead(bbox_head["num_classes"], tuple(backbone["out_indices"]), neck["width"], len(anchors[0]))
    return spec, yolo, build_graph(spec, yolo)


@MODELS.register_module()
class MCUNetYOLOHead(YOLOV3Head):
    """Put the graph's layers in place of those of mmdet's YOLOv3 head.

    part     the graph's head part
    anchors  per level, fine to coarse: (w, h) as fractions of the picture, so that they hold at every resolution
    strides  of the levels, fine to coarse
    loss_bbox  None: mmdet's two losses, of the centre within its cell and of the logarithm of the sides. A config, such
               as dict(type="CIoULoss", loss_weight=5.0): one of the decoded boxes in their place
    """

    def __init__(
        self,
        num_classes: int,
        part: Graph,
        anchors: Sequence[Sequence[tuple[int, int]]],
        strides: Sequence[int],
        resolution: Sequence[int],
        loss_bbox: PlainDict | None = None,
        **kwargs: Any,
    ) -> None:
        h, w = resolution
        sizes = [[(aw * w, ah * h) for aw, ah in level] for level in anchors]
        widths = [t.c for t in part.inputs]
        super().__init__(
            num_classes,
            in_channels=widths,
            out_channels=widths,
            anchor_generator=dict(type="YOLOAnchorGenerator", base_sizes=sizes[::-1], strides=strides[::-1]),
            featmap_strides=strides[::-1],
            **kwargs,
        )
        self.net = Net(part)
        self.loss_bbox = MODELS.build({**loss_bbox, "reduction": "sum"}) if loss_bbox else None

    def _init_layers(self) -> None:
        """Build none of mmdet's own layers: `net` computes the maps."""

    @property
    def convs_pred(self) -> list[Tensor | nn.Module]:
        """Return the last convolutions, coarse to fine: mmdet's init_weights sets their biases to the objects'
        prior."""
        return [self.net.layers[name].conv for name in self.net.graph.outputs[::-1]]

    def arranged(self, maps: Sequence[Tensor]) -> tuple[list[Tensor]]:
        """Return the graph's outputs as mmdet's losses and prediction take them: (N, anchors * (5 + classes), H, W)
        coarse to fine."""
        return (list(maps[::-1]),)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor]]:
        """Turn maps of the neck, coarse to fine, into `arranged` predictions."""
        return self.arranged(self.net(*x[::-1]))

    def loss_by_feat(
        self,
        pred_maps: Sequence[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[PlainDict],
        batch_gt_instances_ignore: Sequence[InstanceData] | None = None,
    ) -> PlainDict:
        """Return mmdet's losses of predictions (N, anchors * (5 + classes), H, W), coarse to fine: the mean over the
        pictures. mmdet sums over them, so that learning rate and clipping depend on the batch. Where an ignored
        object (difficult, a crowd) would be found, neither an object nor its absence is trained: mmdet's head would
        learn that nothing is there."""
        count = len(batch_img_metas)
        ignored = batch_gt_instances_ignore or [None] * count
        sizes, device = [m.shape[-2:] for m in pred_maps], pred_maps[0].device
        anchors = self.prior_generator.grid_priors(sizes, device=device)
        flags = [self.responsible_flags(sizes, objects.bboxes, device) for objects in batch_gt_instances]
        targets, negatives = self.get_targets([anchors] * count, flags, batch_gt_instances)
        spared = [self._spared(anchors, sizes, objects) for objects in ignored]
        negatives = [
            negative * ~torch.stack(level) for negative, level in zip(negatives, zip(*spared, strict=True), strict=True)
        ]
        parts = multi_apply(self.loss_by_feat_single, pred_maps, targets, negatives)
        losses = dict(zip(("loss_cls", "loss_conf", "loss_xy", "loss_wh"), parts, strict=True))
        if self.loss_bbox is not None:
            del losses["loss_xy"], losses["loss_wh"]
            levels = zip(pred_maps, targets, anchors, self.featmap_strides, strict=True)
            losses["loss_bbox"] = [self.loss_bbox(*self._decoded(*level)) for level in levels]
        return {name: [loss / count for loss in parts] for name, parts in losses.items()}

    def _decoded(self, pred_map: Tensor, targets: Tensor, anchors: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Return the boxes (objects, 4), in pixels, of a level's predictions (N, anchors * (5 + classes), H, W) and
        targets (N, H * W * anchors, 5 + classes), where there is an object."""
        found = pred_map.permute(0, 2, 3, 1).reshape(targets.shape)
        image, at = targets[..., 4].nonzero(as_tuple=True)
        found, meant = found[image, at, :4], targets[image, at, :4]
        found = torch.cat((found[:, :2].sigmoid(), found[:, 2:]), 1)
        return tuple(self.bbox_coder.decode(anchors[at], deltas, stride) for deltas in (found, meant))

    def _spared(
        self, anchors: list[Tensor], sizes: Sequence[Sequence[int]], ignored: InstanceData | None
    ) -> list[Tensor]:
        """Return for each level (anchors,) bool: whether an anchor would be given to an ignored object, or lies within
        one by more than half of its area (a crowd)."""
        if ignored is None or not len(ignored.bboxes):
            return [level.new_zeros(len(level), dtype=torch.bool) for level in anchors]
        boxes = InstanceData(bboxes=ignored.bboxes, labels=ignored.labels)
        flags = torch.cat(self.responsible_flags(sizes, boxes.bboxes, anchors[0].device))
        priors = torch.cat(anchors)
        found = self.assigner.assign(InstanceData(priors=priors, responsible_flags=flags), boxes)
        covered = bbox_overlaps(priors, boxes.bboxes, mode="iof").amax(1) > IGNORE_IOF
        return list(((found.gt_inds != 0) | covered).split([len(level) for level in anchors]))


@MODELS.register_module()
class MCUNetYOLO(GraphDetector):
    """Detect by YOLOv3 whose three parts are cut from one graph: `yolo_graph` of what their configs say."""

    OPS = YOLO
    head: YoloHead
    define = staticmethod(yolo_graph)

    @staticmethod
    def head_config(bbox_head: PlainDict, spec: ArchSpec) -> PlainDict:
        """Return mmdet's config of the head: anchors are fractions of the picture."""
        return dict(bbox_head, resolution=spec.resolution)

    @property
    def channel_groups(self) -> dict[str, Groups]:
        """Return output -> groups of its channels that int8 may hold in a finer step."""
        return {name: box_channels.yolo(self.head.anchors, self.graph.tensors[name].c) for name in self.graph.outputs}
