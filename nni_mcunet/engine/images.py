"""Pictures as the network reads them: uint8 RGB of its size, seen by its own view."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.validate import file_text, short
from ..core.view import STRETCH, View
from ..pictures import load, seen
from .quant import Model, view_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def load_picture(path, size: tuple[int, int], view: View = STRETCH) -> np.ndarray:
    """(h, w, 3) uint8 RGB for a network of `size` (h, w) that was trained with `view`. Raises FileNotFoundError, or
    UserError for a file that is no picture, is cut short or has too many pixels."""
    return seen(load(path, view), size, view)


def with_view(model: Model, text: str | None) -> Model:
    """The model with a command line's --view, for a file without one. Raises UserError where the file has another."""
    if text is None:
        return model
    view = View.parse(text)
    if "detector" in model.meta and view != STRETCH:
        raise UserError(f"--view {text}: this model is a detector, whose pictures are stretched; leave it out")
    if "view" in model.meta and view != view_of(model):
        raise UserError(f"--view {text}: this model was judged with {model.meta['view']}; leave it out")
    return replace(model, meta={**model.meta, "view": str(view)})


def list_pictures(folder, names: str | None = None, most: int | None = None) -> list[Path]:
    """Pictures of a folder by name, or those that the text file `names` lists (one stem a line, as VOC's ImageSets);
    at most `most`, evenly spread. Raises UserError where none is found."""
    files = {p.stem: p for p in sorted(Path(folder).iterdir()) if p.suffix.lower() in SUFFIXES}
    if names is not None:
        wanted = [line.split()[0] for line in file_text(names).splitlines() if line.strip()]
        absent = [n for n in wanted if n not in files]
        if absent:
            raise UserError(f"{names} lists {short(absent[0])}, which {folder} has not as {', '.join(SUFFIXES)}")
        files = {n: files[n] for n in wanted}
    found = list(files.values())
    if not found:
        raise UserError(f"{folder}: no picture ({', '.join(SUFFIXES)}) to read")
    if most is not None and len(found) > most:
        found = [found[i * len(found) // most] for i in range(most)]
    return found
