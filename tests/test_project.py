"""The projects of real boards, without one: built by make and CMake from a clean folder, regions read from the ELF, and
the very image run on an imitated STM32 (stm32.py) whose rules on clocks, caches and baud rate are asserted."""

import json
import os
import re
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from stm32 import CCR, DCISW, ICIALLU, SETS, WAYS, Stm32
from test_firmware import H, W, write_model

from nni_mcunet.core.boards import BOARDS, get_board
from nni_mcunet.core.errors import FirmwareError, UserError
from nni_mcunet.core.file_sets import write_set
from nni_mcunet.engine import board_run
from nni_mcunet.engine.codegen.sources import seal
from nni_mcunet.engine.run import board_project as project
from nni_mcunet.engine.run import toolchain
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.host import build_host
from nni_mcunet.engine.run.run_report import parse_report
from nni_mcunet.engine.run.serial_link import SerialBoard, frame

NAMES = tuple(name for name, board in BOARDS.items() if board.project)
DONE = b'"done": true}\n'
HZ = {"stm32f410": 100, "stm32f412": 100, "stm32f746": 216, "stm32h743": 480}  # MHz
SILENT = {  # status that never gets ready -> what the board then says
    "stm32f410": (0x40007004, 1 << 14, "scale 1 is not reached"),
    "stm32f412": (0x40023800, 1 << 25, "PLL does not lock"),
    "stm32f746": (0x40007004, 1 << 16, "over-drive does not start"),
    "stm32h743": (0x58024818, 1 << 13, "VOS1 is not reached"),
}


def run(*command, cwd=None):
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).integers(0, 256, (H, W, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, picture):
    """Board -> its project, made; the picture built in but on the F410."""
    top, found = tmp_path_factory.mktemp("projects"), {}
    for name in NAMES:
        built_in = None if name == "stm32f410" else picture
        found[name] = with_project(write_model(top / name), get_board(name), 18000, built_in)
        run("make", "-j2", cwd=found[name])
    return found


@pytest.fixture(scope="module")
def expected(folders, picture):
    host = build_host(folders["stm32f412"])
    return host.run(picture), host.detect()


def with_project(folder, board, arena, picture=None):
    """The C files of `folder` and the board's project around them, in a new folder."""
    library = {path.name: path.read_bytes() for path in folder.glob("*.[ch]")}
    files = library | project.project_files(library, board, arena, (H, W, 3), picture)
    return write_set(folder.with_name(f"{folder.name}_project"), {"mcu": files}, seal("mcu"))


def image(folder):
    return (folder / "build" / "firmware.bin").read_bytes()


def symbols(folder):
    text = run("arm-none-eabi-nm", "-S", folder / "build" / "firmware.elf")
    return {m[3]: (int(m[1], 16), int(m[2], 16)) for m in re.finditer(r"^(\w+) (\w+) \w (\w+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", NAMES)
def test_regions(name, folders):
    at = symbols(folders[name])
    assert at["vectors"] == (0x08000000, 4 * (16 + get_board(name).project.interrupts))
    assert at["mcu_arena"][1] == 18000 and 0x20000000 < at["mcu_arena"][0] < 0x20008000
    words = np.frombuffer(image(folders[name])[: at["vectors"][1]], "<u4")
    assert words[0] == 0x20000000 + get_board(name).reserved_sram // 2
    assert len(set(words[[*range(2, 7), 11, 12, 14, *range(15, len(words))]])) == 1 and words[2] & 1
    assert not words[7:11].any() and not words[13]
    assert elf_report(folders[name] / "build" / "firmware.elf")["arena_bytes"] == 18000


def test_cmake_builds_the_same_image(folders, tmp_path):
    folder = folders["stm32h743"]
    run("cmake", "-S", folder, "-B", tmp_path / "b", "-DCMAKE_TOOLCHAIN_FILE=toolchain.cmake")
    run("cmake", "--build", tmp_path / "b")
    assert (tmp_path / "b" / "firmware.bin").read_bytes() == image(folder)


def test_a_large_arena_goes_to_the_axi_sram(tmp_path):
    board = get_board("h743")
    folder = with_project(write_model(tmp_path / "large", arena=400 * 1024), board, 400 * 1024)
    run("make", "-j2", cwd=folder)
    assert 0x24000000 <= symbols(folder)["mcu_arena"][0] < 0x24000020
    edge = 128 * 1024 - board.reserved_sram
    assert [[region.name for region in board.run_of(size)] for size in (edge, edge + 1)] == [["DTCM"], ["AXI"]]


@pytest.mark.parametrize("name", ["stm32f412", "stm32f746", "stm32h743"])
def test_the_image_on_the_imitated_board(name, folders, expected):
    board = Stm32(name, image(folders[name]))
    writes = board.run(20, DONE)
    lines = [json.loads(line) for line in bytes(board.sent).decode().splitlines()]
    assert lines[0] == {"mcunet": 1, "board": name, "model": project.model_hash(folders[name]),
                        "clock_hz": HZ[name] * 1_000_000}  # fmt: skip
    report = parse_report(lines[1:])
    assert (report["outputs"][0] == expected[0][0]).all() and (report["boxes"] == expected[1]).all()
    assert 0 < report["stack_bytes"] < 2000 and report["cycles"] > 0
    assert abs(report["microseconds"] - report["cycles"] / HZ[name]) <= 1
    if name != "stm32f412":
        check_caches(writes)


def check_caches(writes):
    """Instruction cache invalidated, then on; every line of the data cache invalidated, then on."""
    order = [(a, v) for a, v in writes if a in (CCR, ICIALLU, DCISW)]
    assert order[0] == (ICIALLU, 0) and order[1] == (CCR, 1 << 17) and order[-1] == (CCR, 3 << 16)
    assert sorted(v for _, v in order[2:-1]) == sorted(w << 30 | s << 5 for s in range(SETS) for w in range(WAYS))


def test_an_older_h743_runs_at_400_mhz(folders):
    board = Stm32("stm32h743", image(folders["stm32h743"]), revision=0x1003)
    assert (0x51008108, 1) in board.run(20, DONE)  # the erratum of its AXI SRAM
    assert json.loads(bytes(board.sent).split(b"\n")[0])["clock_hz"] == 400_000_000


@pytest.mark.parametrize("name", SILENT)
def test_a_wait_without_end_is_an_error_line(name, folders):
    *dead, text = SILENT[name]
    board = Stm32(name, image(folders[name]), dead=(tuple(dead),))
    board.run(100)
    assert text in json.loads(bytes(board.sent))["error"]


def command(folder, picture_file, name, port, *more):
    tool = [sys.executable, ROOT / "tools" / "run_board.py", "--board", name, folder, "--picture", picture_file]
    return subprocess.run([*map(str, tool), "--port", port, *more], capture_output=True, text=True)


@pytest.mark.parametrize("name", ["stm32f410", "stm32h743"])
def test_run_board_over_a_serial_port(name, folders, picture, tmp_path):
    """The tool at one end of a pseudo-terminal, the board's image at the other; another picture than that built in."""
    Image.fromarray(255 - picture).save(tmp_path / "p.png")
    board = Stm32(name, image(folders[name]))
    try:
        port = board.start(100)
        done = command(folders[name], tmp_path / "p.png", name, port, "--json", tmp_path / "r.json")
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["cycles"] > 0 and report["microseconds"] > 0 and report["clock_hz"] == HZ[name] * 1_000_000
        other = "stm32f746" if name == "stm32h743" else "stm32f412"
        done = command(folders[name], tmp_path / "p.png", other, port)
        assert done.returncode == 2 and f"flashed as '{name}'" in done.stderr and done.stderr.count("\n") == 1
    finally:
        board.stopping = True


def test_wrong_model_no_answer_and_no_port(folders, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "p.png")
    other = with_project(write_model(tmp_path / "other", extra="/* changed */\n"), get_board("f410"), 18000)
    board = Stm32("stm32f410", image(folders["stm32f410"]))
    try:
        done = command(other, tmp_path / "p.png", "stm32f410", board.start(60))
        assert done.returncode == 2 and "make flash" in done.stderr
    finally:
        board.stopping = True
    _, slave = os.openpty()
    done = command(other, tmp_path / "p.png", "stm32f410", os.ttyname(slave), "--timeout", "1")
    assert done.returncode == 2 and "no answer in 1 s" in done.stderr
    done = command(other, tmp_path / "p.png", "stm32f410", tmp_path / "none")
    assert done.returncode == 2 and "cannot be opened" in done.stderr and done.stderr.count("\n") == 1


def test_a_damaged_command_is_told(folders):
    board = Stm32("stm32f410", image(folders["stm32f410"]))
    damaged = bytearray(frame(b"p"))
    damaged[6] ^= 1
    board.received += damaged
    board.run(20, b'a damaged frame"}\n')
    assert b"a damaged frame" in board.sent


def test_a_damaged_tile_is_asked_for_again(folders, expected, picture):
    """Byte 200 from the host on is of the first tile: behind two commands of 11 bytes."""
    board = Stm32("stm32f410", image(folders["stm32f410"]), damage=200)
    with SerialBoard(board.start(60), 10) as line:
        line.greet("stm32f410", project.model_hash(folders["stm32f410"]))
        report = line.run(picture)
    board.stopping = True
    assert (report["outputs"][0] == expected[0][0]).all() and (report["boxes"] == expected[1]).all()
    assert bytes(board.sent).count(b'{"read": [0, 0, ') == 2 and bytes(board.sent).count(b'{"read": ') == 3


class Line:
    """A serial port at whose other end a board says these lines, whatever it is sent."""

    def __init__(self, *lines: dict):
        self.text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def write(self, data):
        pass

    @property
    def in_waiting(self):
        return len(self.text)

    def read(self, n):
        more, self.text = self.text[:n], self.text[n:]
        return more


def report_of(picture, *lines):
    board = SerialBoard.__new__(SerialBoard)
    board.name, board.seconds, board.port = "port", 0.1, Line(*lines)
    board.text, board.heard, board.end = bytearray(), 0, time.monotonic() + 0.1
    return board.run(picture)


def output(value):
    return {"output": 0, "crc32": zlib.crc32(bytes([value])), "hex": f"{value:02x}"}


def test_the_report_of_the_picture_built_in_is_not_taken_for_that_of_ours(picture):
    """A board that was reset while it greeted runs its own picture first."""
    own, ours = ([{"cycles": n}, output(n), {"stack_bytes": 8, "done": True}] for n in (1, 2))
    report = report_of(picture, *own, {"read": [0, 0, 2, 2]}, *ours)
    assert report["cycles"] == 2 and report["outputs"][0].tolist() == [2]


@pytest.mark.parametrize(
    "damaged", [{"output": 0, "crc32": 5}, {"output": 0, "crc32": 5, "hex": "0g"}, output(3) | {"crc32": 5}]
)
def test_a_damaged_report_is_a_user_s_error(picture, damaged):
    with pytest.raises(UserError, match="damaged over the line; try again"):
        report_of(picture, {"read": [0, 0, 2, 2]}, damaged, {"done": True})


def test_a_lost_output_is_no_match(folders, picture):
    with pytest.raises(FirmwareError, match="not those of the same C"):
        board_run.check_against_host(folders["stm32f412"], picture, {"outputs": []})


def test_another_emulator_without_a_clock(folders):
    """QEMU's STM32F405 has the F412's flash and USART3 but no RCC: the same image says so, and does not hang."""
    elf = folders["stm32f412"] / "build" / "firmware.elf"
    command = [toolchain.tool("qemu-system-arm"), "-M", "netduinoplus2", "-display", "none", "-monitor", "none"]
    command += ["-serial", "null", "-serial", "null", "-serial", "stdio", "-kernel", str(elf)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as qemu:
        line = qemu.stdout.readline()
        qemu.kill()
    assert json.loads(line) == {"error": "RCC: the 16 MHz oscillator does not start"}
