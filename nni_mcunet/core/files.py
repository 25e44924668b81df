"""Write files that are whole or absent: beside the target first, then renamed onto it."""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .errors import DISK, UserError, reason_of
from .types import FilePath, Plain


def user_cache() -> Path:
    """Return this package's folder in the user's cache, $XDG_CACHE_HOME or ~/.cache; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nni-mcunet"


def write_atomic(path: FilePath, data: bytes | str) -> Path:
    """Write text or bytes to `path` so that a kill at any moment leaves the old file or the new one, never half. A pipe
    or a device is written to as it is. Raises UserError naming `path`, whatever was being written when it failed."""
    path = Path(path)
    data = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(data)
        else:
            _replace(Path(os.path.realpath(path)), data)  # the file that a link points to, not the link
    except OSError as error:
        raise UserError(f"cannot write {path}: {_why(path, error)}") from None
    return path


def check_place(path: FilePath) -> None:
    """Look whether a file or folder can be written at `path`, before the work begins whose result it is: a file without
    a name is made in the nearest folder that is there. Raises UserError."""
    real = Path(os.path.realpath(path))
    there = next(place for place in (real, *real.parents) if os.path.lexists(place))
    above = real.parent if there == real and not real.is_dir() else there
    if not above.is_dir():
        raise UserError(f"cannot write {path}: {above} is a file, not a folder; name another place")
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        reason = f"{above} takes no files" if isinstance(error, FileNotFoundError) else reason_of(error)
        raise UserError(f"cannot write {path}: {reason}; {_room(error)}name another place") from None


def _replace(path: Path, data: bytes) -> None:
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _why(path: Path, error: OSError) -> str:
    """Say why `path` could not be written, and what the user can do."""
    if os.path.isdir(path):
        return "it is a folder; name a file"
    for parent in path.parents:
        if os.path.exists(parent) and not os.path.isdir(parent):
            return f"{parent} is a file, not a folder; name another place"
    if isinstance(error, FileNotFoundError):
        return f"{path.parent} cannot be made; name another place"
    return f"{reason_of(error)}; {_room(error)}name another place"


def _room(error: OSError) -> str:
    return "make room or " * (error.errno in DISK)


class Figure(Protocol):
    """Name what write_figure needs of matplotlib's figure, which core does not import."""

    @property
    def savefig(self) -> Callable[..., None]:
        """The function that draws the figure into a file."""


def write_figure(figure: Figure, path: FilePath, **options: Any) -> Path:
    """Write a figure of matplotlib's as PNG, which says that it is ours (see outputs.MARK); options are savefig's."""
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": "nni-mcunet, Matplotlib"}, **options)
    return write_atomic(path, data.getvalue())


def write_json(path: FilePath, value: Plain) -> Path:
    """Write a value as JSON, as `write_atomic` does."""
    return write_atomic(path, json_text(value))


def json_text(value: Plain) -> str:
    """Return a value as write_json writes it."""
    return json.dumps(value, indent=1) + "\n"


def sha256(path: FilePath) -> str:
    """Return the SHA-256 of a file's contents, in hexadecimal digits. Raises OSError."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def listing(folder: FilePath, most: int = 8) -> str:
    """Name the first `most` entries of a folder, for a message; folders have a slash."""
    found = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    return ", ".join(found[:most]) + (", ..." if len(found) > most else "") or "nothing"
