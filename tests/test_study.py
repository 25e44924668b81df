"""The study of joint search on photographs: what each way may propose, and its figures by hand."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import search_study
import study

from nni_mcunet.core.boards import KB
from nni_mcunet.core.errors import UserError
from nni_mcunet.search.space import load_space

ANNOTATION = "<annotation><size><width>100</width><height>100</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.mark.parametrize("arm", study.ARMS)
@pytest.mark.parametrize("limit", [32, 128])
def test_every_way_keeps_to_its_rules(arm, limit):
    search, space = study.evolution(limit, arm, 0), load_space(study.SPACE)
    first = [search.ask() for _ in range(study.POPULATION)]
    assert all(0 < proposal.sram <= limit * KB for proposal in first)
    patched = [proposal for proposal in first if proposal.n]
    assert bool(patched) == (arm in ("joint", "random"))
    stems = {space.spec(proposal.candidate).stem for proposal in first}
    assert stems == {8} if arm.startswith("stem 8") else len(stems) > 1
    for proposal in first:
        search.tell(proposal.index, 0.5)
    assert search.parents == (0 if arm == "random" else 5) and search.ask() is not None


def test_the_class_of_a_photograph(tmp_path):
    def label(task, *objects):
        (tmp_path / "a.xml").write_text(ANNOTATION.format("".join(OBJECT.format(*one) for one in objects)))
        return study.label_of(task, tmp_path / "a.xml")

    dog, person, tiny, chair = ("dog", 50, 50), ("person", 20, 20), ("person", 7, 7), ("chair", 90, 90)
    assert label("person", dog, person) == "person" and label("person", dog, tiny) == "none"
    assert label("animals", dog, person, chair) == "dog" and label("animals", chair) is None


def rows_of(right):
    """Winners: right[way] is a list of (super-network, which photographs are right); a way not named is as joint."""
    return [
        {"limit_kb": 32, "search": arm, "supernet": number, "sram": 100 + i, "macs": 7, "right": np.array(bits, bool)}
        for arm in study.ARMS
        for i, (number, bits) in enumerate(right.get(arm, right["joint"]))
    ]


def summary_of(right):
    return {one["search"]: one for one in study.summary(rows_of(right))}


def test_the_summary_by_hand():
    """Two winners a way on four photographs: means over both, the difference photograph by photograph."""
    found = summary_of({"joint": [(0, [1, 1, 1, 0]), (0, [1, 1, 0, 0])], "random": [(0, [1, 0, 0, 0])] * 2})
    assert found["joint"]["accuracy"] == 0.625 and found["random"]["accuracy"] == 0.25
    assert found["random"]["joint_ahead"] == 0.375 and found["joint"]["joint_ahead_95"] == [0, 0]
    assert found["random"]["joint_ahead_95"][0] < 0.375 < found["random"]["joint_ahead_95"][1]
    assert found["random"]["joint_ahead_in_each"] == [0.375]
    known = {"person": {"question": "is there?", "summary": list(found.values())}}
    assert "| person | 32 | random | 2 | 0.250" in study.table(known)
    assert study.plot(known).startswith(b"\x89PNG")


def test_super_networks_that_disagree_widen_the_interval():
    """On each photograph joint is as often ahead as behind: only which super-networks there were says by how much."""
    yes, no = [1] * 40, [0] * 40
    apart = summary_of({"joint": [(0, yes), (1, no), (2, yes)], "random": [(0, no), (1, yes), (2, no)]})["random"]
    assert apart["joint_ahead"] == 0.3333 and apart["joint_ahead_in_each"] == [1, -1, 1]
    assert apart["joint_ahead_95"] == [-1, 1]
    agree = summary_of({"joint": [(n, yes) for n in range(3)], "random": [(n, no) for n in range(3)]})["random"]
    assert agree["joint_ahead_95"] == [1, 1]


def test_an_interval_is_as_wide_as_the_data_say():
    """The spread of a mean over s things is their spread by the root of s: of super-networks and of photographs."""
    rng = np.random.default_rng(0)
    supernets = rng.normal(size=(4, 1)) + np.zeros((4, 50))
    expected = supernets[:, 0].std(ddof=1) / 2
    assert study.means_drawn(supernets).std() == pytest.approx(expected, rel=0.08)
    photos = rng.normal(size=50) + np.zeros((4, 1))
    for values in (photos, photos[:1]):  # one super-network says nothing about others
        assert study.means_drawn(values).std() == pytest.approx(photos[0].std() / 50**0.5, rel=0.08)


def test_searches_of_one_super_network_are_no_further_super_networks():
    """Two searches on each are averaged first."""
    right = {"joint": [(0, [1, 0]), (0, [1, 1]), (1, [0, 0]), (1, [0, 1])]}
    found = study.by_supernet(rows_of(right), 32, "joint")
    assert found.tolist() == [[1, 0.5], [0, 0.5]]


def test_hours_are_those_of_all_runs(tmp_path, monkeypatch):
    clock = iter([0.0, 3600.0, 5000.0, 6800.0])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(clock))
    assert study.Hours(tmp_path / "hours.json").spent() == 1
    assert study.Hours(tmp_path / "hours.json").spent() == 1.5


def test_results_of_another_training_are_not_gone_on_with(tmp_path):
    scores, supernet = tmp_path / "scores_0.jsonl", tmp_path / "supernet_0.pth"
    supernet.write_bytes(b"short")
    assert search_study.known_lines(scores, supernet) == []
    scores.write_text('["val", "a", 0.5]\n["val", "b", 0.6]\n["va')  # a kill has cut the last
    assert search_study.known_lines(scores, supernet) == [["val", "a", 0.5], ["val", "b", 0.6]]
    assert scores.read_text().endswith("0.6]\n")
    supernet.write_bytes(b"longer")
    with pytest.raises(UserError, match=r"scores_0\.jsonl holds results of another training"):
        search_study.known_lines(scores, supernet)
    scores.unlink()
    assert search_study.known_lines(scores, supernet) == []
    (tmp_path / "scores_0.sha256").unlink()  # as an earlier version left it
    scores.write_text('["val", "a", 0.5]\n')
    assert search_study.known_lines(scores, supernet) == [["val", "a", 0.5]]
