"""A firmware under QEMU: the run, at exactly one instruction a nanosecond, and its report."""

import subprocess
from pathlib import Path

from ...core.boards import Board
from ...core.errors import FirmwareError, UserError
from .run_report import parse_run
from .toolchain import tool

EMULATED = 600.0  # seconds that a firmware may take under QEMU where nobody says otherwise
MACHINES = {"cortex-m4": "mps2-an386", "cortex-m7": "mps2-an500"}


def run_emulated(elf: str | Path, board: Board, timeout: float = EMULATED) -> dict:
    """Run a firmware under QEMU.

    Return {"instructions", "stack_bytes", "outputs": [(bytes,) int8], "crc32": [...]} and for a detector
    "detect_instructions", "boxes" (dtype detect.BOX) and the "names" of their classes. Instructions are counted in
    steps of 40. Raises UserError for a missing QEMU or a core it has no machine for, FirmwareError when the firmware
    faults or does not end in `timeout` seconds.
    """
    return parse_run(run_qemu(elf, machine(board), timeout))


def machine(board: Board) -> str:
    """Return QEMU's machine with the board's core. Raises UserError where there is none."""
    if board.core not in MACHINES:
        raise UserError(f"{board.name}: no emulated machine for {board.core}, only for {', '.join(MACHINES)}")
    return MACHINES[board.core]


def run_qemu(elf: str | Path, machine: str, timeout: float, plugin: str | None = None) -> subprocess.CompletedProcess:
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
