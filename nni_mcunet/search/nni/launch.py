"""Run an NNI experiment from a script: create or resume it, watch it to its end, stop it.

It adds to nnictl what a script needs. The end is waited for, a failure is an error, and nothing is left running. A kill
-9 of NNI's manager, the tuner, a trial or of this process costs nothing but time: `find` and an Experiment of the same
id take the search up where its history ends.

Only the tuner's done.json is the end of a search: NNI says DONE for any limit of its own.
"""

import contextlib
import random
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import psutil
import yaml
from tqdm import tqdm

from ...core.files import write_atomic, write_json
from ...core.progress import Progress
from ...core.types import Plain, PlainDict
from ...core.validate import read_json
from ..config import ExperimentError, SearchConfig, search_config
from ..run.history import count_told, read_history
from ..run.result_folder import check_free, discard, settle
from ..run.run_folder import experiment_id, finished
from . import nnictl
from .experiment_file import read_begun
from .ports import PortError, free_port
from .processes import Stopped, end_all, hold, processes_of, stopped_by_signals
from .trouble import Complaints, Silence, limit_reached, read_profile, seconds

PATIENCE = 40  # seconds NNI has to end by itself before its processes are killed


class ExperimentFailed(RuntimeError):
    """Report that NNI or a part of the search broke down, which is not the user's doing."""


class CutShort(ExperimentFailed):
    """Report that NNI has ended before the search has: by a limit of its own, or because it was told to."""


class Experiment:
    """Run an experiment inside a context, and stop it at the context's end, whatever happened.

    folder  of experiment.yml and experiment.json, NNI's id, which `find` reads
    id      of the experiment to go on with; None: a new one
    """

    def __init__(self, config: PlainDict, folder: Path, port: int | None = None, id: str | None = None):
        self.config, self.folder, self.port = config, Path(folder), port or free_port()
        self.id, self._directory = id, Path(config["experimentWorkingDirectory"])
        self.root = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Experiment":
        try:
            self._start()
        except BaseException:  # Ctrl-C and nnictl's time being up, too: NNI's processes would go on without this one
            self.stop()
            raise
        return self

    def _start(self) -> None:
        port = ("--port", str(self.port))
        id = self.id
        if id is not None:
            self.stop()
        resumed = id is not None and read_profile(self._directory, id) is not None
        if id is not None and resumed:
            self._complaints = Complaints(self._directory / id)
            result = self._nnictl("resume", id, *port, "--experiment_dir", str(self._directory))
        else:  # new, or killed before NNI had written anything
            self.id = "".join(random.SystemRandom().sample(string.ascii_lowercase + string.digits, 8))
            self._complaints = Complaints(self._directory / self.id)
            path = write_atomic(self.folder / "experiment.yml", yaml.safe_dump(self.config, sort_keys=False))
            # written before NNI starts, so that `find` always finds the experiment
            write_json(self.folder / "experiment.json", {"experiment": self.id})
            result = self._nnictl("create", "--config", str(path), *port, id=self.id)
        if "error: port " in (last := result.stdout.strip().splitlines()[-1:] or [""])[0]:
            raise PortError(last[0].partition("error: ")[2])  # another process has taken it since it was looked at
        if result.returncode:
            raise ExperimentFailed(f"nnictl failed:\n{result.stdout[-3000:]}")
        longest = self.config.get("maxExperimentDuration")
        if resumed and longest is not None:
            params = {"params": {"maxExperimentDuration": longest}}
            nnictl.request(self.root, "/experiment?update_type=MAX_EXEC_DURATION", "PUT", params)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop NNI as `nnictl stop` does, but to the end: no process is left."""
        if self.id is None:
            return
        manager = self._manager()
        if manager is None:
            end_all(self.id, 0)
        else:
            with contextlib.suppress(psutil.Error):
                manager.terminate()
        end_all(self.id, PATIENCE)

    def _manager(self) -> psutil.Process | None:
        for process in processes_of(str(self.id)):
            with contextlib.suppress(psutil.Error):
                if "--experiment-id" in process.cmdline():
                    return process
        return None

    def status(self) -> str:
        """Return NNI's word for the state: INITIALIZED, RUNNING, TUNER_NO_MORE_TRIAL, NO_MORE_TRIAL, DONE, ERROR, ...
        Raises ExperimentFailed for ERROR and OSError when nobody answers."""
        state = nnictl.request(self.root, "/check-status")
        if state["status"] == "ERROR":
            raise ExperimentFailed(f"experiment {self.id}: {state.get('errors')}\n{self._complaints.text()}")
        return state["status"]

    def over(self) -> bool:
        """Tell whether the search has come to its end. Raises CutShort or ExperimentFailed when only NNI has."""
        try:
            if self.status() != "DONE":
                return False
            if finished(self.folder):
                return True
            profile, trials = (nnictl.request(self.root, path) for path in ("/experiment", "/trial-jobs"))
        except OSError as error:
            if self._manager():  # it is busy, or about to end
                return False
            if finished(self.folder):
                return True
            raise self._gone(error) from None
        except ExperimentFailed:
            if finished(self.folder):
                return True
            raise
        reason = limit_reached(profile["params"], profile["execDuration"], len(trials or []))
        if reason is None:  # the limit was lifted a moment ago
            return False
        raise CutShort(f"{self._known()}: {reason}")

    def _known(self) -> str:
        return f"experiment {self.id}, cut short after {count_told(self.folder)} candidates"

    def _gone(self, error: OSError) -> ExperimentFailed:
        profile = read_profile(self._directory, str(self.id))
        if profile and profile.stopped:
            return CutShort(f"{self._known()}: NNI was told to stop, by `nnictl stop`, its web page or a signal")
        died = f"experiment {self.id}: NNI's manager has died, killed or out of memory ({error})"
        return ExperimentFailed(f"{died}\n{self._complaints.text()}")

    def wait(self, told: Plain, timeout: float, silence: float) -> None:
        """Wait until the search is over. Raises ExperimentFailed.

        told     returns the number of results; called in between
        silence  seconds after which a thing that is not heard of is named on stderr
        """
        deadline, watched = time.monotonic() + timeout, Silence(self.root, self._directory / str(self.id), silence)
        while time.monotonic() < deadline:
            over = self.over()
            for message in watched.look(told()):
                tqdm.write(message, file=sys.stderr)
            if over:
                return
            time.sleep(1)
        watched.patience = 0  # so that everything that runs is named
        watched.look(told())
        silent = "".join(f"; {message}" for message in watched.named.values())
        raise ExperimentFailed(f"experiment {self.id}: not finished after {timeout:g} s{silent}")

    def _nnictl(self, *args: str, id: str | None = None) -> subprocess.CompletedProcess[str]:
        env = nnictl.environment(self.config.get("nniManagerIp"))
        return subprocess.run(
            nnictl.command(*args, id=id), env=env, text=True, timeout=180,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


@contextlib.contextmanager
def exit_on_failure() -> Iterator[None]:
    """Turn a failure, a search cut short or a signal, inside this context, into a message on stderr and an exit code:
    1, or 128 and the signal's number."""
    again = "`mcunet search resume` goes on where this has ended"
    try:
        with stopped_by_signals():
            yield
    except CutShort as error:
        sys.exit(f"error: {error}; {again}")
    except ExperimentFailed as error:
        sys.exit(f"error: {error}\n{again}")
    except Stopped as stop:
        print(f"error: {stop}; {again}", file=sys.stderr)
        sys.exit(stop.code)


def watch(experiment: Experiment, search: SearchConfig, timeout: float, silence: float) -> None:
    """Run the experiment to its end, with a progress bar of its candidates. Raises ExperimentFailed."""
    if finished(experiment.folder):
        return
    with experiment, Progress(search.population * (1 + search.iterations), "net", "searched") as bar:
        tqdm.write(f"NNI experiment {experiment.id}: {experiment.root}", file=sys.stdout)

        def told() -> int:
            bar.to(count_told(experiment.folder))
            return bar.done

        experiment.wait(told, timeout, silence)


def take(out: Path, resume: bool = False, aside: bool = False) -> None:
    """Keep other mcunet search off `out` as long as this process lives, and other searches off it where it has a search
    in out/running. A new search must not meet an unfinished one there: that one is set aside or an error. Raises
    ExperimentError, ResultsError or Busy."""
    if not resume:
        check_free(out, started=True)
    hold(out / ".search.lock", "mcunet search")
    settle(out)
    running = out / "running"
    if not resume or running.exists():
        hold(out / ".tuner.lock", "search")
    if resume:
        return
    if not aside:
        unfinished = read_history(running) or (read_history(out) and not finished(out))
        if unfinished:
            raise ExperimentError(
                f"{out} holds an unfinished search: go on with `mcunet search resume --out {quote(str(out))}` or "
                "with what began it, or move it to out/previous with `run --discard`"
            )
    if (running / "experiment.json").exists():
        end_all(experiment_id(running / "experiment.json"), 0)
    if (running / "history.jsonl").exists():
        discard(out)


def find(id: str | None = None, out: Path | None = None) -> tuple[str, PlainDict, Path]:
    """Find an experiment to go on with, by its id in nnictl's list or by the folder of its results. Returns (id, NNI's
    configuration, the folder its tuner writes to). Raises UserError."""
    if id is None:
        assert out is not None, "an experiment is found by its id or by its folder"
        settle(out)
        folder = out / "running" if (out / "running").exists() else out
        if folder == out and finished(out):
            raise ExperimentError(f"{out} holds a finished search: nothing is left to do; see `export` and `report`")
        found = [folder / name for name in ("experiment.json", "search.json") if (folder / name).exists()]
        if not found:
            raise ExperimentError(f"{out} holds no search that has begun: start one with `run`")
        id = experiment_id(found[0])
        if (folder / "experiment.yml").exists():
            config = read_begun(folder / "experiment.yml")
            begun = Path(search_config(config).out)
            if begun.resolve() != folder.resolve():
                raise ExperimentError(f"{folder} was begun as {begun}, where its tuner would go on: move it back")
            return id, config, folder
    listed = Path.home() / "nni-experiments" / ".experiment"
    known = read_json(listed, ExperimentError) if listed.exists() else {}
    if not isinstance(known, dict) or not isinstance(entry := known.get(id, {}), dict):
        raise ExperimentError(f"{listed}: expected NNI's list of experiments; name the search by --out")
    if not isinstance(entry.get("logDir"), str):
        raise ExperimentError(f"NNI knows no experiment {id}: known are {', '.join(known) or 'none'}")
    profile = read_profile(Path(entry["logDir"]), id)
    if profile is None or "out" not in (profile.params["tuner"].get("classArgs") or {}):
        raise ExperimentError(f"experiment {id} is no search of nni_mcunet's tuner")
    return id, profile.params, Path(search_config(profile.params).out)


def prolong(config: PlainDict, id: str, folder: Path, duration: str | None) -> PlainDict:
    """Return the configuration of an experiment to go on with, with another maxExperimentDuration if one is given.
    Raises ExperimentError when NNI would end it at once."""
    profile = read_profile(Path(config["experimentWorkingDirectory"]), id)
    if duration is not None:
        config = config | {"maxExperimentDuration": duration}
    elif profile and "maxExperimentDuration" in profile.params:  # `nnictl update` may have changed it
        given = [profile.params["maxExperimentDuration"], config.get("maxExperimentDuration", 0)]
        config = config | {"maxExperimentDuration": max(given, key=seconds)}
    only = {key: value for key, value in config.items() if key == "maxExperimentDuration"}
    reason = limit_reached(only, profile.duration if profile else 0, 0)
    if reason and not finished(folder):
        raise ExperimentError(f"experiment {id} cannot go on: {reason}")
    if duration is not None and (folder / "experiment.yml").exists():
        write_atomic(folder / "experiment.yml", yaml.safe_dump(config, sort_keys=False))
    return config
