"""Run EXTD (Yoo et al. 2019), a baseline of the paper's Table 4, in mmdet: the graph of paper/baselines.py, S3FD's
head.

Its authors' weights (github.com/clovaai/EXTD_Pytorch, MIT) load as they are, by `load_checkpoint` and our tools.
"""

import re
from typing import Any

from mmdet.models.detectors import SingleStageDetector
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from nni_mcunet.core.ir.build import FACE
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.types import PlainDict
from nni_mcunet.paper.baselines import SCALES, face_baseline

STRIDES = tuple(4 << i for i in range(SCALES))


def backbone_part(graph: Graph) -> Graph:
    """Return the part of the graph before the face's layers."""
    return graph.part(tuple(op.name for op in graph.ops if not op.name.startswith(FACE)))


@MODELS.register_module()
class EXTDBackbone(Net, BaseModule):
    """Run EXTD's backbone. `arch` is extd_32, extd_48 or extd_64."""

    def __init__(self, arch: str) -> None:
        super().__init__(backbone_part(face_baseline(arch)))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # mmdet gives one image
        """Turn an image (N, 3, H, W) of any size into six maps, fine to coarse."""
        return super().forward(image)[::-1]  # the top-down pathway ends at the finest


@MODELS.register_module()
class EXTD(SingleStageDetector):
    """Detect faces with EXTD. Checkpoints of its authors load, too."""

    def __init__(self, backbone: PlainDict, bbox_head: PlainDict, **kwargs: Any) -> None:
        self.graph = face_baseline(backbone["arch"])
        head = dict(bbox_head, part=self.graph.part(FACE), strides=STRIDES)
        super().__init__(backbone, bbox_head=head, **kwargs)

    def _load_from_state_dict(self, state_dict: PlainDict, prefix: str, *args: Any) -> None:
        """Turn a checkpoint of the authors into ours first, where it is one."""
        if f"{prefix}base.0.0.weight" in state_dict:
            theirs = {key.removeprefix(prefix): value for key, value in state_dict.items()}
            state_dict.clear()
            state_dict.update({prefix + key: value for key, value in from_authors(theirs).items()})
        super()._load_from_state_dict(state_dict, prefix, *args)


def from_authors(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make EXTD's state dict from its authors': other names, the face as the first channel of the scores. They have
    biases before batch normalisation, where our layers have none: these are taken from its means."""
    ours, biases = {}, {}
    for key, value in theirs.items():
        module, name = key.rsplit(".", 1)
        layer, part = _place(module)
        if layer.endswith("_cls"):
            value = value.roll(1, 0)  # theirs has the face last
        if part == "conv" and name == "bias" and not layer.startswith("bbox_head"):
            biases[layer] = value
        else:
            ours[f"{layer}.{part}.{name}"] = value
    for layer, bias in biases.items():
        ours[f"{layer}.bn.running_mean"] = ours[f"{layer}.bn.running_mean"] - bias
    for i in range(SCALES - 1):  # theirs has no bias here
        weight = ours[f"backbone.layers.up{i}_dw.conv.weight"]
        ours[f"backbone.layers.up{i}_dw.conv.bias"] = weight.new_zeros(len(weight))
    return ours


PARTS = ("conv", "bn", "prelu")


def _place(module: str) -> tuple[str, str]:
    """Map the authors' module to (path of our layer, conv, bn or prelu)."""
    kind, *at = re.findall(r"[a-z]+|\d+", module.replace(".conv.", "."))
    if kind in ("loc", "conf"):
        return f"bbox_head.net.layers.face{at[0]}_{'box' if kind == 'loc' else 'cls'}", "conv"
    first, second = map(int, at)
    if kind == "upfeat":  # the first of theirs makes the coarsest but one
        layer, part = f"up{SCALES - 2 - first}", ("dw", "pw", "pw")[second]
        return f"backbone.layers.{layer}_{part}", PARTS[second // 2]
    if first == 0:
        return "backbone.layers.stem", PARTS[second]
    block, convs = ("first", ("dw", "proj")) if first == 1 else (f"p0_b{first - 2}", ("exp", "dw", "proj"))
    return f"backbone.layers.{block}_{convs[second // 3]}", PARTS[second % 3]
