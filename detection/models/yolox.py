"""Run MCUNet's YOLOX in mmdet (Ge et al. 2021): no anchors, one prediction a cell, a decoupled head of depth-wise
separable convolutions, which is a walk of the graph.

mmdet's YOLOXHead is around the layers: SimOTA, the losses, decoding.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.models.dense_heads import YOLOXHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model import bias_init_with_prob
from mmengine.structures import InstanceData
from torch import Tensor, nn

from nni_mcunet.core.ir import box_channels
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import YOLOX, YoloxHead, build_graph
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.types import Groups, PlainDict

from .backbone import read_arch
from .detector import GraphDetector

PRIOR = 0.01  # of an object, and of each class, before training: mmdet's
UNTRAINED = -1  # mmdet's CrossEntropyLoss leaves out what has a target below 0


def yolox_graph(backbone: PlainDict, neck: PlainDict, bbox_head: PlainDict) -> tuple[ArchSpec, YoloxHead, Graph]:
    """Build the network that the three parts of a detector's config describe. Raises ArchError."""
    spec = read_arch(backbone["arch"])
    sizes = {key: bbox_head[key] for key in ("feat_channels", "stacked_convs") if key in bbox_head}
    head = YoloxHead(bbox_head["num_classes"], tuple(backbone["out_indices"]), neck["width"], **sizes)
    return spec, head, build_graph(spec, head)


@MODELS.register_module()
class MCUNetYOLOXHead(YOLOXHead):
    """Put the graph's layers in place of those of mmdet's YOLOX head.

    part           the graph's head part
    strides        of the levels, fine to coarse
    feat_channels  of the branches, and stacked_convs, separable convolutions in each: see core.ir.build.YoloxHead
    use_l1         train the offsets and logarithms themselves, too. mmdet begins that with the last epochs, when its
                   hook ends Mosaic
    """

    def __init__(
        self,
        num_classes: int,
        part: Graph,
        strides: Sequence[int],
        use_l1: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, part.inputs[0].c, strides=strides, init_cfg=None, **kwargs)
        self.use_l1 = use_l1
        self.net = Net(part)

    def _init_layers(self) -> None:
        """Build none of mmdet's own layers: `net` computes the maps."""

    def init_weights(self) -> None:
        """Let predictions begin near 0, boxes as large as a cell, and logits at the prior; the branches keep Net's
        initialisation."""
        for name in self.net.graph.outputs:
            conv = self.net.layer(name).conv
            nn.init.normal_(conv.weight, std=0.01)
            assert conv.bias is not None
            nn.init.constant_(conv.bias, 0 if name.endswith("_box") else bias_init_with_prob(PRIOR))

    def arranged(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return the graph's outputs as mmdet's losses and prediction take them: logits of the classes (N, classes, H,
        W), boxes (N, 4, H, W) and logits of objects (N, 1, H, W), each fine to coarse."""
        return list(maps[::3]), list(maps[1::3]), list(maps[2::3])

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Turn maps of the neck, coarse to fine, into `arranged` predictions."""
        return self.arranged(self.net(*x[::-1]))

    def _get_targets_single(
        self,
        priors: Tensor,
        cls_preds: Tensor,
        decoded_bboxes: Tensor,
        objectness: Tensor,
        gt_instances: InstanceData,
        img_meta: PlainDict,
        gt_instances_ignore: InstanceData | None = None,
    ) -> tuple[Any, ...]:
        """Return mmdet's targets of a picture. Where an ignored object (difficult, a crowd) would be found, neither an
        object nor its absence is trained: mmdet's head would learn that nothing is there."""
        given = (priors, cls_preds, decoded_bboxes, objectness, gt_instances, img_meta, gt_instances_ignore)
        found, classes, objects, *rest = super()._get_targets_single(*given)
        if gt_instances_ignore is not None and len(gt_instances_ignore.bboxes):
            objects[_covered(priors, gt_instances_ignore.bboxes) & ~found] = UNTRAINED
        return found, classes, objects, *rest

    def _bbox_post_process(self, results: InstanceData, cfg: ConfigDict, *args: Any, **kwargs: Any) -> InstanceData:
        """Return mmdet's boxes after NMS, the max_per_img best, as mmdet's other heads do: its YOLOX keeps all."""
        return super()._bbox_post_process(results, cfg, *args, **kwargs)[: cfg.max_per_img]


def _covered(priors: Tensor, boxes: Tensor) -> Tensor:
    """Tell (n,) of which cells the middle is in one of the boxes (k, 4), or which hold the middle of one. priors (n,
    4): corner, width and height of each."""
    corner, size = priors[:, None, :2], priors[:, None, 2:]
    middle, centre = corner + size / 2, (boxes[None, :, :2] + boxes[None, :, 2:]) / 2
    inside = (middle >= boxes[None, :, :2]) & (middle <= boxes[None, :, 2:])
    holds = (centre >= corner) & (centre < corner + size)
    return (inside.all(-1) | holds.all(-1)).any(-1)


@MODELS.register_module()
class MCUNetYOLOX(GraphDetector):
    """Detect by YOLOX whose three parts are cut from one graph: `yolox_graph` of what their configs say."""

    OPS = YOLOX
    define = staticmethod(yolox_graph)

    @property
    def channel_groups(self) -> dict[str, Groups]:
        """Return output -> groups of its channels that int8 may hold in a finer step: of the box maps."""
        return dict.fromkeys(self.graph.outputs[1::3], box_channels.BOX_MAP)
