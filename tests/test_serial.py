"""Whatever answers at a serial port, run_board ends in time with one line: devices that are not ours, boards that say
nothing, too much or nonsense, ports that do not open."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import tty
import zlib

import numpy as np
import pytest
from conftest import ROOT
from test_firmware import write_model

from nni_mcunet.core.errors import UserError
from nni_mcunet.engine.run.serial_link import LINE, SerialBoard, patience

BOX = {"box": [1, 2, 3, 4], "score": 1, "label": 0, "name": "a"}
SECONDS = 0.6  # of an exchange in these tests
PICTURE = np.arange(4 * 5 * 2, dtype=np.uint8).reshape(4, 5, 2)
HELLO = {"mcunet": 1, "board": "b", "model": "m", "clock_hz": 100}
READ = {"read": [0, 0, 4, 5]}
DONE = {"stack_bytes": 8, "done": True}


def line(*values) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def output(data: bytes, **fields) -> dict:
    return {"output": 0, "crc32": zlib.crc32(data), "hex": data.hex()} | fields


class Device:
    """The far end of a pseudo-terminal: once it hears something it says `parts` in turn, whatever it hears."""

    def __init__(self, parts):
        self.far, near = os.openpty()
        tty.setraw(near)
        self.port, self.near, self.parts, self.stopping = os.ttyname(near), near, parts, False
        os.set_blocking(self.far, False)

    def __enter__(self):
        self.thread = threading.Thread(target=self._talk)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()
        os.close(self.far), os.close(self.near)

    def _talk(self):
        while not self._hear() and not self.stopping:  # what is said before the port is open is thrown away
            time.sleep(0.002)
        for part in self.parts:
            while part and not self.stopping:
                self._hear()
                try:
                    part = part[os.write(self.far, part) :]
                except BlockingIOError:
                    time.sleep(0.002)
            if self.stopping:
                return
        while not self.stopping:
            self._hear()
            time.sleep(0.01)

    def _hear(self):
        with contextlib.suppress(BlockingIOError):
            return os.read(self.far, 1 << 16)


def asked(device: Device) -> dict:
    with SerialBoard(device.port, SECONDS) as board:
        board.greet("b", "m")
        return board.run(PICTURE)


def slowly(parts):
    for part in parts:
        time.sleep(0.01)
        yield part


NOT_OURS = {
    "silent": ([], "no answer in 0.6 s; is the board flashed"),
    "text": ([b"login: \n"], "no board of ours answers: 8 bytes"),
    "json": (itertools.repeat(line({"temperature": 21.5})), "no board of ours answers"),
    "json of another shape": (itertools.repeat(b"[1, 2]\n7\nnull\n{}\n"), "no board of ours answers"),
    "lines without an end": (itertools.repeat(b"\n" * 4096), "no board of ours answers"),
    "bytes without a line": (itertools.repeat(b"\xff\x00{" * 1000), "no board of ours answers"),
    "slow bytes": (slowly(itertools.repeat(b"x")), "no board of ours answers"),
    "deep json": (itertools.repeat(b'{"a":' * 20000 + b"\n"), "no board of ours answers"),
    "long number": (itertools.repeat(b'{"mcunet": ' + b"9" * 5000 + b"}\n"), "no board of ours answers"),
    "half a greeting": ([line({"mcunet": 1})], "damaged"),
    "greeting of other types": ([line(HELLO | {"clock_hz": "fast"})], "damaged"),
    "greeting without a clock": ([line(HELLO | {"clock_hz": 0})], "damaged"),
    "another board": ([line(HELLO | {"board": "x\n" * 90})], "is flashed as 'x\\\\nx"),
    "another model": ([line(HELLO | {"model": "n"})], "make flash"),
    "no report": ([line(HELLO)], "has not ended in 0.6 s: reset the board, or give --timeout"),
    "no end of reading": (itertools.chain([line(HELLO)], itertools.repeat(line(READ))), "has not ended in 0.6 s"),
    "an error": ([line(HELLO, {"error": "a\nb"})], "says 'a\\\\nb'"),
    "a list as an error": ([line(HELLO, {"error": [1, "x" * 999]})], "says "),
    "a tile beyond the picture": ([line(HELLO, {"read": [0, 0, 5, 5]})], "damaged"),
    "a tile before it": ([line(HELLO, {"read": [-1, 0, 2, 2]})], "damaged"),
    "a tile of nothing": ([line(HELLO, {"read": [0, 0, 0, 2]})], "damaged"),
    "a tile of words": ([line(HELLO, {"read": ["0", 0, 1, 2]})], "damaged"),
    "a tile of an int": ([line(HELLO, {"read": 7})], "damaged"),
    "an output cut short": ([line(HELLO, READ, output(b"ab", hex="61"), DONE)], "damaged"),
    "an output twice": ([line(HELLO, READ, output(b"ab"), output(b"ab"), DONE)], "damaged"),
    "an output of a number": ([line(HELLO, READ, output(b"ab", hex=5), DONE)], "damaged"),
    "a box without corners": ([line(HELLO, READ, {"detect_cycles": 1}, BOX | {"box": [1]}, DONE)], "damaged"),
    "a box beyond 32 bits": ([line(HELLO, READ, {"detect_cycles": 1}, BOX | {"score": 2**70}, DONE)], "damaged"),
    "a key of another report": ([line(HELLO, READ, {"outputs": 5}, DONE)], "damaged"),
    "cycles in words": ([line(HELLO, READ, {"cycles": "many"}, DONE)], "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_OURS)
def test_a_device_that_is_not_ours(what):
    parts, words = NOT_OURS[what]
    began = time.monotonic()
    with Device(parts) as device, pytest.raises(UserError, match=words) as caught:
        asked(device)
    assert time.monotonic() - began < 5 and "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_line_without_an_end_is_not_kept(monkeypatch):
    """However fast it comes: before the deadline."""
    began = time.monotonic()
    with Device(itertools.repeat(b"x" * 65536)) as device, SerialBoard(device.port, 600) as board:
        with pytest.raises(UserError, match="no board of ours answers"):
            board.greet("b", "m")
        assert len(board.text) <= LINE + (1 << 16)
    assert time.monotonic() - began < 60


def test_a_board_of_ours():
    """Behind the end of a line that began before, and in pieces."""
    parts = [b'"cycles": 3}\n', line(HELLO)[:9], line(HELLO)[9:], line(READ, output(b"ab"), DONE)]
    with Device(parts) as device:
        report = asked(device)
    assert report["outputs"][0].tolist() == [97, 98] and report["stack_bytes"] == 8 and "done" not in report


def test_a_device_that_takes_nothing():
    """It neither reads nor answers; the tile is larger than what the driver takes."""
    far, near = os.openpty()
    tty.setraw(near)
    try:
        with SerialBoard(os.ttyname(near), SECONDS) as board, pytest.raises(UserError, match="takes no bytes"):
            board._send(bytes(1 << 20))
    finally:
        os.close(far), os.close(near)


def test_a_device_that_goes_away():
    far, near = os.openpty()
    with SerialBoard(os.ttyname(near), SECONDS) as board:
        os.close(near), os.close(far)
        with pytest.raises(UserError, match=r"the board is gone|takes no bytes"):
            board.greet("b", "m")


def test_patience_grows_with_the_picture():
    assert 60 < patience(PICTURE) < 61 and patience(np.zeros((224, 224, 3), np.uint8)) > 60 + 5 * 150528 * 10 / 115200


def test_ports_that_do_not_open(tmp_path):
    (tmp_path / "file").write_text("")
    far, near = os.openpty()
    port = os.ttyname(near)
    for name, words in ((tmp_path / "none", "no such port"), (tmp_path, "cannot be opened"), ("", "no such port"),
                        (tmp_path / "file", "cannot be opened"), ("/dev/null", "cannot be opened")):  # fmt: skip
        with pytest.raises(UserError, match=words) as caught:
            SerialBoard(str(name), SECONDS)
        assert "\n" not in str(caught.value)
    with SerialBoard(port, SECONDS), pytest.raises(UserError, match="another program has it open"):
        SerialBoard(port, SECONDS)
    os.close(far), os.close(near)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("serial") / "model")


def run_board(folder, *arguments):
    command = [sys.executable, ROOT / "tools/run_board.py", "--board", "f412", folder, *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)


def one_line(done, *words):
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_the_command_line(folder, tmp_path):
    np.save(tmp_path / "p.npy", np.zeros((32, 48, 3), np.uint8))
    picture = "--picture", tmp_path / "p.npy"
    done = run_board(folder, *picture, "--emulate", "--timeout", "nan")
    one_line(done, "argument --timeout: 'nan': expected seconds above 0")
    one_line(run_board(folder, *picture, "--emulate", "--timeout", "0.01"), "no end after 0.01 s", "--timeout")
