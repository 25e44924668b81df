"""Keep the folder of a search's results: which files in it are a search's, and how a new search takes an older one's
place.

out/              what the last search has left: history.jsonl, search.json, done.json, best.json, best.pth, pictures
out/running/      the same of a search that mcunet search has begun and not ended
out/previous/     the same of the search before it; out/previous.1/ of the one before that, and so on

Every step is one rename, and a kill between two of them loses nothing: set_aside and settle go on where they were cut.
Only a search's own files are ever moved; a stranger's file under one of their names is an error before anything starts.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from ...core.errors import UserError
from ...core.validate import read_json

TUNED = ("best_tuned.pth", "best_tuned.pth.ckpt", "best_tuned.pth_log")  # mcunet finetune's, from best.pth
WRITTEN = ("done.json", "best.json", "best.pth", "search.png", "pareto.png", "winner.png", "search.html", "pareto.json",
           "report.md", "front.png", "rescored.json", "chosen.json", "chosen.pth")  # fmt: skip
FILES = (*WRITTEN, *TUNED, "history.jsonl")
STARTED = ("experiment.yml", "experiment.json")  # mcunet search's, from which it resumes
FRONT = re.compile(r"\d{2,}(_tuned)?\.(json|pth(\.ckpt|_log)?)")  # in pareto/
HIDDEN = (".tuner.lock", *(f".{name}." for name in (*FILES, *STARTED, "search.json")))  # locks, half-written files
ASIDE, ENDED = ".previous", ".ended"  # on their way to previous/, and from running/


class ResultsError(UserError):
    """Report a folder that cannot take a search's results."""


def check_folder(out: Path, key: str = "out") -> None:
    """Raise ResultsError when there cannot be such a folder."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ResultsError(f"{key} is {out}, but {path} is a file: name another folder")


def holds_search(out: Path) -> bool:
    """Tell whether a search has begun in `out`. Raises ResultsError for a search.json that is not a search's."""
    path = Path(out) / "search.json"
    if not path.exists():
        return False
    described = read_json(path, ResultsError)
    if not isinstance(described, dict) or not all(isinstance(described.get(k), dict) for k in ("settings", "space")):
        raise ResultsError(f"{path} is not a search's: expected an object with 'settings' and 'space'; move it away")
    return True


def check_free(out: Path, started: bool = False) -> None:
    """Raise ResultsError when a new search would write over files in `out` that no search has left there. started:
    its experiment.yml and running/ come there, too."""
    check_folder(out)
    if not (out / ASIDE).exists() and not (out / ENDED).exists() and not holds_search(out):
        names = [name for name in (*FILES, *(STARTED if started else ())) if (out / name).exists()]
        names += [f"pareto/{path.name}" for path in _front(out)]
        if names:
            raise ResultsError(
                f"{out} holds {names[0]} but no search.json, so it is not known to be a search's: name another folder "
                "or move the file away"
            )
    running = out / "running"
    if started and running.exists():
        strange = [path.name for path in _entries(running) if path.name not in (*FILES, *STARTED, "search.json")]
        if strange and not (running / "experiment.json").exists():
            raise ResultsError(f"{running} holds {', '.join(strange[:3])} and is not a search's: name another folder")


def set_aside(out: Path) -> None:
    """Move the search in `out`, ended or not, to out/previous, and an earlier one from there to out/previous.1."""
    aside = out / ASIDE
    found = [*_own(out)]
    if not found and not aside.exists():
        return
    if not found and not any(aside.iterdir()):
        aside.rmdir()
        return
    if any((aside / path.relative_to(out)).exists() for path in found):
        _shelve(out)
    aside.mkdir(exist_ok=True)
    for path in found:
        target = aside / path.relative_to(out)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    with contextlib.suppress(OSError):
        (out / "pareto").rmdir()  # unless a stranger's file is left in it
    _shelve(out)


def set_front_aside(out: Path) -> None:
    """Move the networks of an exported front from out/pareto to a folder of their own, out/pareto.1 or the next."""
    if found := _front(out):
        at = 1
        while (aside := out / f"pareto.{at}").exists():
            at += 1
        aside.mkdir()
        for path in found:
            path.rename(aside / path.name)


def discard(out: Path) -> None:
    """Move out/running, a search that has not ended, to out/previous."""
    if (out / ASIDE).exists():
        set_aside(out)
    (out / "running").rename(out / ASIDE)
    _shelve(out)


@contextlib.contextmanager
def replacing(out: Path, resume: bool = False) -> Iterator[Path]:
    """Give a search a folder to write to, out/running; fresh unless it is resumed. Once the context ends well the last
    search in `out` moves to out/previous and the folder's files to `out`. Until then, and after a failure, all is
    left as it is."""
    check_folder(out)
    settle(out)
    running = out / "running"
    if not resume:
        _clear(running)
    yield running
    set_aside(out)
    running.rename(out / ENDED)
    settle(out)


def settle(out: Path) -> None:
    """Bring the files of a search that has ended to their place, if it was killed while it did so."""
    ended = out / ENDED
    if not ended.exists():
        return
    for path in sorted(_entries(ended), key=lambda path: path.name == "done.json"):  # which says that all is there
        _move(path, out / path.name)
    shutil.rmtree(ended)  # locks and half-written files


def _clear(running: Path) -> None:
    """Remove what a search without a result has left, see launch.take: a stranger's files stay."""
    for path in running.iterdir() if running.exists() else ():
        if path.is_file() and (path.name in (*FILES, *STARTED, "search.json") or path.name.startswith(HIDDEN)):
            path.unlink()
    with contextlib.suppress(OSError):
        running.rmdir()


def _own(out: Path) -> Iterator[Path]:
    """Yield the files in `out` that are its search's, search.json last: as long as it is there, so is the search."""
    if not holds_search(out):
        return
    yield from (out / name for name in FILES if (out / name).exists())
    yield from _front(out)
    if (out / "experiment.json").exists():  # else experiment.yml is the user's
        yield from (out / name for name in STARTED if (out / name).exists())
    yield out / "search.json"


def _front(out: Path) -> list[Path]:
    folder = out / "pareto"
    return sorted(path for path in folder.iterdir() if FRONT.fullmatch(path.name)) if folder.is_dir() else []


def _entries(folder: Path) -> list[Path]:
    """List what a folder holds but locks and half-written files."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(HIDDEN))


def _shelve(out: Path) -> None:
    """Rename out/.previous to out/previous, and move on by one what is there. Folders of these names that hold no
    search are a stranger's and stay."""
    names = (out / f"previous{f'.{at}' if at else ''}" for at in range(1 << 20))
    chain = []
    for path in names:
        if path.exists() and not _is_search(path):
            continue
        chain.append(path)
        if not path.exists():
            break
    for at in range(len(chain) - 1, 0, -1):
        chain[at - 1].rename(chain[at])
    (out / ASIDE).rename(chain[0])


def _is_search(folder: Path) -> bool:
    """Tell whether a folder has files of a search, damaged ones too."""
    return any((folder / name).exists() for name in ("search.json", "history.jsonl", "done.json", "best.json"))


def _move(path: Path, target: Path) -> None:
    """Move into a folder that may be there already, and never over a file."""
    if path.is_dir() and target.is_dir():
        for child in sorted(path.iterdir()):
            _move(child, target / child.name)
        path.rmdir()
        return
    at = 0
    while (free := target.with_name(target.name + (f".{at}" if at else ""))).exists():
        at += 1
    path.rename(free)
