"""Say what networks are trained for and judged by: classification. Another task, such as a detector's (the class
`detection.DetectorTask`), comes with its data and has the same attributes and methods."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import UserError
from ...core.ir.arch import ArchSpec
from ...core.ir.build import Head, build_graph
from ...core.ir.graph import Graph
from ...core.nn.net import Net
from ...core.types import Plain, PlainDict


class Task(Protocol):
    """Name what training and search ask of a task: the attributes and methods of Classification."""

    @property
    def measure(self) -> str:
        """The name of its score."""

    @property
    def head(self) -> Head | None:
        """The detection head of its networks; None: they have none."""

    @property
    def identity(self) -> PlainDict:
        """The part of a checkpoint's identity that is the task's."""

    def graph(self, spec: ArchSpec) -> Graph:
        """Build the network of a spec with the outputs of this task. Raises UserError."""

    def prepare(self, net: Net) -> None:
        """Set initial weights that are the task's to say."""

    def loss(self, outputs: tuple[Tensor, ...], targets: Plain, /, smoothing: float) -> Tensor:
        """Return the mean loss of a batch, whose targets are the task's own."""

    def score(self, net: Net, batches: Iterable[tuple[Tensor, Plain]]) -> float:
        """Judge a net on batches of (images, targets): the higher the better."""


class Classification:
    """Give each picture one label.

    measure   the name of its score
    head      the detection head of its networks; None: they have none
    identity  what a checkpoint says about it: a super-network of another identity is of no use to it
    """

    measure = "accuracy"
    head: None = None

    def __init__(self, classes: int):
        self.classes, self.identity = classes, {"classes": classes}

    def graph(self, spec: ArchSpec) -> Graph:
        """Build the network of a spec with the outputs of this task: a spec without classes, of a space for detection,
        gets a classifier. Raises UserError when its own does not fit."""
        if spec.classes not in (None, self.classes):
            raise UserError(
                f"space {spec.name} has {spec.classes} classes and the data {self.classes}: "
                "set the space's classes, or leave them out"
            )
        return build_graph(replace(spec, classes=self.classes))

    def prepare(self, net: Net) -> None:
        """Set initial weights that are the task's to say: none here."""

    def loss(self, outputs: tuple[Tensor, ...], labels: Tensor, smoothing: float) -> Tensor:
        """Return the mean cross-entropy of logits (N, classes, 1, 1) and labels (N,), with label smoothing."""
        logits = outputs[0].flatten(1).float()
        return F.cross_entropy(logits, labels.to(logits.device), label_smoothing=smoothing)

    def score(self, net: Net, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """Return the accuracy on batches of (images, labels)."""
        return accuracy(net, batches)


def is_chance(score: float, classes: int, pictures: int) -> bool:
    """Tell whether an accuracy on so many pictures is what guessing gives: within three standard deviations of it."""
    share = 1 / classes
    return score <= share + 3 * (share * (1 - share) / pictures) ** 0.5


@torch.no_grad()
def accuracy(net: Net, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the fraction of the pictures in `batches` of (images (N, 3, H, W), labels (N,)) whose highest output is
    the label."""
    hits = seen = 0
    for images, labels in batches:
        hits += int((net(images)[0].flatten(1).argmax(1).cpu() == labels).sum())
        seen += len(labels)
    return hits / seen
