"""benchmarks/same_results.py sees what it says it compares: another weight, another schedule, a missing line."""

import json
import runpy
import sys

import numpy as np
import pytest
from conftest import ROOT
from nets import block_graph, random_model

from nni_mcunet.engine.frontend.onnx import save_onnx

SAME = runpy.run_path(str(ROOT / "benchmarks/same_results.py"))


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "tools")])
    monkeypatch.setattr(sys, "argv", [])


def test_what_differs_is_named():
    compare = SAME["compare"]
    assert compare({"a": [1, 2.5], "b": 2}, {"b": 2, "a": [1, 2.5]}) == []
    assert compare({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 4, "d": 5}) == ["b", "c", "d"]


def test_a_refusal_is_compared_by_its_numbers():
    figures = SAME["figures"]
    assert figures(2, "error: x needs 1,024 bytes") == figures(2, "error: 1,024 bytes are needed")
    assert figures(2, "1,024 bytes") != figures(2, "1,025 bytes") and figures(1, "5") != figures(2, "5")


def test_the_c_of_another_weight_gives_other_bytes(tmp_path, monkeypatch):
    """And the same weights under another schedule give the same bytes by another plan."""
    outputs = SAME["outputs"]
    schedules = {"whole": [], "patched": ["--patches", "2x1", "--blocks", "1"]}
    monkeypatch.setitem(outputs.__globals__, "COMPILED", schedules)
    monkeypatch.setitem(outputs.__globals__, "PICTURES", 1)
    (tmp_path / "networks").mkdir()
    rng = np.random.default_rng(0)
    model = random_model(rng, block_graph(rng, (20, 24), 3))

    def found() -> dict:
        save_onnx(model, tmp_path / "networks/small.int8.onnx")
        return dict(outputs(ROOT, tmp_path))

    first = found()
    assert list(first) == ["small, whole", "small, patched"]
    whole, patched = first.values()
    given = "exit code, bytes, sha256"
    assert whole[given] == patched[given] and whole[given][0] == 0 and whole[given][1] > 0
    assert (whole["n"], patched["n"]) == (0, 1)
    weights = next(iter(model.weights.values())).weight
    weights[...] = -weights
    assert SAME["compare"](first, found()) == list(first)


def test_a_plan_has_its_figures(tmp_path):
    name, found = next(SAME["plans"](ROOT, tmp_path))
    assert name == "bccd_f412, stm32f412, best" and found["board"]["arena_bytes"] > 0 and found["macs"] > 0
    assert json.dumps(found)
