"""Run S3FD (Zhang et al. 2017) on a searched backbone: backbone, neck and head are walks of parts of one graph
(core.ir.build).

mmdet's SSDHead is around the layers: targets, hard negatives, losses, decoding. Here are max-out background, one square
anchor a cell and level, and S3FD's divisor. Matching is s3fd_match.py's.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import SSDHead
from mmdet.models.detectors import SingleStageDetector
from mmdet.models.necks.ssd_neck import L2Norm
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import pad

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir import box_channels
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import BACKBONE, FACE, NECK, FaceHead, build_graph
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.types import Groups, PlainDict

from .backbone import read_arch

VARIANCES = (0.1, 0.2)  # SSD's, of a box's centre and of its size


def s3fd_graph(
    backbone: PlainDict, bbox_head: PlainDict, neck: PlainDict | None = None
) -> tuple[ArchSpec, FaceHead, Graph]:
    """Build the network that the parts of a detector's config describe, with a neck or without. Raises UserError,
    ArchError."""
    spec, stages, sizes = read_arch(backbone["arch"]), backbone["out_indices"], bbox_head["sizes"]
    if len(sizes) != len(stages) or not all(sizes):
        raise UserError(
            f"bbox_head.sizes is {sizes}: expected a list of anchor sides for each of the stages {tuple(stages)} of "
            "backbone.out_indices"
        )
    taps = tuple(stage for stage, sides in zip(stages, sizes, strict=True) for _ in sides)
    head = FaceHead(taps, bbox_head.get("background", 3), neck["width"] if neck else None)
    return spec, head, build_graph(spec, head)


@MODELS.register_module()
class MCUNetS3FDHead(SSDHead):
    """Put the graph's layers in place of those of mmdet's SSD head, for the one class "face".

    part        the graph's head part
    sizes       per stage of the backbone's out_indices, fine to coarse: the sides of its square anchors in pixels of
                the network's input; each is a level with predictions of its own
    strides     per level: pixels per cell
    background  background channels on the first level, the greatest of which counts (max-out)
    l2norm      S3FD normalises its VGG maps: the initial scales of the first of them, (10, 8, 5). Networks with batch
                normalisation need none; there is no int8 kernel for it
    """

    loss_cls = None  # mmdet 3.3's prediction asks for it

    def __init__(
        self,
        part: Graph,
        sizes: Sequence[Sequence[int]],
        strides: Sequence[int],
        background: int = 3,
        l2norm: Sequence[float] = (),
        num_classes: int = 1,
        **kwargs: Any,
    ) -> None:
        self.sizes = [side for sides in sizes for side in sides]
        super().__init__(
            num_classes,
            in_channels=[t.c for t in part.inputs],
            anchor_generator=dict(
                type="AnchorGenerator",
                strides=strides,
                ratios=[1.0],
                scales=[1.0],
                base_sizes=self.sizes,
                centers=[(s / 2, s / 2) for s in strides],
            ),
            # not clipped to the picture, so that the integer engine's boxes are the same
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder",
                clip_border=False,
                target_stds=(VARIANCES[0], VARIANCES[0], VARIANCES[1], VARIANCES[1]),
            ),
            init_cfg=None,  # Net initialises itself
            **kwargs,
        )
        self.net = Net(part)
        norms = [L2Norm(t.c, scale) for t, scale in zip(part.inputs, l2norm, strict=False)]
        for norm in norms:
            nn.init.constant_(norm.weight, norm.scale)
        self.norms = nn.ModuleList(norms)

    def _init_layers(self) -> None:
        """Build none of mmdet's own layers: `net` computes the maps."""

    def init_weights(self) -> None:
        """Let predictions begin near 0; Net's initialisation, made for wide layers, begins with scores of 3."""
        for name in self.net.graph.outputs:
            nn.init.normal_(self.net.layer(name).conv.weight, std=0.01)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Turn the backbone's maps into scores (N, 2, H, W) of face and background and boxes (N, 4, H, W), fine to
        coarse."""
        normed = [norm(m) for norm, m in zip(self.norms, x, strict=False)]
        maps = self.net(*normed, *x[len(normed) :])
        return [max_out(m) for m in maps[::2]], list(maps[1::2])

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return AnchorHead's targets, with the number of positives as the divisor: mmdet counts one more for each
        picture without."""
        labels, *targets, _ = super().get_targets(*args, **kwargs)
        return labels, *targets, max(sum(int((level == 0).sum()) for level in labels), 1)


def max_out(scores: Tensor) -> Tensor:
    """Turn (N, 1 + background, H, W) into (N, 2, H, W): the greatest of the background channels is kept."""
    return torch.cat([scores[:, :1], scores[:, 1:].amax(1, keepdim=True)], 1)


@MODELS.register_module()
class MCUNetS3FD(SingleStageDetector):
    """Detect faces by S3FD whose parts are cut from one graph: `s3fd_graph` of what their configs say. It takes
    pictures of any size; the graph is that of the architecture's resolution. S3FD has no neck; with one,
    `neck=dict(type="MCUNetNeck", width=64)`, its levels read the neck's maps."""

    def __init__(self, backbone: PlainDict, bbox_head: PlainDict, neck: PlainDict | None = None, **kwargs: Any) -> None:
        spec, face, graph = s3fd_graph(backbone, bbox_head, neck)
        strides = graph.strides(graph.outputs[::2])
        super().__init__(
            backbone,
            neck and dict(type=neck["type"], graph=graph.part(NECK)),
            dict(bbox_head, part=graph.part(FACE), strides=strides),
            **kwargs,
        )
        self.spec, self.face, self.graph, self.coarsest = spec, face, graph, max(strides)
        if self.backbone.graph.outputs != graph.part(BACKBONE).outputs:
            raise AssertionError("the backbone by itself is not the backbone within the detector: see core.ir.build")

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that the head reads, fine to coarse; a neck gives them coarse to fine. A neck adds maps that
        nest, so pictures are padded with black to a multiple of the coarsest stride: the multi-scale test's views are
        of any size."""
        if not self.with_neck:
            return super().extract_feat(batch_inputs)
        h, w = batch_inputs.shape[-2:]
        return super().extract_feat(pad(batch_inputs, (0, -w % self.coarsest, 0, -h % self.coarsest)))[::-1]

    @property
    def channel_groups(self) -> dict[str, Groups]:
        """Return output -> groups of its channels that int8 may hold in a finer step."""
        return dict.fromkeys(self.graph.outputs[1::2], box_channels.BOX_MAP)
