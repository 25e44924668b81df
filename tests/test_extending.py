"""docs/extending.md is true: its operator, added to a copy of the tree as it says, holds against all that it names."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

GUIDE = ROOT / "docs/extending.md"
MOST_FILES = 8  # that a new operator touches, tests not counted


def blocks(guide: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """(file, its hunks as (text before, text after)) of every diff of the guide's first chapter, in order."""
    chapter, found = re.split(r"^## ", guide, flags=re.MULTILINE)[1], []
    for body in re.findall(r"^```diff\n(.*?)^```", chapter, re.MULTILINE | re.DOTALL):
        name, _, changes = body.partition("\n")
        hunks = []
        for hunk in changes.split("@@\n"):
            lines = [(line[:1] or " ", line[1:]) for line in hunk.splitlines()]
            sides = ("".join(f"{text}\n" for mark, text in lines if mark != gone) for gone in "+-")
            hunks.append(tuple(sides))
        found.append((name.removeprefix("+++ "), hunks))
    return found


def apply(guide: str, tree: Path) -> list[str]:
    """Do in the tree what the guide says and return the files touched."""
    for name, hunks in (steps := blocks(guide)):
        path = tree / name
        text = path.read_text() if path.exists() else ""
        for before, after in hunks:
            assert text.count(before) == 1 if before else not text, f"{name}: {before!r} does not stand there once"
            text = text.replace(before, after) if before else after
        path.write_text(text)
    return [name for name, _ in steps]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "nni_mcunet", folder / "nni_mcunet", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(tree: Path) -> subprocess.CompletedProcess:
    """tests/toy_operator.py in the tree."""
    env = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(ROOT / "tests/toy_operator.py"), str(tree)]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)


def test_an_operator_by_the_guide(tree):
    files = apply(GUIDE.read_text(), tree)
    assert len(set(files)) == len(files) <= MOST_FILES
    done = run(tree)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    # The check is one: a kernel that forgets a tap, and integers other than the kernel's.
    kernel = tree / "nni_mcunet/engine/kernels/mcu_l1pool.c"
    text = kernel.read_text()
    kernel.write_text(text.replace("left + op->kw, x->n_in", "left + op->kw - 1, x->n_in"))
    assert "the C is not the reference" in run(tree).stderr
    kernel.write_text(text)
