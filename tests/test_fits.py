"""mcunet fits: the exit code that a CI job acts on, one line, and the same as data."""

import json

import pytest
from conftest import ROOT
from inprocess import command, refused

import nni_mcunet as mcu
from nni_mcunet.core.errors import UserError
from nni_mcunet.engine.codegen.picture_callbacks import callback_bytes

IN0 = ROOT / "configs/arch/mcunet_in0.json"


def test_exit_codes_and_one_line(monkeypatch, capsys, tmp_path):
    run = lambda *words: command(monkeypatch, capsys, "fits", *words)  # noqa: E731
    done = run(IN0, "--board", "stm32f412")
    assert done.code == 0 and done.out.count("\n") == 1 and done.err == ""
    assert done.out.startswith("fits: mcunet_in0 on stm32f412, layer by layer: SRAM ") and "ms estimated" in done.out
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
    best = mcu.best_schedule(IN0, "stm32f412")
    lines = callback_bytes(best)["lines"]
    kb = -(-best.arena // 1024)
    assert mcu.fits(IN0, "stm32f412", arena_kb=kb).plan.schedule == best.schedule
    found = mcu.fits(IN0, "stm32f412", source="lines", arena_kb=kb)
    assert lines > 1024 and found.fits and found.plan.schedule != best.schedule
    assert found.taken == callback_bytes(found.plan)["lines"] and found.plan.arena + found.taken <= 1024 * kb
    front = [p for p in mcu.front(IN0, max_p=4, any_grid=False, segments=3)]
    sizes = [p.arena + callback_bytes(p)["lines"] for p in front]
    assert found.plan.macs == min(p.macs for p, size in zip(front, sizes, strict=True) if size <= 1024 * kb)
    lacking = mcu.fits(IN0, "stm32f412", source="lines", arena_kb=min(sizes) // 1024).lacking
    assert (lacking.what, lacking.needed) == ("sram", min(sizes)) and "and lines on" in str(lacking)


def test_bad_arguments():
    for words in ({"source": "tape"}, {"source": 3}, {"arena_kb": 0}):
        with pytest.raises(UserError):
            mcu.fits(IN0, "stm32f412", **words)
