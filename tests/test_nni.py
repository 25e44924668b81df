"""The search through NNI itself: a tuner's protocol, and a tiny experiment from `nnictl create` to its end."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from nni_mcunet.core.arch import ArchSpec
from nni_mcunet.core.build import YoloHead, build_graph
from nni_mcunet.core.plan import plan
from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.training import Recipe, train

DEMO = load_space("demo")


def settings(folder, **changes):
    (folder / "x.pth").touch()
    return dict(
        space="demo", board="f412", supernet=str(folder / "x.pth"), out=str(folder / "out"), max_mmacs=12,
        population=4, parents=2, iterations=1, batch=2,
    ) | changes  # fmt: skip


# --- the tuner, NNI's side played by the test


def test_the_tuner_keeps_generations_and_parameter_ids_apart(tmp_path):
    from nni_mcunet.search.tuner import EvolutionTuner

    tuner, later = EvolutionTuner(**settings(tmp_path)), {}
    tuner.update_search_space(DEMO.to_nni())
    first = tuner.generate_multiple_parameters([0, 1, 2], st_callback=later.__setitem__)
    assert len(first) == 2 and not later  # the third waits for the generation's scores
    assert all(len(p["candidates"]) == 2 for p in first)
    tuner.receive_trial_result(1, first[1], {"default": 0.4, "c0": 0.3, "c1": 0.4})
    assert not later
    tuner.receive_trial_result(0, first[0], {"default": 0.2, "c0": 0.1, "c1": 0.2})
    assert list(later) == [2]
    assert [p.score for p in tuner.evolution.proposals[:4]] == [0.1, 0.2, 0.3, 0.4]
    history = [json.loads(line) for line in (tmp_path / "out/history.jsonl").read_text().splitlines()]
    assert [p["score"] for p in history] == [0.1, 0.2, 0.3, 0.4]
    assert ArchSpec.load(tmp_path / "out/best.json").stages == DEMO.spec(history[3]["candidate"]).stages


def test_a_failed_trial_does_not_stop_the_search(tmp_path):
    from nni_mcunet.search.tuner import EvolutionTuner

    tuner, later = EvolutionTuner(**settings(tmp_path)), {}
    tuner.update_search_space(DEMO.to_nni())
    first = tuner.generate_multiple_parameters([0, 1, 2], st_callback=later.__setitem__)
    tuner.trial_end(0, success=False)
    tuner.receive_trial_result(1, first[1], {"default": 0.4, "c0": 0.3, "c1": 0.4})
    assert list(later) == [2]
    assert [p.score for p in tuner.evolution.proposals[:4]] == [None, None, 0.3, 0.4]


def test_a_tuner_with_wrong_settings_exits_with_two(tmp_path, capsys):
    from nni_mcunet.search.tuner import EvolutionTuner

    with pytest.raises(SystemExit) as error:
        EvolutionTuner(**settings(tmp_path, supernet="nowhere.pth"))
    assert error.value.code == 2
    assert "train_supernet.py --out nowhere.pth" in capsys.readouterr().err


def test_the_tuner_takes_relative_paths_from_the_trials_folder(tmp_path, monkeypatch):
    from nni_mcunet.search.tuner import EvolutionTuner

    told = base64.b64encode(json.dumps({"trialCodeDirectory": str(tmp_path)}).encode()).decode()
    monkeypatch.setattr(sys, "argv", ["nni", "--exp_params", told])
    tuner = EvolutionTuner(**settings(tmp_path, supernet="x.pth", out="results"))
    assert tuner.config.supernet == str(tmp_path / "x.pth") and tuner.config.out == str(tmp_path / "results")


# --- the whole of it


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """A folder with a tiny experiment's YAML and its hardly trained super-network."""
    folder = tmp_path_factory.mktemp("nni")
    space = Space.from_dict(DEMO.to_dict() | {"name": "tiny", "r": [32, 64]})
    (folder / "tiny.json").write_text(json.dumps(space.to_dict()))
    train(space, Recipe(largest=1, shared=1, batch=4), folder / "supernet.pth")
    config = {
        "experimentName": "tiny",
        "experimentWorkingDirectory": "nni",
        "searchSpace": space.to_nni(),
        "trialCommand": "python -m nni_mcunet.search.trial",
        "trialCodeDirectory": str(ROOT),
        "trialConcurrency": 1,
        "maxTrialNumber": 2,
        "tuner": {
            "className": "nni_mcunet.search.tuner.EvolutionTuner",
            "codeDirectory": str(ROOT),
            "classArgs": settings(folder, space=str(folder / "tiny.json"), supernet=str(folder / "supernet.pth"))
            | {"out": str(folder / "out"), "population": 3, "batch": 3, "detector": {"classes": 10, "taps": [2, 4]}},
        },
        "trainingService": {"platform": "local"},
    }
    (folder / "tiny.yml").write_text(yaml.safe_dump(config))
    return folder


def search(folder, config, *more):
    """tools/search.py as a user runs it, with a home folder of its own."""
    command = [sys.executable, str(ROOT / "tools/search.py"), "run", "--config", str(config), "--timeout", "120", *more]
    env = os.environ | {"HOME": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=170)


def leftovers(word):
    """Processes whose command line names `word`: NNI's manager, tuner and trials all name the experiment's folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            continue
        if word in command and int(pid) != os.getpid():
            found.append(command.replace("\0", " "))
    return found


def test_an_experiment_from_nnictl_create_to_its_end(experiment):
    result = search(experiment, experiment / "tiny.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    out = experiment / "out"
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert len(history) == 6 and all(p["told"] and 0 <= p["score"] <= 1 for p in history)
    best = max(history, key=lambda p: (p["score"], -p["index"]))
    spec = ArchSpec.load(out / "best.json")
    assert plan(build_graph(spec, YoloHead(10, (4, 5))), spec.schedule).arena == best["sram"]
    import torch

    from nni_mcunet.core.net import Net

    Net(build_graph(spec)).load_state_dict(torch.load(out / "best.pth", weights_only=True))
    assert (out / "search.png").stat().st_size > 1000
    deadline = time.monotonic() + 10
    while leftovers(str(experiment / "nni")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not leftovers(str(experiment / "nni"))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(trialComand="x"), "unknown key 'trialComand'"),
        (lambda c: c.update(tuner=3), "tuner is 3"),
        (lambda c: c.update(maxTrialNumber=9), "maxTrialNumber is 9: this search has 2 trials"),
        (lambda c: c["tuner"]["classArgs"].update(board="stm32x"), "unknown board 'stm32x'"),
        (lambda c: c["tuner"]["classArgs"].update(populatoin=3), "unknown key 'populatoin'"),
        (lambda c: c["tuner"]["classArgs"].update(max_mmacs=0.01), "limit of macs"),
        (lambda c: c["tuner"]["classArgs"].update(supernet="none.pth"), "train it first"),
        (lambda c: c["tuner"]["classArgs"].update(seed=-1), "seed is -1"),
        (lambda c: c["tuner"]["classArgs"].update(supernet=5), "supernet is 5"),
        (lambda c: c["tuner"]["classArgs"].update(max_sram_kb=float("nan")), "max_sram_kb is nan"),
        (lambda c: c["tuner"]["classArgs"]["detector"].update(width=0), "detector.width is 0"),
        (lambda c: c["tuner"].update(classArgs=["a"]), "tuner.classArgs is ['a']"),
        (lambda c: c["tuner"].update(clasArgs={}), "tuner has the unknown key 'clasArgs'"),
        (lambda c: c["tuner"].update(className="nni_mcunet.search.evolution.Evolution"), "no subclass"),
        (lambda c: c["tuner"].update(className="nni_mcunet.search.tuners.X"), "does not import"),
        (lambda c: c["tuner"].update(codeDirectory="nowhere"), "tuner.codeDirectory is"),
        (lambda c: c.update(experimentWorkingDirectory=5), "experimentWorkingDirectory is 5"),
        (lambda c: c.update(searchSpace=["a"]), "searchSpace is ['a']"),
        (lambda c: c.update(searchSpace=None), "searchSpace is None"),
        (lambda c: c.pop("trialConcurrency"), "lacks the key 'trialConcurrency'"),
        (lambda c: c.update(trialConcurrency="1"), "trialConcurrency is '1'"),
        (lambda c: c.update(trainingService={"platfrom": "local"}), "unknown key 'platfrom'"),
        (lambda c: c.update(trainingService={"platform": "remote"}), "trainingService.platform is 'remote'"),
    ],
)
def test_a_wrong_config_exits_with_two_and_leaves_nothing(experiment, tmp_path, change, message):
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    config["tuner"]["classArgs"]["out"] = str(tmp_path / "out")
    change(config)
    (tmp_path / "wrong.yml").write_text(yaml.safe_dump(config))
    result = search(tmp_path, tmp_path / "wrong.yml")
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "nni").exists()
