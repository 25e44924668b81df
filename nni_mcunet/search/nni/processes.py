"""Separate processes: one writer a folder, no tuner that outlives its manager, none left of a dead search."""

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from ...core.errors import UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_held: list[IO[str]] = []  # open files: a lock lasts as long as its file is open


class Busy(UserError):
    """Report that another process holds the folder."""


class Stopped(BaseException):
    """Say that a signal has asked this process to end. It is an exception so that contexts are left."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number  # as a shell has it


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise Stopped inside the context for SIGINT, SIGTERM and SIGHUP, once: contexts that stop NNI afterwards must not
    be cut short. A signal that is ignored, SIGHUP under nohup, stays so. A process forked inside, such as one of a
    metric's pool, ends by a signal as if it had not been caught here."""
    here = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != here:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hold(path: Path, what: str, patience: float = 0) -> None:
    """Take the lock `path` for the rest of this process's life. A killed process's lock is free at once. Raises Busy
    when another process still has it after `patience` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held.append(file)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy(f"another {what} is at work in {path.parent}: stop it or name another folder") from None
        time.sleep(0.1)


def exit_with_parent() -> None:
    """End this process soon after its parent has ended. NNI's tuner would try for ten seconds to reach a killed
    manager's port, where the one of the resumed experiment may already listen."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def processes_of(experiment: str) -> list[psutil.Process]:
    """List this user's processes of an NNI experiment on this machine: manager, tuner, trials, orphaned or not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            env, line = process.environ(), process.cmdline()
            mine = (
                env.get("NNI_EXP_ID") == experiment or Path(env.get("NNI_LOG_DIRECTORY", "")).parent.name == experiment
            )
            if mine or ("--experiment-id" in line and experiment in line):
                found.append(process)
    return found


def end_all(experiment: str, patience: float) -> None:
    """Wait until no process of the experiment is left. The ones that are there after `patience` seconds are killed."""
    deadline = time.monotonic() + patience
    while processes := processes_of(experiment):
        if time.monotonic() > deadline:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        time.sleep(0.2)
