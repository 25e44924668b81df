"""Look at the files that a command is about to write before its work begins: a slip must not cost a file."""

import json
import os
from pathlib import Path

from .errors import UserError
from .types import PlainDict

# The first bytes of our products have these words. The reports of profile, run_board, compare_boxes and anchors have
# these keys, and so has a row of quantize's.
ENDINGS = {".onnx": b"nni-mcunet", ".png": b"Matplotlib", ".npz": b"arr_0.npy"}
REPORTS = (
    {"peak_bytes_per_layer", "peak_bytes_per_patch", "blocks"},
    {"board", "boxes"},
    {"config", "images", "score"},
    {"scales", "mean_iou", "recall"},
)
ROW = {"name", "kind", "total", "own"}


def check_outputs(outputs: dict[str, tuple[str | Path | None, str]], *inputs: str | Path | None) -> None:
    """Refuse output names that would cost a file. outputs: flag -> (the name given with it, or None; the ending that it
    must have). inputs: all files that the command reads; None is skipped. A device or a pipe is fine as it is.

    Raises UserError for an empty name, a folder, another ending, the name of an input or of another output, and for a
    file of the right ending that is no product of these commands: an ONNX file of others, a photograph, an
    architecture."""
    taken: dict[str, str] = {}
    for flag, (name, ending) in outputs.items():
        if name is None:
            continue
        path, real = Path(name), os.path.realpath(name)
        if path.exists() and not path.is_file() and not path.is_dir():
            continue
        if not str(name).strip() or path.is_dir() or str(name).endswith("/"):
            raise UserError(f"{flag} '{name}' is no file: give a name such as out/name{ending}")
        if path.suffix.lower() != ending:
            raise UserError(f"{flag} {name} would hold another kind of file: give a name that ends in {ending}")
        if any(_same(path, other) for other in inputs if other):
            raise UserError(f"{flag} {name} is a file that the command reads, which would be lost: give another name")
        if real in taken:
            raise UserError(f"{flag} and {taken[real]} both name {name}: give two names")
        if path.is_file() and not _is_product(path, ending):
            raise UserError(f"{flag} {name} is there and no product of this command: give another name, or delete it")
        taken[real] = flag


def _same(path: Path, other: str | Path) -> bool:
    """Tell whether two names, such as links, are of one file."""
    return path.exists() and os.path.exists(other) and os.path.samefile(path, other)


def _is_product(path: Path, ending: str) -> bool:
    """Tell whether these commands wrote the file. An empty one counts: a killed program leaves it, nothing is lost."""
    with path.open("rb") as file:
        head = file.read(100)
    if not head or ending not in (*ENDINGS, ".json"):
        return True
    if ending != ".json":
        return ENDINGS[ending] in head
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return False
    if isinstance(found, list):
        return bool(found) and all(isinstance(row, dict) and set(row) == ROW for row in found)
    return isinstance(found, dict) and (any(keys <= set(found) for keys in REPORTS) or _is_metrics(found))


def _is_metrics(found: PlainDict) -> bool:
    """Tell whether these are the figures of mcunet test, which mmdet's metrics name DATA/FIGURE."""
    figures = all(type(value) in (int, float) for value in found.values())
    return figures and any("/" in name for name in found)
