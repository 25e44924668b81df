"""Keep decoded pictures on disk, once a machine: the first trial of a search decodes, the others map its file, whose
pages they share.

A set of pictures at one resolution is one file in the user's cache: the bytes of uint8 (n, 3, h, w). Its name says
everything that they depend on: each picture's path, size and time of change, the view, the resolution, and how this
version decodes.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import PIL
import torch
from filelock import FileLock
from torch import Tensor

from ... import pictures
from ...core.files import user_cache
from ...core.view import View

FOLDER = "pictures"


def cached(
    files: Sequence[str],
    view: View,
    resolution: tuple[int, int],
    room: int,
    decode: Callable[[], Iterable[Tensor]],
) -> Tensor | None:
    """Return the pictures of `files`, uint8 (n, 3, h, w), mapped from the disk; decode() yields them in batches where
    they are not there yet. None where a file is missing, or `room`, the bytes that all such sets may take, or the disk
    is too small: then nothing is written. The sets that were not used for the longest time make way."""
    try:
        path = user_cache() / FOLDER / f"{_name(files, view, resolution)}.uint8"
        size = len(files) * 3 * resolution[0] * resolution[1]
        if size > room:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # two trials that begin together decode once
            if not path.exists():
                _make_way(path.parent, room - size)
                _write(path, decode)
            os.utime(path)
            # not NumPy's map, which keeps the file open; MAP_PRIVATE, so that nobody writes to it
            mapped = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
            return mapped.view(len(files), 3, *resolution)
    except OSError:
        return None


def _name(files: Sequence[str], view: View, resolution: tuple[int, int]) -> str:
    digest = hashlib.sha256(Path(pictures.__file__).read_bytes())
    digest.update(repr((PIL.__version__, cv2.__version__, view, resolution)).encode())
    for file in files:
        stat = os.stat(file)
        digest.update(f"{os.path.abspath(file)}\0{stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _write(path: Path, decode: Callable[[], Iterable[Tensor]]) -> None:
    """Write a set under another name first, so that a kill leaves none that is half. Not through a map: a full disk
    would kill the process."""
    fresh = path.with_suffix(".part")  # the lock's: nobody else writes it
    try:
        with open(fresh, "wb") as file:
            for batch in decode():
                file.write(batch.numpy().tobytes())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _make_way(folder: Path, room: int) -> None:
    """Delete the sets that were not used for the longest time until the others take no more than `room` bytes."""
    sets = sorted(folder.glob("*.uint8"), key=lambda path: path.stat().st_mtime)
    taken = sum(path.stat().st_size for path in sets)
    for path in sets:
        if taken <= room:
            break
        taken -= path.stat().st_size
        path.unlink(missing_ok=True)
