"""Run a firmware under QEMU, at exactly one instruction a nanosecond, and read its report."""

import subprocess
from pathlib import Path

from ...core.boards import CORES, Board
from ...core.errors import FirmwareError, UserError
from ...core.types import PlainDict
from .machines import MACHINES
from .run_report import parse_run
from .toolchain import tool

Ended = subprocess.CompletedProcess[str]
EMULATED = 600.0  # seconds that a firmware may take under QEMU where nobody says otherwise


def run_emulated(elf: str | Path, board: Board, timeout: float = EMULATED) -> PlainDict:
    """Run a firmware under QEMU and return its report.

    It is {"instructions", "stack_bytes", "outputs": [(bytes,) int8], "crc32": [...]} and for a detector
    "detect_instructions", "boxes" (dtype detect.BOX) and the "names" of their classes. Instructions are counted in
    steps of 40. Raises UserError for a missing QEMU or a core it has no machine for, FirmwareError when the firmware
    faults or does not end in `timeout` seconds.
    """
    return parse_run(run_qemu(elf, machine(board), timeout))


def machine(board: Board) -> str:
    """Return QEMU's machine for a board: the one that it names, or that of its core. Raises UserError where there is
    none, or no C of ours for it."""
    found = board.qemu or getattr(CORES.get(board.core), "qemu", None)
    if found is None:
        raise UserError(
            f"{board.name}: no emulated machine for {board.core}, only for {', '.join(CORES)}: "
            "give the board's file 'qemu'"
        )
    if found not in MACHINES:
        raise UserError(f"{board.name}: qemu is '{found}': expected one of {', '.join(MACHINES)}, whose UART we know")
    return found


def run_qemu(elf: str | Path, machine: str, timeout: float, plugin: str | None = None) -> Ended:
    """Run one bare-metal program to its end, at exactly one instruction a nanosecond of its own time. timeout: seconds.
    plugin: a TCG plugin with its arguments. Raises UserError for a missing QEMU, FirmwareError for no end in time."""
    command = [tool("qemu-system-arm"), "-M", machine, "-icount", "shift=0", "-display", "none", "-monitor", "none"]
    command += ["-serial", "stdio", "-semihosting-config", "enable=on,target=native", "-kernel", str(elf)]
    command += ["-plugin", plugin] if plugin else []
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise FirmwareError(
            f"{elf}: no end after {timeout:g} s under QEMU: give --timeout more seconds, or generate the C again"
        ) from None
