"""A search starts where the machine is loaded, behind a proxy, with the user's own settings of node."""

import sys
import time

import pytest
import yaml
from conftest import ROOT
from tiny import finish, history, leftovers, make_experiment, search

from nni_mcunet.search.nni.nnictl import MANAGER, environment

SLOW = "import sys, time\nif sys.orig_argv[1:3] == ['-m', 'nni']:\n    time.sleep(20)\n"
DEAD = "import os, sys\nif sys.orig_argv[1:3] == ['-m', 'nni']:\n    os._exit(3)\n"


LOST = """
import json, os, sys, time
from pathlib import Path
import nni
sys.path.insert(0, {tests!r})
from stub_trial import score
entries = nni.get_next_parameter()["candidates"]
found = {{}}
for at, entry in enumerate(entries):
    found[f"c{{at}}"] = score(entry["candidate"])
    nni.report_intermediate_result({{"default": found[f"c{{at}}"], "index": entry["index"]}})
    (Path({home!r}) / "ran" / f"{{entry['index']}}_{{os.environ['NNI_TRIAL_JOB_ID']}}").touch()
    if os.environ["NNI_TRIAL_SEQ_ID"] == "0" and at == 1:
        time.sleep(2)
        sys.exit(1)
nni.report_final_result({{"default": 0.0}} | found)
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "ran").mkdir()
    return make_experiment(tmp_path, f"{sys.executable} {ROOT}/tests/stub_trial.py {tmp_path}")


def run(home, code, **env):
    """A search whose processes execute `code` before anything else."""
    (home / "site").mkdir()
    (home / "site/sitecustomize.py").write_text(code)
    path = f"{home / 'site'}:{ROOT}"
    began = time.monotonic()
    result = finish(
        search(home, "run", "--config", home / "tiny.yml", "--timeout", "200", **env | {"PYTHONPATH": path})
    )
    return result, time.monotonic() - began


@pytest.mark.slow
def test_a_loaded_machine_behind_a_proxy(home):
    """NNI's own patience with the tuner is ten seconds; no proxy knows this machine's 127.0.0.1."""
    proxy = "http://127.0.0.1:9"  # nobody listens
    result, _ = run(
        home, SLOW, http_proxy=proxy, HTTP_PROXY=proxy, no_proxy="", NODE_OPTIONS="--max-old-space-size=900"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(history(home / "out")) == 8
    assert not leftovers(str(home))


def test_a_tuner_that_ends_at_once_is_not_waited_for(home):
    result, took = run(home, DEAD)
    assert result.returncode == 1 and "The tuner ended before it had connected" in result.stderr, result.stderr
    assert took < 100
    assert not leftovers(str(home))


def test_the_users_own_environment_is_kept(monkeypatch):
    monkeypatch.setenv("NODE_OPTIONS", "--max-old-space-size=900")
    monkeypatch.setenv("no_proxy", "intern.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    env = environment("10.1.2.3")
    assert env["NODE_OPTIONS"] == f'--max-old-space-size=900 --require "{MANAGER}"'
    assert env["no_proxy"] == "intern.example,127.0.0.1,localhost,10.1.2.3"
    assert env["NO_PROXY"] == "127.0.0.1,localhost,10.1.2.3"
    monkeypatch.setenv("NODE_OPTIONS", env["NODE_OPTIONS"])
    monkeypatch.setenv("no_proxy", env["no_proxy"])
    again = environment("10.1.2.3")  # of a command inside a command
    assert (again["NODE_OPTIONS"], again["no_proxy"]) == (env["NODE_OPTIONS"], env["no_proxy"])


@pytest.mark.slow
def test_two_slots_and_a_lost_trial(home):
    """Eight networks go to both slots. The first trial dies after its second: only its other two are tried again."""
    (home / "lost.py").write_text(LOST.format(tests=str(ROOT / "tests"), home=str(home)))
    config = yaml.safe_load((home / "tiny.yml").read_text())
    config |= {"trialCommand": f"{sys.executable} {home}/lost.py", "trialConcurrency": 2}
    config["tuner"]["classArgs"] |= {"population": 8, "batch": 8, "iterations": 0}
    (home / "tiny.yml").write_text(yaml.safe_dump(config))
    result, _ = run(home, "")
    assert result.returncode == 0, result.stdout + result.stderr
    ran = [int(path.name.partition("_")[0]) for path in (home / "ran").iterdir()]
    assert sorted(ran) == list(range(8))  # no network twice
    by_trial = {}
    for path in (home / "ran").iterdir():
        index, _, trial = path.name.partition("_")
        by_trial.setdefault(trial, []).append(int(index))
    assert sorted(map(len, by_trial.values())) in ([2, 2, 4], [1, 1, 2, 4])
    assert all(row["told"] for row in history(home / "out"))
