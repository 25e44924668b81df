"""The data sets inside wrappers (ConcatDataset, RepeatDataset, MultiImageMixDataset, ...), as configs or built."""

from collections.abc import Iterator

from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def leaves(data) -> Iterator:
    """The data sets that read files, of a config (dicts) or of a built data set."""
    get = data.get if isinstance(data, dict) else lambda name: getattr(data, name, None)
    inner = get("datasets") or ([get("dataset")] if get("dataset") is not None else [])
    if not inner:
        yield data
    for part in inner:
        yield from leaves(part)


def build_dataset(data: dict):
    """mmdet's data set of a config."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(data)
