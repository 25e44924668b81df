"""The folder of a search's results: a new search moves every file of the last one to previous, a stranger's stay, and a
kill at any step loses nothing."""

import json
import shutil

import pytest
from tiny import Killed, contents, killed_at, write_all

from nni_mcunet.core.errors import UserError
from nni_mcunet.search.nni.launch import take
from nni_mcunet.search.nni.processes import Busy
from nni_mcunet.search.run.result_folder import check_free, replacing, set_aside, set_front_aside

SEARCH = json.dumps({"experiment": "abc", "settings": {}, "space": {}})
LINE = dict(index=0, generation=0, candidate={"r": 64}, p=[1, 1], n=0, sram=1, flash=1, macs=1, score=0.5, told=True)
NAMES = (
    "done.json", "best.json", "best.pth", "search.png", "pareto.png", "winner.png", "report.md", "pareto.json",
    "experiment.yml", "best_tuned.pth", "pareto/00.json", "pareto/00.pth", "pareto/11_tuned.pth",
)  # fmt: skip
FOREIGN = {"notes.txt": b"mine", "data/a.jpg": b"mine", "pareto/00.onnx": b"mine", "board.yml": b"mine"}


def files(word: str) -> dict[str, bytes]:
    """A search that has come to its end, with all that can lie in its folder."""
    made = {name: f"{word} {name}".encode() for name in NAMES}
    made |= {"search.json": (SEARCH + " " * len(word)).encode(), "history.jsonl": json.dumps(LINE).encode()}
    return made | {"experiment.json": f'{{"experiment": "{word}"}}'.encode(), "done.json": b'{"candidates": 1}'}


def fresh(word: str) -> dict[str, bytes]:
    """Write what `run` leaves in out/running."""
    return {name: data for name, data in files(word).items() if "pareto" not in name and "tuned" not in name}


def whole_run(out, word, resume=False):
    with replacing(out, resume) as running:
        if not (running / "done.json").exists():
            write_all(running, fresh(word))


def test_three_searches_in_one_folder(tmp_path):
    write_all(tmp_path, files("a") | FOREIGN)
    for word in ("b", "c"):
        whole_run(tmp_path, word)
    found = contents(tmp_path)
    expected = FOREIGN | fresh("c") | {f"previous/{name}": data for name, data in fresh("b").items()}
    assert found == expected | {f"previous.1/{name}": data for name, data in files("a").items()}


def test_a_search_that_fails_leaves_the_last_one_as_it_is(tmp_path):
    write_all(tmp_path, files("a"))
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path) as running:
        write_all(running, {"history.jsonl": b"half"})
        raise KeyboardInterrupt
    assert contents(tmp_path) == files("a") | {"running/history.jsonl": b"half"}


def test_killed_at_any_step_and_gone_on_with(tmp_path):
    before, step = files("a") | FOREIGN | {"previous/search.json": SEARCH.encode(), "previous/best.json": b"older"}, 0
    while True:
        out = tmp_path / str(step)
        write_all(out, before)
        with killed_at(10**6), replacing(out) as running:
            write_all(running, fresh("b"))
            raise Killed
        with killed_at(step) as left:
            whole_run(out, "b", resume=True)
        found = sorted(contents(out).values())
        for data in (*before.values(), *fresh("b").values()):
            assert data in found, f"lost before step {step}"
            found.remove(data)
        if left:
            break
        if (out / ".ended").exists() and (out / "done.json").exists():
            assert not contents(out / ".ended")  # it says that all are there
        whole_run(out, "b", resume=True) if (out / "running").exists() else take(out)
        there = contents(out)
        assert {name: there[name] for name in fresh("b")} == fresh("b")
        assert {name: there[f"previous/{name}"] for name in files("a")} == files("a")
        assert there["previous.1/best.json"] == b"older" and not [name for name in there if name.startswith(".prev")]
        step += 1
    assert step > 20


def test_strangers_are_not_moved(tmp_path):
    """Folders called previous, a user's own experiment.yml beside a search of nnictl's, files in running/."""
    mine = {name: data for name, data in files("a").items() if not name.startswith("experiment")}
    strange = {"previous/photo.jpg": b"x", "previous.2": b"x", "experiment.yml": b"my config", "running/notes": b"x"}
    write_all(tmp_path, mine | strange)
    set_aside(tmp_path)
    assert contents(tmp_path) == strange | {f"previous.1/{name}": data for name, data in mine.items()}
    write_all(tmp_path, mine)
    set_aside(tmp_path)
    assert strange.items() <= contents(tmp_path).items()
    assert (tmp_path / "previous.3/best.pth").exists() and (tmp_path / "previous.1/best.pth").exists()


@pytest.mark.parametrize(
    "there, message",
    [
        ({"best.json": "{}"}, "holds best.json but no search.json"),
        ({"pareto/00.json": ""}, "holds pareto/00.json but no search.json"),
        ({"history.jsonl": "{}"}, "holds history.jsonl but no search.json"),
        ({"experiment.yml": ""}, "holds experiment.yml but no search.json"),
        ({"running/photo.jpg": ""}, "running holds photo.jpg and is not a search's"),
        ({"search.json": '{"query": 1}'}, "is not a search's: expected an object with 'settings' and 'space'"),
        ({"search.json": '{"settings": 1, "space": {}}'}, "is not a search's"),
        ({"search.json": "{"}, "not valid JSON"),
        ({"search.json": "[" * 10**5}, "nested more than"),
        ({"search.json": SEARCH, "history.jsonl": json.dumps(LINE)}, "holds an unfinished search"),
        ({"running/search.json": SEARCH, "running/history.jsonl": json.dumps(LINE)}, "holds an unfinished search"),
        ({"running/experiment.json": '{"experiment": "../x"}'}, "names no experiment"),
        ({"running/experiment.json": "[]"}, "names no experiment"),
        ({"search.json": SEARCH, "history.jsonl": json.dumps(LINE), "done.json": "[]"}, "done.json is"),
    ],
)
def test_a_folder_that_cannot_take_a_search_is_refused_and_left(tmp_path, there, message):
    write_all(tmp_path, there)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        take(tmp_path)
    assert "\n" not in str(error.value)
    assert {name: data for name, data in contents(tmp_path).items() if ".lock" not in name} == before


def test_results_cannot_go_where_a_file_is(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="is a file: name another folder"), replacing(tmp_path / "out" / "deep"):
        pass


@pytest.mark.parametrize("where", ["", "running/"])
def test_an_unfinished_search_is_set_aside_on_demand(tmp_path, where):
    there = {f"{where}search.json": SEARCH, f"{where}history.jsonl": json.dumps(LINE), f"{where}best.json": "best"}
    write_all(tmp_path, there)
    take(tmp_path, aside=True)
    whole_run(tmp_path, "b")
    assert (tmp_path / "previous/best.json").read_text() == "best"
    assert (tmp_path / "best.json").read_bytes() == b"b best.json"


def test_a_folder_where_a_tuner_is_at_work_is_refused(tmp_path):
    from nni_mcunet.search.nni.processes import hold

    hold(tmp_path / ".tuner.lock", "search")
    with pytest.raises(Busy, match="another search is at work"):
        take(tmp_path)


def test_networks_of_another_front_are_kept_apart(tmp_path):
    write_all(tmp_path, {f"pareto/{name}": "x" for name in ("00.json", "00.pth", "00_tuned.pth", "00.onnx")})
    set_front_aside(tmp_path)
    assert sorted(contents(tmp_path)) == [
        "pareto.1/00.json",
        "pareto.1/00.pth",
        "pareto.1/00_tuned.pth",
        "pareto/00.onnx",
    ]
    set_front_aside(tmp_path)
    assert not (tmp_path / "pareto.2").exists()


def test_a_search_without_a_result_leaves_nothing(tmp_path):
    write_all(tmp_path, {"running/experiment.json": '{"experiment": "x"}', "running/experiment.yml": "", "a": "mine"})
    write_all(tmp_path, {"running/notes": "mine"})
    whole_run(tmp_path, "b")
    assert (tmp_path / "notes").read_text() == "mine" and not (tmp_path / "previous").exists()
    shutil.rmtree(tmp_path / "pareto", ignore_errors=True)
    check_free(tmp_path, started=True)
