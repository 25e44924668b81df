"""Look at the files that a command is about to write before its work begins: a slip must not cost a file."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from .errors import UserError
from .files import check_place, json_text
from .types import PlainDict

# ONNX, PNG and HTML have MARK in their first bytes. Archives (`marked`) and pickles end in it: readers skip it there.
MARK = b"nni-mcunet"
HEADS, TAILS = (".onnx", ".png", ".html"), (".npz", ".pth", ".pkl")
# A JSON of ours is written as write_json does and has the keys of a report: of profile, fits, run, compare-boxes,
# anchors, mcunet report. So has a row of quantize's.
REPORTS = (
    {"peak_bytes_per_layer", "peak_bytes_per_patch", "blocks"},
    {"fits", "network", "board", "source"},
    {"board", "boxes", "crc32", "stack_bytes"},
    {"config", "images", "score"},
    {"scales", "mean_iou", "recall"},
    {"metrics", "box_agreement", "boards", "boxes"},
)
ROW = {"name", "kind", "total", "own"}


def marked(archive: bytes) -> bytes:
    """Return a zip archive, as np.savez and torch.save write, with MARK as its comment, by which check_outputs knows
    it."""
    return archive[:-2] + len(MARK).to_bytes(2, "little") + MARK


def check_outputs(
    outputs: dict[str, tuple[str | Path | None, str]], *inputs: str | Path | None, goes_on: bool = False
) -> None:
    """Refuse output names that would cost a file. outputs: flag -> (the name given with it, or None; the ending that it
    must have). inputs: all files that the command reads; None is skipped. A device or a pipe is fine as it is.

    Raises UserError for an empty name, a folder, another ending, the name of an input or of another output, and for a
    file of the right ending that is no product of these commands: an ONNX file of others, a photograph, an
    architecture, a checkpoint, a drawing; and for a place where nothing can be written."""
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
        if path.is_file() and not goes_on and not _is_product(path, ending):
            raise UserError(f"{flag} {name} is there and no product of this command: give another name, or delete it")
        check_place(path)
        taken[real] = flag


def check_own_report(folder: Path, names: Iterable[str], first: str, begins: str) -> None:
    """Refuse to write the files `names` of a report over others: where one is there, the file `first` of an earlier
    report, whose text begins so, must be, too. Raises UserError."""
    taken = [name for name in names if os.path.lexists(folder / name)]
    try:
        ours = not taken or (folder / first).read_text().startswith(begins)
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise UserError(f"{folder} holds {', '.join(taken)} and no {first} of this command: give another folder")


def _same(path: Path, other: str | Path) -> bool:
    """Tell whether two names, such as links, are of one file."""
    return path.exists() and os.path.exists(other) and os.path.samefile(path, other)


def _is_product(path: Path, ending: str) -> bool:
    """Tell whether these commands wrote the file. An empty one counts: a killed program leaves it, nothing is lost."""
    with path.open("rb") as file:
        head = file.read(100)
        file.seek(max(0, os.fstat(file.fileno()).st_size - len(MARK)))
        tail = file.read()
    if not head:
        return True
    if ending != ".json":
        return (ending in HEADS and MARK in head) or (ending in TAILS and tail == MARK)
    try:
        text = path.read_text()
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if text != json_text(found):
        return False  # written by another program, or edited
    if isinstance(found, list):
        return bool(found) and all(isinstance(row, dict) and set(row) == ROW for row in found)
    return isinstance(found, dict) and (any(keys <= set(found) for keys in REPORTS) or _is_metrics(found))


def _is_metrics(found: PlainDict) -> bool:
    """Tell whether these are the figures of mcunet test, which mmdet's metrics name DATA/FIGURE."""
    figures = all(type(value) in (int, float) for value in found.values())
    return figures and any("/" in name for name in found)
