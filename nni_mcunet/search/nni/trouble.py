"""Say why an NNI experiment does not go on: a limit that is reached, a trial that is silent, a part that failed."""

import argparse
import json
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from ...core.errors import UserError
from ...core.types import Plain, PlainDict
from ...core.validate import short
from . import nnictl

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class DatabaseError(UserError):
    """Report that NNI's database of an experiment cannot be read."""


class Profile(NamedTuple):
    """Hold NNI's record of an experiment: its configuration, the seconds it has run, whether it was told to stop."""

    params: PlainDict
    duration: int
    stopped: bool


def read_profile(directory: str | Path, id: str) -> Profile | None:
    """Read NNI's record; None when NNI has not come so far. Raises DatabaseError."""
    query = "select params, execDuration, endTime from ExperimentProfile where id = ? order by revision desc limit 1"
    for params, run, ended in _rows(directory, id, query, (id,)):
        with suppress(ValueError):
            return Profile(json.loads(params), run or 0, ended is not None)
        raise DatabaseError(f"NNI's record of the experiment {id} in {directory} is damaged: begin a new search")
    return None


def trial_times(directory: str | Path, id: str) -> list[PlainDict]:
    """Return when each trial ran, {"trial", "state": how it ended, "from", "to", "seconds": since the search began}, in
    order; empty where NNI has left no record. Raises DatabaseError."""
    query = "select timestamp, trialJobId, event, sequenceId from TrialJobEvent order by timestamp"
    begin = min((t for (t,) in _rows(directory, id, "select startTime from ExperimentProfile") if t), default=None)
    running: dict[str, int] = {}
    found: list[PlainDict] = []
    for moment, trial, event, number in _rows(directory, id, query):
        if event == "RUNNING":
            running[trial] = moment
        elif trial in running and begin is not None:
            since = running.pop(trial)
            found.append({"trial": number, "state": event.lower().replace("_", " "), "from": (since - begin) / 1e3,
                          "to": (moment - begin) / 1e3, "seconds": (moment - since) / 1e3})  # fmt: skip
    return found


def _rows(directory: str | Path, id: str, query: str, values: tuple[Plain, ...] = ()) -> list[tuple[Plain, ...]]:
    path = Path(directory) / id / "db" / "nni.sqlite"
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute(query, values).fetchall()
    except sqlite3.OperationalError:  # before NNI has made its tables
        return []
    except sqlite3.DatabaseError as error:
        raise DatabaseError(f"{path}: {error}; begin a new search") from None


def seconds(duration: str | float) -> float:
    """Return the seconds of a duration as NNI has it: a number, or text that ends in s, m, h or d. Raises UserError."""
    try:
        return float(duration[:-1]) * UNITS[duration[-1].lower()] if isinstance(duration, str) else float(duration)
    except (ValueError, KeyError, IndexError, TypeError):
        raise UserError(f"maxExperimentDuration is {short(duration)}: expected seconds, or text like 90m") from None


def duration(text: str) -> str:
    """Check a command line's duration, as NNI has it. argparse makes one line and exit code 2 of what this raises."""
    if not re.fullmatch(r"[0-9]{1,9}[smhd]", text):
        raise argparse.ArgumentTypeError(f"{short(text)}: expected a number and s, m, h or d, like 90m")
    return text


def limit_reached(params: PlainDict, duration: float, trials: int) -> str | None:
    """Name the limit of an experiment's configuration behind which NNI starts no more trials; None before that."""
    longest, most = params.get("maxExperimentDuration"), params.get("maxTrialNumber")
    if longest is not None and duration >= seconds(longest):
        return (
            f"its maxExperimentDuration, {longest}, is over ({duration:.0f} s have run): give more with "
            "`mcunet search resume --duration`"
        )
    if most is not None and trials >= most:
        return f"its maxTrialNumber was lowered to {most}: `mcunet search resume` lifts that"
    return None


class Silence:
    """Name what has not been heard of for `patience` seconds, each thing once: a running trial without a result, a
    manager without an answer, an experiment without a trial. root: the manager's address."""

    def __init__(self, root: str, folder: Path, patience: float):
        self.root, self.folder, self.patience, self._usual = root, folder, patience, patience
        self.named: dict[str, str] = {}  # what is silent -> the message
        self._told, self._changed = -1, time.time()
        self._answered = self._looked = time.time()

    def look(self, told: int) -> list[str]:
        """Return messages about what has become silent. told: results so far."""
        now = time.time()
        if told != self._told:
            self._told, self._changed = told, now
        if now - self._looked < min(self.patience / 4, 30):
            return []
        self._looked, known = now, set(self.named)
        try:
            found = self._silent(now)
            self._answered = now
        except OSError:
            found = {}
            if now - self._answered > self.patience:
                found["manager"] = f"NNI's manager has not answered for {_words(now - self._answered)}"
        self.named = found
        return [message for thing, message in found.items() if thing not in known]

    def _silent(self, now: float) -> dict[str, str]:
        found = {}
        trials = nnictl.request(self.root, "/trial-jobs") or []
        for trial in (t for t in trials if t.get("status") == "RUNNING"):
            id, heard = trial["trialJobId"], trial.get("startTime", now * 1000)
            if now - heard / 1000 > self.patience:
                metrics = nnictl.request(self.root, f"/metric-data/{id}") or []
                heard = max([heard, *(metric["timestamp"] for metric in metrics)])
            if (silent := now - heard / 1000) > self.patience:
                state = "runs, last heard of" if silent < self._usual else "has reported nothing for"
                ago = " ago. Its files" if silent < self._usual else ": it hangs, or it is slow. Its files"
                found[id] = (
                    f"trial {id} {state} {_words(silent)}{ago} "
                    f"are in {self.folder}/environments/*/trials/{id}. With maxTrialDuration in the experiment's YAML "
                    "NNI ends such a trial, and its candidates are tried again"
                )
        waiting = sum(trial.get("status") in ("WAITING", "UNKNOWN") for trial in trials)
        if not any(t.get("status") == "RUNNING" for t in trials) and now - self._changed > self.patience:
            found["experiment"] = (
                f"no trial has run for {_words(now - self._changed)}, {waiting} wait to be started: see "
                f"{self.folder}/log/nnimanager.log"
            )
        return found


class Complaints:
    """Collect what an experiment's manager, tuner and failed trials complain of from now on: what an earlier run has
    left in the same files is not this one's cause."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._old = {path: path.stat().st_size for path in self._files()}

    def _files(self) -> list[Path]:
        log = self.folder / "log"
        found = [log / "nnictl_stderr.log", log / "nnimanager.log"]
        return [path for path in [*found, *self.folder.glob("environments/*/trials/*/trial.stderr")] if path.exists()]

    def text(self) -> str:
        """Return their last lines."""
        failed = _rows(
            self.folder.parent, self.folder.name, "select distinct trialJobId from TrialJobEvent where event = 'FAILED'"
        )
        lines = []
        for path in self._files():
            if path.name == "trial.stderr" and (path.parent.name,) not in failed:
                continue  # of a trial that runs, waits or has given its result
            with path.open("rb") as file:
                file.seek(self._old.get(path, 0))
                new = file.read().decode(errors="replace").splitlines()
            if path.name == "nnimanager.log":
                new = [line for line in new if "] ERROR " in line][-5:]
            lines += [line for line in new if line.strip()]
        return "\n".join(lines)[-3000:]


def _words(silence: float) -> str:
    return f"{silence / 60:.0f} min" if silence >= 120 else f"{silence:.0f} s"
