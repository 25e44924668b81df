"""The table of mutants: no line of it has moved, every test it names is there, and a run that can find a survivor."""

import re
from collections import Counter

import pytest
from conftest import ROOT
from mutant_doors import DOORS
from mutant_search import SEARCHES
from mutant_table import MUTANTS, Mutant
from mutants import broken, copied, outcome


@pytest.mark.parametrize(
    "mutant", MUTANTS + DOORS + SEARCHES, ids=lambda m: f"{m.file.rpartition('/')[2]}: {m.old[:30]}"
)
def test_every_line_stands_there_once(mutant):
    assert broken((ROOT / mutant.file).read_text(), mutant) != (ROOT / mutant.file).read_text()
    for path in mutant.paths:
        file, _, name = path.partition("::")
        assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), path


def test_every_part_is_in_the_table():
    parts = Counter(
        "C" if m.file.endswith((".c", ".h")) else m.file.removeprefix("nni_mcunet/").split("/")[0]
        for m in MUTANTS
        if not m.reason
    )
    assert parts.total() >= 60 and all(parts[name] >= 8 for name in ("core", "engine", "C", "search", "detection"))
    assert len(set(MUTANTS + DOORS + SEARCHES)) == len(MUTANTS + DOORS + SEARCHES)


def test_outcomes(tmp_path):
    """A break that its test sees, one that it does not, one that is no longer there, one that nothing can import."""
    (tmp_path / "tests").mkdir()
    sound = "def double(x):\n    return x + x\n\n\nTWO = 2\n"
    (tmp_path / "double.py").write_text(sound)
    test = "from double import double\n\n\ndef test_it():\n    assert double(2) == 4\n"
    (tmp_path / "tests/test_double.py").write_text(test)
    said = [
        outcome(tmp_path, Mutant("double.py", old, new, "test_double::test_it", reason))
        for old, new, reason in (
            ("x + x", "x + 1", ""), ("x + x", "x * x", ""), ("x * x", "x", ""), ("def double", "dof double", ""),
            ("x + x", "x * 2", "the same"),
        )
    ]  # fmt: skip
    assert [s["outcome"] for s in said] == ["killed", "survived", "error", "error", "equivalent"]
    assert "it has moved" in said[2]["why"] and (tmp_path / "double.py").read_text() == sound


def test_the_copy_is_whole(tmp_path):
    """It has the files behind symbolic links, too, as those of zoo/ behind the package's .mim/zoo."""
    copied(tmp_path)
    for name in ("nni_mcunet/.mim/zoo/index.json", "nni_mcunet/.mim/configs/det/yolov3_digits.py", "Makefile"):
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes()
    assert (tmp_path / "nni_mcunet/.mim/zoo").resolve().is_relative_to(tmp_path.resolve())
