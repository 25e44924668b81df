"""Bring a config's pictures to the network's size, in one way in all its pipelines: its key `picture`.

    picture = dict(fit="stretch")               each axis for itself: the default
    picture = dict(fit="letterbox", pad=114)    in the picture's own shape, padded on the right and below

The exported file says it, so that calibration, `mcunet detect` and the board see what the training saw.
"""

from mmengine.config import Config

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import Plain
from nni_mcunet.core.validate import short
from nni_mcunet.core.view import STRETCH, View

from ..data.datasets import LOADERS
from ..data.letterbox import LetterboxPad, LetterboxResize

RESIZE, PAD = LetterboxResize.__name__, LetterboxPad.__name__
FITS = ("stretch", "letterbox")
GREY = 114  # of mmdet's and Ultralytics' letterboxes
MIXERS = ("Mosaic", "MixUp", "CachedMosaic", "CachedMixUp")  # of several pictures, each brought to img_scale first
OTHERS = ("RandomResize", "RandomChoiceResize", "FixScaleResize", "ResizeShortestEdge")  # they follow no view


def picture_view(config: Config) -> View:
    """Return the view that a config's key `picture` names. Raises UserError for anything else."""
    given = config.get("picture") or {}
    wrong = sorted(set(given) - {"fit", "pad"})
    if wrong or given.get("fit", "stretch") not in FITS:
        said = f"{wrong[0]}" if wrong else f"fit={short(given['fit'])}"
        raise UserError(
            f"{config.filename}: picture has {said}: expected dict(fit='stretch') or dict(fit='letterbox', pad={GREY})"
        )
    if given.get("fit", "stretch") == "stretch":
        return STRETCH
    try:
        return View(pad=given.get("pad", GREY))
    except UserError as error:
        raise UserError(f"{config.filename}: picture: {error}") from None


def fit_pictures(config: Config, size: tuple[int, int] | None) -> None:
    """Set every Resize of the loaders' pipelines to the network's `size` (w, h), None for its own, and to the view of
    the config; so are Mosaic's steps, which name the size otherwise. A config that this has changed before may come
    again. Raises UserError for a pipeline that resizes in another way."""
    view = picture_view(config)
    for part in LOADERS:
        _fit(config.get(part), size, view, f"{config.filename}: {part}")


def check_view(given: View, config: Config, path: str | None) -> None:
    """Compare the view of a file, `path`, with the one of the config's pictures. Raises UserError where they differ."""
    own = picture_view(config)
    if given != own:
        raise UserError(
            f"{path} sees pictures by {given}, those of {config.filename} are seen by {own}: give files of one "
            "training, or change the config's picture.fit"
        )


def _fit(node: Plain, size: tuple[int, int] | None, view: View, where: str) -> None:
    """Fit the pipelines below a node of a config: data sets nest (RepeatDataset, ConcatDataset)."""
    if isinstance(node, dict):
        for child in node.values():
            _fit(child, size, view, where)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _fit(child, size, view, where)
        if isinstance(node, list):
            _fit_steps(node, size, view, where)


def _fit_steps(steps: list[Plain], size: tuple[int, int] | None, view: View, where: str) -> None:
    """Fit the steps of one pipeline, in place."""
    steps[:] = [step for step in steps if _type(step) != PAD]
    if size is not None:
        _fit_mixers(steps, size)
    resizes = [step for step in steps if _type(step) in ("Resize", RESIZE)]
    for step in resizes:
        if size is not None:
            step["scale"] = size
            if step.get("keep_ratio"):
                raise UserError(
                    f"{where}: Resize has keep_ratio=True, and the board would see another picture: give "
                    "picture=dict(fit='letterbox') at the top, and leave keep_ratio and Pad out"
                )
        if view.pad is not None and step.get("scale") is None:
            raise UserError(f"{where}: a Resize without scale: picture.fit=letterbox needs the image's (w, h) there")
        step["type"] = "Resize" if view.pad is None else RESIZE
    other = next((step for step in steps if _type(step) in OTHERS), None)
    if other is not None and view.pad is not None:
        raise UserError(f"{where}: {_type(other)} does not letterbox: take Resize, or picture.fit=stretch")
    if resizes and view.pad is not None:
        for step in resizes:
            if "keep_ratio" in step:
                step["keep_ratio"] = False  # of long and short edges: not a letterbox's
        # Behind flips and colours, and before what packs or multiplies the views.
        end = next((i for i, step in enumerate(steps) if str(_type(step)).startswith(("Pack", "TestTime"))), len(steps))
        steps.insert(end, type(resizes[-1])(type=PAD, size=resizes[-1]["scale"], pad=view.pad))


def _fit_mixers(steps: list[Plain], size: tuple[int, int]) -> None:
    """Bring the steps that mix several pictures to the network's size, in place."""
    for step in steps:
        if _type(step) in MIXERS:
            step["img_scale"] = size
        elif _type(step) == "RandomAffine" and any(step.get("border") or ()):  # cuts a Mosaic, twice as wide and high
            step["border"] = (-(size[0] // 2), -(size[1] // 2))


def _type(step: Plain) -> Plain:
    return step.get("type") if isinstance(step, dict) else None
