"""The texts on detectors are generated: the pages' tables, the learning curves."""

import json
import os
import re
import runpy
from pathlib import Path

import pytest
from conftest import ROOT

from detection import config_graph, load_config
from detection.training.learning_curve import draw_curve, scalars
from nni_mcunet.api.deployment import board_row
from nni_mcunet.api.deployment import table as report_table
from nni_mcunet.cli import detector_table
from nni_mcunet.core.errors import UserError

SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT / ".." / "shared"))


def test_the_page_has_the_table_of_today(monkeypatch):
    monkeypatch.chdir(ROOT)
    written = (ROOT / "docs/detectors.md").read_text().split(detector_table.BEGIN)[1].split(detector_table.END)[0]
    assert written == detector_table.table(), "make tables"


def test_the_page_has_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    tool = runpy.run_path(str(ROOT / "benchmarks/detectors.py"))
    rows = json.loads((ROOT / "docs/results/detection.json").read_text())
    written = (ROOT / "docs" / tool["PAGE"]).read_text().split(tool["BEGIN"])[1].split(tool["END"])[0]
    assert written == tool["table"](rows) and len(rows) == len(tool["RUNS"])
    assert (ROOT / "docs/results/detection.md").read_text() == tool["markdown"](rows)


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the configs name weights below {SHARED}")
def test_the_results_are_of_these_configs(monkeypatch):
    """Each is the network that its config builds, and its score the one that the config expects."""
    monkeypatch.chdir(ROOT)
    for row in json.loads((ROOT / "docs/results/detection.json").read_text()):
        config = load_config(row["config"])
        graph, expected = config_graph(config), dict(config.expected)
        tolerance = expected.pop("tolerance")
        assert row["params"] == graph.params
        whole = graph.macs * (1 + row["patch_overhead"])
        assert 0.9 * whole < row["macs"] <= 1.0001 * whole  # run without the dead channels
        scores = {("mAP50" if name == "map50" else name): value for name, value in expected.items()}
        assert {name: row["float"][name] for name in scores} == pytest.approx(scores, abs=tolerance)
        assert row["int8"].keys() == row["float"].keys()


def test_the_report_of_faces_has_no_map50():
    """A config whose only metric is WIDER FACE's."""
    row = dict.fromkeys(("arena_bytes", "stack_bytes", "sram_bytes", "flash_bytes", "macs", "instructions"), 2048)
    metrics = {"float": {"widerface/easy": 0.5}, "int8": {"widerface/easy": 0.4}}
    said = report_table({"boards": {"b": {**row, "patch_overhead": 0, "boxes": []}}, "metrics": metrics})
    assert "widerface/easy float 0.500, int8 0.400" in said


def test_the_report_counts_the_source_of_the_picture():
    """Its bytes are in no ELF: they are the plan's, in rows that a report without one has not."""
    ran = dict.fromkeys(("arena_bytes", "stack_bytes", "sram_bytes", "flash_bytes", "instructions"), 4096)
    plan = {"arena_bytes": 4096, "arena_limit": 6144, "macs": 1, "patch_overhead": 0.0, "n": 0}
    said = {}
    for name, source in (("bare", {}), ("roomy", {"source": "lines", "source_bytes": 2048}),
                         ("full", {"source": "lines", "source_bytes": 2049})):  # fmt: skip
        row = board_row("b", ran, {**plan, **source})
        said[name] = report_table({"boards": {"b": row}, "metrics": {"float": {}, "int8": {}}})
    assert "source" not in said["bare"] and "SRAM with that" not in said["bare"]
    assert re.search(r"picture's source, kB +2\.0\nSRAM with that, kB +6\.0\n", said["roomy"]), said["roomy"]
    assert "b: arena and 'lines' take 6,144 of 6,144 bytes: fits" in said["roomy"]
    assert "6,145 of 6,144 bytes: does not fit" in said["full"]
    with pytest.raises(UserError, match="source_bytes"):
        board_row("b", ran, {**plan, "source": "lines"})


def run(folder, name: str, rows: list[dict]) -> None:
    path = folder / name / "vis_data/scalars.json"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def epoch(number: int, loss: float) -> list[dict]:
    return [{"loss": loss, "lr": 0.1, "epoch": number, "iter": 10 * number, "step": 10 * number},
            {"pascal_voc/mAP": 1 - loss, "time": 0.1, "step": number}]  # fmt: skip


def test_the_curve_of_a_resumed_run(tmp_path):
    """A killed run's steps behind its last checkpoint were done again: they count once."""
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


@pytest.mark.parametrize("benchmark", ["int8", "rounding"])
def test_the_page_has_the_int8_results(monkeypatch, benchmark):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    tool = runpy.run_path(str(ROOT / f"benchmarks/{benchmark}.py"))
    records = json.loads((ROOT / f"docs/results/{benchmark}.json").read_text())
    written = (ROOT / "docs" / tool["PAGE"]).read_text().split(tool["BEGIN"])[1].split(tool["END"])[0]
    assert written == tool["table"](records) and [r["model"] for r in records] == list(tool["RECORDS"])


def test_rounding_together_costs_nothing_that_counts():
    """Boxes lie nearer, and no score falls by more than noise: what the page says of it."""
    rows = {r["model"]: r for r in json.loads((ROOT / "docs/results/rounding.json").read_text())}
    for name in ("yolov3_bccd_f412", "yolox_bccd_f412", "yolov3_animals_f412"):
        each, together = rows[name]["each"], rows[name]["together"]
        assert all(together[near]["0.5"] > each[near]["0.5"] for near in ("within", "before_nms"))
        assert together["map50"] > each["map50"] - 0.005
    assert rows["mcunet-in3"]["together"]["right"] >= rows["mcunet-in3"]["each"]["right"]


def test_the_page_has_the_engines_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    tool = runpy.run_path(str(ROOT / "benchmarks/engine.py"))
    rows = json.loads((ROOT / "docs/results/engine.json").read_text())
    written = (ROOT / "docs" / tool["PAGE"]).read_text().split(tool["BEGIN"])[1].split(tool["END"])[0]
    assert written == tool["table"](rows) and all(row["exact"] for row in rows)
    assert {row["network"] for row in rows} == set(tool["NAMES"])
