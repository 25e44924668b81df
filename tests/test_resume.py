"""kill -9 of anything in mid-search, then resume: the history ends as that of a search never interrupted, byte by
byte."""

import json
import os
import re
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from stub_trial import score
from tiny import finish, history, leftovers, make_experiment, search, start, until

from nni_mcunet.search.config import search_config, search_space
from nni_mcunet.search.nni.experiment_file import load_config
from nni_mcunet.search.nni.launch import find
from nni_mcunet.search.nni.nnictl import MANAGER, request
from nni_mcunet.search.nni.ports import free_port
from nni_mcunet.search.nni.processes import processes_of
from nni_mcunet.search.run.history import History

KILL_AFTER = 3  # trials of two candidates each: then one generation of four is known, and half of the other


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("resume"), "to be set")


@pytest.fixture
def experiment(made, tmp_path):
    """A folder of its own for every test, with the module's super-network."""
    text = (made / "tiny.yml").read_text().replace(str(made / "out"), str(tmp_path / "out"))
    config = yaml.safe_load(text)
    config["trialCommand"] = f"{sys.executable} {ROOT}/tests/stub_trial.py {tmp_path}"
    for name in ("ran", "waiting"):
        (tmp_path / name).mkdir()
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(config))
    yield tmp_path
    (tmp_path / "hold").unlink(missing_ok=True)
    until(lambda: not leftovers(str(tmp_path)))


@pytest.fixture
def expected(experiment):
    """history.jsonl of the search never interrupted: only the evolution, without NNI."""
    config = load_config(experiment / "tiny.yml")
    evolution = search_config(config).evolution(search_space(config))
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            evolution.tell(proposal.index, score(proposal.candidate))
    History(experiment / "expected").write(evolution)
    return (experiment / "expected/history.jsonl").read_bytes()


def held(experiment, out):
    """Wait for the moment to kill: so many results are in the history, the next trial waits. The trial's process."""
    until(lambda: sum(p["told"] for p in history(out)) == 2 * KILL_AFTER)
    return int(until(lambda: os.listdir(experiment / "waiting"))[0])


def process(id, what):
    """Of NNI's manager or of the tuner."""
    word = {"manager": "--experiment-id", "tuner": "--exp_params"}[what]
    return next(p.pid for p in processes_of(id) if word in p.cmdline())


def let_go(experiment):
    (experiment / "hold").unlink()


def test_a_killed_trial_is_tried_again(experiment, expected):
    (experiment / "hold").write_text(str(KILL_AFTER))
    running = search(experiment, "run", "--config", experiment / "tiny.yml")
    os.kill(held(experiment, experiment / "out/running"), signal.SIGKILL)
    let_go(experiment)
    result = finish(running)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (experiment / "out/history.jsonl").read_bytes() == expected


@pytest.mark.slow  # the bare one is quick
def test_a_killed_manager_then_resume(experiment, expected):
    (experiment / "hold").write_text(str(KILL_AFTER))
    running = search(experiment, "run", "--config", experiment / "tiny.yml")
    held(experiment, experiment / "out/running")
    id = find(out=experiment / "out")[0]
    os.kill(process(id, "manager"), signal.SIGKILL)
    let_go(experiment)
    result = finish(running)
    assert result.returncode == 1 and "resume" in result.stderr, result.stdout + result.stderr
    check_resumed(experiment, expected, id)


def test_a_killed_tuner_and_a_killed_command_line_then_resume(experiment, expected):
    (experiment / "hold").write_text(str(KILL_AFTER))
    running = search(experiment, "run", "--config", experiment / "tiny.yml")
    held(experiment, experiment / "out/running")
    running.kill()
    finish(running)
    os.kill(process(find(out=experiment / "out")[0], "tuner"), signal.SIGKILL)
    let_go(experiment)
    result = finish(search(experiment, "run", "--config", experiment / "tiny.yml"))
    assert result.returncode == 2 and "holds an unfinished search" in result.stderr
    check_resumed(experiment, expected, "--out", experiment / "out")


def check_resumed(experiment, expected, *which):
    result = finish(search(experiment, "resume", *which))
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"going on after {2 * KILL_AFTER} candidates" in result.stdout
    assert (experiment / "out/history.jsonl").read_bytes() == expected
    assert (experiment / "out/best.pth").exists() and not (experiment / "out/running").exists()


@pytest.mark.slow
def test_bare_nnictl_resumes_a_killed_manager(experiment, expected):
    (experiment / "hold").write_text(str(KILL_AFTER))
    port = str(free_port())
    nnictl(experiment, "create", "--config", experiment / "tiny.yml", "--port", port)
    held(experiment, experiment / "out")
    id = json.loads((experiment / "out/search.json").read_text())["experiment"]
    os.kill(process(id, "manager"), signal.SIGKILL)
    until(lambda: len(processes_of(id)) == 1)  # the trial; the tuner goes with its manager
    let_go(experiment)
    nnictl(experiment, "resume", id, "--port", port)
    until(lambda: request(f"http://127.0.0.1:{port}", "/check-status")["status"] == "DONE")
    assert (experiment / "out/history.jsonl").read_bytes() == expected
    result = finish(start(experiment, sys.executable, "-m", "nni_mcunet.search.nnictl", "stop", id))
    assert result.returncode == 0, result.stdout + result.stderr
    until(lambda: not processes_of(id))


def nnictl(experiment, *args):
    """Typed by hand, and again where a loaded machine has not brought NNI's manager up in nnictl's three seconds."""
    command = (Path(sys.executable).with_name("nnictl"), *args)
    for _ in range(5):
        result = finish(start(experiment, *command, NODE_OPTIONS=f"--require {MANAGER}"))
        if result.returncode == 0:
            return
    raise AssertionError(result.stdout + result.stderr)


@pytest.mark.slow
def test_each_trial_is_shown_with_what_it_ran(experiment):
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    config["trialConcurrency"] = 2
    (experiment / "tiny.yml").write_text(yaml.safe_dump(config))
    result = finish(search(experiment, "run", "--config", experiment / "tiny.yml", STUB_DELAY="2"))
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = experiment.glob("nni/[!_]*/db/nni.sqlite")
    with closing(sqlite3.connect(path)) as db:
        rows = dict(db.execute("select trialJobId, data from TrialJobEvent where data is not null and data != ''"))
        metrics = dict(db.execute("select trialJobId, parameterId from MetricData where type = 'FINAL'"))
    shown = {trial: json.loads(data) for trial, data in rows.items()}
    ran = {path.stem: json.loads(path.read_text()) for path in (experiment / "ran").iterdir()}
    assert len(ran) == 4 and {trial: row["parameters"] for trial, row in shown.items()} == ran
    assert {trial: str(row["parameter_id"]) for trial, row in shown.items()} == metrics


# --- cut short: by NNI's limits, by its user, by a signal


def cut_short(experiment, limit=None):
    """A search whose first trial waits: (process of tools/search.py, NNI's id)."""
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    (experiment / "tiny.yml").write_text(yaml.safe_dump(config | (limit or {})))
    (experiment / "hold").write_text("0")
    running = search(experiment, "run", "--config", experiment / "tiny.yml", "--silence", "3")
    until(lambda: os.listdir(experiment / "waiting"))
    return running, find(out=experiment / "out")[0]


def check_cut(experiment, running, reason):
    result = finish(running)
    assert result.returncode == 1 and re.search(reason, result.stderr) and "best of" not in result.stdout, result.stderr
    assert not leftovers(str(experiment)) and not (experiment / "out/best.json").exists()
    return result


def check_goes_on(experiment, expected, *more):
    result = finish(search(experiment, "resume", "--out", experiment / "out", *more))
    assert result.returncode == 0, result.stdout + result.stderr
    assert (experiment / "out/history.jsonl").read_bytes() == expected and (experiment / "out/done.json").exists()


@pytest.mark.slow
def test_a_search_that_is_over_its_duration_is_cut_short_and_a_silent_trial_named(experiment, expected):
    running, _ = cut_short(experiment, {"maxExperimentDuration": "6s"})
    (trial,) = until(lambda: [*experiment.glob("nni/[!_]*/environments/*/trials/*")])
    line = next(line for line in running.stderr if "reported nothing" in line)
    assert re.search(rf"trial {trial.name} has reported nothing for \d+ (s|min): it hangs, or it is slow", line)
    let_go(experiment)
    result = check_cut(experiment, running, r"cut short after \d candidates: its maxExperimentDuration, 6s, is over")
    assert "resume --duration" in result.stderr
    result = finish(search(experiment, "resume", "--out", experiment / "out"))
    assert result.returncode == 2 and "cannot go on: its maxExperimentDuration, 6s" in result.stderr
    assert result.stderr.count("\n") == 1
    check_goes_on(experiment, expected, "--duration", "1h")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_nni(experiment, number):
    running, id = cut_short(experiment)
    running.send_signal(number)
    result = finish(running)
    assert result.returncode == 128 + number and not processes_of(id)
    assert result.stderr.splitlines()[-1].startswith(f"error: stopped by {number.name}; `mcunet search resume`")
    assert "Traceback" not in result.stderr


STARTED = """
import subprocess, sys, time
from nni_mcunet.search.nni.launch import Experiment, exit_on_failure

class Sleeps(Experiment):
    def _start(self):
        self.id = sys.argv[1]
        subprocess.Popen(["sleep", "600"], env={"NNI_EXP_ID": self.id})

with exit_on_failure(), Sleeps({"experimentWorkingDirectory": "/nowhere"}, "/nowhere"):
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_processes_of_nni(tmp_path, number):
    process = start(tmp_path, sys.executable, "-c", STARTED, id := f"signal{number:d}")
    assert process.stdout.readline() == "started\n" and processes_of(id)
    process.send_signal(number)
    result = finish(process)
    assert result.returncode == 128 + number and not processes_of(id)
    assert result.stderr == f"error: stopped by {number.name}; `mcunet search resume` goes on where this has ended\n"


POOL = """
import multiprocessing, time
from nni_mcunet.search.nni.launch import exit_on_failure

with exit_on_failure():
    pool = multiprocessing.get_context("fork").Pool(4)
    pool.map_async(time.sleep, [600] * 4)
    time.sleep(0.5)
    pool.terminate()
    pool.join()
"""


def test_a_pool_of_forked_processes_ends_in_silence(tmp_path):
    """mmdet's metric has one, and ends its processes by SIGTERM."""
    result = finish(start(tmp_path, sys.executable, "-c", POOL))
    assert result.returncode == 0 and not result.stderr


def test_nohup_is_respected(tmp_path):
    process = start(tmp_path, "nohup", sys.executable, "-c", STARTED, "nohup")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode == 128 + signal.SIGTERM


@pytest.mark.slow
def test_interrupted_then_resumed(experiment, expected):
    running, id = cut_short(experiment)
    let_go(experiment)
    running.send_signal(signal.SIGINT)
    assert finish(running).returncode == 130 and not processes_of(id)
    check_goes_on(experiment, expected)


@pytest.mark.slow
def test_a_lowered_number_of_trials_cuts_a_search_short(experiment, expected):
    running, id = cut_short(experiment)
    (manager,) = (p for p in processes_of(id) if "--experiment-id" in p.cmdline())
    port = manager.cmdline()[manager.cmdline().index("--port") + 1]
    params = {"params": {"maxTrialNumber": 1}}
    request(f"http://127.0.0.1:{port}", "/experiment?update_type=MAX_TRIAL_NUM", "PUT", params)
    let_go(experiment)
    check_cut(experiment, running, r"cut short after \d candidates: its maxTrialNumber was lowered to 1")
    check_goes_on(experiment, expected)


@pytest.mark.slow
def test_a_search_stopped_by_nnictl_is_cut_short(experiment, expected):
    running, id = cut_short(experiment)
    finish(start(experiment, sys.executable, "-m", "nni_mcunet.search.nnictl", "stop", id))
    check_cut(experiment, running, "NNI was told to stop")
    let_go(experiment)
    check_goes_on(experiment, expected)


@pytest.mark.slow
def test_a_second_search_moves_the_first_to_previous(experiment, expected):
    for more in ((), ("--seed", "1")):
        result = finish(search(experiment, "run", "--config", experiment / "tiny.yml", *more))
        assert result.returncode == 0, result.stdout + result.stderr
        result = finish(search(experiment, "export", "--pareto", "--out", experiment / "out"))
        assert result.returncode == 0, result.stdout + result.stderr
    out = experiment / "out"
    assert (out / "previous/history.jsonl").read_bytes() == expected != (out / "history.jsonl").read_bytes()
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")} - {"previous"}
    assert names == {path.name for path in (out / "previous").iterdir()}
    assert names > {"pareto", "pareto.json", "best.pth", "done.json", "winner.png", "experiment.yml"}
