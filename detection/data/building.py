"""Say in one line which part of a config mmengine could not build. It would trace back from its own depths."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any

from mmdet import registry
from mmengine.config import Config
from mmengine.registry import Registry, build_from_cfg
from mmengine.runner import BaseLoop, Runner

from nni_mcunet.core.errors import UserError, one_line
from nni_mcunet.core.types import FilePath, Plain, PlainDict
from nni_mcunet.core.validate import short

from .datasets import LOADERS

MOST = 300  # characters of mmengine's words
PARTS: dict[CodeType, tuple[str, ...]] = {  # what builds a part of a config, and the keys that it may be of
    getattr(Runner, name).__code__: keys
    for name, keys in {
        "build_dataloader": LOADERS,
        "build_model": ("model",),
        "build_optim_wrapper": ("optim_wrapper",),
        "scale_lr": ("auto_scale_lr",),
        "build_param_scheduler": ("param_scheduler",),
        "build_evaluator": ("val_evaluator", "test_evaluator"),
        "build_train_loop": ("train_cfg",),
        "build_val_loop": ("val_cfg",),
        "build_test_loop": ("test_cfg",),
        "build_visualizer": ("visualizer",),
        "build_log_processor": ("log_processor",),
        "register_default_hooks": ("default_hooks",),
        "register_custom_hooks": ("custom_hooks",),
        "setup_env": ("env_cfg",),
    }.items()
}
RUNS = (Runner.__init__.__code__, Runner.train.__code__, Runner.test.__code__)
KEYS = {key for keys in PARTS.values() for key in keys}  # not a variable of the file, such as train_pipeline
REGISTRIES = [found for found in vars(registry).values() if isinstance(found, Registry)]


@contextmanager
def building(config: Config | PlainDict, where: FilePath) -> Iterator[None]:
    """Turn what goes wrong while mmengine builds parts of `config`, from the file `where`, into a UserError that names
    the part. All other errors pass: those of files and memory, and what comes once a loop runs."""
    try:
        yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # a part may raise anything for a value that it does not take
        whole = dict(config.items())
        for frame, _ in reversed(list(walk_tb(error.__traceback__))):
            if isinstance(frame.f_locals.get("self"), BaseLoop) and frame.f_code.co_name == "run":
                break
            if found := _part(frame, whole):
                raise UserError(f"{where}: {_why(*found, error)}") from None
            if frame.f_code in RUNS:
                raise UserError(f"{where}: mmengine does not run it: {_words(error)}") from None
        raise


def _part(frame: FrameType, config: PlainDict) -> tuple[str, Plain] | None:
    """Return the key and the value of the part of `config` that a frame builds."""
    if frame.f_code is build_from_cfg.__code__:
        kind, args = frame.f_locals.get("obj_type"), frame.f_locals.get("args") or {}
        typed = [(key, node) for key, node in _typed("", config) if kind is not None and node["type"] == kind]
        same = [(key, node) for key, node in typed if all(args.get(k) == v for k, v in node.items() if k != "type")]
        return min(same or typed, key=lambda found: re.split(r"[.[]", found[0])[0] not in KEYS, default=None)
    keys = [key for key in PARTS.get(frame.f_code, ()) if config.get(key) is not None]
    if not keys:
        return None
    given = [value for value in frame.f_locals.values() if isinstance(value, dict)]
    key = next((key for key in keys if config[key] in given), keys[0])
    return key, config[key]


def _typed(key: str, node: Plain) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every dict with a type below a node of a config, with its key."""
    if isinstance(node, dict):
        if "type" in node:
            yield key, node
        for name, child in node.items():
            yield from _typed(f"{key}.{name}" if key else str(name), child)
    elif isinstance(node, (list, tuple)):
        for at, child in enumerate(node):
            yield from _typed(f"{key}[{at}]", child)


def _why(key: str, node: Plain, error: Exception) -> str:
    """Return what is wrong with the part at `key`: a type that nobody has registered, or the words of the error."""
    inner = key in LOADERS or key == "optim_wrapper"  # mmengine builds some parts of these without a look at the type
    for place, part in _typed(key, node) if inner else [(key, node)]:
        name = part.get("type") if isinstance(part, dict) and not place.startswith(f"{key}.dataset") else None
        if isinstance(name, str) and not any(found.get(name) for found in REGISTRIES):
            near = difflib.get_close_matches(name, sorted({n for found in REGISTRIES for n in _names(found)}), 3)
            hint = f" (near: {', '.join(near)})" if near else ""
            return (
                f"{place}.type is {short(name)}, and mmdet and mmengine have none of that name{hint}: correct it, or "
                "name its module in custom_imports"
            )
    return f"{key} cannot be built: {_words(error)}"


def _words(error: Exception) -> str:
    """Return what an error says, without mmengine's address for more."""
    words = one_line(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return f"{type(error).__name__}: {re.sub(r'[.] Please check whether.*', '', words)[:MOST]}"


def _names(registry: Registry | None) -> Iterator[str]:
    while registry is not None:
        yield from registry.module_dict
        registry = registry.parent
