"""The page of a search: the curve, the front with its networks, diversity and times are those of the history."""

import json
import sqlite3
from contextlib import closing
from importlib.util import find_spec

import pytest
from chromium import visited
from inprocess import command, refused
from test_report import DEMO, history, write_history

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.nni.trouble import trial_times
from nni_mcunet.search.run import run_folder
from nni_mcunet.search.run.history import best_of, pareto_front, schedule_of, scored
from nni_mcunet.search.run.page import sections

__all__ = ["history"]  # the fixture
needs_library = pytest.mark.skipif(find_spec("vl_convert") is None, reason="pip install 'nni-mcunet[page]'")


def test_what_is_drawn_is_the_history(history):
    found = {s.id: s for s in sections(DEMO, scored(history), history, "not known", None)}
    curve, front = found["curve"].rows, found["front"].rows
    assert [row["index"] for row in curve["candidates"]] == [line["index"] for line in scored(history)]
    assert curve["best"][-1]["score"] == best_of(history)["score"]
    assert [row["index"] for row in front["front"]] == [line["index"] for line in pareto_front(history)]
    for line in pareto_front(history):
        spec = DEMO.spec(line["candidate"], schedule_of(line))
        rows = [row for row in front["blocks"] if row["index"] == line["index"]]
        assert [row["bytes"] for row in rows] == [*plan(build_graph(spec), spec.schedule).block_peaks().values()]
        assert max(row["bytes"] for row in rows) <= line["sram"]
        assert sum(row["patched"] for row in rows) == line["n"]
    rows = found["diversity"].rows["generations"]
    assert [row["generation"] for row in rows] == [0, 1, 2] and all(0 < row["diversity"] <= 1 for row in rows)
    assert sum(row["candidates"] for row in rows) == len(scored(history)) and found["times"].why == "not known"


def test_the_times_of_trials_are_nnis(tmp_path):
    """Read from a record as NNI writes it; a trial that runs still has none."""
    (tmp_path / "abc/db").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "abc/db/nni.sqlite")) as db:
        db.execute("create table ExperimentProfile (id text, startTime integer, revision integer)")
        db.execute("create table TrialJobEvent (timestamp integer, trialJobId text, event text, sequenceId integer)")
        db.execute("insert into ExperimentProfile values ('abc', 1000, 1)")
        events = [(2000, "a", "WAITING", 0), (3000, "a", "RUNNING", 0), (5500, "a", "SUCCEEDED", 0)]
        db.executemany("insert into TrialJobEvent values (?, ?, ?, ?)", [*events, (6000, "b", "RUNNING", 1)])
        db.commit()
    expected = {"trial": 0, "state": "succeeded", "from": 2.0, "to": 4.5, "seconds": 2.5}
    assert trial_times(tmp_path, "abc") == [expected]
    assert trial_times(tmp_path, "none") == []


@pytest.fixture
def results(history, tmp_path):
    """A folder of a search's results."""
    config = SearchConfig("demo", "stm32f412", str(tmp_path / "none.pth"), str(tmp_path), max_sram_kb=48)
    write_history(history, tmp_path)
    described = {"experiment": "abc", "settings": run_folder.asdict(config), "space": DEMO.to_dict()}
    (tmp_path / "search.json").write_text(json.dumps(described))
    assert get_board(config.board).name == config.board
    return tmp_path


@needs_library
def test_the_page_in_a_browser(results, monkeypatch, capsys):
    done = command(monkeypatch, capsys, "search", "report", "--out", results, "--html")
    assert done.code == 0 and "search.html" in done.out
    with visited(results / "search.html", results / "profile") as view:
        assert view.ask("return [...document.querySelectorAll('section')].map((part) => part.id)") == [
            "curve", "front", "diversity", "times"
        ]  # fmt: skip
        line = """return [...document.querySelectorAll('#front text')].map((text) => text.textContent)
          .find((text) => text.startsWith('candidate '))"""
        best = view.ask(line)
        place = view.ask(
            """
            const dots = [...document.querySelectorAll('#front .mark-symbol.role-mark path')].filter(
              (path) => path.getAttribute('fill') !== 'transparent' && path.getBoundingClientRect().width > 9);
            const box = dots[0].getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
            """
        )
        view.hover(*place)
        view.ask("await new Promise((done) => setTimeout(done, 500))")
        assert best.startswith(f"candidate {best_of(history_of(results))['index']}:") and view.ask(line) != best
        assert "Not known" in view.ask("return document.querySelector('#times .why').textContent")


def history_of(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


@needs_library
def test_another_file_of_the_name_stays(results, monkeypatch, capsys):
    (results / "search.html").write_text("<p>mine</p>")
    refused(command(monkeypatch, capsys, "search", "report", "--out", results, "--html"), "no product of this command")
    assert (results / "search.html").read_text() == "<p>mine</p>"
