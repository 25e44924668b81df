"""Offer a detector's config as a task for a search: its pictures, its loss and its metric, for any network with its
head.

The search imports none of this: it is given the class by name, `data: {kind: detection.DetectorData, config: ...}`. The
config's own architecture does not matter here, but for its taps, neck width, anchors and classes.
"""

import contextlib
import copy
import hashlib
import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.logging import MMLogger
from mmengine.registry import METRICS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import FaceHead, YoloHead, build_graph, yolo_fields
from nni_mcunet.core.ir.graph import Graph
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.core.validate import integer, short

from ..config.config import load_config
from ..config.config_shape import dataset_of
from ..data.building import building
from ..data.data_files import data_advice, open_pictures
from ..data.datasets import config_classes, leaves, only_pipeline
from .export import detector_graph

TRIES = 50  # random pictures for one whose objects the augmentation has cut away
MAP = "pascal_voc/mAP"


class DetectorTask:
    """Compute the loss of mmdet's head on the maps of a network, and the mAP50 of its boxes, as the config has them.

    path      of the config
    measure   the name of its score
    head      the neck and head of its networks
    identity  of a checkpoint of weights for it: the head and its anchors
    """

    measure = "mAP50"

    def __init__(self, path: str) -> None:
        self.config = load_config(path)
        evaluator = self.config.val_evaluator
        alone = isinstance(evaluator, dict) and evaluator.get("type") == "VOCMetric"
        if not alone or evaluator.get("iou_thrs", 0.5) != 0.5:
            raise UserError(f"{path}: expected one val_evaluator, VOCMetric at iou_thrs 0.5: the score is its mAP")
        self.classes = config_classes(self.config)
        self.spec, self.head, _ = detector_graph(self.config)
        if isinstance(self.head, FaceHead):
            raise UserError(f"{path}: a search is for YOLO detectors; this is {self.config.model.type}")
        self.identity: PlainDict = {"detector": yolo_fields(self.head)}
        if isinstance(self.head, YoloHead):
            anchors = [[list(map(float, pair)) for pair in scale] for scale in self.config.model.bbox_head.anchors]
            self.identity["anchors"] = anchors
        self.at = lru_cache(self._at)

    def graph(self, spec: ArchSpec) -> Graph:
        """Build the network of a spec with this head. Raises ArchError when it has not the stages."""
        return build_graph(spec, self.head)

    def _at(self, resolution: tuple[int, int]) -> tuple[Config, Any]:
        """Return the config for images of (h, w), and its detector, whose head is needed: anchors and their strides are
        pixels there."""
        config = copy.deepcopy(self.config)
        config.model.backbone.arch = replace(self.spec, resolution=resolution).to_dict()
        config = load_config(config)
        with DefaultScope.overwrite_default_scope("mmdet"), building(config, str(config.filename)):
            return config, MODELS.build(config.model)

    def prepare(self, net: Net) -> None:
        """Set the last convolutions as mmdet has them before training: an object is rare."""
        _, detector = self._at(self.spec.resolution)  # not a kept one: the random numbers are the same each time
        detector.bbox_head.init_weights()
        for name in net.graph.outputs:
            net.layer(name).conv.load_state_dict(detector.bbox_head.net.layer(name).conv.state_dict())

    def loss(self, outputs: tuple[Tensor, ...], targets: list[PlainDict], smoothing: float) -> Tensor:
        """Return mmdet's loss of the graph's outputs (N, c, h, w), which does not depend on the size of the batch.
        targets: see DetectorData.sample."""
        if smoothing:
            raise UserError("recipe: label_smoothing is of classifiers; a detector's is bbox_head.one_hot_smoother")
        maps = [output.float() for output in outputs]
        metas, device = [target["meta"] for target in targets], maps[0].device
        _, detector = self.at(metas[0]["img_shape"][:2])
        objects, ignored = (
            [InstanceData(**_tensors(target[part], device)) for target in targets] for part in ("objects", "ignored")
        )
        losses = detector.bbox_head.loss_by_feat(*detector.bbox_head.arranged(maps), objects, metas, ignored)
        return detector.parse_losses(losses)[0]

    @torch.no_grad()
    def score(self, net: Net, batches: Iterable[tuple[Tensor, list[PlainDict]]]) -> float:
        """Return mAP50 on (images (N, 3, h, w), targets) that cover a split."""
        with building(self.config, str(self.config.filename)):
            metric, seen = METRICS.build(self.config.val_evaluator, default_args={"_scope_": "mmdet"}), 0
        metric.dataset_meta = {"classes": self.classes}
        for images, targets in batches:
            _, detector = self.at(tuple(images.shape[2:]))
            metas = [target["meta"] for target in targets]
            head = detector.bbox_head
            found = head.predict_by_feat(*head.arranged(net(images)), batch_img_metas=metas, rescale=True)
            metric.process({}, [_sample(target, boxes) for target, boxes in zip(targets, found, strict=True)])
            seen += len(targets)
        with _quiet():
            return float(metric.evaluate(seen)[MAP])


class DetectorData:
    """Serve as a source of the search's pictures: the training set of a detector's config, some of it held out.

    config    path of a detector's config: its train_dataloader's data set and pipeline, its val_dataloader's pipeline
    held_out  how many random pictures of the training set judge instead; the config's own validation and test sets are
              not touched
    seed      of that choice
    """

    OPTIONS = {"config": None, "held_out": None, "seed": 0}

    def __init__(self, options: PlainDict) -> None:
        config, held_out, seed = (options[key] for key in self.OPTIONS)
        if not isinstance(config, str):
            raise UserError(f"data: config is {short(config)}: expected the path of a detector's config")
        self.task = DetectorTask(config)
        self.dataset = self._dataset(self.task.config)
        count = len(self.dataset)
        integer(held_out, f"data: held_out (of {count} training pictures)", 1, count - 1)
        order = np.random.default_rng(seed).permutation(count)
        self.splits = {"held_out": order[:held_out], "train": order[held_out:]}
        self.sizes = {split: len(indices) for split, indices in self.splits.items()}
        text = repr([only_pipeline(self.task.config[loader]) for loader in ("train_dataloader", "val_dataloader")])
        files = {split: self._fingerprint(indices) for split, indices in self.splits.items()}
        self.identity = {"pipelines": hashlib.sha256(text.encode()).hexdigest()[:16], "files": files}
        self.pipeline = lru_cache(self._compose)

    @staticmethod
    def _dataset(config: Config) -> BaseDataset:
        """Return the training set, each picture once. Raises UserError where it is missing."""
        given = dataset_of(config, "train_dataloader")
        try:
            return open_pictures(given)
        except UserError as error:
            raise UserError(f"{error}{data_advice(config, next(leaves(given)))}") from None

    def _fingerprint(self, indices: Iterable[int]) -> str:
        """Hash a split's pictures by folder and name, wherever the data set lies."""
        paths = (self.dataset.get_data_info(int(i))["img_path"] for i in indices)
        return hashlib.sha256("\n".join("/".join(p.split("/")[-2:]) for p in paths).encode()).hexdigest()[:16]

    def _compose(self, loader: str, resolution: tuple[int, int]) -> Compose:
        config, _ = self.task.at(resolution)
        with DefaultScope.overwrite_default_scope("mmdet"):
            return Compose(only_pipeline(config[loader]))

    def sample(self, key: Plain) -> tuple[Tensor, PlainDict]:
        """Return a picture uint8 RGB (3, h, w) and its target, numpy arrays: objects {bboxes (n, 4) x1 y1 x2 y2, labels
        (n,)}, ignored alike, meta (mmdet's). With key.seed it is a random view, boxes in its pixels; without it the
        evaluation's, boxes in the file's pixels."""
        pipeline = self.pipeline("val_dataloader" if key.seed is None else "train_dataloader", key.resolution)
        indices, index = self.splits[key.split], self.splits[key.split][key.index]
        if key.seed is not None:  # mmdet's transforms draw from the global generators
            seed = int(np.random.SeedSequence(key.seed).generate_state(1)[0])
            random.seed(seed)
            np.random.seed(seed)
        for _ in range(TRIES):
            packed = pipeline(self.dataset.get_data_info(int(index)))
            if packed is not None:
                return _plain(packed)
            index = indices[np.random.randint(len(indices))]  # as mmdet's data sets do
        raise UserError(f"data: the training pipeline of {self.task.config.filename} leaves no picture an object")


def _plain(packed: PlainDict) -> tuple[Tensor, PlainDict]:
    """Return what PackDetInputs gives, without its classes: a batch of them costs a process nothing to send."""
    sample, parts = packed["data_samples"], {}
    for part, of in (("objects", sample.gt_instances), ("ignored", sample.ignored_instances)):
        boxes = of.bboxes.tensor if hasattr(of.bboxes, "tensor") else of.bboxes
        parts[part] = {"bboxes": boxes.numpy().astype(np.float32).reshape(-1, 4), "labels": of.labels.numpy()}
    image = packed["inputs"].flip(0).float().round().clamp(0, 255).byte()  # BGR; what a board's camera could give
    return image, parts | {"meta": sample.metainfo}


def _tensors(arrays: PlainDict, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    return {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}


def _sample(target: PlainDict, found: InstanceData) -> PlainDict:
    """Return a sample as VOCMetric reads it."""
    return {
        "gt_instances": _tensors(target["objects"]),
        "ignored_instances": _tensors(target["ignored"]),
        "pred_instances": found,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the metric's table: a search judges thousands."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
