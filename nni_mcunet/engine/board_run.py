"""Run one picture on a board, real or emulated, and hold its answer against the same C on this machine."""

from pathlib import Path

import numpy as np

from ..core.boards import Board
from ..core.errors import FirmwareError
from ..core.types import PlainDict
from .run.board_project import model_hash
from .run.elf import elf_report
from .run.emulator import run_emulated
from .run.firmware import build_firmware
from .run.host import host_of
from .run.serial_link import SerialBoard
from .run.stack_bound import stack_bound
from .timing.layer_cycles import run_profiled
from .timing.report import board_report

Told = tuple[PlainDict, PlainDict]  # what is known of the program, and its run


def on_board(folder: str | Path, board: Board, picture: np.ndarray, port: str, seconds: float) -> Told:
    """Return what the board at a serial port says of itself, and its run. picture: (h, w, c) uint8; seconds: for all of
    it. Raises UserError, see SerialBoard."""
    with SerialBoard(port, seconds) as line:
        greeting = line.greet(board.name, model_hash(folder))
        return {"clock_hz": greeting["clock_hz"]}, line.run(picture)


def emulated(folder: str | Path, board: Board, picture: np.ndarray, seconds: float, layers: bool) -> Told:
    """Return what the ELF says, and the run under QEMU, which may take so many seconds. layers: the ELF's part has time
    and memory layer by layer, too. Raises what build_firmware and run_emulated raise."""
    elf = build_firmware(folder, board, picture)
    facts = elf_report(elf) | {"stack_bound_bytes": stack_bound(elf)}
    if not layers:
        return facts, run_emulated(elf, board, seconds)
    run, rows = run_profiled(elf, board, seconds)
    return facts | board_report(elf, board, rows), run


def check_against_host(folder: str | Path, picture: np.ndarray, run: PlainDict) -> None:
    """Compare a run with the same C on this machine, which must give the same bytes. Raises FirmwareError where it does
    not: a compiler, the C or the device that answered is at fault."""
    host = host_of(folder)
    expected, found = host.run(picture), run["outputs"]
    same = len(expected) == len(found) and all(map(np.array_equal, expected, found))
    same = same and host.is_detector == ("boxes" in run)
    if not same or ("boxes" in run and not np.array_equal(host.detect(), run["boxes"])):
        raise FirmwareError(
            f"{folder}: the firmware's outputs are not those of the same C on this machine: generate, build and flash "
            "it again; if they stay other ones, the compiler or the C is at fault"
        )
