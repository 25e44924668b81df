"""Write files that belong together into one folder, as a set. A manifest says which files are ours: only these are
replaced or removed, and only as long as nobody has edited them."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import UserError
from .files import check_place, listing

MANIFEST = "mcunet_files.json"
STAGED = ".mcunet_new"  # holds what a command has not put in place yet; what a killed one leaves is taken away
ABOUT = "The files that the command replaces or removes, with their SHA-256. It touches no others."
Files = dict[str, bytes | str]  # by the name in the folder, with slashes
Hashes = dict[str, list[str]]  # what each file may hold; more than one only until a write has come to its end
Manifest = dict[str, Hashes]  # by the name of the set


@dataclass(frozen=True)
class Seal:
    """The file of a set that every reader opens first, and the text that it holds until the set is whole."""

    name: str
    text: str


def write_set(folder: str | Path, sets: dict[str, Files], seal: Seal) -> Path:
    """Write sets of files into `folder`, which is new, empty or ours; files that the sets had before are removed. Sets
    that are not named stay as they are. All of it is on the disk before the first file is replaced, so a full disk
    leaves the old files. A kill leaves the old files, the new ones or the seal, and the next write goes through.

    Raises UserError for a folder that holds other files and no manifest, for a name that is taken by a foreign or an
    edited file or by another set, and while another command writes here."""
    folder = free_folder(folder)
    new = {name: _bytes(data) for files in sets.values() for name, data in files.items()}
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        known = _known(folder)
        _refuse_foreign(folder, known, sets, new)
        gone = [n for s in sets for n in known.get(s, ()) if n not in new and os.path.lexists(folder / n)]
        change = [n for n, data in new.items() if not (folder / n).exists() or (folder / n).read_bytes() != data]
        whole = known | {s: {n: [_sha(new[n])] for n in files} for s, files in sets.items()}
        if change or gone or whole != known:
            change = [*(n for n in change if n != seal.name), seal.name]  # the seal is broken last
            try:
                _stage(folder, {n: new[n] for n in change}, seal, _between(known, whole, seal), whole)
            except BaseException:
                _unstage(folder, made)
                raise
            _put_in_place(folder, change, gone, seal)
        _unstage(folder, False)
    return folder


def owned(folder: str | Path) -> dict[str, list[str]]:
    """List the sets in a folder, each with the names of its files. Raises UserError for a damaged manifest."""
    return {name: list(files) for name, files in _known(Path(folder)).items()}


def is_whole(folder: str | Path) -> bool:
    """Tell whether the last write of sets into `folder` came to its end: its files then belong together."""
    files = [hashes for found in _known(Path(folder)).values() for hashes in found.values()]
    return bool(files) and all(len(hashes) == 1 for hashes in files)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one writer at a time into a folder; the lock goes with the process. Raises UserError while another one has
    it."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another command writes {folder} now: wait for its end") from None
        yield
    finally:
        os.close(fd)


def named_folder(name: str | Path) -> Path:
    """Return the folder that a user names for output. Raises UserError for an empty name, which would be the working
    folder, for a file, a link to nothing and a place where nothing can be written."""
    if not str(name).strip():
        raise UserError("the name of the folder to write is empty: give one, such as out/new")
    path = Path(name)
    if os.path.lexists(path) and not path.is_dir():
        what = "a link to nothing" if path.is_symlink() and not path.exists() else "a file"
        raise UserError(f"{path} is {what}: give a folder to write")
    check_place(path)
    return path


def free_folder(folder: str | Path) -> Path:
    """Return a folder that a set of files may be written into: new, empty or one of ours. Raises UserError for any
    other, before there is anything to write."""
    path = named_folder(folder)
    if path.is_dir() and not (path / MANIFEST).exists() and any(e.name != STAGED for e in os.scandir(path)):
        raise UserError(f"{path} is not empty and has no {MANIFEST} that says which files may be replaced (it holds "
                        f"{listing(path)}): give a new folder, or empty this one")  # fmt: skip
    return path


def _known(folder: Path) -> Manifest:
    """Read the manifest. A name in it that leads out of the folder makes it a foreign file."""
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return {}
    if not path.is_file():  # to read a pipe would hang
        raise UserError(f"{path} is not a file: give another folder, or delete it")
    try:
        sets: Manifest = json.loads(path.read_text())["sets"]
        for files in sets.values():
            for name, hashes in files.items():
                parts = PurePosixPath(name).parts
                if not parts or parts[0] == "/" or ".." in parts or not all(isinstance(h, str) for h in hashes):
                    raise ValueError(name)
        return sets
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{path} is damaged or not ours: give another folder, or delete this one") from None


def _refuse_foreign(folder: Path, known: Manifest, sets: dict[str, Files], new: dict[str, bytes]) -> None:
    ours = {name: (s, hashes) for s, files in known.items() for name, hashes in files.items()}
    stale = [n for n, (s, _) in ours.items() if s in sets]
    for name in dict.fromkeys([*new, *stale]):
        path, (owner, hashes) = folder / name, ours.get(name, (None, []))
        if owner is not None and owner not in sets:
            raise UserError(f"{path} belongs to '{owner}', which stays in {folder}: give another folder")
        for above in list(path.relative_to(folder).parents)[:-1]:
            if os.path.lexists(folder / above) and ((folder / above).is_symlink() or not (folder / above).is_dir()):
                raise UserError(f"{folder / above} stands where a folder is needed: move it away, or give another "
                                "folder")  # fmt: skip
        if not os.path.lexists(path):
            continue
        if owner is None or path.is_symlink() or not path.is_file():
            raise UserError(f"{path} is not a file that this command has written: move it away, or give another folder")
        found = _sha(path.read_bytes())
        if found not in hashes and found != (name in new and _sha(new[name])):
            raise UserError(f"{path} was edited since it was written: give another folder, or delete the file")


def _between(known: Manifest, whole: Manifest, seal: Seal) -> Manifest:
    """Return the manifest while files are put in place: the hashes that each may have then."""
    found = {s: {n: list(hashes) for n, hashes in files.items()} for s, files in known.items()}
    for s, files in whole.items():
        for name, hashes in files.items():
            some = [*hashes, _sha(seal.text.encode())] if name == seal.name else hashes
            before = found.setdefault(s, {}).get(name, [])
            found[s][name] = list(dict.fromkeys([*before, *some]))
    return found


def _stage(folder: Path, files: dict[str, bytes], seal: Seal, between: Manifest, whole: Manifest) -> None:
    """Put all that is to be renamed on the disk."""
    shutil.rmtree(folder / STAGED, ignore_errors=True)
    manifests = {"between": between, "whole": whole}
    texts = {name: json.dumps({"about": ABOUT, "sets": sets}, indent=1) + "\n" for name, sets in manifests.items()}
    parts = {f"set/{name}": (name, data) for name, data in files.items()} | {"seal": (seal.name, seal.text.encode())}
    parts |= {name: (MANIFEST, text.encode()) for name, text in texts.items()}
    for part, (name, data) in parts.items():
        path = folder / STAGED / part
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # names the file that the user asked for
            raise OSError(error.errno, error.strerror, str(folder / name)) from None


def _put_in_place(folder: Path, change: list[str], gone: list[str], seal: Seal) -> None:
    staged = folder / STAGED
    os.replace(staged / "between", folder / MANIFEST)
    for name in change:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    os.replace(staged / "seal", folder / seal.name)
    for name in gone:
        (folder / name).unlink()
    for name in change:
        os.replace(staged / "set" / name, folder / name)
    os.replace(staged / "whole", folder / MANIFEST)


def _unstage(folder: Path, made: bool) -> None:
    """Remove what was staged. made: this command, which has failed, made the folder."""
    shutil.rmtree(folder / STAGED, ignore_errors=True)
    if made:
        folder.rmdir()  # nothing was put in place


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
