"""An NNI experiment from a script: create or resume it, watch it to its end, stop it.

To nnictl it adds what a script needs: the end is waited for, a failure is an error, nothing is left running, and a
kill -9 of NNI's manager, the tuner, a trial or of this process costs nothing but time: `find` and an Experiment of the
same id take the search up where its history ends.
"""

import json
import random
import sqlite3
import string
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import yaml
from tqdm import tqdm

from ..core.files import write_atomic, write_json
from . import nnictl
from .config import SearchConfig
from .experiment import ExperimentError, check_folder, free_port, search_config
from .guard import end_all, hold, processes_of
from .history import read_history

PATIENCE = 40  # seconds NNI has to end by itself before its processes are killed


class ExperimentFailed(RuntimeError):
    """NNI or a part of the search broke down: not the user's doing."""


class Experiment:
    """A context: the experiment runs inside it and is stopped at its end, whatever happened.

    folder  of experiment.yml and experiment.json, NNI's id, which `find` reads
    id      of the experiment to go on with; None: a new one
    """

    def __init__(self, config: dict, folder: Path, port: int | None = None, id: str | None = None):
        self.config, self.folder, self.port = config, Path(folder), port or free_port()
        self.id, self._directory = id, Path(config["experimentWorkingDirectory"])

    def __enter__(self) -> "Experiment":
        try:
            self._start()
        except BaseException:  # Ctrl-C and nnictl's time being up, too: NNI's processes would go on without this one
            self.stop()
            raise
        return self

    def _start(self) -> None:
        port = ("--port", str(self.port))
        if self.id is not None:
            self.stop()
        if self.id is not None and read_profile(self._directory, self.id):
            result = self._nnictl("resume", self.id, *port, "--experiment_dir", str(self._directory))
        else:  # new, or killed before NNI had written anything down
            self.id = "".join(random.SystemRandom().sample(string.ascii_lowercase + string.digits, 8))
            path = write_atomic(self.folder / "experiment.yml", yaml.safe_dump(self.config, sort_keys=False))
            write_json(
                self.folder / "experiment.json", {"experiment": self.id}
            )  # before NNI starts: always to be found
            result = self._nnictl("create", "--config", str(path), *port, id=self.id)
        if result.returncode:
            raise ExperimentFailed(f"nnictl failed:\n{result.stdout[-3000:]}")

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """As `nnictl stop` does, but to the end: no process is left."""
        for process in processes_of(self.id):
            with suppress(psutil.Error):
                if "--experiment-id" in process.cmdline():
                    process.terminate()
                    break
        else:
            end_all(self.id, 0)  # without a manager to end them
        end_all(self.id, PATIENCE)

    def status(self) -> str:
        """NNI's word for it: INITIALIZED, RUNNING, TUNER_NO_MORE_TRIAL, NO_MORE_TRIAL, DONE, ERROR, ...
        Raises ExperimentFailed for ERROR and OSError when nobody answers."""
        state = nnictl.request(f"http://127.0.0.1:{self.port}", "/check-status")
        if state["status"] == "ERROR":
            raise ExperimentFailed(f"experiment {self.id}: {state.get('errors')}\n{self._stderr()}")
        return state["status"]

    def wait(self, progress, timeout: float, every: float = 1.0) -> None:
        """Until NNI says DONE, which it does when the tuner's search is over; progress() is called in between. Raises
        ExperimentFailed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            done = False
            try:
                done = self.status() == "DONE"
            except OSError as error:
                if not processes_of(self.id):
                    raise ExperimentFailed(f"experiment {self.id}: no answer ({error})\n{self._stderr()}") from None
            progress()
            if done:
                return
            time.sleep(every)
        raise ExperimentFailed(f"experiment {self.id}: not finished after {timeout:g} s\n{self._stderr()}")

    def _nnictl(self, *args: str, id: str | None = None) -> subprocess.CompletedProcess:
        env = nnictl.environment(self.config.get("nniManagerIp"))
        return subprocess.run(
            nnictl.command(*args, id=id), env=env, text=True, timeout=180,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _stderr(self) -> str:
        """Last lines of what the manager, the tuner and the trials had to complain of."""
        folder = self._directory / self.id
        files = [folder / "log" / "nnictl_stderr.log", *folder.glob("environments/*/trials/*/trial.stderr")]
        lines = [line for f in files if f.exists() for line in f.read_text(errors="replace").splitlines()]
        log = folder / "log" / "nnimanager.log"
        if log.exists():
            lines += [line for line in log.read_text(errors="replace").splitlines() if "] ERROR " in line][-5:]
        return "\n".join(line for line in lines if line.strip())[-3000:]


def watch(experiment: Experiment, search: SearchConfig, timeout: float) -> None:
    """The experiment to its end, with a progress bar of its candidates. Raises ExperimentFailed."""
    with experiment, tqdm(total=search.population * (1 + search.iterations), unit="net") as bar:
        tqdm.write(f"NNI experiment {experiment.id}: http://127.0.0.1:{experiment.port}", file=sys.stdout)
        experiment.wait(lambda: bar.update(sum(p["told"] for p in read_history(experiment.folder)) - bar.n), timeout)


def take(out: Path, resume: bool = False, discard: bool = False) -> None:
    """Keep other tools/search.py off `out` as long as this process lives. A new search must not meet an unfinished one
    there: it is stopped and forgotten (discard) or an error. Raises ExperimentError or Busy."""
    check_folder(out)
    hold(out / ".search.lock", "tools/search.py")
    unfinished = out / "running" / "experiment.json"
    if resume or not unfinished.exists():
        return
    if read_history(out / "running") and not discard:
        raise ExperimentError(
            f"{out} holds an unfinished search: go on with `tools/search.py resume --out {out}`, or forget it with "
            "`run --discard`"
        )
    end_all(json.loads(unfinished.read_text())["experiment"], 0)


def find(id: str | None = None, out: Path | None = None) -> tuple[str, dict, Path]:
    """An experiment to go on with, by its id in nnictl's list or by the folder of its results:
    (id, NNI's configuration, the folder its tuner writes to). Raises ExperimentError."""
    if id is None:
        folder = out / "running" if (out / "running").exists() else out
        if folder == out and (out / "done.json").exists():
            raise ExperimentError(f"{out} holds a finished search: nothing is left to do; see `export` and `report`")
        found = [folder / name for name in ("experiment.json", "search.json") if (folder / name).exists()]
        if not found:
            raise ExperimentError(f"{out} holds no search that has begun: start one with `run`")
        id = json.loads(found[0].read_text())["experiment"]
        if (folder / "experiment.yml").exists():
            config = yaml.safe_load((folder / "experiment.yml").read_text())
            begun = Path(search_config(config).out)
            if begun.resolve() != folder.resolve():
                raise ExperimentError(f"{folder} was begun as {begun}, where its tuner would go on: move it back")
            return id, config, folder
    listed = Path.home() / "nni-experiments" / ".experiment"
    known = json.loads(listed.read_text()) if listed.exists() else {}
    if id not in known:
        raise ExperimentError(f"NNI knows no experiment {id}: known are {', '.join(known) or 'none'}")
    config = read_profile(Path(known[id]["logDir"]), id)
    if config is None or "out" not in (config["tuner"].get("classArgs") or {}):
        raise ExperimentError(f"experiment {id} is no search of nni_mcunet's tuner")
    return id, config, Path(search_config(config).out)


def read_profile(directory: Path, id: str) -> dict | None:
    """The configuration that NNI has stored for an experiment; None when it has not come so far."""
    path = directory / id / "db" / "nni.sqlite"
    if not path.exists():
        return None
    query = "select params from ExperimentProfile where id = ? order by revision desc limit 1"
    with closing(sqlite3.connect(path)) as db, suppress(sqlite3.OperationalError):
        for (params,) in db.execute(query, (id,)):
            return json.loads(params)
    return None
