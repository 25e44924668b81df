"""Draw progress bars on a terminal only: a pipe or a file gets plain lines or none."""

import io
import sys

import pytest
from conftest import ROOT

from nni_mcunet.core import progress
from nni_mcunet.core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Stand for `time`: a test moves it on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def said(stream, show=True, total=40, steps=None, pace=5.0) -> str:
    """Return what is written to stderr. pace: seconds that a step takes."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(progress, "time", clock)
        with Progress(total, "step", "training", show) as bar:
            for step in steps or range(1, total + 1):
                clock.now += pace
                bar.to(step, f"loss={1 / max(step, 1):.2f}")
    return stream.getvalue()


def test_a_pipe_gets_a_line_at_each_tenth():
    lines = said(io.StringIO()).splitlines()
    assert len(lines) == 10 and lines[0] == "training: 4 of 40 steps in 20 s, about 180 s to go, loss=0.25"
    assert lines[-1] == "training: 40 of 40 steps in 200 s, loss=0.03"
    assert len(said(io.StringIO(), steps=[1, 13, 14, 40, 40]).splitlines()) == 2
    assert said(io.StringIO(), show=False) == ""
    assert said(io.StringIO(), total=0, steps=[0]) == ""


def test_a_short_command_is_silent():
    """A line at most every five seconds, and none of what takes less."""
    assert said(io.StringIO(), pace=0.1) == ""
    assert len(said(io.StringIO(), pace=0.625).splitlines()) == 5


def test_an_unknown_total_is_counted():
    assert said(io.StringIO(), total=None, steps=[1, 2]).splitlines() == [
        "training: 1 step in 5 s, loss=1.00",
        "training: 2 steps in 10 s, loss=0.50",
    ]


def test_items_pass_through(capsys):
    assert list(progress.each(iter("abc"), "letter", "reading", 3)) == ["a", "b", "c"]
    assert list(progress.each([1, 2], "number", "reading")) == [1, 2] and capsys.readouterr().err == ""


def test_stages_say_what_begins(monkeypatch):
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.Stages("page", 2) as begin:
            begin("first")
            begin("second")
        text = stream.getvalue()
        if stream.isatty():
            assert "\r" in text and "page: first" not in text
        else:
            assert text == "page: first (1 of 2)\npage: second (2 of 2)\n"


def test_a_terminal_gets_a_bar():
    text = said(Terminal())
    assert "\r" in text and "training: " in text and "training: 40 of" not in text
    assert said(Terminal(), show=False) == ""


def test_no_bar_is_drawn_into_a_pipe():
    """tqdm draws everywhere unless it is told to look, and says nothing in a pipe: commands use core/progress.py."""
    for folder in ("nni_mcunet", "detection"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert path.name in ("progress.py", "launch.py") or "import tqdm" not in path.read_text(), path
    for folder in ("nni_mcunet", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for part in path.read_text().split(" tqdm(")[1:] if path.name != "test_progress.py" else ():
                assert "disable=None" in part.split("\n    ", 1)[0] + part[:200], path
