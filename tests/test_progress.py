"""Draw progress bars on a terminal only: a pipe or a file gets plain lines or none."""

import io
import sys

import pytest
from conftest import ROOT

from nni_mcunet.search.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(stream, show=True, total=40, steps=None) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        with Progress(total, "step", "training", show) as bar:
            for step in steps or range(1, total + 1):
                bar.to(step, f"loss={1 / max(step, 1):.2f}")
    return stream.getvalue()


def test_a_pipe_gets_a_line_at_each_tenth():
    lines = said(io.StringIO()).splitlines()
    assert len(lines) == 10 and lines[0].startswith("training: 4 of 40 steps in 0 s, loss=0.25")
    assert lines[-1].startswith("training: 40 of 40 steps")
    assert len(said(io.StringIO(), steps=[1, 13, 14, 40, 40]).splitlines()) == 2
    assert said(io.StringIO(), show=False) == ""
    assert said(io.StringIO(), total=0, steps=[0]) == ""


def test_a_terminal_gets_a_bar():
    text = said(Terminal())
    assert "\r" in text and "training: 100%" in text and "training: 40 of" not in text
    assert said(Terminal(), show=False) == ""


def test_no_bar_is_drawn_into_a_pipe():
    """tqdm draws everywhere unless it is told to look."""
    for folder in ("nni_mcunet", "detection", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for part in path.read_text().split(" tqdm(")[1:] if path.name != "test_progress.py" else ():
                assert "disable=None" in part.split("\n    ", 1)[0] + part[:200], path
