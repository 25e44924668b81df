"""history.jsonl and the files beside it, damaged: a cut last line is left out, all else is a one-line error."""

import json
import os
from dataclasses import asdict

import pytest
from tiny import DEMO, history, write_all

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.search.constraint import Limits
from nni_mcunet.search.evolution import Evolution, HistoryError
from nni_mcunet.search.nni.launch import find
from nni_mcunet.search.run.history import History, best_of, count_told, read_history
from nni_mcunet.search.run.run_folder import finished, read_settings


def evolution(told=3):
    found = Evolution(DEMO, Limits(get_board("h743")).check, population=4, iterations=1)
    for score in range(told):
        found.tell(found.ask().index, score / 10)
    return found


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    out = tmp_path_factory.mktemp("history")
    History(out).write(evolution())
    return (out / "history.jsonl").read_text().splitlines()


def test_best_json_follows_the_best(tmp_path):
    """And is written again only where the best has changed."""
    writer, search = History(tmp_path), evolution(told=1)
    for score in (0.5, 0.3, 0.9, 0.1):
        writer.write(search)
        best = search.ranked()[0]
        assert ArchSpec.load(tmp_path / "best.json") == DEMO.spec(best.candidate, best.schedule)
        assert [p["score"] for p in history(tmp_path)] == [p.score for p in search.proposals]
        before = os.stat(tmp_path / "best.json").st_ino
        search.tell(search.ask().index, score)
    writer.write(search)
    assert os.stat(tmp_path / "best.json").st_ino == before


def test_of_equals_the_cheaper_wins(tmp_path):
    """In best.json and done.json, while it is searched and afterwards; parents are the earlier of equals."""
    writer, search = History(tmp_path), evolution(told=0)
    while (proposal := search.ask()) is not None:
        search.tell(proposal.index, 0.5)
    cheapest = min(search.proposals, key=lambda p: (p.macs, p.sram, p.index))
    assert cheapest.index != 0 and [p.index for p in search.ranked()] == sorted(p.index for p in search.proposals)
    writer.close(search)
    assert ArchSpec.load(tmp_path / "best.json") == DEMO.spec(cheapest.candidate, cheapest.schedule)
    assert json.loads((tmp_path / "done.json").read_text())["best"] == [asdict(cheapest)]
    assert best_of(read_history(tmp_path))["index"] == cheapest.index


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_a_failure(tmp_path, score):
    """It would sort anywhere, and JSON has no word for it."""
    search = evolution(told=1)
    search.tell(search.ask().index, score)
    History(tmp_path).write(search)
    assert [line["score"] for line in read_history(tmp_path)[:2]] == [search.proposals[0].score, None]
    assert read_history(tmp_path)[1]["told"] and [p.index for p in search.ranked()] == [0]


@pytest.mark.parametrize("kept", [1, 30, 200, -1])
def test_a_cut_last_line_is_left_out_and_said(tmp_path, lines, capfd, kept):
    text = "\n".join([*lines[:2], lines[2][:kept]])
    for at, tail in enumerate(("", "\n", "\0\0\0", "\r\n")):
        out = tmp_path / str(at)
        write_all(out, {"history.jsonl": text + tail})
        assert read_history(out) == [json.loads(line) for line in lines[:2]]
        assert capfd.readouterr().err == f"{out}/history.jsonl: line 3, the last one, is cut and left out\n"


def test_a_whole_history_is_taken_with_and_without_its_last_newline(tmp_path, lines, capfd):
    for tail in ("", "\n", "\n\n"):
        write_all(tmp_path, {"history.jsonl": "\n".join(lines) + tail})
        assert read_history(tmp_path) == [json.loads(line) for line in lines]
    assert count_told(tmp_path) == 3 and capfd.readouterr().err == ""
    write_all(tmp_path, {"history.jsonl": ""})
    assert read_history(tmp_path) == []


def changed(**values):
    return lambda line: json.dumps(json.loads(line) | values)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda line: "null", "it is None: expected an object with the keys index, generation"),
        (lambda line: "[]", "expected an object"),
        (lambda line: "", "it is empty"),
        (lambda line: "}", "not valid JSON"),
        (lambda line: line + line, "not valid JSON"),
        (lambda line: line[:50], "not valid JSON"),
        (lambda line: "[" * 100_000, "nested more than"),
        (lambda line: line.replace('"n": ', '"n": ' + "9" * 5000), "a number of 5,00. digits"),
        (lambda line: line.replace('"score": ', '"score": NaN, "x": '), "NaN is no number"),
        (lambda line: line.replace('"score": ', '"score": 1e999, "x": '), "expected a finite one"),
        (lambda line: line.replace("{", "{\0", 1), "not valid JSON"),
        (lambda line: line.replace('"clip"', '"cl\udce9p"'), "it is no UTF-8 text"),
        (lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "macs"}), "lacks the key 'macs'"),
        (changed(extra=1), "the unknown key 'extra'"),
        (changed(index=7), "index is 7: expected 1, the line's place"),
        (changed(index=True), "index is True: expected an integer from 0"),
        (changed(generation=2), "generation is 2: expected 0 or the next"),
        (changed(generation="0"), "generation is '0'"),
        (changed(candidate=None), "candidate is None: expected an object of genes"),
        (changed(candidate={"r": [1]}), "candidate is"),
        (changed(p=2), "p is 2: expected "),
        (changed(p=[1, 0]), r"p is \[1, 0\]"),
        (changed(p=[1, 1.0]), r"p is \[1, 1.0\]"),
        (changed(n=-1), "n is -1: expected an integer from 0"),
        (changed(n=1.5), "n is 1.5"),
        (changed(sram="9"), "sram is '9'"),
        (changed(macs=2**70), "macs is "),
        (changed(halo=1), "halo is 1: expected a word"),
        (changed(score="0.5"), "score is '0.5': expected a number or null"),
        (changed(score=True), "score is True"),
        (changed(told=1), "told is 1: expected true or false"),
        (changed(told=False), "told is False beside a score"),
    ],
)
def test_a_damaged_line_is_named(tmp_path, lines, damage, message):
    text = "\n".join([lines[0], damage(lines[1]), lines[2]])
    write_all(tmp_path, {"history.jsonl": text.encode(errors="surrogateescape")})
    with pytest.raises(HistoryError, match=message) as error:
        read_history(tmp_path)
    assert "history.jsonl, line 2: " in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 600 and "resume` goes on" in str(error.value)


@pytest.mark.parametrize("last", ["null", "[]", "{}", '{"index": 0}', "}", "x", '"', "{}}"])
def test_a_last_line_that_is_not_cut_but_wrong_is_an_error(tmp_path, lines, last):
    write_all(tmp_path, {"history.jsonl": f"{lines[0]}\n{last}"})
    with pytest.raises(HistoryError, match=r"history\.jsonl, line 2: "):
        read_history(tmp_path)


def test_the_cases_that_users_met(shared, tmp_path):
    for name, message in (("history_null", "line 1: it is None"), ("history_trunc", None)):
        data = (shared / f"cases/files/{name}.jsonl").read_bytes()
        write_all(tmp_path / name, {"history.jsonl": data})
        if message:
            with pytest.raises(HistoryError, match=message):
                read_history(tmp_path / name)
        else:
            assert len(read_history(tmp_path / name)) == data.count(b"\n") > 1


def test_genes_of_another_space_are_named(tmp_path, lines):
    line = json.loads(lines[0])
    write_all(tmp_path, {"history.jsonl": json.dumps(line | {"candidate": line["candidate"] | {"r": 97}})})
    with pytest.raises(UserError, match="gene r is 97"):
        DEMO.spec(read_history(tmp_path)[0]["candidate"])


# --- a search that goes on, and the files beside its history


def test_a_search_goes_on_from_a_history_that_is_cut(tmp_path, monkeypatch):
    from test_tuner import Manager

    monkeypatch.setenv("NNI_MODE", "start")
    whole = Manager(tmp_path).to_the_end()
    out = tmp_path / "out"
    for length in (len(whole) - 1, len(whole) - 300, len(whole) // 2, 20):
        (out / "history.jsonl").write_bytes(whole[:length])
        assert finished(out) is (length == len(whole) - 1)  # a newline is no loss
        assert Manager(tmp_path, mode="resume").to_the_end() == whole
        assert finished(out)
    (out / "history.jsonl").write_bytes(b'"sram": 1'.join(whole.rsplit(b'"sram": ', 1)))
    with pytest.raises(UserError, match=r"candidate 7 needs .* not 1"):
        Manager(tmp_path, mode="resume").to_the_end()


@pytest.mark.parametrize(
    "files, message",
    [
        ({"search.json": "null"}, "search.json is not a search's"),
        ({"search.json": '{"settings": {}, "space": []}'}, "search.json is not a search's"),
        ({"search.json": "{"}, "search.json: not valid JSON"),
        ({"search.json": '{"settings": {"space": 5}, "space": {}}'}, "lacks the key|space is 5"),
        ({"search.json": ""}, "the file is empty"),
    ],
)
def test_damaged_settings_are_one_line(tmp_path, files, message):
    write_all(tmp_path, files)
    with pytest.raises(UserError, match=message) as error:
        read_settings(tmp_path)
    assert "\n" not in str(error.value)


GOOD = '{"settings": {}, "space": {}, "experiment": "abc"}'


@pytest.mark.parametrize(
    "files, message",
    [
        ({"experiment.json": "null"}, "experiment.json names no experiment"),
        ({"experiment.json": '{"experiment": 5}'}, "names no experiment of NNI's .5."),
        ({"experiment.json": '{"experiment": "../../etc"}'}, "names no experiment"),
        ({"experiment.json": "{"}, "not valid JSON"),
        ({"search.json": GOOD, "done.json": "null", "history.jsonl": ""}, "done.json is None"),
        ({"search.json": GOOD, "done.json": '{"candidates": "4"}'}, "done.json is"),
        ({"experiment.json": '{"experiment": "a"}', "experiment.yml": "2020-13-45"}, "experiment.yml: "),
        ({"experiment.json": '{"experiment": "a"}', "experiment.yml": "tuner: 5"}, "experiment.yml: "),
        ({"experiment.json": '{"experiment": "a"}', "experiment.yml": "{"}, "experiment.yml: not valid YAML"),
        ({"experiment.json": '{"experiment": "a"}', "experiment.yml": "- " * 1000}, "nested more than"),
    ],
)
def test_a_damaged_state_is_one_line(tmp_path, monkeypatch, files, message):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_all(tmp_path / "out", files)
    with pytest.raises(UserError, match=message) as error:
        find(out=tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("listed", ["null", "[]", '{"abc": 5}', '{"abc": {"logDir": 5}}', "{"])
def test_a_damaged_list_of_nnis_is_one_line(tmp_path, monkeypatch, listed):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_all(tmp_path, {"nni-experiments/.experiment": listed})
    with pytest.raises(UserError) as error:
        find("abc")
    assert "\n" not in str(error.value) and "experiment" in str(error.value)


def test_a_damaged_database_of_nnis_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    listed = json.dumps({"abc": {"logDir": str(tmp_path / "nni")}})
    write_all(tmp_path, {"nni-experiments/.experiment": listed, "nni/abc/db/nni.sqlite": "no database" * 1000})
    with pytest.raises(UserError, match=r"nni\.sqlite: file is not a database") as error:
        find("abc")
    assert "\n" not in str(error.value)
