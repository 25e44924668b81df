"""Check that a config's parts are of the kinds that mmdet relies on. mmdet would trace back from its own depths."""

from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.core.validate import short

from ..data.datasets import LOADERS

PARTS = {"data_root": str, "ann_file": str, "data_prefix": dict, "metainfo": dict, "pipeline": list, "filter_cfg": dict}
TOP: dict[str, type | tuple[type, ...]] = {  # of a whole config
    "data_root": str, "metainfo": dict, "picture": dict, "custom_hooks": list,
    "default_hooks": dict, "optim_wrapper": dict,
    "train_cfg": dict, "val_cfg": dict, "test_cfg": dict, "visualizer": dict, "log_processor": dict, "env_cfg": dict,
    "auto_scale_lr": dict, "param_scheduler": (dict, list), "val_evaluator": (dict, list),
    "test_evaluator": (dict, list), "default_scope": str, "log_level": str, "load_from": str, "randomness": dict,
}  # fmt: skip
NUMBERS = {  # wherever they are: they are counted with long after a part is built, or only once a box is found
    "base_batch_size", "batch_size", "begin", "end", "interval", "iou_thr", "iou_threshold", "lr",
    "max_epochs", "max_iters", "max_keep_ckpts", "max_norm", "max_per_img", "min_bbox_size", "momentum",
    "neg_iou_thr", "nms_pre", "num_workers", "pos_iou_thr", "save_begin", "score_thr", "val_begin", "val_interval",
    "weight_decay",
}  # fmt: skip
SWITCHES = {"by_epoch", "persistent_workers", "pin_memory", "shuffle"}  # any text would be true
NMS = ("nms", "soft_nms", "nms_match")  # mmcv evaluates the name once it has boxes
WORDS: dict[type, str] = {str: "text", dict: "a dict", list: "a list"}


def check_shape(config: Config) -> None:
    """Raise UserError, with the place in the file, where a part that mmdet relies on is of another
    kind. A part that is None or not there is left to mmdet."""
    where = config.filename
    for part, kind in TOP.items():
        if config.get(part) is not None:
            _expect(config[part], kind, f"{where}: {part}")
    model = config.get("model") or {}
    _expect(model, dict, f"{where}: model")
    backbone = model.get("backbone") or {}
    _expect(backbone, dict, f"{where}: model.backbone")
    for part in ("neck", "bbox_head", "data_preprocessor", "train_cfg", "test_cfg"):
        if model.get(part) is not None:
            _expect(model[part], dict, f"{where}: model.{part}")
    if not isinstance(backbone.get("arch", ""), (str, dict)):
        raise UserError(f"{where}: model.backbone.arch is {short(backbone['arch'])}: expected a file's name or a dict")
    for loader in LOADERS:
        if config.get(loader) is not None:
            _expect(config[loader], dict, f"{where}: {loader}")
            if "dataset" in config[loader]:
                _check_dataset(config[loader]["dataset"], f"{where}: {loader}.dataset")
    _check_leaves(config._cfg_dict, where)


def _check_leaves(node: Plain, where: str, key: str = "") -> None:
    """Raise UserError where a number or a switch below `node` is text, and where mmcv has no such suppression."""
    if isinstance(node, dict):
        for name, child in dict.items(node):  # a ConfigDict would import what the file names
            _check_leaves(child, where, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for at, child in enumerate(node):
            _check_leaves(child, where, f"{key}[{at}]")
    elif isinstance(node, str):
        name = key.split(".")[-1]
        if name in NUMBERS:
            raise UserError(f"{where}: {key} is {short(node)}: expected a number")
        if name in SWITCHES:
            raise UserError(f"{where}: {key} is {short(node)}: expected True or False")
        if key.endswith("test_cfg.nms.type") and node not in NMS:
            raise UserError(f"{where}: {key} is {short(node)}: expected one of {', '.join(NMS)}")


def dataset_of(config: Config, loader: str) -> PlainDict:
    """Return the data set's config of a loader. Raises UserError where there is none."""
    found = (config.get(loader) or {}).get("dataset")
    if found is None:
        raise UserError(f"{config.filename}: no {loader}.dataset, which this command reads")
    return found


def _check_dataset(data: Plain, where: str) -> None:
    _expect(data, dict, where)
    if not isinstance(data.get("type"), (str, type)):
        raise UserError(f"{where}.type is {short(data.get('type'))}: expected a data set's name, such as XMLDataset")
    inner = data.get("datasets") or []
    parts = inner.items() if isinstance(inner, dict) else enumerate(_expect(inner, list, f"{where}.datasets"))
    for name, part in parts:
        _check_dataset(part, f"{where}.datasets[{name}]")
    if data.get("dataset") is not None:
        _check_dataset(data["dataset"], f"{where}.dataset")
    for part, kind in PARTS.items():
        if data.get(part) is not None:
            _expect(data[part], kind, f"{where}.{part}")
    for name, prefix in (data.get("data_prefix") or {}).items():
        if prefix is not None:
            _expect(prefix, str, f"{where}.data_prefix.{name}")


def _expect(value: Plain, kind: type | tuple[type, ...], where: str) -> Plain:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, (*kinds, tuple) if list in kinds else kinds):
        raise UserError(f"{where} is {short(value)}: expected {' or '.join(WORDS[kind] for kind in kinds)}")
    return value
