"""Compare a config with the one that a checkpoint was trained with, which mmengine keeps in it."""

import ast
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath, Plain, PlainDict
from nni_mcunet.core.view import STRETCH, View

from ..models.checkpoint import read_checkpoint
from .picture_fit import GREY, check_view

AGAIN = "give files of one training; mcunet export writes the network of a checkpoint"

# Part of `model` -> the keys that tell where its boxes lie -> what they are in a config that does not say them. Weights
# of one value load under another without a word.
DECODING: dict[str, PlainDict] = {
    "backbone": {"out_indices": None},
    "bbox_head": {"anchors": None, "sizes": None, "background": 3},
}


def check_trained(path: FilePath, config: Config) -> None:
    """Compare how a checkpoint was trained with how `config` sees pictures and decodes boxes. A checkpoint of others
    does not say it, and passes. Raises UserError where they differ."""
    trained = _training(path)
    if trained is None:
        return
    check_view(_view(trained), config, str(path))
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


def check_exported(path: FilePath, detector: PlainDict, view: View, size: tuple[int, int], name: str) -> None:
    """Compare how a checkpoint was trained with what the exported network `name`, which gets its weights, says: its
    `detector` meta, its view, the (h, w) of its image. Raises UserError where pictures or anchors differ."""
    trained = _training(path)
    if trained is None:
        return
    if _view(trained) != view:
        raise UserError(f"{path} was trained on pictures seen by {_view(trained)}, {name} sees them by {view}: {AGAIN}")
    check_anchors(path, (trained.get("model") or {}).get("bbox_head") or {}, detector, size, name)


def check_anchors(path: FilePath, head: PlainDict, detector: PlainDict, size: tuple[int, int], name: str) -> None:
    """Compare a head's config, of `path`, with the `detector` meta of the network `name`, whose image is of `size`
    (h, w): its anchors, shares of the image, or its sizes, pixels. Raises UserError where they differ."""
    h, w = size
    for key, scale in (("anchors", (w, h)), ("sizes", (1,))):
        said, exported = head.get(key), detector.get(key)
        if said is None or exported is None:
            continue
        sides, others = (np.array(list(_numbers(of)), float).reshape(-1, len(scale)) for of in (said, exported))
        if sides.shape != others.shape or not np.allclose(sides * scale, others, rtol=1e-4):
            raise UserError(f"{path} has other bbox_head.{key} than {name}, so that its boxes lie elsewhere: {AGAIN}")


def _numbers(value: Plain) -> Iterator[Plain]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    else:
        yield value


def _training(path: FilePath) -> PlainDict | None:
    """Return the values of the config that a checkpoint was trained with; None where it does not say it."""
    text = (read_checkpoint(path).get("meta") or {}).get("cfg")
    return _values(text) if isinstance(text, str) else None


def _view(trained: PlainDict) -> View:
    picture = trained.get("picture") or {}
    return View(pad=picture.get("pad", GREY)) if picture.get("fit") == "letterbox" else STRETCH


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
