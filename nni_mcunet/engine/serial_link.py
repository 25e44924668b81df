"""The host's side of boards/serve.c: pictures to a real board over a serial line, its report back."""

import json
import struct
import time
import zlib

import numpy as np
import serial

from ..core.errors import UserError
from .firmware import parse_report

BAUD = 115200
AGAIN = 2.0  # seconds after which an unanswered greeting is asked for again


def frame(data: bytes) -> bytes:
    """What boards/serve.c receives: "MC", length, data, CRC-32 of length and data."""
    body = struct.pack("<I", len(data)) + data
    return b"MC" + body + struct.pack("<I", zlib.crc32(body))


class SerialBoard:
    """A board that runs boards/serve.c. timeout: seconds without a byte from it after which it counts as gone.

    Raises UserError for a port that does not open, a board that does not answer or says an error, and another model.
    """

    def __init__(self, port: str, timeout: float = 60):
        self.name, self.timeout = port, timeout
        try:
            self.port = serial.Serial(port, BAUD, timeout=0.1, write_timeout=timeout)
        except (serial.SerialException, OSError, ValueError) as error:
            raise UserError(f"{port}: cannot be opened as a serial port ({error})") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.port.close()

    def greet(self, board: str, model: str) -> dict:
        """The board's greeting {"board", "model", "clock_hz"}. It may still be busy with a picture that is built in."""
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            self._send(b"h")
            line = self._line(min(AGAIN, self.timeout))
            while line is not None and "mcunet" not in line:
                line = self._line(AGAIN)
            if line is not None:
                break
        else:
            raise UserError(f"{self.name}: no answer in {self.timeout:g} s; is the board flashed, is this its port?")
        if line["board"] != board:
            raise UserError(f"{self.name}: the board is flashed as {line['board']}, not {board}")
        if line["model"] != model:
            raise UserError(f"{self.name}: the board runs model {line['model']}, the folder holds {model}: make flash")
        return line

    def run(self, picture: np.ndarray) -> dict:
        """What the model says of a picture (h, w, 3) uint8: as firmware.run_emulated, "cycles" and "microseconds" in
        place of "instructions". Outputs are checked against their CRC."""
        self._send(b"p")
        lines: list[dict] = []
        asked = False  # for a tile: what comes before is the report of a picture that is built in
        while not lines or not lines[-1].get("done"):
            line = self._line(self.timeout)
            if line is None:
                raise UserError(f"{self.name}: the board fell silent for {self.timeout:g} s")
            if "error" in line:
                raise UserError(f"{self.name}: the board says: {line['error']}")
            if "read" in line:
                asked = True
                y, x, h, w = line["read"]
                self._send(picture[y : y + h, x : x + w].tobytes())
            elif asked and "mcunet" not in line:  # an answer to a greeting that was asked for twice
                lines.append(line)
        try:
            report = parse_report(lines)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.name}: the report came damaged over the line; try again") from None
        for i, (output, crc) in enumerate(zip(report["outputs"], report["crc32"], strict=True)):
            if zlib.crc32(output.tobytes()) != crc:
                raise UserError(f"{self.name}: output {i} came damaged over the line; try again")
        return report

    def _send(self, data: bytes) -> None:
        try:
            self.port.write(frame(data))
        except (serial.SerialException, OSError) as error:
            raise UserError(f"{self.name}: {error}") from None

    def _line(self, seconds: float) -> dict | None:
        """The next line of JSON, or None after so many seconds without any byte; other text is skipped."""
        text, end = b"", time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                more = self.port.readline()
            except (serial.SerialException, OSError) as error:
                raise UserError(f"{self.name}: {error}") from None
            if more:
                text, end = text + more, time.monotonic() + seconds
            if text.endswith(b"\n"):
                try:
                    return json.loads(text[text.index(b"{") :])
                except ValueError:  # the end of a line that began before we listened
                    text = b""
        return None
