"""The study of joint search on photographs: what each way may propose, and its figures by hand."""

import sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import study

from nni_mcunet.core.boards import KB
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


def test_the_summary_by_hand():
    """Two winners a way on four photographs: means over both, the difference photograph by photograph."""
    right = {"joint": ([1, 1, 1, 0], [1, 1, 0, 0]), "random": ([1, 0, 0, 0], [1, 0, 0, 0])}
    rows = [
        {"limit_kb": 32, "search": arm, "sram": 100 + i, "macs": 7, "right": np.array(bits, bool)}
        for arm in study.ARMS
        for i, bits in enumerate(right.get(arm, right["joint"]))
    ]
    found = {one["search"]: one for one in study.summary(rows)}
    assert found["joint"]["accuracy"] == 0.625 and found["random"]["accuracy"] == 0.25
    assert found["random"]["joint_ahead"] == 0.375 and found["joint"]["joint_ahead_95"] == [0, 0]
    assert found["random"]["joint_ahead_95"][0] < 0.375 < found["random"]["joint_ahead_95"][1]
    known = {"person": {"question": "is there?", "summary": list(found.values())}}
    assert "| person | 32 | random | 2 | 0.250" in study.table(known)
    assert study.plot(known).startswith(b"\x89PNG")
