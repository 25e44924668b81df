"""Join backbone, neck and head, three parts of one graph, to an mmdet detector: what YOLOv3 and YOLOX have in common.

Feature maps travel in mmdet's habits: fine to coarse out of the backbone, coarse to fine from the neck on. The graph's
predictions run fine to coarse.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseModule
from torch import Tensor

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import BACKBONE, NECK, YoloHead, YoloxHead
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.types import PlainDict


@MODELS.register_module()
class MCUNetNeck(Net, BaseModule):
    """Run the graph's neck: backbone maps fine to coarse in, as many maps of one width out, coarse to fine."""

    def forward(self, x: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # type: ignore[override]  # mmdet gives a tuple
        """Turn maps fine to coarse into maps coarse to fine."""
        return super().forward(*x[::-1])  # it begins at the coarsest map


class GraphDetector(SingleStageDetector):
    """Detect by three parts that are cut from one graph, which a subclass defines.

    OPS  prefixes of the head's ops
    """

    OPS: tuple[str, ...]

    def __init__(self, backbone: PlainDict, neck: PlainDict, bbox_head: PlainDict, **kwargs: Any) -> None:
        spec, head, graph = self.define(backbone, neck, bbox_head)
        part = graph.part(self.OPS)
        strides = graph.strides(tuple(t.name for t in part.inputs))
        super().__init__(
            backbone,
            dict(type=neck["type"], graph=graph.part(NECK)),
            self.head_config(bbox_head, spec) | dict(part=part, strides=strides),
            **kwargs,
        )
        self.spec, self.head, self.graph = spec, head, graph
        if self.backbone.graph.ops != graph.part(BACKBONE).ops:
            raise AssertionError("the backbone by itself is not the backbone within the detector: see core.ir.build")

    @staticmethod
    def define(
        backbone: PlainDict, neck: PlainDict, bbox_head: PlainDict
    ) -> tuple[ArchSpec, YoloHead | YoloxHead, Graph]:
        """Build the network that the three parts of a config describe, each value being said in one of them only.
        Raises UserError, ArchError."""
        raise NotImplementedError

    @staticmethod
    def head_config(bbox_head: PlainDict, spec: ArchSpec) -> PlainDict:
        """Return mmdet's config of the head, without `part` and `strides`."""
        return dict(bbox_head)

    def _load_from_state_dict(self, state_dict: PlainDict, prefix: str, *args: Any) -> None:
        """Load weights of the graph as one net, too, a search's best.pth: `layers.{op}.*` go to the op's part."""
        parts = ((BACKBONE, "backbone."), (NECK, "neck."), (self.OPS, "bbox_head.net."))
        for key in [key for key in state_dict if key.startswith(f"{prefix}layers.")]:
            op = key.removeprefix(f"{prefix}layers.")
            part = next((where for names, where in parts if op.startswith(names)), "")
            state_dict[f"{prefix}{part}layers.{op}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: Sequence[DetDataSample], rescale: bool = True
    ) -> Sequence[DetDataSample]:
        """Predict as mmdet does. Raises UserError for images of another size than the architecture's."""
        h, w = batch_inputs.shape[-2:]
        if (h, w) != self.spec.resolution:
            raise UserError(
                f"the pictures are {h}x{w} and '{self.spec.name}' is made for "
                f"{self.spec.resolution[0]}x{self.spec.resolution[1]}: set the pipelines' Resize to it"
            )
        return super().predict(batch_inputs, batch_data_samples, rescale)
