"""Read what boards/report.c prints: from QEMU, from a program on this machine, or over a serial line."""

import json
import re
import subprocess
import zlib

import numpy as np

from ...core.errors import FirmwareError
from ...core.types import PlainDict
from ..detect.boxes import BOX

# The lines that are neither an output nor a box.
WORK = re.compile("(detect_)?(cycles|instructions|microseconds)|stack_bytes|done")


def parse_run(done: subprocess.CompletedProcess[str]) -> PlainDict:
    """Return the report of a program that has ended. Raises FirmwareError where it came to no good end."""
    try:
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if not done.returncode and lines and lines[-1].get("done"):
            return parse_report(lines)
        why = f"exit code {done.returncode}"
    except (ValueError, RecursionError):
        why = "its report is damaged"
    words = _last_words(done)
    raise FirmwareError(f"the firmware did not come to its end ({why}){words and f': {words}'}; generate the C again")


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return in one line what a sanitizer or the firmware's own fault handler says, or whatever came last."""
    said = done.stderr.splitlines()[::-1] + done.stdout.splitlines()[::-1]
    known = [line for line in said if re.search(r"SUMMARY: |runtime error: |\"error\": ", line)]
    return next((line.strip()[:300] for line in (*known, *said) if line.strip()), "")


def parse_report(lines: list[PlainDict]) -> PlainDict:
    """Return the JSON lines of boards/report.c as one dictionary. Raises ValueError for lines that it does not write,
    and for an output that is not of its CRC-32."""
    report: PlainDict = {"outputs": [], "crc32": []}
    boxes, names = [], []
    try:
        for line in lines:
            if "output" in line:
                report["outputs"].append(_output(line, len(report["outputs"])))
                report["crc32"].append(line["crc32"])
            elif "box" in line:
                boxes.append((*line["box"], line["score"], line["label"]))
                names.append(str(line["name"]))
            elif all(WORK.fullmatch(name) and isinstance(value, int) for name, value in line.items()):
                report.update(line)
            else:
                raise ValueError(f"no line of a report: {line}")
        if any(name.startswith("detect_") for name in report):
            report["boxes"], report["names"] = np.array(boxes, BOX), names
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"no line of a report: {error}") from None
    report.pop("done", None)
    return report


def _output(line: PlainDict, expected: int) -> np.ndarray:
    data = bytes.fromhex(line["hex"])
    if line["output"] != expected or zlib.crc32(data) != line["crc32"]:
        raise ValueError(f"output {expected} is not whole")
    return np.frombuffer(data, np.int8)
