"""Tell whether a config and its data are those of before: by what they say, not by their files' names or dates."""

import hashlib
import json
import os
from copy import deepcopy
from pathlib import Path

from mmengine.config import Config

from nni_mcunet.core.files import sha256
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.paper.baselines import BASELINES

from ..data.building import building
from ..data.data_files import check_folders
from ..data.datasets import annotations, build_dataset, config_classes, loader_leaves
from ..models.backbone import read_arch

Hashes = dict[str, str]


def identity(config: Config) -> dict[str, Hashes]:
    """Return SHA-256 hashes of what load_config has read: "config", by its keys at the top, with the architecture and
    the classes as they are in their files; "data", by the annotation file of each set that trains or tests.

    A hash of the data covers what is annotated, the contents of the pictures that test, and the sizes in bytes of
    those that only train. Raises UserError where a file is missing or broken."""
    said = config.to_dict()
    arch = said["model"]["backbone"]["arch"]
    if not (isinstance(arch, str) and arch in BASELINES):
        said["model"]["backbone"]["arch"] = read_arch(arch).to_dict()
    said |= {"classes": config_classes(config), "work_dir": None, "expected": None}  # the last two change no result
    return {"config": {key: _hash(value) for key, value in said.items() if value is not None}, "data": _data(config)}


def _data(config: Config) -> Hashes:
    check_folders(config)
    found: dict[str, list[Plain]] = {}
    for loader, leaf in loader_leaves(config, ("train_dataloader", "test_dataloader")):
        with building({"dataset": leaf}, "the config"):
            dataset = build_dataset(deepcopy(leaf) | {"lazy_init": True})
            infos = annotations(dataset)
        of = sha256 if loader == "test_dataloader" else os.path.getsize
        read = [(info, of(info["img_path"])) for info in infos if os.path.isfile(info.get("img_path", ""))]
        found.setdefault(str(dataset.ann_file), []).append(read or infos)
    for path in _judged(config.get("test_evaluator") or []):
        found.setdefault(path, []).append(sha256(path))
    return {name: _hash(value) for name, value in found.items()}


def _judged(evaluators: PlainDict | list[PlainDict]) -> list[str]:
    """List the files that metrics read: annotations, ground truth."""
    values = [value for one in ([evaluators] if isinstance(evaluators, dict) else evaluators) for value in one.values()]
    return [value for value in values if isinstance(value, str) and Path(value).is_file()]


def _hash(value: Plain) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
