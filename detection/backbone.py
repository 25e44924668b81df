"""The searched network as mmdet's backbone: a walk of the same graph that everything else walks."""

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from nni_mcunet.core.arch import ArchSpec
from nni_mcunet.core.build import build_graph
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.net import Net

from .checkpoint import load_from_local


def read_arch(arch) -> ArchSpec:
    """An ArchSpec from the path of its JSON file or from the parsed dict. Raises ArchError, FileNotFoundError."""
    return ArchSpec.from_dict(dict(arch)) if isinstance(arch, dict) else ArchSpec.load(arch)


@MODELS.register_module()
class MCUNetBackbone(Net, BaseModule):
    """A searched network without its classifier.

    arch         path of an architecture JSON, or the dict
    out_indices  stages whose last maps (N, C, H, W) are given out, fine to coarse
    init_cfg     dict(type='Pretrained', checkpoint=...): a super-network's slice or a classifier, keys
                 `layers.{op}.conv.weight`, `layers.{op}.bn.*`; None leaves Net's own initialisation
    """

    def __init__(self, arch, out_indices, init_cfg: dict | None = None):
        super().__init__(build_graph(read_arch(arch), taps=tuple(out_indices)))
        self.init_cfg = init_cfg

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return super().forward(image.contiguous(memory_format=torch.channels_last))  # a CPU trains 1.6x faster on NHWC

    def init_weights(self) -> None:
        if self.init_cfg and self.init_cfg["checkpoint"]:
            self.load_slice(self.init_cfg["checkpoint"])

    def load_slice(self, path) -> None:
        """Load a checkpoint's layers of this name. Layers that are not ours (a classifier) are left alone; UserError
        for one of ours that is missing or of another shape."""
        weights = load_from_local(path, "cpu")
        weights = weights.get("state_dict", weights)
        for name, ours in self.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            if name not in weights:
                raise UserError(f"{path}: no '{name}', which '{self.graph.name}' has; was it trained on another arch?")
            if weights[name].shape != ours.shape:
                raise UserError(
                    f"{path}: '{name}' is {tuple(weights[name].shape)}, '{self.graph.name}' wants {tuple(ours.shape)}"
                )
        self.load_state_dict({k: v for k, v in weights.items() if k in self.state_dict()}, strict=False)
