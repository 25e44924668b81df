"""Carry what a derived config says at its top to where its base used it.

In a config of mmengine `data_root` and `metainfo` are plain variables. The base's loaders have copied their values, and
a derived config, or --cfg-options, that sets them anew changes nothing: it would train on the base's data in silence.
Here they are taken as what they say. A loader that names its own value keeps it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, Plain, PlainDict
from nni_mcunet.core.validate import short

from ..data.datasets import LOADERS, loader_leaves

MOVED = {"type", "data_root", "ann_file", "data_prefix"}  # of a data set: it reads other files
EVALUATORS = ("val_evaluator", "test_evaluator")


@contextmanager
def carried(where: FilePath) -> Iterator[None]:
    """Let the values at the top of each config reach what it inherits, while configs are read or merged inside the
    context. Raises UserError, with the file `where`, for one that no loader reads."""
    plain = Config._merge_a_into_b

    def merge(own: PlainDict, base: PlainDict, *args: Any, **kwargs: Any) -> Plain:
        whole = any(loader in base or loader in own for loader in LOADERS)  # not a part deeper down
        if whole:
            _carry(own, base)
        merged = plain(own, base, *args, **kwargs)
        if whole:
            _fill(own, merged)
            _check_used(own, merged, where)
        return merged

    Config._merge_a_into_b = staticmethod(merge)
    try:
        yield
    finally:
        Config._merge_a_into_b = staticmethod(plain)


def _check_used(own: PlainDict, merged: PlainDict, where: FilePath) -> None:
    """Look for the loaders that read what `own` says at its top. Raises UserError where none does."""
    found = _leaves(merged)
    root = own.get("data_root")
    if isinstance(root, str) and root and found and not any(_reads(data, root) for _, data in found):
        loader, data = found[0]
        raise UserError(
            f"{where}: data_root is {short(root)}, and no loader reads it: {loader} has "
            f"{short(data.get('data_root'))}; set {loader}.dataset.data_root"
        )
    classes = _part(own, "metainfo").get("classes")
    named = [_part(data, "metainfo").get("classes") for _, data in found]
    if classes and found and all(names is not None and list(names) != list(classes) for names in named):
        raise UserError(
            f"{where}: metainfo at the top names {short(classes)}, and no loader has these classes: {found[0][0]} "
            f"has {short(named[0])}; set {found[0][0]}.dataset.metainfo"
        )


def _carry(own: PlainDict, base: PlainDict) -> None:
    """Change in a base what `own`, which is merged into it next, says anew at its top."""
    if own.get("data_root") is not None or any(MOVED & set(data) for _, data in _leaves(own)):
        base.pop("data_source", None)  # how to get the base's data
    root, old = own.get("data_root"), base.get("data_root")
    if root not in (None, old):
        base.pop("data_source", None)  # how to get the base's data
    if isinstance(root, str) and isinstance(old, str) and old.strip("./"):
        for key in (*LOADERS, *EVALUATORS):
            if key in base:
                base[key] = _moved(base[key], old, root)
    for key in ("data_root", "metainfo"):
        for _, data in _leaves(base) if own.get(key) is not None else ():
            if data.get(key) is not None and data[key] == base.get(key):
                data[key] = _merged(base.get(key), own[key])
    for name in [name for name in own if name.endswith("pipeline") and base.get(name)]:
        for _, data in _leaves(base):
            if data.get("pipeline") == base[name]:
                data["pipeline"] = own[name]
    head, said = (_part(_part(config, "model"), "bbox_head") for config in (base, own))
    if said.get("num_classes") is None and (own.get("metainfo") or _names_classes(own)):
        head.pop("num_classes", None)  # other names: their number is counted anew


def _merged(old: Plain, new: Plain) -> Plain:
    if not isinstance(new, dict) or not isinstance(old, dict) or new.get("_delete_"):
        return {k: v for k, v in new.items() if k != "_delete_"} if isinstance(new, dict) else new
    return {**old, **new}


def _moved(node: Plain, old: str, new: str) -> Plain:
    """Return a part of a config with every path below `old` below `new`."""
    if isinstance(node, dict):
        for key in node:
            node[key] = _moved(node[key], old, new)
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(child, old, new) for child in node)
    if isinstance(node, str) and _below(node, old):
        rest = node.rstrip("/")[len(old.rstrip("/")) :]
        return new if not rest else new.rstrip("/") + rest
    return node


def _below(path: str, root: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{root.rstrip('/')}/")


def _fill(own: PlainDict, merged: PlainDict) -> None:
    """Give what `own` says at its top to data sets that say nothing of it, unless their paths begin with it."""
    for _, data in _leaves(merged):
        root = own.get("data_root")
        if isinstance(root, str) and data.get("data_root") is None and not _reads(data, root):
            data["data_root"] = root
        if own.get("metainfo") and data.get("metainfo") is None:
            data["metainfo"] = merged["metainfo"]


def _reads(data: PlainDict, root: str) -> bool:
    prefixes = _part(data, "data_prefix")
    paths = (data.get("data_root"), data.get("ann_file"), *prefixes.values())
    return any(isinstance(path, str) and _below(path, root) for path in paths)


def _names_classes(own: PlainDict) -> bool:
    return any(data.get("metainfo") for _, data in _leaves(own))


def _leaves(config: PlainDict) -> list[tuple[str, PlainDict]]:
    """Return loader_leaves, as far as the config has the right shape: config_shape.py names what has not."""
    whole = {loader: _part(config, loader) for loader in LOADERS}
    return [(loader, data) for loader, data in loader_leaves(whole) if isinstance(data, dict)]


def _part(config: PlainDict, key: str) -> PlainDict:
    return config[key] if isinstance(config.get(key), dict) else {}
