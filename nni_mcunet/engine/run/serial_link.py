"""Send pictures to a real board over a serial line and read its report: the host's side of boards/serve.c.

Any device may answer: the whole exchange has one deadline, lines and bytes have bounds, and nothing that comes
over the line is used before it has the type and the size of what a board of ours says.
"""

import errno
import json
import struct
import time
import zlib

import numpy as np
import serial

from ...core.errors import UserError
from ...core.types import Plain, PlainDict
from .run_report import parse_report

BAUD = 115200
ANSWER = 60.0  # seconds in which a board must greet; it may be computing the picture that is built in
AGAIN = 2.0  # seconds after which an unanswered greeting is asked for again
TIMES = 10  # that the bytes of a picture may go over the line: shared rows of patches, tiles that came damaged
LINE = 1 << 22  # bytes of a line; the longest is an output in hexadecimal
MOST = 1 << 26  # bytes of an exchange, more than a line of BAUD carries in an hour
CHUNK = 1 << 16  # bytes read at once
WHY: dict[int | None, str] = {
    errno.ENOENT: "there is no such port; `ls /dev/tty*` lists those there are",
    errno.EACCES: "it is not permitted: add your user to the group that owns it, dialout on Debian",
    errno.EBUSY: "another program has it open: close that",
    errno.EAGAIN: "another program has it open: close that",
}


def frame(data: bytes) -> bytes:
    """Return a message as boards/serve.c receives it: "MC", length, data, CRC-32 of length and data."""
    body = struct.pack("<I", len(data)) + data
    return b"MC" + body + struct.pack("<I", zlib.crc32(body))


def patience(picture: np.ndarray) -> float:
    """Return the seconds that an exchange may take where nobody says otherwise: to answer and compute, and for the
    picture."""
    return ANSWER + TIMES * picture.nbytes * 10 / BAUD


class SerialBoard:
    """Talk to a board that runs boards/serve.c. seconds: for the whole exchange, from now on.

    Raises UserError for a port that does not open, for silence, for an answer that no board of ours gives, for a board
    that says an error, and for another model.
    """

    def __init__(self, port: str, seconds: float = ANSWER):
        self.name, self.seconds = port, seconds
        self.text, self.heard, self.end = bytearray(), 0, time.monotonic() + seconds
        try:
            self.port = serial.Serial(port, BAUD, timeout=0.1, write_timeout=seconds, exclusive=True)
        except (OSError, ValueError) as error:  # pyserial's are OSErrors
            why = WHY.get(getattr(error, "errno", None), _quoted(error))
            raise UserError(f"{port}: cannot be opened as a serial port: {why}") from None

    def __enter__(self) -> "SerialBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()

    def greet(self, board: str, model: str) -> PlainDict:
        """Return the board's greeting {"board", "model", "clock_hz"}."""
        end = min(self.end, time.monotonic() + ANSWER)
        line: PlainDict | None = None
        while line is None:
            self._send(b"h")
            again = min(time.monotonic() + AGAIN, end)
            while (line := self._line(again)) is not None and "mcunet" not in line:
                pass
            if line is None and time.monotonic() >= end:
                raise self._nobody(min(ANSWER, self.seconds))
        clock = line.get("clock_hz")
        if not (
            isinstance(line.get("board"), str) and isinstance(line.get("model"), str) and _is_count(clock) and clock
        ):
            raise self._damaged()
        if line["board"] != board:
            raise UserError(f"{self.name}: the board is flashed as {_quoted(line['board'])}, not '{board}'")
        if line["model"] != model:
            raise UserError(
                f"{self.name}: the board runs model {_quoted(line['model'])}, the folder holds '{model}': make flash"
            )
        return line

    def run(self, picture: np.ndarray) -> PlainDict:
        """Return the model's report on a picture (h, w, c) uint8: as emulator.run_emulated, with "cycles" and
        "microseconds" in place of "instructions"."""
        self._send(b"p")
        lines: list[PlainDict] = []
        asked = False  # for a tile: what comes before is the report of a picture that is built in
        while not lines or not lines[-1].get("done"):
            line = self._line(self.end)
            if line is None:
                late = f"the exchange has not ended in {self.seconds:g} s"
                raise UserError(f"{self.name}: {late}: reset the board, or give --timeout more seconds")
            if "error" in line:
                raise UserError(f"{self.name}: the board says {_quoted(line['error'])}")
            if "read" in line:
                asked = True
                self._send(self._tile(line["read"], picture).tobytes())
            elif asked and "mcunet" not in line:  # an answer to a greeting that was asked for twice
                lines.append(line)
        try:
            return parse_report(lines)
        except ValueError:
            raise self._damaged() from None

    def _tile(self, asked: Plain, picture: np.ndarray) -> np.ndarray:
        if not (isinstance(asked, list) and len(asked) == 4 and all(map(_is_count, asked))):
            raise self._damaged()
        y, x, h, w = asked
        if not (h and w and y + h <= picture.shape[0] and x + w <= picture.shape[1]):
            raise self._damaged()
        return picture[y : y + h, x : x + w]

    def _send(self, data: bytes) -> None:
        try:
            self.port.write_timeout = max(0.1, self.end - time.monotonic())
            self.port.write(frame(data))
        except OSError as error:
            raise UserError(f"{self.name}: the board takes no bytes ({_quoted(error)}); reset it") from None

    def _line(self, end: float) -> PlainDict | None:
        """Return the next line of JSON, or None where none has come by `end` (of time.monotonic); other text is
        skipped."""
        while True:
            at = self.text.find(b"\n")
            if at >= 0:
                line = bytes(self.text[:at])
                del self.text[: at + 1]
                if (found := _parsed(line)) is not None:
                    return found
            elif time.monotonic() >= end:
                return None
            else:
                self._read()

    def _read(self) -> None:
        try:
            more = self.port.read(min(max(1, self.port.in_waiting), CHUNK))
        except OSError as error:
            raise UserError(f"{self.name}: the board is gone ({_quoted(error)})") from None
        self.text += more
        self.heard += len(more)
        if len(self.text) > LINE or self.heard > MOST:
            raise self._nobody(self.seconds - (self.end - time.monotonic()))

    def _nobody(self, seconds: float) -> UserError:
        asks = "is the board flashed with this project, is this its port?"
        if not self.heard:
            return UserError(f"{self.name}: no answer in {seconds:.3g} s; {asks}")
        return UserError(f"{self.name}: no board of ours answers: {self.heard:,} bytes in {seconds:.3g} s; {asks}")

    def _damaged(self) -> UserError:
        return UserError(f"{self.name}: the report came damaged over the line; try again")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _parsed(line: bytes) -> PlainDict | None:
    """Return a line's JSON, or None for text that is none: the end of a line that began before we listened, or a
    device's own words."""
    try:
        return json.loads(line[line.index(b"{") :])
    except (ValueError, RecursionError):
        return None


def _quoted(text: object) -> str:
    """Return in one short line whatever a device or a driver says."""
    text = str(text)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
