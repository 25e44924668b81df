"""The survey of other people's networks: its page is made of its figures, and three networks come out as they stand
there."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import models

ROWS = json.loads((ROOT / "docs/results/models.json").read_text())


def test_the_page_is_that_of_the_figures():
    assert models.page(ROWS) == (ROOT / "docs/models.md").read_text()
    assert {entry.name for entry in models.entries()} <= {row["name"] for row in ROWS}


def test_what_is_accepted_is_exact():
    accepted = [row for row in ROWS if row["accepted"]]
    assert all(row["steps"] <= 1 and row["c"] in (True, None) for row in accepted)
    assert all(row["why"] for row in ROWS if not row["accepted"])
    others = [row for row in ROWS if row["source"] in ("torchvision", "timm")]
    assert sum(row["accepted"] for row in others) >= 0.9 * len(others)


@pytest.mark.slow
def test_three_networks_measured_anew(tmp_path):
    """Installs what it exports them from."""
    names = ["squeezenet1_1", "mobilenetv3_small_050", "yunet_n_320_320"]
    command = [sys.executable, "benchmarks/models.py", "--only", *names, "--docs", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    found = {row["name"]: row for row in json.loads((tmp_path / "results/models.json").read_text())}
    assert [found[name] for name in names] == [row for row in ROWS if row["name"] in names]
