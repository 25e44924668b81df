"""The search through NNI itself: a tiny experiment from `nnictl create` to its end, and what is refused before."""

import os
import socket
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from tiny import finish, history, leftovers, make_experiment, search, start, until

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import YoloHead, build_graph
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.config import search_config
from nni_mcunet.search.nni.experiment_file import prepare
from nni_mcunet.search.nni.launch import Experiment, find
from nni_mcunet.search.nni.ports import check_port
from nni_mcunet.search.nni.processes import processes_of
from nni_mcunet.search.run.history import best_of

SEARCH = ROOT / "tools/search.py"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    trial = "python -m nni_mcunet.search.trial"
    return make_experiment(tmp_path_factory.mktemp("nni"), trial, population=3, batch=3)


def run(home, config):
    return finish(search(home, "run", "--config", config, "--timeout", "200"))


def test_an_experiment_from_nnictl_create_to_its_end(experiment):
    running = search(experiment, "run", "--config", experiment / "tiny.yml", "--timeout", "200")
    until(lambda: (experiment / "out/running/search.json").exists())
    id, out = find(out=experiment / "out")[0], experiment / "out"
    (manager,) = (p for p in processes_of(id) if "--experiment-id" in p.cmdline())
    addresses = {c.laddr.ip for c in manager.net_connections("tcp") if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}  # the server has no password
    result = finish(running)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = history(out)
    assert len(rows) == 6 and all(p["told"] and 0 <= p["score"] <= 1 for p in rows)
    best = best_of(rows)
    spec = ArchSpec.load(out / "best.json")
    assert plan(build_graph(spec, YoloHead(10, (4, 5))), spec.schedule).arena == best["sram"]
    import torch

    from nni_mcunet.core.nn.net import Net

    Net(build_graph(spec)).load_state_dict(torch.load(out / "best.pth", weights_only=True))
    assert (out / "search.png").stat().st_size > 1000
    assert not leftovers(str(experiment / "nni"))
    (out / "best.pth").unlink()
    result = finish(search(experiment, "export", "--out", out))
    assert result.returncode == 0 and (out / "best.pth").exists(), result.stderr
    result = finish(search(experiment, "resume", "--out", out))
    assert result.returncode == 2 and "finished search" in result.stderr


WAYS = {
    "sieve": {"population": 20, "batch": 20, "iterations": 1, "sieve": 3},
    "front of two boards": {"population": 6, "batch": 6, "objectives": ["board", "sram"], "boards": ["stm32h743"]},
}


@pytest.mark.slow
@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_nni_searches_as_one_process_does(changes, tmp_path):
    """The same proposals in the same order, when the same scores come back."""
    make_experiment(tmp_path, "python -m nni_mcunet.search.trial", **changes)
    result = run(tmp_path, tmp_path / "tiny.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    config, rows = yaml.safe_load((tmp_path / "tiny.yml").read_text()), history(tmp_path / "out")
    evolution, scores = search_config(config).evolution(), {row["index"]: row["score"] for row in rows}
    while not evolution.done:
        asked = []
        while (proposal := evolution.ask()) is not None:
            asked.append(proposal.index)
        for index in asked:
            evolution.tell(index, scores[index])
    assert [p.candidate for p in evolution.proposals] == [row["candidate"] for row in rows]
    assert len(rows) == changes["population"] * (1 + search_config(config).iterations)


def test_commands_without_a_search_say_so(tmp_path):
    for command, message in (
        (("resume", "--out", tmp_path), "holds no search that has begun"),
        (("resume", "abcdefgh"), "NNI knows no experiment abcdefgh"),
        (("export", "--out", tmp_path), "search.json: no such file"),
    ):
        result = finish(search(tmp_path, *command))
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1, result.stderr


REMOTE = {"platform": "remote", "machineList": [{"hst": "x"}]}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.update(trialComand="x"), "unknown key 'trialComand'"),
        (lambda c: c.update(tuner=3), "tuner is 3"),
        (lambda c: c.update(maxTrialNumber=1), "maxTrialNumber is 1: this search needs 2 trials"),
        (lambda c: c["tuner"]["classArgs"].update(board="stm32x"), "unknown board 'stm32x'"),
        (lambda c: c["tuner"]["classArgs"].update(populatoin=3), "unknown key 'populatoin'"),
        (lambda c: c["tuner"]["classArgs"].update(max_mmacs=0.01), "limit of macs"),
        (lambda c: c["tuner"]["classArgs"].update(seed=-1), "seed is -1"),
        (lambda c: c["tuner"]["classArgs"].update(supernet=5), "supernet is 5"),
        (lambda c: c["tuner"]["classArgs"].update(max_sram_kb=float("nan")), "the number .nan"),
        (lambda c: c["tuner"]["classArgs"]["detector"].update(width=0), "detector.width is 0"),
        (lambda c: c["tuner"].update(classArgs=["a"]), "tuner.classArgs is ['a']"),
        (lambda c: c["tuner"].update(clasArgs={}), "tuner has the unknown key 'clasArgs'"),
        (lambda c: c["tuner"].update(className="nni_mcunet.search.evolution.Evolution"), "no subclass"),
        (lambda c: c["tuner"].update(className="nni_mcunet.search.tuners.X"), "does not import"),
        (lambda c: c["tuner"].update(codeDirectory="nowhere"), "tuner.codeDirectory is"),
        (lambda c: c.update(experimentWorkingDirectory=5), "experimentWorkingDirectory is 5"),
        (lambda c: c.update(experimentWorkingDirectory="wrong.yml"), "wrong.yml, but"),
        (lambda c: c.update(searchSpace=["a"]), "searchSpace is ['a']"),
        (lambda c: c.update(searchSpace=None), "searchSpace is None"),
        (lambda c: c.pop("trialConcurrency"), "lacks the key 'trialConcurrency'"),
        (lambda c: c.update(trialConcurrency="1"), "trialConcurrency is '1'"),
        (lambda c: c.update(trainingService={"platfrom": "local"}), "lacks the key 'platform'"),
        (lambda c: c.update(trainingService={"platform": "local", "reuseMode": True}), "reuseMode is true"),
        (lambda c: c.update(trainingService={"platform": "cloud"}), "trainingService.platform is 'cloud'"),
        (lambda c: c.update(trainingService={"platform": "remote"}), "NNI says: RemoteConfig"),
        (
            lambda c: c.update(trainingService=REMOTE),
            "RemoteMachineConfig does not",
        ),
        (lambda c: c.update(trialGpuNumber=-1), "NNI says: a check"),
        (lambda c: c["tuner"].update(name="MCUNetEvolution"), "expected 'className' or 'name', one of them"),
        (lambda c: c.update(tuner={"name": "MCUNetEvolution"}), "nnictl algo register --meta"),
        (lambda c: c.update(tuner={"name": "TPE"}), "no subclass"),
    ],
)
def test_a_wrong_config_is_refused(experiment, tmp_path, monkeypatch, change, message):
    monkeypatch.setenv("NNI_CONFIG_DIR", str(tmp_path))
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    change(config)
    (tmp_path / "wrong.yml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError) as error:
        prepare(tmp_path / "wrong.yml", {})
    assert message in str(error.value) and "\n" not in str(error.value), error.value


@pytest.mark.parametrize(
    "change, message",
    [
        ({"supernet": "none.pth"}, "train it first"),
        ({"seed": -1}, "seed is -1"),
        ({"data": {"kind": "digts"}}, "kind is 'digts'"),
        ({"data": {"kind": "folder", "root": "/nowhere"}}, "no folder /nowhere"),
    ],
)
def test_a_wrong_config_exits_with_two_and_leaves_nothing(experiment, tmp_path, change, message):
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    config["tuner"]["classArgs"] |= {"out": str(tmp_path / "out")} | change
    (tmp_path / "wrong.yml").write_text(yaml.safe_dump(config))
    result = run(tmp_path, tmp_path / "wrong.yml")
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "nni").exists()


NNICTL = (sys.executable, "-m", "nni_mcunet.search.nnictl", "create")


@pytest.mark.parametrize("command", [NNICTL, pytest.param((sys.executable, SEARCH, "run"), marks=pytest.mark.slow)])
def test_a_port_in_use_is_one_line(experiment, tmp_path, command):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = finish(start(tmp_path, *command, "--config", experiment / "tiny.yml", "--port", port))
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr == f"error: port {port} is in use: name another one with --port\n"
    assert not (experiment / "out/running").exists()


def test_ports_that_nni_cannot_have():
    for wrong in (0, 65536):
        with pytest.raises(UserError, match="expected a number from 1 to 65535"):
            check_port(wrong)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}, which NNI needs beside {port - 1}, is in use"):
            check_port(port - 1, "remote")


def test_interrupted_while_nni_starts_nothing_is_left(tmp_path, monkeypatch):
    def interrupted(self, *args, id):
        self.manager = subprocess.Popen(["sleep", "600"], env=os.environ | {"NNI_EXP_ID": id})
        raise KeyboardInterrupt

    monkeypatch.setattr(Experiment, "_nnictl", interrupted)
    experiment = Experiment({"experimentWorkingDirectory": str(tmp_path)}, tmp_path)
    with pytest.raises(KeyboardInterrupt), experiment:
        pass
    assert experiment.manager.wait(timeout=10) < 0


def test_a_search_is_not_gone_on_with_where_it_was_not_begun(experiment, tmp_path):
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    running = tmp_path / "moved/running"
    running.mkdir(parents=True)
    (running / "experiment.json").write_text('{"experiment": "nosuchid"}')
    config["tuner"]["classArgs"]["out"] = str(tmp_path / "out/running")
    (running / "experiment.yml").write_text(yaml.safe_dump(config))
    result = finish(search(tmp_path, "resume", "--out", tmp_path / "moved"))
    assert result.returncode == 2 and "move it back" in result.stderr and result.stderr.count("\n") == 1
    config["tuner"]["classArgs"] |= {"out": str(running), "supernet": str(tmp_path / "none.pth")}
    (running / "experiment.yml").write_text(yaml.safe_dump(config))
    result = finish(search(tmp_path, "resume", "--out", tmp_path / "moved"))
    assert result.returncode == 2 and "train it first" in result.stderr and result.stderr.count("\n") == 1
