"""The tuner with NNI's side played by the test: generations, failures, kills, results out of turn."""

import base64
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from stub_trial import score
from tiny import DEMO, contents, finish, history, killed_at, settings, start, write_all

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.search.nni import tuner
from nni_mcunet.search.nni.nnictl import MANAGER
from nni_mcunet.search.nni.processes import Busy, hold
from nni_mcunet.search.nni.tuner import EvolutionTuner
from nni_mcunet.search.run.run_folder import StateError, read_settings


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
    assert [len(p["candidates"]) for p in first.values()] == [2, 1, 1]
    for id in (2, 1):
        manager.report(id)
        manager.end(id)
    assert list(manager.running) == [0]  # the others wait for the generation's scores
    manager.report(0)
    assert sorted(manager.running) == [0, 3, 4]
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


def test_every_slot_gets_its_share(tmp_path):
    """The paper's population on eight slots: no generation leaves one idle, and the search is the same."""
    asked = dict(population=20, parents=5, batch=50)
    manager = Manager(tmp_path, slots=8, **asked)
    for _ in range(2):
        assert [len(manager.running[id]["candidates"]) for id in sorted(manager.running)] == [3, 3, 3, 3, 2, 2, 2, 2]
        for id in list(manager.running)[:7]:
            manager.report(id)
            manager.end(id)
        (last,) = manager.running
        manager.report(last)
        if manager.running.keys() > {last}:  # the next generation: the last one's slot has its share, too
            manager.end(last)
    assert manager.to_the_end() == Manager(tmp_path, slots=1, out=str(tmp_path / "one"), **asked).to_the_end()


def test_a_successor_that_is_asked_for_early_is_no_other_slot(tmp_path):
    """NNI asks and says that a trial has ended in two threads."""
    manager = Manager(tmp_path, slots=1)
    while manager.running:
        (id,) = manager.running
        assert len(manager.running[id]["candidates"]) == 2
        manager.report(id)
        manager.ask(1)
        del manager.running[id]
        manager.tuner.trial_end(id, True)


@pytest.fixture
def reported(monkeypatch):
    """The intermediate results of trials, as NNI's manager gives them at /metric-data."""
    metrics = []
    monkeypatch.setenv("NODE_OPTIONS", f'--require "{MANAGER}"')
    monkeypatch.setattr(tuner, "request", lambda root, path, *_: metrics if path == "/metric-data" else [])
    return metrics


def test_a_lost_trial_costs_its_last_candidate_only(tmp_path, whole, reported, capsys):
    """Its intermediate results count; the rest goes to the slots that are free, at once."""
    manager = Manager(tmp_path, slots=2, population=8, batch=8, out=str(tmp_path / "two"))
    manager.tuner._manager = "http://127.0.0.1:1"
    lost, other = manager.running[0]["candidates"], manager.running[1]["candidates"]
    assert [len(lost), len(other)] == [4, 4]
    for entry in lost[:2]:
        value = json.dumps(json.dumps({"default": score(entry["candidate"]), "index": entry["index"]}))
        reported.append({"type": "PERIODICAL", "parameterId": "7", "data": value})  # NNI's id may be another's
    reported.append({"type": "FINAL", "parameterId": "0", "data": json.dumps(json.dumps({"default": 9.0, "index": 3}))})
    manager.end(0, success=False)
    assert "2 candidates again" in capsys.readouterr().err
    assert manager.running[2]["candidates"] == lost[2:] and 1 in manager.running
    got = manager.to_the_end()
    assert got == Manager(tmp_path, slots=1, population=8, batch=8, out=str(tmp_path / "one")).to_the_end()


def test_a_lost_trials_rest_is_spread(tmp_path, reported):
    manager = Manager(tmp_path, slots=3, population=6, batch=6)
    manager.tuner._manager = "http://127.0.0.1:1"
    for id in (1, 2):
        manager.report(id)
        manager.end(id)
    assert list(manager.running) == [0]
    manager.end(0, success=False)
    assert [len(p["candidates"]) for p in manager.running.values()] == [1, 1]


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


def test_a_search_of_an_older_state_of_the_project_goes_on(tmp_path):
    """tests/old_search: what a commit had left when half of its search was told. The digest is of its whole history at
    that commit, the first at which outputs lay over inputs."""
    files = contents(ROOT / "tests/old_search")
    files["search.json"] = files["search.json"].replace(b"FOLDER", str(tmp_path).encode())
    write_all(tmp_path / "out", files)
    whole = Manager(tmp_path, mode="resume").to_the_end()
    assert whole.startswith(files["history.jsonl"]) and whole.count(b"\n") == 8
    digest = "cda3e765de1f5a612f1d85b67eba809f2023303c15caaaa55664f3bd487991f3"
    assert hashlib.sha256(whole).hexdigest() == digest and (tmp_path / "out/done.json").exists()


def test_a_search_of_another_planner_is_refused(tmp_path):
    """Its networks needed other memory, so the draws that fitted were others."""
    files = contents(ROOT / "tests/old_search")
    files["search.json"] = files["search.json"].replace(b"FOLDER", str(tmp_path).encode())
    first, rest = files["history.jsonl"].split(b"\n", 1)
    proposal = json.loads(first)
    files["history.jsonl"] = json.dumps(proposal | {"sram": proposal["sram"] + 4}).encode() + b"\n" + rest
    write_all(tmp_path / "out", files)
    with pytest.raises(UserError, match=r"candidate 0 needs [\d,]+ bytes of SRAM .* the version that began it"):
        Manager(tmp_path, mode="resume").to_the_end()


def test_another_search_is_not_gone_on_with(tmp_path, whole, monkeypatch):
    Manager(tmp_path).to_the_end()
    Manager(tmp_path, mode="resume", batch=1)  # changes nothing in the history
    with pytest.raises(StateError, match=r"its seed is 0, not 1"):
        Manager(tmp_path, mode="resume", seed=1)
    (tmp_path / "out/search.json").unlink()
    with pytest.raises(StateError, match=r"no search.json"):
        Manager(tmp_path, mode="resume")
    shutil.rmtree(tmp_path / "out")
    assert Manager(tmp_path, mode="resume").to_the_end() == whole  # killed before anything was written
    monkeypatch.setattr("nni_mcunet.search.nni.tuner._manager", lambda: "http://nni")
    monkeypatch.setattr("nni_mcunet.search.nni.tuner.exit_with_parent", lambda: None)
    monkeypatch.setattr("nni_mcunet.search.nni.tuner.request", lambda *_: [{"status": "SUCCEEDED"}])
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(StateError, match="any more"):
        Manager(tmp_path, mode="resume")


def test_two_searches_do_not_share_a_folder(tmp_path):
    code = "import sys, time; from pathlib import Path; from nni_mcunet.search.nni.processes import hold; "
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


@pytest.mark.parametrize("mode", ["start", "resume"])
def test_killed_while_it_moves_the_last_search_away_it_begins(tmp_path, whole, mode):
    Manager(tmp_path, seed=1).to_the_end()
    last, steps = contents(tmp_path / "out"), 0
    while True:
        shutil.rmtree(tmp_path / "out")
        write_all(tmp_path / "out", last)
        with killed_at(steps) as left:
            Manager(tmp_path)
        if left:
            break
        assert not set(last.values()) - set(contents(tmp_path / "out").values())
        if steps:  # else the folder is the other search's as before
            assert Manager(tmp_path, mode=mode).to_the_end() == whole
            previous = contents(tmp_path / "out/previous")
            assert previous == {name: text for name, text in last.items() if not name.startswith(".")}
        steps += 1
    assert steps > 5


def test_a_tuner_with_wrong_settings_exits_with_two(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        EvolutionTuner(**settings(tmp_path, supernet="nowhere.pth"))
    assert error.value.code == 2
    assert "`mcunet train-supernet --space demo --data digits --out nowhere.pth`" in capsys.readouterr().err


def test_the_tuner_takes_relative_paths_from_the_trials_folder(tmp_path, monkeypatch):
    told = base64.b64encode(json.dumps({"trialCodeDirectory": str(tmp_path)}).encode()).decode()
    monkeypatch.setattr(sys, "argv", ["nni", "--exp_params", told])
    tuner = EvolutionTuner(**settings(tmp_path, supernet="x.pth", out="results"))
    assert tuner.config.supernet == str(tmp_path / "x.pth") and tuner.config.out == str(tmp_path / "results")


def test_a_search_that_an_exhausted_space_has_ended_can_be_resumed(tmp_path, monkeypatch):
    """The tuner itself has set NNI's number of trials then, to less than a whole search has."""
    told = base64.b64encode(json.dumps({"maxTrialNumber": 1}).encode()).decode()
    monkeypatch.setattr(sys, "argv", ["nni", "--exp_params", told])
    with pytest.raises(SystemExit):
        EvolutionTuner(**settings(tmp_path))
    monkeypatch.setenv("NNI_MODE", "resume")
    assert EvolutionTuner(**settings(tmp_path)).config.trials == 4
