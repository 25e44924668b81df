"""Offer the searched network as mmdet's backbone: a walk of the same graph that everything else walks."""

import re
from collections.abc import Sequence

import torch
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from typing_extensions import Self

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.nn import zoo_weights as published
from nni_mcunet.core.nn.net import Net, forward_apart
from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.core.validate import short

from ..said import tell
from .checkpoint import read_checkpoint

HALOS = ("exchange", "none")


def read_arch(arch: FilePath | PlainDict) -> ArchSpec:
    """Read an ArchSpec from the path of its JSON file, from the parsed dict, or from a dict that names a file as its
    `base` and says what differs: dict(base='mcunet_in3.json', resolution=[224, 224]). Raises ArchError,
    FileNotFoundError."""
    if not isinstance(arch, dict):
        return ArchSpec.load(arch)
    changes = dict(arch)
    base = changes.pop("base", None)
    return ArchSpec.from_dict((ArchSpec.load(base).to_dict() if base else {}) | changes)


@MODELS.register_module()
class MCUNetBackbone(Net, BaseModule):
    """Run a searched network without its classifier.

    arch           path of an architecture JSON, or a dict, see read_arch
    out_indices    stages whose last maps (N, C, H, W) are given out, fine to coarse
    frozen_stages  the first convolution and the stages up to this one are not trained; -1: all are
    halo           "exchange": patches give what the whole network gives; "none": the patches of the architecture's
                   schedule run one by one, each padded on its own, in training and test ("non-overlap" in Table 5)
    norm_eval      batch normalisation keeps its running statistics while training
    init_cfg       dict(type='Pretrained', checkpoint=...): a super-network's slice or a classifier with the keys
                   `layers.{op}.conv.weight`, `layers.{op}.bn.*`, a detector of ours, or a network of MCUNet's zoo as
                   its authors published it; None leaves Net's own initialisation
    """

    def __init__(
        self,
        arch: FilePath | PlainDict,
        out_indices: Sequence[int],
        frozen_stages: int = -1,
        norm_eval: bool = False,
        halo: str = "exchange",
        init_cfg: PlainDict | None = None,
    ) -> None:
        self.spec = read_arch(arch)
        super().__init__(build_graph(self.spec, taps=tuple(out_indices)))
        if not -1 <= frozen_stages <= max(out_indices):
            raise UserError(f"backbone.frozen_stages is {frozen_stages}: expected -1 (none) to {max(out_indices)}")
        if halo not in HALOS or (halo == "none" and not self.spec.schedule.n):
            raise UserError(f"backbone.halo is {short(halo)}: expected exchange, or none with a schedule in the arch")
        self.frozen_stages, self.norm_eval, self.halo, self.init_cfg = frozen_stages, norm_eval, halo, init_cfg

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]  # mmdet gives one image
        """Turn an image (N, 3, H, W) into the maps of out_indices, fine to coarse."""
        image = image.contiguous(memory_format=torch.channels_last)  # a CPU trains 1.6x faster on NHWC
        return super().forward(image) if self.halo == "exchange" else forward_apart(self, self.spec.schedule, image)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen stages, and batch normalisation with norm_eval, stay in evaluation."""
        super().train(mode)
        frozen = ("stem", *(f"s{i}_" for i in range(self.frozen_stages + 1))) if self.frozen_stages >= 0 else ()
        for name, layer in self.layers.items():
            still = name.startswith(frozen) if frozen else False
            layer.requires_grad_(not still)
            for module in layer.modules():
                if isinstance(module, nn.BatchNorm2d) and (still or self.norm_eval):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Load init_cfg's checkpoint, where there is one."""
        if self.init_cfg and self.init_cfg["checkpoint"]:
            self.load_slice(self.init_cfg["checkpoint"])

    def load_slice(self, path: FilePath) -> None:
        """Load a checkpoint's layers of this name. Layers that are not ours (a classifier, a head) are left out, and
        stages behind the checkpoint's last one keep their initialisation (S3FD goes on to stride 128). Raises
        UserError for any other layer that is missing, for another shape, or for a missing file."""
        try:
            weights = read_checkpoint(path)
        except FileNotFoundError:
            raise UserError(f"backbone.init_cfg.checkpoint: no file {path}; None trains from scratch") from None
        weights = weights.get("state_dict", weights)
        if published.MARK in weights:
            weights = published.rename(self.spec, weights)
        weights = {key.removeprefix("backbone."): value for key, value in weights.items()}
        there = [i for i in range(len(self.spec.stages)) if any(k.startswith(f"layers.s{i}_") for k in weights)]
        for name, ours in self.state_dict().items():
            stage = re.match(r"layers\.s(\d+)_", name)
            if (
                not name.startswith("layers.")
                or name.endswith("num_batches_tracked")
                or (stage and there and int(stage[1]) > there[-1])
            ):
                continue
            if name not in weights:
                raise UserError(f"{path}: no '{name}', which '{self.graph.name}' has; was it trained on another arch?")
            if weights[name].shape != ours.shape:
                raise UserError(
                    f"{path}: '{name}' is {tuple(weights[name].shape)}: expected {tuple(ours.shape)}, that of "
                    f"'{self.graph.name}'"
                )
        self.load_state_dict({k: v for k, v in weights.items() if k in self.state_dict()}, strict=False)
        used = [int(stage[1]) for name in self.state_dict() if (stage := re.match(r"layers\.s(\d+)_", name))]
        if there and there[-1] < max(used, default=0):
            tell(f"{path} ends with stage {there[-1]}: the stages behind it are not pre-trained")
