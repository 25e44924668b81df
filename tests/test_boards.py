"""A board is one YAML file: read, checked, and with nothing else added built for, emulated and given a project."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT
from nets import every_kind, random_model
from stm32 import Stm32
from test_firmware import H, W, write_model
from test_project import DONE, run, symbols, with_project

from nni_mcunet.core import boards
from nni_mcunet.core.boards import BOARDS, get_board
from nni_mcunet.core.errors import BoardError, UserError
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.core.plan.latency import cycle_table, cycles
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.run.board_project import model_hash, project_files, project_of
from nni_mcunet.engine.run.emulator import machine, run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.host import build_host
from nni_mcunet.engine.run.run_report import parse_report
from nni_mcunet.engine.timing.layer_cycles import run_profiled
from nni_mcunet.engine.timing.wait_states import memory_of

# ST's NUCLEO-F411RE (RM0383), at the 96 MHz that its USB likes.
MINE = """
name: stm32f411
core: cortex-m4
clock_hz: 96000000
sram: 131072
flash: 524288
qemu: mps2-an386
memory:
  code: {sets: 1, ways: 64, line: 16}
  data: {sets: 1, ways: 8, line: 16}
  jump: 3
  sequence: 0
  flash: 3
project:
  kit: NUCLEO-F411RE
  family: STM32F4
  fpu: fpv4-sp-d16
  interrupts: 86
  ram:
    - {name: RAM, at: 0x20000000, bytes: 131072}
  clock: {hsi_hz: 16000000, m: 8, n: 96, p: 2, wait_states: 3, note: 96 MHz}
  uart: {number: 2, tx: A2, rx: A3}
  openocd: stm32f4x
  pyocd: stm32f411re
"""
SMALL = "{name: mine, core: %s, clock_hz: 64000000, sram: 262144, flash: 1048576}"


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mine.yml").write_text(MINE)
    return get_board(str(tmp_path / "mine.yml"))


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 256, (H, W, 3)).astype(np.uint8)


def test_a_board_by_yaml_alone(tmp_path, mine, picture):
    """Built and emulated; its project made, and the image run on the imitated board at the clock of the file."""
    folder = write_model(tmp_path / "model")
    host = build_host(folder)
    outputs, boxes = host.run(picture), host.detect()
    found = run_emulated(build_firmware(folder, mine, picture), mine)
    assert (found["outputs"][0] == outputs[0]).all() and (found["boxes"] == boxes).all()
    made = with_project(folder, mine, 18000, picture)
    run("make", "-j2", cwd=made)
    at = symbols(made)
    assert at["vectors"] == (0x08000000, 4 * (16 + 86)) and 0x20000000 < at["mcu_arena"][0] < 0x20020000
    real = Stm32("stm32f411", (made / "build/firmware.bin").read_bytes())
    real.run(20, DONE)
    greeting, *lines = [json.loads(line) for line in bytes(real.sent).decode().splitlines()]
    assert greeting == {"mcunet": 1, "board": "stm32f411", "model": model_hash(made), "clock_hz": 96_000_000}
    assert (parse_report(lines)["outputs"][0] == outputs[0]).all()


def test_the_board_of_the_guide_is_this_one(tmp_path, mine):
    """docs/extending*.md: its three pieces of YAML, put together."""
    text = "".join(path.read_text() for path in sorted((ROOT / "docs").glob("extending*.md")))
    section = re.search(r"^## A board\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]
    pieces = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    (tmp_path / "guide.yml").write_text("".join(pieces))
    assert len(pieces) == 3 and get_board(str(tmp_path / "guide.yml")) == mine


def test_json_and_yaml_are_alike(tmp_path, mine):
    (tmp_path / "mine.json").write_text(json.dumps(yaml.safe_load(MINE)))
    assert get_board(str(tmp_path / "mine.json")) == mine


def test_a_board_without_parts_is_like_ours_of_its_core(tmp_path, picture):
    (tmp_path / "b.yml").write_text(SMALL % "cortex-m7")
    board, ours = get_board(str(tmp_path / "b.yml")), get_board("h743")
    assert machine(board) == ours.qemu and memory_of(board) == ours.memory
    with pytest.raises(UserError, match=r"no project for 'mine', only for stm32f410, .* the part 'project'"):
        project_files({}, board, 100, (H, W, 3))


def test_a_core_that_no_board_of_ours_has_is_told(tmp_path):
    (tmp_path / "b.yml").write_text(SMALL % "cortex-m23")
    board = get_board(str(tmp_path / "b.yml"))
    with pytest.raises(UserError, match=r"no emulated machine for cortex-m23, only for .* 'qemu'"):
        machine(board)
    with pytest.raises(UserError, match=r"no model of a cortex-m23's memory, .* a part 'memory'"):
        memory_of(board)
    with pytest.raises(UserError, match="qemu is 'virt': expected one of mps2-an385, mps2-an386"):
        machine(replace(board, qemu="virt"))
    with pytest.raises(UserError, match="no model of a cortex-m23's pipeline, only for cortex-m0plus, cortex-m3"):
        run_profiled("x.elf", replace(board, memory=get_board("f412").memory))


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("qemu: mps2-an386", "qemu: 'a b'", "qemu is 'a b': expected a word"),
        ("qemu:", "emulator:", "the board has the unknown key 'emulator': known are name, core, "),
        ("jump: 3", "jump: -1", "memory: jump is -1: expected an integer from 0 to 1,000"),
        ("  jump: 3\n", "", "the board: memory lacks the key 'jump'"),
        ("ways: 64, line: 16", "ways: 64, line: 24", "memory: code: line is 24: expected a power of 2"),
        ("ways: 64, line: 16", "ways: 64, line: '16'", "memory: code: line is '16': expected an integer"),
        ("sets: 1, ways: 8", "sets: 512, ways: 8", "memory: data: sets times ways is 4096: expected 1024 lines"),
        ("kit: NUCLEO-F411RE", "kit: 'x */ y'", r"project: kit is 'x \*/ y': expected a word"),
        ("note: 96 MHz", 'note: "a\\nb"', r"project: clock: note is 'a\\nb': expected a line of letters"),
        ("name: RAM", "name: SRAM", "project: ram: name is SRAM, which the linker script uses"),
        ("bytes: 131072", "bytes: 131073", "project: ram: bytes is 131073: expected whole kilobytes"),
        ("    - {name: RAM, at: 0x20000000, bytes: 131072}\n", "", "project: ram is None: expected a list"),
        (
            "bytes: 131072",
            "bytes: 65536",
            "project: ram: the largest memory has 65,536 bytes, the board's sram 131,072",
        ),
        ("code: {sets: 1, ways: 64, line: 16}", "code:", "memory: code is None: expected a mapping"),
        ("tx: A2", "tx: PA2", "project: uart: tx is 'PA2': expected a pin such as D8"),
        ("number: 2", "number: 6", "project: uart: number is 6: expected an integer from 1 to 3"),
        ("n: 96", "n: 100", "clock: hsi_hz / m \\* n / p is not the board's clock_hz, 96,000,000"),
        ("name: stm32f411", "name: ../x", "name is '../x': expected 60 characters at most"),
        ("name: stm32f411", "name: 'my board'", "name is 'my board': expected a word .* as it stands in C"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, old, new, message):
    assert MINE.count(old) == 1
    (tmp_path / "b.yml").write_text(MINE.replace(old, new))
    with pytest.raises(BoardError, match=r"b\.yml: .*" + message) as caught:
        get_board(str(tmp_path / "b.yml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "project, clock, board, message",
    [
        ({"family": "STM32L4"}, {}, {}, "family is 'STM32L4': expected one of STM32F4, STM32F7, STM32H7"),
        ({"family": "STM32F7"}, {}, {}, "core is 'cortex-m4': expected cortex-m7, that of the STM32F7"),
        ({}, {"p": 3}, {}, "clock: p is 3: expected 2..8, even"),
        ({}, {"m": 4}, {}, "clock: hsi_hz / m is 4,000,000: expected 1,000,000..2,000,000"),
        ({}, {"n": 168}, {"clock_hz": 168_000_000}, "clock_hz is 168,000,000: expected 100,000,000 at most"),
        ({}, {"n": 384, "p": 8}, {}, r"hsi_hz / m \* n is 768,000,000: expected 100,000,000..432,000,000"),
    ],
)
def test_a_project_that_the_start_up_cannot_serve_is_refused(mine, project, clock, board, message):
    parts = replace(mine.project, **project, clock=replace(mine.project.clock, **clock))
    with pytest.raises(UserError, match=message):
        project_of(replace(mine, project=parts, **board))


def test_every_shipped_board_is_whole():
    files = sorted(Path(boards.__file__).parent.glob("*.yml"))
    assert [path.stem for path in files] == [*BOARDS] and len(BOARDS) == 12
    assert {board.core for board in BOARDS.values()} == {"cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55"}
    for name, board in BOARDS.items():
        assert machine(board) and board.memory and cycle_table(board) and board.regions
        assert get_board(name.removeprefix("stm32")) == board
        if name in ("stm32f410", "stm32f412", "stm32f746", "stm32h743"):
            assert project_of(board)
        else:
            with pytest.raises(UserError, match=f"no project for '{name}', only for .*without --project: the library"):
                project_of(board)


@pytest.mark.parametrize("name", ["stm32l4r5", "stm32h7a3", "stm32u575", "nrf5340", "rp2350", "stm32n657"])
def test_a_board_without_a_project_is_profiled_and_emulated(name, tmp_path):
    """From generated C to cycles by layer; the bytes are those of the F412."""
    board, ours, rng = get_board(name), get_board("f412"), np.random.default_rng(0)
    found = plan(every_kind(), Schedule((3, 2), 2), halo="cache")
    write_library(tmp_path, found, random_model(rng, found.graph), board)
    image = found.graph.inputs[0]
    picture = rng.integers(0, 256, (image.h, image.w, image.c)).astype(np.uint8)
    run, layers = run_profiled(build_firmware(tmp_path, board, picture), board)
    assert run["crc32"] == run_emulated(build_firmware(tmp_path, ours, picture), ours)["crc32"]
    assert sum(layer.instructions for layer in layers.values()) == pytest.approx(run["instructions"], abs=100)
    assert all(0 < layer.instructions < 4 * layer.cycles for layer in layers.values()) and cycles(found, board) > 0


def test_cores_that_no_table_is_of_are_told(tmp_path):
    """A Cortex-M3 is emulated, and its cycles counted, but not estimated from a plan: other kernels run on it."""
    (tmp_path / "b.yml").write_text(SMALL % "cortex-m3")
    board = replace(get_board(str(tmp_path / "b.yml")), cycles_per_instruction=1.5)
    assert machine(board) == "mps2-an385"
    with pytest.raises(BoardError, match="no estimate for cortex-m3, only for cortex-m4, cortex-m7, cortex-m33"):
        cycle_table(board)


def test_the_command_line_takes_the_file(tmp_path, picture):
    """mcunet run on a board of a file; what is wrong in it is one line and exit code 2."""
    (tmp_path / "mine.yml").write_text(MINE)
    (tmp_path / "bad.yml").write_text(MINE.replace("jump: 3", "jump: x"))
    np.save(tmp_path / "p.npy", picture)
    folder = write_model(tmp_path / "model")
    found = {}
    for name in ("mine.yml", "bad.yml"):
        command = [
            sys.executable,
            "-m",
            "nni_mcunet",
            "run",
            "--board",
            tmp_path / name,
            folder,
            "--emulate",
            "--picture",
            tmp_path / "p.npy",
        ]
        found[name] = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert found["mine.yml"].returncode == 0, found["mine.yml"].stderr
    bad = found["bad.yml"]
    assert bad.returncode == 2 and "memory: jump is 'x'" in bad.stderr and bad.stderr.count("\n") == 1
