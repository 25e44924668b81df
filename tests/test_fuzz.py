"""Damaged ONNX files end in a message of ours or in a right binary (fuzz.py says how they are made and judged)."""

import json

import pytest
from fuzz import FAILURES, case, files, fuzz, summary

from nni_mcunet.core.files import write_atomic
from nni_mcunet.engine.frontend.onnx import load_onnx


def judged(cases: int, first: int) -> dict:
    found = fuzz(cases, first)
    assert [c["case"] for c in found] == list(range(first, first + cases))
    print(json.dumps(summary(found)))
    assert not [c for c in found if c["outcome"] in FAILURES]
    return summary(found)


def test_two_hundred():
    counts = judged(200, 0)
    assert counts["refused"] > 60 and counts["accepted against onnxruntime"]["same"] > 20


@pytest.mark.slow
def test_five_thousand():
    judged(5000, 1000)


def test_a_case_is_its_number():
    assert case(7) == case(7) and len({case(n)[1] for n in range(20)}) > 10


def test_the_undamaged_files_are_read(tmp_path):
    kinds = {type(load_onnx(write_atomic(tmp_path / "m.onnx", data))).__name__ for data in files()}
    assert kinds == {"Model", "QuantModel"}
