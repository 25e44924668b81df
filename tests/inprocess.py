"""A command line run inside the test's own process: what a user sees of it, without the seconds of its imports."""

import runpy
import sys
import time
from typing import NamedTuple

from conftest import ROOT


class Done(NamedTuple):
    """Say of a command that has ended the exit code, what it wrote, the seconds that it took."""

    code: int
    out: str
    err: str
    seconds: float


def command(monkeypatch, capsys, name: str, *arguments) -> Done:
    """`python tools/NAME.py ARGUMENTS`. An exception that leaves it is the test's failure: a user would get a
    traceback."""
    monkeypatch.setattr(sys, "argv", [f"tools/{name}.py", *map(str, arguments)])
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    capsys.readouterr()
    begin, code = time.monotonic(), 0
    try:
        runpy.run_path(str(ROOT / f"tools/{name}.py"), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, *capsys.readouterr(), time.monotonic() - begin)


def refused(done: Done, *words) -> None:
    """Exit code 2 within seconds, and one line that begins with `error:` and has the words."""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == 2 and len(lines) == 1 and done.err.rstrip().endswith(lines[0]), done
    assert "Traceback" not in done.err and len(lines[0]) < 2000 and done.seconds < 20, done
    for word in map(str, words):
        assert word in lines[0], lines[0]
