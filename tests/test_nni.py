"""The search through NNI itself: a tuner's protocol, and a tiny experiment from `nnictl create` to its end."""

import base64
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from stub_trial import score
from tiny import DEMO, environment, finish, history, leftovers, make_experiment, search, settings, start, until

from nni_mcunet.core.arch import ArchSpec
from nni_mcunet.core.build import YoloHead, build_graph
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.plan import plan
from nni_mcunet.search.experiment import free_port, prepare
from nni_mcunet.search.guard import Busy, hold, processes_of
from nni_mcunet.search.launch import find
from nni_mcunet.search.nnictl import MANAGER
from nni_mcunet.search.state import StateError, read_settings
from nni_mcunet.search.tuner import ArgsValidator, EvolutionTuner

# --- the tuner, NNI's side played by the test


class Manager:
    """NNI's: as many trials at once as `slots`, a request for a new one when one has ended."""

    def __init__(self, folder, slots=2, mode="start", **changes):
        os.environ["NNI_MODE"] = mode
        self.tuner = EvolutionTuner(**settings(folder, **changes))
        self.tuner.update_search_space(DEMO.to_nni())
        self.running, self.next = {}, 0
        self.ask(slots)

    def ask(self, count):
        ids = list(range(self.next, self.next + count))
        self.next += count
        found = self.tuner.generate_multiple_parameters(ids, st_callback=self.running.__setitem__)
        self.running |= dict(zip(ids, found, strict=False))

    def report(self, id):
        scores = [score(entry["candidate"]) for entry in self.running[id]["candidates"]]
        self.tuner.receive_trial_result(id, self.running[id], {f"c{i}": s for i, s in enumerate(scores)})

    def end(self, id, success=True):
        del self.running[id]
        self.tuner.trial_end(id, success)
        self.ask(1)

    def to_the_end(self):
        while self.running:
            id = max(self.running)  # not in their order
            self.report(id)
            self.end(id)
        return (Path(self.tuner.config.out) / "history.jsonl").read_bytes()


@pytest.fixture(autouse=True)
def mode(monkeypatch):
    monkeypatch.setenv("NNI_MODE", "start")  # Manager sets another, here it is taken back


@pytest.fixture
def whole(tmp_path):
    """The history of a search to which nothing has happened."""
    return Manager(tmp_path, out=str(tmp_path / "whole")).to_the_end()


def test_the_tuner_keeps_generations_and_parameter_ids_apart(tmp_path, whole):
    manager = Manager(tmp_path, slots=3)
    first = dict(manager.running)
    assert list(first) == [0, 1] and all(len(p["candidates"]) == 2 for p in first.values())
    manager.report(1)
    assert list(manager.running) == [0, 1]  # the third waits for the generation's scores
    manager.report(0)
    assert list(manager.running) == [0, 1, 2]
    rows = history(tmp_path / "out")[:4]
    assert [p["candidate"] for p in rows] == [e["candidate"] for p in first.values() for e in p["candidates"]]
    assert all(p["score"] == score(p["candidate"]) for p in rows)
    best = max(rows, key=lambda p: p["score"])
    assert ArchSpec.load(tmp_path / "out/best.json").stages == DEMO.spec(best["candidate"]).stages
    assert manager.to_the_end() == whole and (tmp_path / "out/done.json").exists()


def test_a_failed_trial_is_tried_again(tmp_path, whole, capsys):
    manager = Manager(tmp_path)
    lost = manager.running[0]
    manager.end(0, success=False)
    assert list(manager.running) == [1]  # it may be the other that has failed, NNI's ids do not say
    manager.report(1)
    manager.end(1)
    assert manager.running[2] == lost and "2 candidates again" in capsys.readouterr().err
    assert manager.to_the_end() == whole


def test_candidates_that_always_fail_are_given_up(tmp_path, capsys):
    manager = Manager(tmp_path)
    manager.report(1)
    manager.end(1)
    for _ in range(3):
        (id,) = manager.running
        assert not any(p["told"] for p in history(tmp_path / "out")[:2])
        manager.end(id, success=False)
    assert [p["told"] for p in history(tmp_path / "out")[:4]] == [True] * 4
    assert [p["score"] is None for p in history(tmp_path / "out")[:4]] == [True, True, False, False]
    assert len(manager.running) == 2  # the next generation
    manager.to_the_end()


def test_a_search_without_any_success_is_an_error(tmp_path, capsys):
    manager = Manager(tmp_path, slots=1, batch=4)
    manager.end(0, success=False)
    manager.end(1, success=False)
    with pytest.raises(UserError, match="every trial has failed"):
        manager.end(2, success=False)
    assert not history(tmp_path / "out")[0]["told"]  # a resumed search tries again


def test_results_out_of_turn_do_no_harm(tmp_path, whole, capsys):
    manager = Manager(tmp_path)
    manager.tuner.receive_trial_result(99, {}, {"c0": 1.0})  # of a trial that a resumed NNI runs once more
    manager.tuner.trial_end(99, False)
    manager.tuner.trial_end(None, True)  # added by hand on the web page
    manager.tuner.import_data([{"parameter": manager.running[0], "value": {"c0": 1.0, "c1": 1.0}}])
    first = manager.running
    manager.running = {}
    for id in first:
        manager.tuner.trial_end(id, True)  # overtakes its result: NNI has a thread for each
    manager.running |= first
    manager.report(0)
    manager.report(1)
    for id in first:
        del manager.running[id]
        manager.ask(1)
    assert manager.to_the_end() == whole and "again" not in capsys.readouterr().err


@pytest.mark.parametrize("kill_at", range(1, 9))
def test_killed_anywhere_it_goes_on(tmp_path, whole, kill_at):
    manager = Manager(tmp_path)
    for step in range(kill_at):
        id = min(manager.running)
        manager.report(id) if step % 2 == 0 else manager.end(id)
    resumed = Manager(tmp_path, mode="resume")
    assert resumed.to_the_end() == whole
    assert Manager(tmp_path, mode="resume").running == {}  # a finished search has nothing to hand out
    assert (tmp_path / "out/history.jsonl").read_bytes() == whole


def test_another_search_is_not_gone_on_with(tmp_path, whole, monkeypatch):
    Manager(tmp_path).to_the_end()
    Manager(tmp_path, mode="resume", batch=1)  # changes nothing in the history
    with pytest.raises(StateError, match=r"its seed is 0, not 1"):
        Manager(tmp_path, mode="resume", seed=1)
    (tmp_path / "out/search.json").unlink()
    with pytest.raises(StateError, match=r"no search.json"):
        Manager(tmp_path, mode="resume")
    (tmp_path / "out/history.jsonl").unlink()
    assert Manager(tmp_path, mode="resume").to_the_end() == whole  # killed before anything was written
    monkeypatch.setattr("nni_mcunet.search.tuner._manager", lambda: "http://nni")
    monkeypatch.setattr("nni_mcunet.search.tuner.exit_with_parent", lambda: None)
    monkeypatch.setattr("nni_mcunet.search.tuner.request", lambda *_: [{"status": "SUCCEEDED"}])
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(StateError, match="any more"):
        Manager(tmp_path, mode="resume")


def test_two_searches_do_not_share_a_folder(tmp_path):
    code = "import sys, time; from pathlib import Path; from nni_mcunet.search.guard import hold; "
    code += "hold(Path(sys.argv[1]), 'search'); print('held', flush=True); time.sleep(600)"
    other = start(tmp_path, sys.executable, "-c", code, tmp_path / "lock")
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Busy, match="another search is at work in"):
        hold(tmp_path / "lock", "search")
    other.kill()
    finish(other)
    hold(tmp_path / "lock", "search")


def test_a_new_search_keeps_the_files_of_the_last(tmp_path, whole):
    Manager(tmp_path).to_the_end()
    Manager(tmp_path, seed=1).report(0)
    assert (tmp_path / "out/previous/history.jsonl").read_bytes() == whole
    assert not (tmp_path / "out/done.json").exists() and read_settings(tmp_path / "out").seed == 1


def test_a_tuner_with_wrong_settings_exits_with_two(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        EvolutionTuner(**settings(tmp_path, supernet="nowhere.pth"))
    assert error.value.code == 2
    assert "train_supernet.py --out nowhere.pth" in capsys.readouterr().err


def test_the_tuner_takes_relative_paths_from_the_trials_folder(tmp_path, monkeypatch):
    told = base64.b64encode(json.dumps({"trialCodeDirectory": str(tmp_path)}).encode()).decode()
    monkeypatch.setattr(sys, "argv", ["nni", "--exp_params", told])
    tuner = EvolutionTuner(**settings(tmp_path, supernet="x.pth", out="results"))
    assert tuner.config.supernet == str(tmp_path / "x.pth") and tuner.config.out == str(tmp_path / "results")


# --- the whole of it


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
    best = max(rows, key=lambda p: (p["score"], -p["index"]))
    spec = ArchSpec.load(out / "best.json")
    assert plan(build_graph(spec, YoloHead(10, (4, 5))), spec.schedule).arena == best["sram"]
    import torch

    from nni_mcunet.core.net import Net

    Net(build_graph(spec)).load_state_dict(torch.load(out / "best.pth", weights_only=True))
    assert (out / "search.png").stat().st_size > 1000
    assert not leftovers(str(experiment / "nni"))
    (out / "best.pth").unlink()
    result = finish(search(experiment, "export", "--out", out))
    assert result.returncode == 0 and (out / "best.pth").exists(), result.stderr
    result = finish(search(experiment, "resume", "--out", out))
    assert result.returncode == 2 and "finished search" in result.stderr


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
        (lambda c: c.update(maxTrialNumber=1), "maxTrialNumber is 1: this search has 2 trials"),
        (lambda c: c["tuner"]["classArgs"].update(board="stm32x"), "unknown board 'stm32x'"),
        (lambda c: c["tuner"]["classArgs"].update(populatoin=3), "unknown key 'populatoin'"),
        (lambda c: c["tuner"]["classArgs"].update(max_mmacs=0.01), "limit of macs"),
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
        (lambda c: c.update(trainingService={"platfrom": "local"}), "lacks the key 'platform'"),
        (lambda c: c.update(trainingService={"platform": "local", "reuseMode": True}), "reuseMode is true"),
        (lambda c: c.update(trainingService={"platform": "cloud"}), "trainingService.platform is 'cloud'"),
        (lambda c: c.update(trainingService={"platform": "remote"}), "NNI says: RemoteConfig"),
        (
            lambda c: c.update(trainingService=REMOTE),
            "RemoteMachineConfig does not",
        ),
        (lambda c: c.update(trialGpuNumber=-1), "NNI says: a check"),
        (lambda c: c["tuner"].update(name="MCUNetEvolution"), "'className' or has 'name' beside it"),
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
    "change, message", [({"supernet": "none.pth"}, "train it first"), ({"seed": -1}, "seed is -1")]
)
def test_a_wrong_config_exits_with_two_and_leaves_nothing(experiment, tmp_path, change, message):
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    config["tuner"]["classArgs"] |= {"out": str(tmp_path / "out")} | change
    (tmp_path / "wrong.yml").write_text(yaml.safe_dump(config))
    result = run(tmp_path, tmp_path / "wrong.yml")
    assert result.returncode == 2, result.stdout + result.stderr
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "nni").exists()


# --- known to NNI by name


def test_the_tuner_is_registered_by_name(experiment, tmp_path, monkeypatch):
    def algo(*args):
        result = finish(start(tmp_path, Path(sys.executable).with_name("nnictl"), "algo", *args))
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    algo("register", "--meta", ROOT / "nni_mcunet/search/register.yml")
    assert "MCUNetEvolution" in algo("list") and "ArgsValidator" in algo("show", "MCUNetEvolution")
    monkeypatch.setenv("NNI_CONFIG_DIR", environment(tmp_path)["NNI_CONFIG_DIR"])
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    config["tuner"] = {"name": "MCUNetEvolution", "classArgs": config["tuner"]["classArgs"]}
    (tmp_path / "named.yml").write_text(yaml.safe_dump(config))
    assert prepare(tmp_path / "named.yml", {})[0]["tuner"]["name"] == "MCUNetEvolution"
    from nni.tools.package_utils.tuner_factory import create_builtin_class_instance, create_validator_instance

    tuner = create_builtin_class_instance("mcunetevolution", settings(tmp_path), "tuners")
    assert isinstance(tuner, EvolutionTuner)
    with pytest.raises(UserError, match="batch is 0"):
        create_validator_instance("tuners", "MCUNetEvolution").validate_class_args(**settings(tmp_path, batch=0))
    algo("unregister", "MCUNetEvolution")
    assert "MCUNetEvolution" not in algo("list")


def test_the_validator_accepts_what_the_tuner_does(tmp_path):
    ArgsValidator().validate_class_args(**settings(tmp_path))


# --- other machines


@pytest.mark.parametrize("name", ["remote", "kubernetes"])
def test_configs_for_other_machines_are_valid(tmp_path, monkeypatch, name):
    """As NNI judges them, on a machine that has an SSH key and, where trials run, a super-network."""
    text = (ROOT / f"configs/nni/{name}.yml").read_text()
    for folder in ("configs/nni", "out/supernet", "home/.ssh"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home/.ssh/id_ed25519").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "configs/nni" / f"{name}.yml").write_text(text)
    shutil.copy(ROOT / "configs/nni/demo_space.json", tmp_path / "configs/nni")
    config, search, _ = prepare(tmp_path / "configs/nni" / f"{name}.yml", {})
    assert search.supernet == str(tmp_path / "out/supernet/demo.pth")
    assert config["trainingService"]["platform"] == yaml.safe_load(text)["trainingService"]["platform"]


def test_the_preload_listens_where_it_is_told_and_nowhere_else():
    import nni_node

    node = Path(nni_node.__path__[0]) / "node"
    server = "s = require('http').createServer((q, a) => a.end('y')); s.listen(0, () => console.log(s.address().port))"
    for more, expected in (({}, [True, False]), ({"MCUNET_NNI_LISTEN": "127.0.0.2"}, [True, True])):
        env = {key: value for key, value in os.environ.items() if key != "MCUNET_NNI_LISTEN"} | more
        command = [str(node), "--require", str(MANAGER), "-e", server]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            port = int(process.stdout.readline())
            for host, answer in zip(("127.0.0.1", "127.0.0.2"), expected, strict=True):
                if answer:
                    until(lambda: answers(host, port))  # noqa: B023
                else:
                    assert not answers(host, port)
            process.kill()


def answers(host, port):
    try:
        with urllib.request.urlopen(f"http://{host}:{port}", timeout=30) as reply:
            return reply.read() == b"y"
    except OSError:
        return False


@pytest.fixture
def sshd(tmp_path):
    """A server of our own on 127.0.0.1 with keys to be thrown away: (port, key file, home folder of who logs in)."""
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None:
        pytest.skip("no sshd on this machine: apt-get install openssh-server")
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
    home, port = tmp_path / "there", free_port()
    home.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"PasswordAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        f"SetEnv HOME={home} PYTHONPATH={ROOT} NNI_FRAMEWORK=none\n"
    )
    process = subprocess.Popen(
        [server, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=(tmp_path / "log").open("w")
    )
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    yield port, tmp_path / "user", home
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.slow
def test_a_search_on_a_remote_machine(sshd, tmp_path):
    """The `remote` service over SSH to this machine; the code directory is copied there, results come back."""
    port, key, home = sshd
    make_experiment(tmp_path, f"python stub_trial.py {tmp_path}", supernet="supernet.pth")
    for folder in ("ran", "code"):
        (tmp_path / folder).mkdir()
    for path in (ROOT / "tests/stub_trial.py", tmp_path / "supernet.pth"):
        shutil.copy(path, tmp_path / "code")
    config = yaml.safe_load((tmp_path / "tiny.yml").read_text())
    machine = {"host": "127.0.0.1", "port": port, "user": getpass.getuser(), "sshKeyFile": str(key)}
    machine["pythonPath"] = str(Path(sys.executable).parent)
    config["trainingService"] = {"platform": "remote", "reuseMode": False, "machineList": [machine]}
    config |= {"nniManagerIp": "127.0.0.1", "trialCodeDirectory": str(tmp_path / "code"), "trialConcurrency": 2}
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(config))
    result = finish(search(tmp_path, "run", "--config", tmp_path / "tiny.yml", "--timeout", "400"), timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = history(tmp_path / "out")
    assert len(rows) == 8 and all(p["score"] == score(p["candidate"]) for p in rows)
    ran = [json.loads(path.read_text()) for path in (tmp_path / "ran").iterdir()]
    assert {parameters["supernet"] for parameters in ran} == {"supernet.pth"}  # the copy there
    assert len(ran) == 4 == len(list(home.glob("nni-experiments/*/environments/*/trials/*")))
    until(lambda: not leftovers(str(tmp_path / "there")))
