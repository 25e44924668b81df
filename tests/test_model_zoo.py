"""The trained networks of zoo/: their list, files and cards agree, and zoo:NAME stands for a model's file."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import nni_mcunet as mcu
from nni_mcunet.core import model_zoo
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.engine.detect import detector_params

NAMES = list(model_zoo.index())


def mcunet(*words, code=0):
    command = [sys.executable, "-m", "nni_mcunet", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stdout if code == 0 else done.stderr.splitlines()[-1]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return runpy.run_path(str(ROOT / "benchmarks/zoo.py"))


def test_files_and_cards_are_those_of_the_list(tool):
    assert NAMES and model_zoo.FOLDER.resolve() == ROOT / "zoo"
    tool["check"]()
    results = {row["config"]: row for row in json.loads((ROOT / "docs/results/detection.json").read_text())}
    for name in NAMES:
        entry = model_zoo.entry(name)
        assert entry["bytes"] == model_zoo.model_file(name).stat().st_size < 1 << 20
        row = results[entry["config"]]
        assert all(entry[key] == row[key] for key in ("float", "int8", "boards", "macs", "params", "boxes_within"))
        assert entry["licence"] and (entry["shown"] or "non-commercial" in entry["licence"])


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_detector_of_its_classes(name):
    network = mcu.load(f"zoo:{name}")
    entry, model = model_zoo.entry(name), network.int8_model()
    assert network.source == f"zoo:{name}" in mcu.zoo() and network.kind == "int8"
    assert model.meta["detector"]["classes"] == entry["classes"] and detector_params(model)
    assert "{1}x{0}".format(*network.image) == entry["input"] and network.graph.params == entry["params"]


def test_a_name_is_a_file_in_every_command(tmp_path):
    name = NAMES[0]
    board = next(iter(model_zoo.entry(name)["boards"]))
    out = mcunet("generate", f"zoo:{name}", "--board", board, "-o", tmp_path / "fw")
    assert "arena" in out and (tmp_path / "fw/mcu_model.h").is_file()
    arena = json.loads((tmp_path / "fw/plan.json").read_text())["arena_bytes"]
    assert arena == model_zoo.entry(name)["boards"][board]["arena_bytes"]
    assert "lowest" in mcunet("inspect", f"zoo:{name}")


def test_the_command_lists_and_shows():
    listed, _, more = mcunet("zoo").partition("\n\n")
    assert [line.split()[0] for line in listed.splitlines()[1:]] == [f"zoo:{name}" for name in NAMES]
    configs = re.findall(r"^  (configs/\S+)", more, re.MULTILINE)
    assert configs == [row["config"] for row in model_zoo.recipes()] and all((ROOT / path).exists() for path in configs)
    assert len(configs) > 2 and "mcunet export mcunet_in3 WEIGHTS.pth" in more
    card = (ROOT / f"zoo/{NAMES[0]}.md").read_text()
    assert mcunet("zoo", "show", NAMES[0]) == mcunet("zoo", "show", f"zoo:{NAMES[0]}") == card
    for words in (["show"], ["list", NAMES[0]]):
        assert "mcunet zoo show NAME" in mcunet("zoo", *words, code=2)
    assert f"did you mean zoo:{NAMES[0]}" in mcunet("zoo", "show", NAMES[0][:-1], code=2)


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=f"unknown network 'zoo:nothing': did you mean zoo:{NAMES[0]}"):
        mcu.load("zoo:nothing")
    shutil.copytree(ROOT / "zoo", tmp_path / "zoo")
    monkeypatch.setattr(model_zoo, "FOLDER", tmp_path / "zoo")
    path = tmp_path / f"zoo/{NAMES[0]}.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="install the package again"):
        mcu.load(f"zoo:{NAMES[0]}")
    path.unlink()
    with pytest.raises(UserError, match="is missing or"):
        mcu.load(f"zoo:{NAMES[0]}")
    entry = json.loads((tmp_path / "zoo/index.json").read_text())
    entry[NAMES[0]].pop("weights", None)
    (tmp_path / "zoo/index.json").write_text(json.dumps(entry))
    with pytest.raises(UserError, match="has no float weights"):
        model_zoo.weights_file(f"zoo:{NAMES[0]}")
    (tmp_path / "zoo/index.json").write_text("[]")
    with pytest.raises(UserError, match="is no list of networks"):
        model_zoo.index()


@pytest.mark.parametrize("command", ["train", "test", "compare-boxes", "check-data", "export"])
def test_a_network_of_the_zoo_is_no_config(command):
    """The message names the config that it was trained by; so it does in the place of a checkpoint."""
    more = {"test": ["x.pth"], "compare-boxes": ["x.pth"], "export": ["x.pth", "-o", "x.onnx"]}.get(command, [])
    expected = f"zoo:{NAMES[0]} is an int8 file, trained by {model_zoo.entry(NAMES[0])['config']}: expected a config"
    assert expected in mcunet(command, f"zoo:{NAMES[0]}", *more, code=2)
    if more:
        said = mcunet(command, "configs/det/yolov3_bccd_f412.py", f"zoo:{NAMES[0]}", *more[1:], code=2)
        assert "is an int8 file" in said and "expected a checkpoint (.pth)" in said


def test_a_file_of_another_kind_is_no_config():
    file = str(model_zoo.model_file(NAMES[0]))
    assert f"{file}: expected a config file (.py)" in mcunet("check-data", file, code=2)


def test_weights_are_those_of_the_architecture():
    """A backbone takes them, every layer."""
    from detection.models.backbone import MCUNetBackbone

    found = model_zoo.weights_for("mcunet_in3")
    assert found and model_zoo.weights_for("mcunet_in99") is None
    assert [e for e in model_zoo.index().values() if e.get("weights", {}).get("first")] in (
        [],
        [model_zoo.entry(found)],
    )
    path = model_zoo.weights_file(found)
    assert path.stat().st_size < 1 << 20
    backbone = MCUNetBackbone(str(ROOT / "configs/arch/mcunet_in3.json"), (2, 4))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.load_slice(path)
    after = backbone.state_dict()
    moved = [key for key in before if key.endswith("conv.weight") and not before[key].equal(after[key])]
    assert len(moved) == sum(key.endswith("conv.weight") for key in before)
    assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize("taps, notes", [((2, 4), 0), ((2, 6), 1)])
def test_only_stages_that_are_used_can_lack_weights(taps, notes, monkeypatch):
    """The zoo's weights end with stage 4, and so does a detector's backbone that takes maps 2 and 4."""
    from detection.models import backbone

    said: list[str] = []
    monkeypatch.setattr(backbone, "tell", said.append)
    network = backbone.MCUNetBackbone(str(ROOT / "configs/arch/mcunet_in3.json"), taps)
    network.load_slice(model_zoo.weights_file(model_zoo.weights_for("mcunet_in3")))
    assert len(said) == notes and all("ends with stage 4" in line for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("name, board", [(name, board) for name in NAMES for board in model_zoo.entry(name)["boards"]])
def test_each_runs_on_its_boards(name, board, tmp_path):
    """Compiled and emulated: boxes are the numpy reference's, sizes and instructions those of the card."""
    from nni_mcunet.engine.int8_detector import interpreted

    network = mcu.load(f"zoo:{name}")
    mcunet("generate", f"zoo:{name}", "--board", board, "-o", tmp_path / "fw")  # the card's command
    arena = json.loads((tmp_path / "fw/plan.json").read_text())["arena_bytes"]
    h, w, _ = network.image
    picture = np.random.default_rng(0).integers(0, 256, (h, w, 3)).astype(np.uint8)
    found = mcu.run(tmp_path / "fw", picture, board, on="emulator")
    entry = model_zoo.entry(name)["boards"][board]
    assert arena == entry["arena_bytes"] and found.facts["sram_bytes"] <= get_board(board).sram
    assert found.facts["flash_bytes"] == pytest.approx(entry["flash_bytes"], rel=0.02)
    corners, scores, _ = interpreted(network.int8_model())(picture)
    boxes = np.array([box["box"] for box in found.boxes]).reshape(-1, 4)
    assert boxes.shape == corners.shape and np.abs(boxes - corners).max(initial=0) < 1e-4
    assert [box["score"] for box in found.boxes] == pytest.approx(scores.tolist())
