"""Reading a config as our tools do: mmengine's file, --cfg-options, and pictures of the architecture's resolution."""

import os
from pathlib import Path

import torch
from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.faces import BASELINES

from .backbone import read_arch


def load_config(config, options: dict | None = None, work_dir=None) -> Config:
    """A Config from a path (or an already read Config) with `options` merged in and every Resize at the resolution of
    `model.backbone.arch`, unless that is the name of a published face detector. The work dir is the argument, or the
    config's, or work_dirs/CONFIG, as in mmdet's tools. Raises UserError, ArchError, FileNotFoundError with the file's
    name."""
    if not isinstance(config, Config):
        config = _read(config)
    config.merge_from_dict(options or {})
    if "backbone" not in config.get("model", {}) or "arch" not in config.model.backbone:
        raise UserError(f"{config.filename}: no model.backbone.arch; is it one of configs/det?")
    config.work_dir = str(work_dir or config.get("work_dir") or Path("work_dirs") / Path(config.filename).stem)
    arch = config.model.backbone.arch
    if isinstance(arch, str) and arch in BASELINES:
        return config  # they take pictures of any size
    h, w = read_arch(arch).resolution
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        _resize(config.get(loader), (w, h))
    return config


def prepare(path, options: dict | None = None, work_dir=None) -> Config:
    """load_config for a run of mmengine's Runner: the data is looked for first (UserError), and torch has one thread
    unless OMP_NUM_THREADS says otherwise. Networks this small lose by two (a step takes 0.12 s with one, 0.18 to 5 s
    with two on two cores that others use too); the data loader's process has the other core."""
    config = load_config(path, options, work_dir)
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        data = config[loader].dataset
        names = Path(data.data_root) / data.ann_file
        if not names.is_file():
            raise UserError(f"{names} is missing: {config.data_source}")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    return config


def _read(path) -> Config:
    if not Path(path).is_file():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    try:
        return Config.fromfile(path)
    except (SyntaxError, NameError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a config that mmengine reads: {error}") from None


def _resize(node, scale: tuple[int, int]) -> None:
    """Set the scale of every Resize below a node of the config: data sets nest (RepeatDataset, ConcatDataset)."""
    if isinstance(node, dict):
        if node.get("type") == "Resize":
            node["scale"] = scale
        for child in node.values():
            _resize(child, scale)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _resize(child, scale)
