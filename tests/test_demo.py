"""The whole way as `make demo` goes it, on both data sets. Minutes each: `make test-slow`."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

ROWS = {"arena_bytes", "stack_bytes", "sram_bytes", "flash_bytes", "macs", "patch_overhead", "instructions", "boxes"}


@pytest.mark.slow
@pytest.mark.parametrize("data, least", [("digits", 0.6), ("bccd", 0.55)])
def test_demo(data, least, shared, tmp_path, monkeypatch):
    monkeypatch.setenv("MCUNET_SHARED", str(shared))
    command = [sys.executable, "tools/demo.py", "--data", data, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["map50_float"] > least
    assert abs(report["map50_int8"] - report["map50_float"]) < 0.03
    for board, row in report["boards"].items():
        assert set(row) >= ROWS
        schedule = json.loads((tmp_path / board / "plan.json").read_text())
        assert row["arena_bytes"] <= 96 * 1024 and schedule["n"] > 0  # it took patches to fit
    boxes = [row["boxes"] for row in report["boards"].values()]
    assert boxes[0] and all(b == boxes[0] for b in boxes) and report["boxes"] == boxes[0]
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("memory.png", "stm32h743.png", "stm32f412.png"))
