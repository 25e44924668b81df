"""Compare a config with the one that a checkpoint was trained with, which mmengine keeps in it."""

import ast
from contextlib import suppress

from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, Plain, PlainDict
from nni_mcunet.core.view import STRETCH, View

from ..models.checkpoint import read_checkpoint
from .picture_fit import GREY, check_view

# Part of `model` -> the keys that tell where its boxes lie -> what they are in a config that does not say them. Weights
# of one value load under another without a word.
DECODING: dict[str, PlainDict] = {
    "backbone": {"out_indices": None},
    "bbox_head": {"anchors": None, "sizes": None, "background": 3},
}


def check_trained(path: FilePath, config: Config) -> None:
    """Compare how a checkpoint was trained with how `config` sees pictures and decodes boxes. A checkpoint of others
    does not say it, and passes. Raises UserError where they differ."""
    text = (read_checkpoint(path).get("meta") or {}).get("cfg")
    if not isinstance(text, str):
        return
    trained = _values(text)
    picture = trained.get("picture") or {}
    check_view(View(pad=picture.get("pad", GREY)) if picture.get("fit") == "letterbox" else STRETCH, config, str(path))
    model = config.model.get("module") or config.model  # test-time augmentation is around it
    for part, keys in DECODING.items():
        given, own = (of.get(part) or {} for of in (trained.get("model") or {}, model))
        for key, default in keys.items():
            before, now = given.get(key, default), _listed(own.get(key, default))
            if before is not None and before != now:
                raise UserError(
                    f"{path} was trained with {part}.{key}={before}, {config.filename} has {now}: give the config that "
                    "it was trained with, a copy of which lies in its work dir, or train again"
                )


def _values(text: str) -> PlainDict:
    """Return the values at the top of a config's text, tuples as lists. Nothing in it runs: a checkpoint may be of
    anyone. None stands for what is no plain value."""
    found = {}
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = _value(node.value)
    return found


def _value(node: ast.expr) -> Plain:
    match node:
        case ast.Call(func=ast.Name(id="dict"), args=given, keywords=keywords):  # dict(a=1), dict({"a b": 1})
            first = _value(given[0]) if given else None
            return (first if isinstance(first, dict) else {}) | {word.arg: _value(word.value) for word in keywords}
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {key.value: _value(value) for key, value in pairs if isinstance(key, ast.Constant)}
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
    with suppress(ValueError, TypeError):
        return ast.literal_eval(node)
    return None


def _listed(value: Plain) -> Plain:
    """Return a config's value with lists for its tuples, as mmengine's text may have either."""
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
