"""An NNI experiment from a script: `nnictl create`, watch it to its end, `nnictl stop`.

It adds to nnictl what a script needs: the config is checked before anything is started, the web server listens on
127.0.0.1 only, the end is waited for, a failure is an error, nothing is left running.
"""

import contextlib
import importlib
import json
import os
import re
import shutil
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
TUNER_KEYS = {"className", "codeDirectory", "classArgs"}
SERVICE_KEYS = {"platform", "useActiveGpu", "maxTrialNumberPerGpu", "gpuIndices", "reuseMode"}  # those of "local"


class ExperimentError(UserError):
    """A wrong key in an experiment's YAML."""


class ExperimentFailed(RuntimeError):
    """NNI or a part of the search broke down: not the user's doing."""


def load_config(path: str | Path) -> dict:
    """The YAML with its paths made absolute, as NNI reads them: relative to the file. Raises ExperimentError."""
    path = Path(path)
    try:
        config = yaml.safe_load(path.read_text())
    except IsADirectoryError:
        raise ExperimentError(f"{path}: a folder; name the experiment's YAML file in it") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(config, dict):
        raise ExperimentError(f"{path}: an NNI experiment's keys are wanted, see configs/nni/demo_h743.yml")
    try:
        _check(config)
        base = path.resolve().parent
        for key in PATHS:
            if key in config:
                config[key] = str((base / config[key]).resolve())
        tuner = config["tuner"]
        tuner["codeDirectory"] = str((base / tuner.get("codeDirectory", ".")).resolve())
        for key, folder in (
            ("trialCodeDirectory", config["trialCodeDirectory"]),
            ("tuner.codeDirectory", tuner["codeDirectory"]),
        ):
            if not Path(folder).is_dir():
                raise ExperimentError(f"{key} is {folder}: an existing folder is wanted")
        _check_class(tuner["className"], tuner["codeDirectory"])
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}") from None
    return config


def _check(config: dict) -> None:
    """Keys and types: what NNI would refuse in its own long way, or would not look at. Raises ExperimentError."""
    needed = ("tuner", "trainingService", "trialCommand", "trialCodeDirectory", "experimentWorkingDirectory")
    _check_keys(config, TOP_KEYS, (*needed, "trialConcurrency", "maxTrialNumber"), "")
    _check_keys(config["tuner"], TUNER_KEYS, ("className",), "tuner")
    _check_keys(config["trainingService"], SERVICE_KEYS, ("platform",), "trainingService")
    tuner = config["tuner"]
    values = [(key, config[key]) for key in (*PATHS, "trialCommand", "experimentName") if key in config]
    values += [(f"tuner.{key}", tuner[key]) for key in ("className", "codeDirectory") if key in tuner]
    for key, value in values:
        if not isinstance(value, str) or not value.strip():
            raise ExperimentError(f"{key} is {value!r}: a non-empty string is wanted")
    for key in ("trialConcurrency", "maxTrialNumber"):
        if isinstance(config[key], bool) or not isinstance(config[key], int) or config[key] < 1:
            raise ExperimentError(f"{key} is {config[key]!r}: a positive integer is wanted")
    if not isinstance(tuner.get("classArgs"), (dict, type(None))):
        raise ExperimentError(f"tuner.classArgs is {tuner['classArgs']!r}: a mapping is wanted, see SearchConfig")
    if config["trainingService"]["platform"] != "local":
        raise ExperimentError(f"trainingService.platform is {config['trainingService']['platform']!r}: use 'local'")


def _check_keys(data, known: set[str], needed: tuple, where: str) -> None:
    if not isinstance(data, dict):
        raise ExperimentError(f"{where} is {data!r}: a mapping with the keys {', '.join(sorted(known))} is wanted")
    prefix = f"{where} has the " if where else ""
    for key in data:
        if key not in known:
            raise ExperimentError(f"{prefix}unknown key '{key}': known are {', '.join(sorted(known))}")
    for key in needed:
        if key not in data:
            raise ExperimentError(f"{where} lacks the key '{key}'".strip())


def _check_class(name: str, folder: str) -> None:
    """Raises ExperimentError unless `name` can be imported, with `folder` on the path as NNI puts it there."""
    module, _, attribute = name.rpartition(".")
    sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever the module does when it is imported
        reason = " ".join(str(error).split())
        raise ExperimentError(
            f"tuner.className is '{name}', which does not import from {folder} ({reason}): "
            "use nni_mcunet.search.tuner.EvolutionTuner"
        ) from None
    finally:
        sys.path.remove(folder)
    from .tuner import EvolutionTuner  # imports NNI

    if not isinstance(found, type) or not issubclass(found, EvolutionTuner):
        raise ExperimentError(f"tuner.className is '{name}', no subclass of nni_mcunet.search.tuner.EvolutionTuner")


def search_config(config: dict) -> SearchConfig:
    """The tuner's settings as the tuner will read them. Raises UserError."""
    search = SearchConfig.from_dict(config["tuner"].get("classArgs") or {}).at(config["trialCodeDirectory"])
    if config["maxTrialNumber"] != search.trials:
        raise ExperimentError(
            f"maxTrialNumber is {config['maxTrialNumber']!r}: this search has {search.trials} trials, "
            "ceil(population / batch) * (1 + iterations)"
        )
    return search


def search_space(config: dict) -> dict:
    """What Space.narrowed reads. Raises ExperimentError."""
    if ("searchSpace" in config) == ("searchSpaceFile" in config):
        raise ExperimentError("searchSpaceFile or searchSpace, one of them: name the file that Space.to_nni() writes")
    space, where = config.get("searchSpace"), "searchSpace"
    if "searchSpaceFile" in config:
        where = config["searchSpaceFile"]
        try:
            space = json.loads(Path(where).read_text())
        except json.JSONDecodeError as error:
            raise ExperimentError(f"{where}: not valid JSON, line {error.lineno}") from None
        except (UnicodeDecodeError, IsADirectoryError):
            raise ExperimentError(f"{where}: no JSON file; name the one that Space.to_nni() writes") from None
    if not isinstance(space, dict):
        raise ExperimentError(f"{where} is {space!r}: an object of genes is wanted, as Space.to_nni() writes it")
    return space


@contextlib.contextmanager
def replacing(out: Path):
    """A fresh folder, out/running, for a search to write to. Its files replace those in `out` once the context ends
    well; until then, and after a failure, the last search's results are left as they are."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ExperimentError(f"out is {out}, but {path} is a file: name another folder")
    fresh = out / "running"
    if fresh.exists():
        shutil.rmtree(fresh)
    yield fresh
    (out / "done.json").unlink(missing_ok=True)
    for path in sorted(fresh.glob("[!.]*"), key=lambda path: path.name == "done.json"):  # which says that all is there
        path.replace(out / path.name)
    shutil.rmtree(fresh)


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
