"""Check that a config's parts are of the kinds that mmdet relies on. mmdet would trace back from its own depths."""

from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import Plain, PlainDict
from nni_mcunet.core.validate import short

from .datasets import LOADERS

PARTS = {"data_root": str, "ann_file": str, "data_prefix": dict, "metainfo": dict, "pipeline": list, "filter_cfg": dict}
WORDS: dict[type, str] = {str: "text", dict: "a dict", list: "a list"}


def check_shape(config: Config) -> None:
    """Raise UserError, with the place in the file, where the model, a loader or a data set is no dict or has a part of
    another kind. A part that is None or not there is left to mmdet."""
    where = config.filename
    model = config.get("model") or {}
    _expect(model, dict, f"{where}: model")
    backbone = model.get("backbone") or {}
    _expect(backbone, dict, f"{where}: model.backbone")
    if model.get("bbox_head") is not None:
        _expect(model["bbox_head"], dict, f"{where}: model.bbox_head")
    if not isinstance(backbone.get("arch", ""), (str, dict)):
        raise UserError(f"{where}: model.backbone.arch is {short(backbone['arch'])}: expected a file's name or a dict")
    for loader in LOADERS:
        if config.get(loader) is not None:
            _expect(config[loader], dict, f"{where}: {loader}")
            if "dataset" in config[loader]:
                _check_dataset(config[loader]["dataset"], f"{where}: {loader}.dataset")


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


def _expect(value: Plain, kind: type, where: str) -> Plain:
    if not isinstance(value, (kind, tuple) if kind is list else kind):
        raise UserError(f"{where} is {short(value)}: expected {WORDS[kind]}")
    return value
