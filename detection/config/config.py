"""Read a config as our commands do: mmengine's file, --cfg-options, and images of the architecture's resolution."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from nni_mcunet.core.errors import UserError, one_line
from nni_mcunet.core.freed_memory import keep_freed_memory
from nni_mcunet.core.types import FilePath, Plain, PlainDict
from nni_mcunet.paper.baselines import BASELINES

from ..data.data_files import check_folders
from ..data.datasets import LOADERS, config_classes, some
from ..models.backbone import read_arch
from .config_shape import check_shape
from .inherited_values import carried
from .picture_fit import fit_pictures

ENDINGS = (".py", ".json", ".yml", ".yaml")  # of files that mmengine reads
ONE_CLASS = ("MCUNetS3FDHead",)  # heads that find one class


def load_config(
    config: FilePath | Config, options: PlainDict | None = None, work_dir: FilePath | None = None
) -> Config:
    """Read a Config from a path (or take an already read Config) with `options` merged in. Every Resize is set to the
    resolution of `model.backbone.arch`, unless that is the name of a published face detector, and to `picture`
    (picture_fit.py). The work dir is the
    argument, or the config's, or work_dirs/CONFIG, as in mmdet's tools. `data_root` and `metainfo` at the top, of
    the file or of the options, reach the loaders (inherited_values.py), and the number of classes is that of their
    names. Raises UserError, ArchError, FileNotFoundError with the name of the file."""
    with carried(config.filename if isinstance(config, Config) else config):
        if not isinstance(config, Config):
            config = _read(config)
        try:
            config.merge_from_dict(options or {})
            if any(key.split(".")[0] == "custom_imports" for key in options or {}):  # mmengine imports a file's only
                import_modules_from_strings(**config.custom_imports)
        except UserError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, ImportError) as error:
            raise UserError(f"--cfg-options do not fit {config.filename}: {one_line(error)}") from None
    check_shape(config)
    if "arch" not in ((config.get("model") or {}).get("backbone") or {}):
        raise UserError(f"{config.filename}: no model.backbone.arch; is it one of configs/det?")
    config.model.backbone.arch = _find_arch(config.model.backbone.arch, config.filename)
    _count_classes(config)
    for loader in (config.get(name) for name in LOADERS):
        if loader and loader.get("num_workers") == 0:
            loader.persistent_workers = False  # torch refuses to keep workers where there is none
    config.work_dir = str(work_dir or config.get("work_dir") or Path("work_dirs") / Path(config.filename).stem)
    arch = config.model.backbone.arch
    if isinstance(arch, str) and arch in BASELINES:
        fit_pictures(config, None)  # they take pictures of any size
    else:
        fit_pictures(config, read_arch(arch).resolution[::-1])
    return config


def prepare(path: FilePath, options: PlainDict | None = None, work_dir: FilePath | None = None) -> Config:
    """Read a config for a run of mmengine's Runner: load_config, but the data is looked for first (UserError), and
    torch has one thread unless OMP_NUM_THREADS says otherwise. Networks this small lose by two (a step takes 0.12 s
    with one, 0.18 to 5 s with two on two cores that others use too); the data loader's process has the other core."""
    config = load_config(path, options, work_dir)
    check_folders(config)
    if "LOCAL_RANK" in os.environ and not torch.cuda.is_available():
        _join_on_cpu(config)
    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    return config


def _count_classes(config: Config) -> None:
    """Set the head's num_classes to the number of the data's classes, or compare it where the config says it. Raises
    UserError."""
    names, head = config_classes(config), config.model.get("bbox_head")
    if names is None or not isinstance(head, dict):
        return
    if head.get("type") in ONE_CLASS:
        said, of = head.get("num_classes", 1), f"{head['type']} finds"
    else:
        said, of = head.setdefault("num_classes", len(names)), "model.bbox_head.num_classes is"
    if said != len(names):
        raise UserError(
            f"{config.filename}: {of} {said} and metainfo.classes of the data names {len(names)}, {some(names)}; say "
            "the same number, or leave num_classes out"
        )


def _find_arch(arch: Plain, filename: str) -> Plain:
    """Find an architecture's file: its path is meant from the working directory; failing that, from the folder above
    the config's configs/, where an installed package has both."""
    if isinstance(arch, dict):
        return arch | {"base": _find_arch(arch["base"], filename)} if "base" in arch else arch
    installed = Path(filename).resolve().parents[2] / arch
    return str(installed) if not Path(arch).exists() and installed.exists() else arch


def _join_on_cpu(config: Config) -> None:
    """Join torchrun's processes on a machine without a GPU: mmengine's own start would ask for a CUDA device and bind
    the model to it."""
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    config.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False)


def _read(path: FilePath) -> Config:
    if Path(path).is_dir():
        raise UserError(f"{path} is a folder: expected a config file (.py)")
    if not Path(path).is_file():
        raise FileNotFoundError(2, "No such file or directory", str(path))
    if Path(path).suffix not in ENDINGS:
        raise UserError(f"{path}: expected a config file (.py), such as those of configs/det")
    try:
        return Config.fromfile(path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a config is a program: it can raise anything
        reason = one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{path}: not a config that mmengine reads: {reason}") from None
