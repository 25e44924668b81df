"""Tiny NNI experiments for the tests: a folder with an experiment's YAML, run as by a user but in a home of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from conftest import ROOT

from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.supernet.training import Recipe, train

DEMO = load_space("demo")


def settings(folder: Path, **changes) -> dict:
    """classArgs of a small search; an empty file is its super-network."""
    (folder / "x.pth").touch()
    return dict(
        space="demo", board="f412", supernet=str(folder / "x.pth"), out=str(folder / "out"), max_mmacs=12,
        population=4, parents=2, iterations=1, batch=2,
    ) | changes  # fmt: skip


def make_experiment(folder: Path, trial: str, **changes) -> Path:
    """Write tiny.yml and a hardly trained super-network to `folder`; changes: of the classArgs."""
    space = Space.from_dict(DEMO.to_dict() | {"name": "tiny", "r": [32, 64]})
    (folder / "tiny.json").write_text(json.dumps(space.to_dict()))
    if not (folder / "supernet.pth").exists():
        train(space, Recipe(largest=1, shared=1, batch=4), folder / "supernet.pth")
    paths = {"space": str(folder / "tiny.json"), "supernet": str(folder / "supernet.pth"), "out": str(folder / "out")}
    config = {
        "experimentName": "tiny",
        "experimentWorkingDirectory": "nni",
        "searchSpace": space.to_nni(),
        "trialCommand": trial,
        "trialCodeDirectory": str(ROOT),
        "trialConcurrency": 1,
        "tuner": {
            "className": "nni_mcunet.search.tuner.EvolutionTuner",
            "codeDirectory": str(ROOT),
            "classArgs": settings(folder) | paths | {"detector": {"classes": 10, "taps": [2, 4]}} | changes,
        },
        "trainingService": {"platform": "local"},
    }
    (folder / "tiny.yml").write_text(yaml.safe_dump(config))
    return folder


def environment(home: Path, **more: str) -> dict[str, str]:
    """The trials' `python` is this one; nnictl's list of experiments and its other files are in `home`."""
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    ours = {"HOME": str(home), "PATH": paths, "NNI_CONFIG_DIR": str(home / "nni-config"), "PYTHONPATH": str(ROOT)}
    return os.environ | ours | {"NNI_FRAMEWORK": "none"} | more


def start(home: Path, *command, **more) -> subprocess.Popen:
    return subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env=environment(home, **more), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_hear_signals,
    )  # fmt: skip


def _hear_signals() -> None:
    """Undo what the tests were started with: a shell's background job ignores SIGINT, one of nohup SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def finish(process: subprocess.Popen, timeout: float = 500) -> subprocess.CompletedProcess:
    out, err = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def search(home: Path, *args, **more) -> subprocess.Popen:
    """tools/search.py"""
    return start(home, sys.executable, ROOT / "tools/search.py", *args, **more)


def history(out: Path) -> list[dict]:
    path = out / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_all(folder: Path, files: dict[str, bytes | str]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


class Killed(BaseException):
    """Signal the kill: killed_at raises it."""


@contextlib.contextmanager
def killed_at(step: int):
    """Ends the context before its change `step` to the names in folders, as a kill would. Yields a list, empty when it
    has, of the context's whole course otherwise."""
    names, calls, left = ("rename", "replace", "mkdir", "unlink", "rmdir"), [], []
    real = {name: getattr(Path, name) for name in names}

    def counted(name):
        def call(*args, **kwargs):
            if len(calls) >= step:
                raise Killed
            calls.append(name)
            return real[name](*args, **kwargs)

        return call

    for name in names:
        setattr(Path, name, counted(name))
    try:
        yield left
        left.extend(calls or ["nothing"])
    except Killed:
        pass
    finally:
        for name in names:
            setattr(Path, name, real[name])


def until(condition, timeout: float = 300):
    """condition()'s first true value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return value


def leftovers(word: str) -> list[str]:
    """Processes whose command line names `word`: NNI's manager, tuner and trials all name the experiment's folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if word in command and int(pid) != os.getpid():
            found.append(command.replace("\0", " "))
    return found
