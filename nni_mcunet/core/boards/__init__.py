"""The boards: memory, clock and core, and what the runtime itself needs of them. A YAML file for each lies beside this.

A board needs no more than a core, a clock and sizes. `memory` and `qemu` may be left to the board of ours with the same
core; without `project` there is no firmware project for it. No C and no tool stands here: the engine's run room has it.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BoardError
from ..validate import integer, read_plain, short
from .parts import KB, MOST, WORD, WORDS, Memory, Project, check_text, parse

__all__ = ["BOARDS", "CORE_BOARDS", "KB", "Board", "get_board", "like_core"]


@dataclass(frozen=True)
class Board:
    """Hold a microcontroller. sram, flash in bytes.

    core                    gcc's -mcpu name
    reserved_*              bytes kept for stack, .data/.bss and code besides the model
    cycles_per_instruction  where it was measured, in place of the core's table in latency.json
    qemu                    machine that emulates it; None: that of the board of ours with its core
    memory                  wait states and caches; None: likewise
    project                 what a firmware project for it needs; None: it has none
    """

    name: str
    core: str
    clock_hz: int
    sram: int
    flash: int
    reserved_sram: int = 8 * KB
    reserved_flash: int = 32 * KB
    cycles_per_instruction: float | None = None
    qemu: str | None = None
    memory: Memory | None = None
    project: Project | None = None

    def __post_init__(self) -> None:
        where = f"board {short(self.name)}"
        for name in ("name", "core"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise BoardError(f"{where}: {name} is {short(getattr(self, name))}: expected a string")
        for name in ("clock_hz", "sram", "flash", "reserved_sram", "reserved_flash"):
            unit = "Hz" if name == "clock_hz" else "bytes"
            integer(getattr(self, name), f"{where}: {name} ({unit})", 0, MOST, BoardError)
        if not self.clock_hz:
            raise BoardError(f"{where}: clock_hz is 0")
        factor = self.cycles_per_instruction
        if factor is not None and (isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0):
            raise BoardError(f"{where}: cycles_per_instruction is {short(factor)}: expected a number above 0")
        if self.reserved_sram >= self.sram or self.reserved_flash >= self.flash:
            raise BoardError(f"{where}: what the runtime keeps (reserved_*) leaves nothing for a network")
        if self.qemu is not None:
            check_text(self, "qemu", *WORDS)

    @property
    def arena_limit(self) -> int:
        """Return the bytes of SRAM that a network may take."""
        return self.sram - self.reserved_sram

    @property
    def model_limit(self) -> int:
        """Return the bytes of flash that a network may take."""
        return self.flash - self.reserved_flash

    def with_arena(self, arena_bytes: int | None) -> "Board":
        """Return the board with so many bytes for the arena at most: the application has the rest of its SRAM. Raises
        BoardError for less than one."""
        if arena_bytes is None:
            return self
        if arena_bytes < 1:
            raise BoardError(f"{arena_bytes:,} bytes for the network: expected more than 0")
        return replace(self, sram=min(self.sram, arena_bytes + self.reserved_sram))

    def to_dict(self) -> dict[str, Any]:
        """Return the board as plain data."""
        return asdict(self)


def read_board(path: str | Path) -> Board:
    """Read a board's YAML or JSON file. Raises BoardError, which names the file and what in it is wrong."""
    data = read_plain(path, BoardError)
    try:
        board = parse(Board, data, "the board")
        check_text(board, "name", r"[^/\\\0-\x1f]{1,60}", "60 characters at most, no / or \\: files are named after it")
        _check_project(board)
    except BoardError as error:
        raise BoardError(f"{path}: {error}") from None
    return board


def _check_project(board: Board) -> None:
    """Raise BoardError where the project contradicts the board around it."""
    if board.project is None:
        return
    where, clock = f"board {short(board.name)}: project", board.project.clock
    check_text(board, "name", WORD, "a word of letters, digits, _ . -, as it stands in C")
    if clock.hsi_hz * clock.n != board.clock_hz * clock.m * clock.p:
        raise BoardError(f"{where}: clock: hsi_hz / m * n / p is not the board's clock_hz, {board.clock_hz:,}")
    largest = max(region.bytes for region in board.project.ram)
    if largest < board.sram:
        raise BoardError(f"{where}: the largest region of ram has {largest:,} bytes, the board's sram {board.sram:,}")


BOARDS = {board.name: board for board in map(read_board, sorted(Path(__file__).parent.glob("*.yml")))}
# Core -> the board whose emulator and memory stand for a board that names none, and whose cycles latency.json has.
CORE_BOARDS = {"cortex-m4": "stm32f412", "cortex-m7": "stm32h743"}


def like_core(board: Board) -> Board | None:
    """Return the board of ours that stands for the core of `board`, or None."""
    return BOARDS[CORE_BOARDS[board.core]] if board.core in CORE_BOARDS else None


def get_board(name: str) -> Board:
    """Return a board by name (stm32h743), by the paper's short name (H743), or from a YAML or JSON file with Board's
    fields.

    Raises BoardError naming the known boards, or the file and what in it is wrong.
    """
    key = str(name).lower()
    for known, board in BOARDS.items():
        if key in (known, known.removeprefix("stm32")):
            return board
    if not str(name).endswith((".yml", ".yaml", ".json")):
        raise BoardError(
            f"unknown board {short(str(name))}: use one of {', '.join(BOARDS)} or a .yml or .json file with a "
            "board's fields"
        )
    return read_board(name)
