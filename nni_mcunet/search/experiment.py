"""An NNI experiment from a script: `nnictl create`, watch it to its end, `nnictl stop`.

It adds to nnictl what a script needs: the config is checked before anything is started, the web server listens on
127.0.0.1 only, the end is waited for, a failure is an error, nothing is left running.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from ..core.errors import UserError
from ..core.files import write_atomic
from .config import SearchConfig

# nnictl with a minute, not three seconds, for its manager to come up on a loaded machine
NNICTL = (
    "import nni.experiment.launcher as launcher; launcher._check_rest_server.__defaults__ = (60, None); "
    "from nni.tools.nnictl.nnictl import parse_args; parse_args()"
)
TOP_KEYS = {
    "experimentName", "experimentWorkingDirectory", "searchSpace", "searchSpaceFile", "trialCommand",
    "trialCodeDirectory", "trialConcurrency", "maxTrialNumber", "maxExperimentDuration", "maxTrialDuration", "tuner",
    "trainingService", "logLevel", "debug", "trialGpuNumber",
}  # fmt: skip
PATHS = ("experimentWorkingDirectory", "searchSpaceFile", "trialCodeDirectory")


class ExperimentError(UserError):
    """A wrong key in an experiment's YAML."""


class ExperimentFailed(RuntimeError):
    """NNI or a part of the search broke down: not the user's doing."""


def load_config(path: str | Path) -> dict:
    """The YAML with its paths made absolute, as NNI reads them: relative to the file. Raises ExperimentError."""
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ExperimentError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise ExperimentError(f"{path}: an NNI experiment's keys are wanted, see configs/nni/demo_h743.yml")
    for key in config:
        if key not in TOP_KEYS:
            raise ExperimentError(f"{path}: unknown key '{key}': known are {', '.join(sorted(TOP_KEYS))}")
    for key in ("tuner", "trialCommand", "trialCodeDirectory", "experimentWorkingDirectory", "maxTrialNumber"):
        if key not in config:
            raise ExperimentError(f"{path}: lacks the key '{key}'")
    if not isinstance(config["tuner"], dict):
        raise ExperimentError(f"{path}: tuner is {config['tuner']!r}: className, codeDirectory, classArgs are wanted")
    base = path.resolve().parent
    for key in PATHS:
        if key in config:
            config[key] = str((base / config[key]).resolve())
    config["tuner"]["codeDirectory"] = str((base / config["tuner"].get("codeDirectory", ".")).resolve())
    return config


def search_config(config: dict) -> SearchConfig:
    """The tuner's settings as the tuner will read them. Raises UserError."""
    search = SearchConfig.from_dict(config["tuner"].get("classArgs") or {}).at(config["trialCodeDirectory"])
    if config["maxTrialNumber"] != search.trials:
        raise ExperimentError(
            f"maxTrialNumber is {config['maxTrialNumber']}: this search has {search.trials} trials, "
            "ceil(population / batch) * (1 + iterations)"
        )
    return search


def search_space(config: dict) -> dict:
    if "searchSpace" in config:
        return config["searchSpace"]
    try:
        return json.loads(Path(config["searchSpaceFile"]).read_text())
    except KeyError:
        raise ExperimentError("searchSpaceFile is missing: name the file that Space.to_nni() writes") from None
    except json.JSONDecodeError as error:
        raise ExperimentError(f"{config['searchSpaceFile']}: not valid JSON, line {error.lineno}") from None


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Experiment:
    """A context: the experiment runs inside it and is stopped at its end, whatever happened."""

    def __init__(self, config: dict, folder: Path, port: int | None = None):
        self.config, self.folder, self.port = config, Path(folder), port or free_port()
        self.id: str | None = None
        self._preload = Path(__file__).with_name("localhost.cjs")

    def __enter__(self) -> "Experiment":
        path = write_atomic(self.folder / "experiment.yml", yaml.safe_dump(self.config, sort_keys=False))
        result = self._nnictl("create", "--config", str(path), "--port", str(self.port))
        found = re.search(r"Experiment ID: \S*?([a-z0-9]{8})\b", re.sub(r"\x1b\[\d*m|\$\{\w+\}", "", result.stdout))
        if result.returncode or not found:
            raise ExperimentFailed(f"nnictl create failed:\n{result.stdout[-3000:]}")
        self.id = found.group(1)
        return self

    def __exit__(self, *_) -> None:
        if self.id is None:
            return
        manager = self._manager()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it can hang on a loaded machine
            self._nnictl("stop", self.id, timeout=30)
        deadline = time.monotonic() + 15
        while manager and _alive(manager):
            if time.monotonic() > deadline:
                os.killpg(manager, signal.SIGKILL)  # nnictl gives the manager a process group of its own
            time.sleep(0.2)

    def status(self) -> str:
        """NNI's word for it: INITIALIZED, RUNNING, TUNER_NO_MORE_TRIAL, NO_MORE_TRIAL, DONE, ERROR, ..."""
        url = f"http://127.0.0.1:{self.port}/api/v1/nni/check-status"
        with urllib.request.urlopen(url, timeout=30) as reply:
            state = json.load(reply)
        if state["status"] == "ERROR":
            raise ExperimentFailed(f"experiment {self.id}: {state.get('errors')}\n{self._stderr()}")
        return state["status"]

    def wait(self, finished, timeout: float, every: float = 1.0) -> None:
        """Until NNI says DONE or finished() does: a search that runs out of networks emits fewer trials than NNI waits
        for. Raises ExperimentFailed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self.status() == "DONE" or finished():
                    return
            except urllib.error.URLError as error:
                raise ExperimentFailed(f"experiment {self.id}: no answer ({error.reason})\n{self._stderr()}") from None
            time.sleep(every)
        raise ExperimentFailed(f"experiment {self.id}: not finished after {timeout:g} s\n{self._stderr()}")

    def _nnictl(self, *args: str, timeout: float = 180) -> subprocess.CompletedProcess:
        paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]  # trials say `python`: let it be ours
        env = os.environ | {"PATH": os.pathsep.join(paths), "NODE_OPTIONS": f"--require {self._preload}"}
        return subprocess.run(
            [sys.executable, "-c", NNICTL, *args], env=env, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def _folder(self) -> Path:
        return Path(self.config["experimentWorkingDirectory"]) / self.id

    def _stderr(self) -> str:
        """Last lines of what the manager, the tuner and the trials had to complain of."""
        files = [self._folder() / "log" / "nnictl_stderr.log", *self._folder().glob("trials/*/stderr")]
        lines = [line for f in files if f.exists() for line in f.read_text(errors="replace").splitlines()]
        return "\n".join(line for line in lines if line.strip())[-3000:]

    def _manager(self) -> int | None:
        """Process id of NNI's manager, from nnictl's own list of experiments."""
        known = Path.home() / "nni-experiments" / ".experiment"
        return json.loads(known.read_text()).get(self.id, {}).get("pid") if known.exists() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
