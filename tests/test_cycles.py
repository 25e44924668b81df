"""Instructions and cycles per layer against QEMU's own counter, hand-counted code and the ELF's totals."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from nets import every_kind, random_model

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower.program import SELF
from nni_mcunet.engine.run import emulator, firmware, toolchain
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.timing import qemu_counts as counts
from nni_mcunet.engine.timing.core_pipelines import cortex_m0plus, cortex_m3, cortex_m4, cortex_m7
from nni_mcunet.engine.timing.disassembly import Instruction
from nni_mcunet.engine.timing.layer_cycles import run_profiled
from nni_mcunet.engine.timing.plan_file import PLAN
from nni_mcunet.engine.timing.report import board_report, report_table
from nni_mcunet.engine.timing.wait_states import memory_of
from nni_mcunet.profiling.pictures import cycles_figure


@pytest.fixture(scope="module", params=["f412", "h743"])
def profiled(request, tmp_path_factory):
    """(plan, elf, board, run, layers) of every kind of layer, the first blocks in patches with a cached halo."""
    folder, board, rng = tmp_path_factory.mktemp("cycles"), get_board(request.param), np.random.default_rng(0)
    found = plan(every_kind(), Schedule((3, 2), 2), halo="cache")
    write_library(folder, found, random_model(rng, found.graph), board)
    image = found.graph.inputs[0]
    elf = firmware.build_firmware(folder, board, rng.integers(0, 256, (image.h, image.w, 3)).astype(np.uint8))
    return found, elf, board, *run_profiled(elf, board)


def test_every_instruction_belongs_to_a_layer(profiled):
    found, elf, board, run, layers = profiled
    plain = emulator.run_emulated(elf, board)
    assert plain["instructions"] == run["instructions"] and plain["crc32"] == run["crc32"]
    # mcu_instructions counts in steps of 40, and so few of its own.
    assert sum(layer.instructions for layer in layers.values()) == pytest.approx(run["instructions"], abs=80)
    patches = {op.name: 6 for op in found.segments[0].ops}
    for op in found.graph.ops:
        times = layers[op.name].calls / (len(op.inputs) if op.kind == "concat" else 1)
        assert 1 <= times <= patches.get(op.name, 1)
    assert layers["image"].calls == 6 and [*layers][:: len(layers) - 1] == ["image", SELF]
    assert sum(name.endswith(":halo") for name in layers) == len({name.split(":")[0] for name in found.cache})
    for layer in layers.values():
        assert 0.5 * layer.instructions < layer.cycles - layer.stalls < 4 * layer.instructions


def test_parts_add_up_to_the_elf(profiled):
    found, elf, board, _, layers = profiled
    report, sizes = board_report(elf, board, layers), elf_report(elf)
    assert sum(report["flash"].values()) == sizes["flash_bytes"]
    assert sum(report["sram"].values()) == sizes["sram_bytes"] and report["sram"]["arena"] == found.arena
    assert 0 <= report["flash"]["rest"] < 2500 and report["flash"]["kernels"] > 3000
    header = (elf.parent.parent / "mcu_weights.h").read_text()
    arrays = re.findall(r"int8_t \w+_w\[(\d+)\]", header)
    assert len(arrays) == sum(op.kind == "conv" for op in found.graph.ops)
    assert report["flash"]["weights"] == sum(map(int, arrays))
    table = report_table(report)
    assert all(f" {row['name']} " in table for row in report["layers"])
    assert f"lines {report['callback_bytes']['lines']:,}" in report_table(report)
    assert {row["name"]: row["live_bytes"] for row in report["layers"] if "live_bytes" in row} == {
        op.name: found.live_bytes(i) for i, op in enumerate(found.graph.ops)
    }


def test_without_what_was_planned(profiled):
    """The report says less; there is no way to tell which layer is which."""
    _, elf, board, _, layers = profiled
    path = elf.parent.parent / PLAN
    text = path.read_text()
    try:
        path.unlink()
        report = board_report(elf, board, layers)
        assert "callback" not in report_table(report) and not any("live_bytes" in row for row in report["layers"])
        with pytest.raises(UserError, match=r"plan\.json does not say which layer .* run mcunet generate again"):
            run_profiled(elf, board)
        write_json(path, json.loads(text) | {"sites": {"x": "stem"}})
        with pytest.raises(UserError, match=r"plan\.json does not say which layer"):
            run_profiled(elf, board)
    finally:
        path.write_text(text)


def test_the_figure(profiled, tmp_path):
    _, elf, board, _, layers = profiled
    report = board_report(elf, board, layers)
    path = cycles_figure(report["layers"], tmp_path / "layers.png", board.name)
    assert path.read_bytes().startswith(b"\x89PNG")


def code(text: str) -> list[Instruction]:
    rows = [line.strip().partition(" ") for line in text.strip().splitlines()]
    return [Instruction(4 * i, 4, name, operands.strip()) for i, (name, _, operands) in enumerate(rows)]


@pytest.mark.parametrize(
    "text, m4",
    [  # the manual's examples of load and store timings, and its table
        ("ldr r0, [r1]\nldr r1, [r2]", 3),
        ("ldr r0, [r1, r2]\nstr r0, [r3, #20]", 3),
        ("ldr r0, [r1, r2]\nstr r1, [r3, r2]", 3),
        ("ldr r0, [r1, r5]\nldr r1, [r2]\nldr r2, [r3, #4]", 4),
        ("ldr r0, [r1]\nldr r2, [r0]", 4),
        ("str r0, [r1, #4]", 1),
        ("str r0, [r1, #4]\nldr r0, [r2]", 3),
        ("ldmia r0!, {r4, r5, r6}", 4),
        ("ldrd r0, r1, [r2]", 3),
        ("push {r4, r5, lr}", 4),
        ("smlad r0, r1, r2, r0\nsmlad r0, r3, r4, r0\nsmull r5, r6, r7, r8\nmul r0, r1, r2", 4),
        ("add r0, r0, #4\nldr r1, [r0]", 4),
        ("vdiv.f32 s0, s1, s2", 14),
        ("sub r0, r0, #1\nbne 0", 2),
    ],
)
def test_cortex_m4_by_the_manual(text, m4):
    assert cortex_m4(code(text)) == m4


@pytest.mark.parametrize(
    "text, m7",
    [
        ("add r0, r1, r2\nadd r3, r4, r5", 1),
        ("add r0, r1, r2\nadd r3, r0, r5", 2),
        ("ldr r0, [r1]\nldr r2, [r3]", 1),
        ("ldr r0, [r1]\nstr r2, [r3]", 2),
        ("ldr r0, [r1]\nadd r2, r0, r3", 3),
        ("smlad r0, r1, r2, r0\nsmlad r3, r1, r2, r3", 2),
        ("smlad r0, r1, r2, r0\nsmlad r0, r3, r4, r0", 2),
        ("smlad r0, r1, r2, r0\nldr r3, [r4]", 1),
        ("ldr r3, [r4]\nsmlad r0, r1, r2, r0", 2),
        ("mul r0, r1, r2\nadd r3, r0, r4", 3),
        ("add r0, r1, r2, lsl #2\nadd r3, r4, r5, lsl #2", 2),
        ("subs r0, r0, #1\nbne 0", 1),
    ],
)
def test_cortex_m7_pairs(text, m7):
    assert cortex_m7(code(text)) == m7


@pytest.mark.parametrize(
    "text, m3, m0plus",
    [  # the manuals' tables
        ("ldr r0, [r1]\nldr r1, [r2]", 3, 4),
        ("mla r0, r1, r2, r3", 2, 1),
        ("mul r0, r1, r2\nadds r0, r0, r1", 2, 2),
        ("smull r0, r1, r2, r3", 5, 1),
        ("umlal r0, r1, r2, r3", 7, 1),
        ("push {r4, r5, lr}", 4, 4),
        ("ldmia r0!, {r4, r5, r6}", 4, 4),
        ("subs r0, r0, #1\nbl 0", 2, 3),
        ("sdiv r0, r1, r2", 7, 1),
    ],
)
def test_cortex_m3_and_m0plus_by_the_manuals(text, m3, m0plus):
    assert (cortex_m3(code(text)), cortex_m0plus(code(text))) == (m3, m0plus)


def test_boards_of_users_have_the_memory_of_their_core():
    mine = replace(get_board("f746"), name="mine", memory=None)
    assert memory_of(mine) == get_board("h743").memory != get_board("f746").memory
    with pytest.raises(UserError, match="no model of a cortex-m23's memory"):
        memory_of(replace(mine, core="cortex-m23"))


def test_without_a_compiler_for_the_host(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: None)
    counts._plugin.cache_clear()
    with pytest.raises(UserError, match="gcc is not installed: apt-get install gcc"):
        counts._plugin()


def test_the_command_line(tmp_path):
    from PIL import Image

    found = plan(every_kind())
    board = get_board("f412")
    write_library(tmp_path / "fw", found, random_model(np.random.default_rng(0), found.graph), board)
    Image.new("RGB", (14, 17), (9, 99, 200)).save(tmp_path / "p.png")
    command = [sys.executable, "tools/run_board.py", "--board", "f412", "--emulate", tmp_path / "fw"]
    command += ["--picture", tmp_path / "p.png", "--layers", tmp_path / "layers.png", "--json", tmp_path / "run.json"]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run.json").read_text())
    assert {row["name"] for row in report["layers"]} >= {op.name for op in found.graph.ops}
    assert "smooth" in done.stdout and (tmp_path / "layers.png").exists()
