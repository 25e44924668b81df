"""Files that are whole or absent: write beside the target, then rename onto it."""

import json
import os
import tempfile
from pathlib import Path


def write_atomic(path, data: bytes | str) -> Path:
    """Write text or bytes to `path` so that a kill at any moment leaves the old file or the new one, never half."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
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
    return path


def write_json(path, value) -> Path:
    return write_atomic(path, json.dumps(value, indent=1) + "\n")


def listing(folder, most: int = 8) -> str:
    """What a message says of a folder's content: its first entries by name, folders with a slash."""
    found = sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
    return ", ".join(found[:most]) + (", ..." if len(found) > most else "") or "nothing"
