"""Damaged model files end in a message of ours or in a right binary (fuzz.py says how they are made and judged)."""

import json

import pytest
from fuzz import FAILURES, FORMATS, case, fuzz, summary

from nni_mcunet.core.files import write_atomic
from nni_mcunet.engine.frontend import load_model


def judged(kind: str, cases: int, first: int) -> dict:
    found = fuzz(cases, first, kind=kind)
    assert [c["case"] for c in found] == list(range(first, first + cases))
    counts = summary(found, kind)
    print(json.dumps(counts))
    assert not [c for c in found if c["outcome"] in FAILURES]
    return counts


# cases, of which so many at least are refused, and so many the same as the format's own runtime gives
@pytest.mark.parametrize("kind, cases, refused, same", [("onnx", 200, 60, 20), ("tflite", 40, 20, 5)])
def test_the_first_cases(kind, cases, refused, same):
    counts = judged(kind, cases, 0)
    assert counts["refused"] > refused and counts[f"accepted against {FORMATS[kind].REFERENCE}"]["same"] > same


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_five_thousand(kind):
    judged(kind, 5000, 1000)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_case_is_its_number(kind):
    assert case(7, kind) == case(7, kind) and len({case(n, kind)[1] for n in range(20)}) > 10


@pytest.mark.parametrize("kind", FORMATS)
def test_the_undamaged_files_are_read(tmp_path, kind):
    files = FORMATS[kind].files()
    assert {type(load_model(write_atomic(tmp_path / "m", data))).__name__ for data in files} == {"Model", "QuantModel"}
