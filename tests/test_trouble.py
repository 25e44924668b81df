"""Why an experiment does not go on: what is silent, which limit is reached, what failed in this run; NNI played by the
test."""

import json
import sqlite3
import time
from contextlib import closing

import pytest
from tiny import write_all

from nni_mcunet.core.errors import UserError
from nni_mcunet.search.nni import launch, nnictl
from nni_mcunet.search.nni.launch import CutShort, Experiment, ExperimentFailed, prolong
from nni_mcunet.search.nni.trouble import Complaints, Silence, duration, limit_reached, read_profile, seconds


class Nni:
    """NNI's manager: what it answers, or the OSError that it does not."""

    def __init__(self, monkeypatch):
        self.answers = {"/trial-jobs": [], "/check-status": {"status": "RUNNING"}}
        monkeypatch.setattr(nnictl, "request", self.request)

    def request(self, root, path, method="GET", body=None):
        if isinstance(self.answers, OSError):
            raise self.answers
        return self.answers.get(path, [])

    def trial(self, id, ago, status="RUNNING", metrics=()):
        self.answers["/trial-jobs"] += [{"trialJobId": id, "status": status, "startTime": at(ago)}]
        self.answers[f"/metric-data/{id}"] = [{"timestamp": at(one)} for one in metrics]


def at(ago):
    return int((time.time() - ago) * 1000)


@pytest.fixture
def nni(monkeypatch):
    return Nni(monkeypatch)


@pytest.fixture
def silence(monkeypatch, tmp_path):
    """Make a Silence of ten minutes that looks without a wait."""
    made = Silence("http://nni", tmp_path / "exp", 600)
    made._looked = made._answered = made._changed = 0
    real = made.look
    made.look = lambda told=0: (setattr(made, "_looked", 0), real(told))[1]
    made.look()
    return made


def test_a_silent_trial_is_named_once_and_again_after_a_word(nni, silence, tmp_path):
    nni.trial("quick", 50)
    nni.trial("talks", 2000, metrics=[1900, 30])
    nni.trial("ended", 5000, status="SUCCEEDED")
    assert silence.look() == []
    nni.trial("hangs", 3000, metrics=[1800])
    (message,) = silence.look()
    assert message.startswith("trial hangs has reported nothing for 30 min: it hangs, or it is slow. Its files are in ")
    assert f"{tmp_path}/exp/environments/*/trials/hangs" in message and "maxTrialDuration" in message
    assert silence.look() == [] and list(silence.named) == ["hangs"]
    silence.patience = 0  # the time of the whole search is up: a trial that has just been heard of is not to blame
    assert any(line.startswith("trial quick runs, last heard of 50 s ago. Its files") for line in silence.look())
    silence.patience = 600
    silence.look()
    nni.answers["/metric-data/hangs"] = [{"timestamp": at(1)}]
    assert silence.look() == [] and not silence.named


def test_an_experiment_without_a_trial_and_a_manager_without_an_answer_are_named(nni, silence):
    nni.trial("waits", 2000, status="WAITING")
    assert silence.look() == []
    silence._changed = time.time() - 700
    (message,) = silence.look()
    assert "no trial has run for 12 min, 1 wait to be started: see " in message
    assert silence.look(told=1) == [] and not silence.named
    nni.answers = OSError("refused")
    assert silence.look(told=1) == []
    silence._answered = time.time() - 700
    assert silence.look(told=1) == ["NNI's manager has not answered for 12 min"]


@pytest.mark.parametrize(
    "params, run, trials, reason",
    [
        ({}, 1e9, 10**6, None),
        ({"maxExperimentDuration": "2m"}, 119, 0, None),
        ({"maxExperimentDuration": "2m"}, 121, 0, "maxExperimentDuration, 2m, is over (121 s have run)"),
        ({"maxExperimentDuration": 60}, 61, 0, "maxExperimentDuration, 60, is over"),
        ({"maxTrialNumber": 5}, 0, 4, None),
        ({"maxTrialNumber": 5}, 0, 5, "its maxTrialNumber was lowered to 5"),
    ],
)
def test_which_limit_has_been_reached(params, run, trials, reason):
    found = limit_reached(params, run, trials)
    assert found is None if reason is None else reason in found


def test_durations():
    assert [seconds(text) for text in ("90s", "1.5h", "2D", 7)] == [90, 5400, 172800, 7]
    for wrong in ("", "x", "1w", "m", None, [1]):
        with pytest.raises(UserError, match="maxExperimentDuration is"):
            seconds(wrong)
    assert duration("90m") == "90m"
    for wrong in ("90", "m", "-1m", "1 h", "9" * 5000 + "m"):
        with pytest.raises(Exception, match="expected a number and s, m, h or d") as error:
            duration(wrong)
        assert len(str(error.value)) < 200


def database(folder, params, run, ended, failed=()):
    """NNI's of the experiment abc."""
    (folder / "abc/db").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "abc/db/nni.sqlite")) as db, db:
        db.execute("create table ExperimentProfile (params, id, execDuration, endTime, revision)")
        db.execute("insert into ExperimentProfile values (?, 'abc', ?, ?, 1)", (json.dumps(params), run, ended))
        db.execute("create table TrialJobEvent (trialJobId, event)")
        db.executemany("insert into TrialJobEvent values (?, 'FAILED')", [(trial,) for trial in failed])


def test_only_what_is_new_and_of_failed_trials_is_quoted(tmp_path):
    """Not the stderr of a trial that hangs or has done its work, nor what an earlier run has left."""
    database(tmp_path, {}, 1, None, failed=["bad"])
    logs = {"log/nnictl_stderr.log": "old\n", "log/nnimanager.log": "[1] ERROR (x) old\n"}
    trials = {f"environments/e/trials/{name}/trial.stderr": f"old {name}\n" for name in ("bad", "hangs")}
    write_all(tmp_path / "abc", logs | trials)
    complaints = Complaints(tmp_path / "abc")
    assert complaints.text() == ""
    for name in (*logs, *trials):
        with (tmp_path / "abc" / name).open("a") as file:
            file.write(f"[2] INFO fine\n[2] ERROR new {name}\n")
    found = complaints.text()
    assert "old" not in found and "hangs" not in found and found.count("new") == 3 and "INFO fine" in found


@pytest.fixture
def experiment(tmp_path, nni, monkeypatch):
    """In a folder without done.json; its manager is there."""
    made = Experiment({"experimentWorkingDirectory": str(tmp_path)}, tmp_path / "out", 1, "abc")
    made._complaints = Complaints(tmp_path / "abc")
    monkeypatch.setattr(Experiment, "_manager", lambda self: "there")
    write_all(tmp_path, {"out/history.jsonl": ""})
    return made


def test_only_done_json_ends_a_search(experiment, nni, tmp_path, monkeypatch):
    assert not experiment.over()
    nni.answers["/check-status"] = {"status": "DONE"}
    nni.answers["/experiment"] = {"params": {}, "execDuration": 9}
    assert not experiment.over()  # a limit that was lifted a moment ago
    nni.answers["/experiment"] = {"params": {"maxExperimentDuration": "5s"}, "execDuration": 9}
    with pytest.raises(CutShort, match="experiment abc, cut short after 0 candidates: its maxExperimentDuration, 5s"):
        experiment.over()
    nni.answers["/check-status"] = {"status": "ERROR", "errors": ["tuner"]}
    with pytest.raises(ExperimentFailed, match="tuner"):
        experiment.over()
    nni.answers = OSError("refused")
    assert not experiment.over()
    monkeypatch.setattr(Experiment, "_manager", lambda self: None)
    with pytest.raises(ExperimentFailed, match="manager has died, killed or out of memory"):
        experiment.over()
    database(tmp_path, {}, 9, 5)
    with pytest.raises(CutShort, match="NNI was told to stop"):
        experiment.over()
    write_all(tmp_path, {"out/done.json": '{"candidates": 1}'})
    with pytest.raises(CutShort):
        experiment.over()
    write_all(tmp_path, {"out/done.json": '{"candidates": 0}'})
    assert experiment.over()


def test_when_its_time_is_up_what_runs_is_named(experiment, nni, monkeypatch):
    monkeypatch.setattr(launch.time, "sleep", lambda _: None)
    nni.trial("slow", 5)
    with pytest.raises(ExperimentFailed, match=r"not finished after 0\.1 s; trial slow runs, last heard of \d+ s ago"):
        experiment.wait(lambda: 0, 0.1, 900)


def test_a_search_goes_on_with_more_time_only(tmp_path):
    config = {"experimentWorkingDirectory": str(tmp_path), "maxExperimentDuration": "1m"}
    write_all(tmp_path, {"out/experiment.yml": "{}"})
    database(tmp_path, {"maxExperimentDuration": "2m"}, 130, 5)
    assert read_profile(tmp_path, "abc").stopped
    with pytest.raises(UserError, match="abc cannot go on: its maxExperimentDuration, 2m, is over"):
        prolong(config, "abc", tmp_path / "out", None)
    with pytest.raises(UserError, match="cannot go on"):
        prolong(config, "abc", tmp_path / "out", "90s")
    assert (tmp_path / "out/experiment.yml").read_text() == "{}"
    assert prolong(config, "abc", tmp_path / "out", "1h")["maxExperimentDuration"] == "1h"
    assert "1h" in (tmp_path / "out/experiment.yml").read_text()
    longer = prolong(config | {"maxExperimentDuration": "3m"}, "abc", tmp_path / "out", None)  # by an editor
    assert longer["maxExperimentDuration"] == "3m"
    unlimited = {"experimentWorkingDirectory": str(tmp_path)}
    assert prolong(unlimited, "other", tmp_path / "out", None) == unlimited
