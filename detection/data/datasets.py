"""Find the data sets inside wrappers (ConcatDataset, RepeatDataset, MultiImageMixDataset, ...), as configs or built,
and the names of their classes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.fileio import list_from_file
from mmengine.registry import DefaultScope

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, Plain, PlainDict
from nni_mcunet.core.validate import short

from ..said import without_prints

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def leaves(data: Plain) -> Iterator[Plain]:
    """Yield the data sets that read files, of a config (dicts) or of a built data set."""
    get: Callable[[str], Plain] = data.get if isinstance(data, dict) else lambda name: getattr(data, name, None)
    inner = get("datasets") or ([get("dataset")] if get("dataset") is not None else [])
    if not inner:
        yield data
    for part in inner.values() if isinstance(inner, dict) else inner:  # --cfg-options ...datasets.0.data_root
        yield from leaves(part)


def loader_leaves(config: PlainDict, loaders: Iterable[str] = LOADERS) -> Iterator[tuple[str, PlainDict]]:
    """Yield (name of the loader, data set that reads files) of the config's loaders."""
    for loader in loaders:
        if (config.get(loader) or {}).get("dataset") is not None:
            yield from ((loader, data) for data in leaves(config[loader]["dataset"]))


def build_dataset(data: PlainDict) -> BaseDataset:
    """Build mmdet's data set of a config."""
    with DefaultScope.overwrite_default_scope("mmdet"), without_prints():
        return DATASETS.build(data)


def annotations(dataset: BaseDataset) -> list[PlainDict]:
    """Read again what a data set's files say of each picture, before its filter."""
    with without_prints():
        found: list[PlainDict] = dataset.load_data_list()
    return found


def build_pictures(data: PlainDict, **changes: Any) -> BaseDataset:
    """Build one data set of all that read files below a wrapper, each picture once, in their order. `changes` go into
    the config of each. Raises UserError where they do not agree on the classes."""
    built = [build_dataset(dict(leaf, **changes)) for leaf in leaves(data)]
    if len(built) == 1:
        return built[0]
    names = [tuple(part.metainfo.get("classes") or ()) for part in built]
    for part, found in zip(built, names, strict=True):
        if found != names[0]:
            raise UserError(_differ(built[0].ann_file, names[0], part.ann_file, found))
    return ConcatDataset(built, ignore_keys=sorted({key for part in built for key in part.metainfo} - {"classes"}))


def only_pipeline(loader: Plain) -> list[Plain]:
    """Return the pipeline that all data sets of a loader's config share. Raises UserError where there is more than one:
    a wrapper's own mixes pictures, and a search's are single ones."""
    node = loader.dataset
    while "dataset" in node:
        if node.get("pipeline"):
            raise UserError(f"train_dataloader.dataset is a {node.type} with a pipeline, not one of single pictures")
        node = node.dataset
    first, *others = [data.pipeline for data in leaves(node)]
    if any(pipeline != first for pipeline in others):
        raise UserError("the data sets of a loader have different pipelines: a search takes one for all of them")
    return first


def dataset_type(data: PlainDict) -> type | None:
    """Return the class behind the config of a data set; None where mmdet knows none of that name."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        return data["type"] if isinstance(data["type"], type) else DATASETS.get(data["type"])


def class_names(data: PlainDict) -> tuple[str, ...] | None:
    """Return the classes of a data set's config, in the order of their labels: its metainfo's, else those of its type.
    None where neither names any. Raises UserError for what is no list of different names."""
    given = (data.get("metainfo") or {}).get("classes")
    if given is None:
        given = getattr(dataset_type(data), "METAINFO", {}).get("classes")
        if given is None:
            return None
    if isinstance(given, str):  # mmengine takes it for a file of names
        if not Path(given).is_file():
            raise UserError(
                f"metainfo.classes is the text {short(given)} and no such file is there: write a tuple, "
                f"({short(given)},)"
            )
        given = list_from_file(given)
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(name, str) for name in given):
        raise UserError(f"metainfo.classes is {short(given)}: expected a tuple of names, such as ('cat', 'dog')")
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise UserError(f"metainfo.classes names {short(twice[0])} twice: each class has one label")
    return tuple(given)


def config_classes(config: Config) -> tuple[str, ...] | None:
    """Return the classes that the config's loaders agree on; None where no data set names any. Raises UserError: a
    network trained on one order of names and tested on another finds the wrong classes."""
    first = None
    for loader, data in loader_leaves(config):
        names = class_names(data)
        if names is None:
            continue
        first = first or (loader, names)
        if names != first[1]:
            raise UserError(f"{config.filename}: {_differ(first[0], first[1], loader, names)}")
    return first[1] if first else None


def check_classes(found: Sequence[str] | None, expected: Sequence[str] | None, where: FilePath) -> None:
    """Compare the names that a network was trained on with those of a config. Either may be None: not known. Raises
    UserError."""
    if found is not None and expected is not None and tuple(found) != tuple(expected):
        raise UserError(
            f"{_differ(where, tuple(found), 'the config', tuple(expected))}; give the config that it was trained with"
        )


def _differ(first: FilePath, names: tuple[str, ...], second: FilePath, others: tuple[str, ...]) -> str:
    if sorted(names) == sorted(others):
        return f"{first} and {second} have the same classes in another order, {some(names)} and {some(others)}"
    more, fewer = ([n for n in a if n not in b] for a, b in ((names, others), (others, names)))
    return (
        f"{first} has {len(names)} classes and {second} has {len(others)}; only {first} has {some(more) or 'none'}, "
        f"only {second} has {some(fewer) or 'none'}"
    )


def some(names: Iterable[str], most: int = 6) -> str:
    """Write the first of some names, for a message."""
    names = list(names)
    return ", ".join(str(name)[:40] for name in names[:most]) + (", ..." if len(names) > most else "")
