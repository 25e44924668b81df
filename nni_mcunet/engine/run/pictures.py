"""Read pictures as the network does: uint8 of its size and channels, seen by its own view. Sound, or a sensor of two or
five channels, comes as arrays in .npy files."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...core.errors import PassedOver, UserError
from ...core.types import FilePath, Picture
from ...core.validate import file_text, short
from ...core.view import STRETCH, View
from ...pictures import PictureError, load, seen, suffixes
from ..model import Model, QuantModel, view_of

ARRAY = ".npy"
MOST_NAMED = 5  # of the files that are passed over
AnyModel = TypeVar("AnyModel", bound=Model | QuantModel)
Thing = TypeVar("Thing")


def load_picture(path: FilePath, size: tuple[int, int], view: View = STRETCH, channels: int = 3) -> Picture:
    """Return (h, w, channels) uint8 for a network of `size` (h, w) that was trained with `view`: a picture as RGB or
    grey, or the one array of a .npy file as it is. Raises FileNotFoundError, or UserError for a file that is no
    picture, is cut short, has too many pixels or other channels."""
    if Path(path).suffix.lower() == ARRAY:
        arrays = load_arrays(path, (*size, channels))
        if len(arrays) != 1:
            raise UserError(f"{path} holds {len(arrays)} arrays: give a file with one")
        return np.array(arrays[0])
    if channels not in (1, 3):
        raise UserError(
            f"{path}: this network reads {channels} channels, and a picture has 1 or 3: give a .npy file with uint8 of "
            f"the shape {(*size, channels)}"
        )
    return seen(load(path, view, channels), size, view)


def load_arrays(path: FilePath, shape: tuple[int, int, int]) -> Picture:
    """Return (n, h, w, c) uint8, mapped into memory, of a .npy file that holds (h, w, c) or (n, h, w, c). A network of
    one channel needs no axis for it. Raises FileNotFoundError, or UserError for a file that is no such array."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy lets through whatever its parser meets in a broken head
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} is no whole .npy file ({reason}): write it with numpy.save") from None
    inner = [shape, shape[:2]] if shape[2] == 1 else [shape]
    known = isinstance(found, np.ndarray) and found.dtype == np.uint8
    fits = [one for one in inner if known and found.shape in (one, (*found.shape[:1], *one))]
    if not fits:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise UserError(
            f"{path} holds {what}: expected uint8 of the shape {shape}, or several of it; of a float input x give "
            "round(x * std + mean), and mcunet quantize --mean and --std the same numbers"
        )
    return found.reshape(-1, *shape)


def read_pictures(
    source: FilePath,
    shape: tuple[int, int, int],
    view: View = STRETCH,
    names: str | None = None,
    most: int | None = None,
) -> Iterator[Picture]:
    """Yield (h, w, c) uint8 for a network that reads `shape`, from a .npy file or a folder, see `list_pictures`: `most`
    of them at most, evenly spread. Raises what load_picture and list_pictures raise; the error of the first broken
    picture also names the others."""
    files = [Path(source)] if Path(source).suffix.lower() == ARRAY else list_pictures(source, names, None, shape[2])
    arrays = {path: load_arrays(path, shape) for path in files if path.suffix.lower() == ARRAY}
    places = [(path, i) for path in files for i in range(len(arrays[path]) if path in arrays else 1)]
    chosen = spread(places, most)
    for at, (path, i) in enumerate(chosen):
        try:
            yield np.array(arrays[path][i]) if path in arrays else load_picture(path, shape[:2], view, shape[2])
        except PictureError as error:
            raise PictureError(f"{error}{_also_broken([path for path, _ in chosen[at + 1 :]], view)}") from None


def _also_broken(paths: list[Path], view: View) -> str:
    """Name the other pictures that cannot be read, so that nobody finds them one at a time."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            try:
                load(path, view)
            except PictureError:
                found.append(path.name)
    return f"; {len(found)} more cannot be read: {_first(found)}" if found else ""


def with_view(model: AnyModel, text: str | None) -> AnyModel:
    """Return the model with a command line's --view, for a file without one. Raises UserError where the file has
    another."""
    if text is None:
        return model
    view = View.parse(text)
    if "detector" in model.meta and view.keep is not None:
        raise UserError(f"--view {text}: this model is a detector, which sees whole pictures; leave it out")
    if "view" in model.meta and view != view_of(model):
        raise UserError(f"--view {text}: this model was judged with {model.meta['view']}; leave it out")
    return replace(model, meta={**model.meta, "view": str(view)})


def list_pictures(folder: FilePath, names: str | None = None, most: int | None = None, channels: int = 3) -> list[Path]:
    """Return the pictures of a folder by name, or those that the text file `names` lists (one stem a line, as VOC's
    ImageSets): `most` of them at most, evenly spread. Where there is none, return those of the folders in it: a class
    each. Return the .npy files where there is no picture, or none that has the network's channels. Warns (PassedOver)
    of what else is there, but hidden files. Raises UserError where nothing is found."""
    kinds = [suffixes(), (ARRAY,)] if channels in (1, 3) else [(ARRAY,)]
    if Path(folder).is_file():
        raise UserError(f"{folder} is one file: give a folder of pictures or of .npy files, or one .npy file")
    entries = sorted(Path(folder).iterdir())
    if names is None and not any(p.is_file() and p.suffix.lower() in kind for p in entries for kind in kinds):
        classes = [p for p in entries if p.is_dir() and not p.name.startswith(".")]
        entries = [p for one in classes for p in sorted(one.iterdir())] or entries
    found = next((some for kind in kinds if (some := [p for p in entries if p.suffix.lower() in kind])), [])
    known = ", ".join(suffix for kind in kinds for suffix in kind)
    if names is not None:
        files = {p.stem: p for p in found}
        wanted = [line.split()[0] for line in file_text(names).splitlines() if line.strip()]
        absent = [n for n in wanted if n not in files]
        if absent:
            raise UserError(f"{names} lists {short(absent[0])}, which {folder} has not as {known}")
        found = [files[n] for n in wanted]
    if not found:
        raise UserError(f"{folder}: no picture or array for a network of {channels} channels: expected {known}")
    over = [p for p in entries if p not in set(found) and not p.name.startswith(".")] if names is None else []
    if over:
        first = _first([p.name + "/" * p.is_dir() for p in over])
        kind = "arrays" if found[0].suffix.lower() == ARRAY else "pictures"
        said = f"passed over {len(over)} of {len(over) + len(found)}, which are no {kind} by their names"
        warnings.warn(f"{folder}: {said}: {first}", PassedOver, stacklevel=2)
    return spread(found, most)


def _first(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + ", ..." * (len(names) > MOST_NAMED)


def spread(things: list[Thing], most: int | None) -> list[Thing]:
    """Return `most` of them at most, evenly spread; all for None."""
    if most is None or len(things) <= most:
        return things
    return [things[i * len(things) // most] for i in range(most)]
