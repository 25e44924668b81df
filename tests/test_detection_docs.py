"""What is said of detectors is generated: the README's table, the learning curves."""

import json
import runpy

import pytest
from conftest import ROOT

from detection.curve import draw_curve, scalars
from nni_mcunet.core.errors import UserError


def test_the_readme_has_the_table_of_today(monkeypatch):
    monkeypatch.chdir(ROOT)
    tool = runpy.run_path(str(ROOT / "tools/detector_table.py"))
    begin, end = tool["BEGIN"], tool["END"]
    written = (ROOT / "README.md").read_text().split(begin)[1].split(end)[0]
    assert written == tool["table"](), "make tables"


def test_the_readme_has_the_results():
    tool = runpy.run_path(str(ROOT / "benchmarks/detectors.py"))
    rows = json.loads((ROOT / "docs/results/detection.json").read_text())
    written = (ROOT / "README.md").read_text().split(tool["BEGIN"])[1].split(tool["END"])[0]
    assert written == tool["table"](rows) and len(rows) == len(tool["RUNS"])
    assert (ROOT / "docs/results/detection.md").read_text() == tool["markdown"](rows)


def run(folder, name: str, rows: list[dict]) -> None:
    path = folder / name / "vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def epoch(number: int, loss: float) -> list[dict]:
    return [{"loss": loss, "lr": 0.1, "epoch": number, "iter": 10 * number, "step": 10 * number},
            {"pascal_voc/mAP": 1 - loss, "time": 0.1, "step": number}]  # fmt: skip


def test_the_curve_of_a_resumed_run(tmp_path):
    """What a killed run did behind its last checkpoint was done again: it counts once."""
    run(tmp_path, "20260101_000000", epoch(1, 0.9) + epoch(2, 0.7) + epoch(3, 0.6))
    run(tmp_path, "20260101_000100", epoch(3, 0.5) + epoch(4, 0.4))
    training, evaluations = scalars(tmp_path)
    assert [(row["epoch"], row["loss"]) for row in training] == [(1, 0.9), (2, 0.7), (3, 0.5), (4, 0.4)]
    assert [row["step"] for row in evaluations] == [1, 2, 3, 4]
    assert evaluations[2]["pascal_voc/mAP"] == pytest.approx(0.5)
    draw_curve(tmp_path, tmp_path / "curve.png", "a run")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_no_run_no_curve(tmp_path):
    with pytest.raises(UserError, match="give the work dir of a training run"):
        draw_curve(tmp_path, tmp_path / "curve.png")
