"""mcunet fits: the exit code that a CI job acts on, one line, and the same as data."""

import json
import re

import pytest
from conftest import ROOT
from inprocess import command, refused

import nni_mcunet as mcu
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.plan.picture_source import source_bytes

IN0 = ROOT / "configs/arch/mcunet_in0.json"


def test_a_model_is_called_as_its_file(shared, monkeypatch, capsys):
    done = command(monkeypatch, capsys, "fits", shared / "models/tflite/kws_ref_model.tflite", "--board", "stm32f412")
    assert done.code == 0 and done.out.startswith("fits: kws_ref_model.tflite on stm32f412, "), done


def test_exit_codes_and_one_line(monkeypatch, capsys, tmp_path):
    run = lambda *words: command(monkeypatch, capsys, "fits", *words)  # noqa: E731
    done = run(IN0, "--board", "stm32f412")
    assert done.code == 0 and done.out.count("\n") == 1 and done.err == ""
    assert done.out.startswith("fits: mcunet_in0 on stm32f412, layer by layer: SRAM ") and "ms estimated" in done.out
    assert re.search(r" bytes, constants [\d,]+ of ", done.out) and "flash" not in done.out  # code comes on top
    done = run("mobilenet_v2", "--board", "stm32f410", "--json", tmp_path / "fits.json")
    assert done.code == 3 and done.out.startswith("does not fit: mobilenet_v2 on stm32f410: needs 3,650,352 bytes of")
    assert json.loads((tmp_path / "fits.json").read_text())["lacks"] == "flash"
    assert run("mobilenet_v2", "--board", "stm32f410", "--json", tmp_path / "fits.json").code == 3  # its own product
    done = run(IN0, "--board", "stm32f412", "--json")
    said = json.loads(done.out)
    assert done.code == 0 and said["fits"] and said["arena_bytes"] <= said["arena_limit"] and said["source_bytes"] == 0
    refused(run(tmp_path / "none.onnx", "--board", "stm32f412"), "none.onnx")
    refused(run(IN0, "--board", "stm32x"), "unknown board")
    assert run(IN0, "--board", "stm32f412", "--source", "tape").code == 2


def test_the_source_takes_room():
    """The schedule changes where the best one leaves none; where none does, the least that is needed is said."""
    best, beside = mcu.best_schedule(IN0, "stm32f412"), source_bytes("lines")
    kb = -(-best.arena // 1024)
    assert mcu.fits(IN0, "stm32f412", arena_kb=kb).plan.schedule == best.schedule
    found = mcu.fits(IN0, "stm32f412", source="lines", arena_kb=kb)
    assert found.fits and found.plan.schedule != best.schedule
    assert found.taken == beside(found.plan.graph, found.plan.schedule, found.plan.halo) > 1024
    assert found.plan.arena + found.taken <= 1024 * kb
    assert found.plan.schedule == mcu.best_schedule(IN0, "stm32f412", source="lines", arena_kb=kb).schedule
    lacking = mcu.fits(IN0, "stm32f412", source="lines", arena_kb=8).lacking
    assert lacking.what == "sram" and lacking.needed > 8 * 1024
    assert mcu.fits(IN0, "stm32f412", source="lines", arena_kb=-(-lacking.needed // 1024)).fits


def test_bad_arguments():
    for words in ({"source": "tape"}, {"source": 3}, {"arena_kb": 0}):
        with pytest.raises(UserError):
            mcu.fits(IN0, "stm32f412", **words)
