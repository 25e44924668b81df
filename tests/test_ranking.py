"""benchmarks/ranking.py: tau of slices against networks trained by themselves, and how it goes on after a kill."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from nni_mcunet.core.errors import UserError
from nni_mcunet.search.data import open_data
from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.supernet.training import Recipe, train

PROGRAM = str(ROOT / "benchmarks/ranking.py")
DIGITS = {"kind": "digits", "held_out": 24, "test": 8, "calibration": [1, 8]}


@pytest.fixture(scope="module")
def supernet(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranking") / "supernet.pth"
    space = Space.from_dict(load_space("demo").to_dict() | {"name": "tiny", "r": [32, 48]})
    train(space, Recipe(largest=2, shared=2, batch=4), path, open_data(DIGITS))
    return path


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", [PROGRAM, *map(str, words)])
    runpy.run_path(PROGRAM, run_name="__main__")
    return capsys.readouterr().out


def test_it_goes_on_after_a_kill_and_says_tau(supernet, tmp_path, monkeypatch, capsys):
    words = ("--supernet", supernet, "--data", json.dumps(DIGITS), "--networks", 4, "--steps", 2, "--batch", 8)

    def rows(folder: Path):
        return json.loads((tmp_path / folder / "ranking.json").read_text())["rows"]

    kept = ("--result", "digits", "--results", tmp_path / "results.json")
    said = run(monkeypatch, capsys, *words, "--out", tmp_path / "whole", *kept)
    tau = json.loads((tmp_path / "results.json").read_text())["digits"]["tau"]
    assert all(f"{way} against trained: tau {value:.2f} ({low:.2f} to {high:.2f})" in said
               for way, (value, low, high) in tau.items()) and tau.keys() == {"slice", "macs"}  # fmt: skip
    assert "slice against trained: tau " in said and "macs against trained: tau " in said and "4 networks" in said
    found = rows("whole")
    assert len({json.dumps(row["candidate"]) for row in found}) == 4
    assert all(row["candidate"]["r"] == 32 and 0 <= row["slice"] <= 1 and 0 <= row["trained"] <= 1 for row in found)
    (tmp_path / "part").mkdir()
    known = json.loads((tmp_path / "whole/ranking.json").read_text())
    del known["rows"][2:], known["rows"][1]["trained"]
    (tmp_path / "part/ranking.json").write_text(json.dumps(known))
    assert run(monkeypatch, capsys, *words, "--out", tmp_path / "part") == said and rows("part") == found
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, *words, "--out", tmp_path / "part", "--lr", 0.3)
    assert "is of another super-network, data, recipe or seed" in capsys.readouterr().err


def test_each_begins_with_its_slice(supernet, tmp_path, monkeypatch, capsys):
    """After one step at no learning rate the weights are the slice's."""
    words = ("--supernet", supernet, "--data", json.dumps(DIGITS), "--networks", 3, "--steps", 1, "--lr", 1e-9)
    run(monkeypatch, capsys, *words, "--resolutions", "any", "--from-slice", "--out", tmp_path / "slice")
    known = json.loads((tmp_path / "slice/ranking.json").read_text())
    assert known["settings"]["from_slice"] and known["settings"]["resolutions"] == "any"
    key, checkpoints = "layers.stem.conv.weight", sorted((tmp_path / "slice").glob("*_trained.ckpt"))
    stem = torch.load(supernet, weights_only=True)["net"][key]
    assert len(checkpoints) == 3
    for path in checkpoints:
        assert torch.allclose(torch.load(path, weights_only=True)["net"][key], stem, atol=1e-6)


def test_tau_is_kendalls():
    tau = runpy.run_path(PROGRAM)["tau"]
    assert tau([1, 2, 3, 4], [10, 20, 30, 40])[0] == 1 and tau([1, 2, 3, 4], [4, 3, 2, 1])[0] == -1
    value, low, high = tau([1, 2, 3, 4, 5], [1, 3, 2, 4, 5])
    assert abs(value - 0.8) < 1e-12 and low <= value <= high


def test_networks_are_different_and_of_one_resolution():
    networks, space = runpy.run_path(PROGRAM)["networks"], load_space("demo")
    found = networks(space, 30, 1)
    assert len({space.spec(c) for c in found}) == 30 and len({c["r"] for c in found}) == 1
    assert {c["r"] for c in networks(space, 30, 1, "any")} == set(space.genes["r"])
    few = Space.from_dict(dict(name="few", r=[32], stem=8, first=8, k=[3], e=[3], d=[1, 2], w=[1.0],
                               stages=[{"c": 8, "s": 2}]))  # fmt: skip
    with pytest.raises(UserError, match="has fewer than 3 networks of one resolution"):
        networks(few, 3, 0)
