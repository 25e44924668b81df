"""The boards: memory, clock and core, and what the runtime itself needs of them. A YAML file for each lies beside this.

A board needs no more than a core, a clock and sizes. `memory` and `qemu` may be left to the board of ours with the same
core; without `project` there is no firmware project for it. No C and no tool stands here: the engine's run room has it.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BoardError
from ..validate import integer, read_plain, short
from .cores import CORES
from .parts import KB, MOST, WORD, WORDS, Memory, Project, Region, Room, check_regions, check_text, parse

__all__ = ["BOARDS", "CORES", "CORE_BOARDS", "KB", "Board", "get_board", "like_core"]


@dataclass(frozen=True)
class Board:
    """Hold a microcontroller. sram, flash in bytes.

    core                    gcc's -mcpu name
    sram                    for one array and the runtime: the largest region, or several that adjoin
    reserved_*              bytes kept for stack, .data/.bss and code besides the model
    cycles_per_instruction  where it was measured, in place of the core's table in latency.json
    qemu                    machine that emulates it; None: that of the board of ours with its core
    memory                  wait states and caches; None: likewise
    project                 what a firmware project for it needs; None: it has none
    regions                 the memories that the SRAM is made of; the first holds stack, .data and .bss. (): one
    network_sram            bytes of SRAM that a network may take at most; None: all but reserved_sram
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
    regions: tuple[Region, ...] = ()
    network_sram: int | None = None

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
        if self.network_sram is not None:
            integer(self.network_sram, f"{where}: network_sram (bytes)", 1, MOST, BoardError)
        check_regions(self.regions, "regions")

    @property
    def arena_limit(self) -> int:
        """Return the bytes of SRAM that a network may take in one array."""
        return self._at_most(self.sram - self.reserved_sram)

    @property
    def rooms(self) -> tuple[Room, ...]:
        """Return what a network may take of each region; () where stack and data leave nothing of the first."""
        if not self.regions or self.reserved_sram > self.regions[0].bytes:
            return ()
        kept = [self.reserved_sram, *[0] * (len(self.regions) - 1)]
        return tuple(Room(r.name, r.bytes - less, r.wait, r.dma) for r, less in zip(self.regions, kept, strict=True))

    @property
    def usable(self) -> int:
        """Return the bytes of SRAM that a network may take in all regions together."""
        return self._at_most(max(self.sram - self.reserved_sram, sum(room.bytes for room in self.rooms)))

    @property
    def runs(self) -> tuple[tuple[Region, ...], ...]:
        """Return the regions in groups whose addresses adjoin, each in the order of its addresses: one array may lie
        across those of a group. The group of the first region, with stack and data, comes first."""
        groups: list[list[Region]] = []
        for region in sorted(self.regions, key=lambda region: region.at):
            if groups and groups[-1][-1].at + groups[-1][-1].bytes == region.at:
                groups[-1].append(region)
            else:
                groups.append([region])
        return tuple(map(tuple, sorted(groups, key=lambda group: min(map(self.regions.index, group)))))

    def run_of(self, arena: int) -> tuple[Region, ...]:
        """Return the first of `runs` that holds one array of so many bytes, and where it is the first of all what the
        runtime keeps, too; the largest where none does."""
        held = [(run, sum(r.bytes for r in run) - (run == self.runs[0]) * self.reserved_sram) for run in self.runs]
        fits = [run for run, size in held if arena <= size]
        return fits[0] if fits else max(held, key=lambda one: one[1])[0]

    def _at_most(self, size: int) -> int:
        return size if self.network_sram is None else min(size, self.network_sram)

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
        return replace(self, network_sram=self._at_most(arena_bytes))

    def to_dict(self) -> dict[str, Any]:
        """Return the board as plain data."""
        return asdict(self)


def read_board(path: str | Path) -> Board:
    """Read a board's YAML or JSON file. Raises BoardError, which names the file and what in it is wrong."""
    data = read_plain(path, BoardError)
    try:
        board = parse(Board, data, "the board")
        check_text(board, "name", r"[^/\\\0-\x1f]{1,60}", "60 characters at most, no / or \\: files are named after it")
        board = _with_regions(board)
        _check_project(board)
    except BoardError as error:
        raise BoardError(f"{path}: {error}") from None
    return board


def _with_regions(board: Board) -> Board:
    """Return the board with the regions that its project has in their place. Raises BoardError where both have some,
    and for regions that do not have the board's sram together."""
    where, key, ram = f"board {short(board.name)}", "regions", () if board.project is None else board.project.ram
    if ram:
        if board.regions:
            raise BoardError(f"{where}: both regions and project: ram: expected the memories once, as regions")
        key = "project: ram"
        assert board.project is not None  # ram is its
        board = replace(board, regions=ram, project=replace(board.project, ram=()))
    largest = max((sum(region.bytes for region in run) for run in board.runs), default=board.sram)
    if largest < board.sram:
        raise BoardError(f"{where}: {key}: the largest memory has {largest:,} bytes, the board's sram {board.sram:,}")
    if board.regions and board.regions[0].bytes < board.reserved_sram and len(board.runs[0]) == 1:
        raise BoardError(
            f"{where}: {key}: {board.regions[0].name} holds stack and data: expected at least reserved_sram, "
            f"{board.reserved_sram:,} bytes"
        )
    return board


def _check_project(board: Board) -> None:
    """Raise BoardError where the project contradicts the board around it."""
    if board.project is None:
        return
    where, clock = f"board {short(board.name)}: project", board.project.clock
    check_text(board, "name", WORD, "a word of letters, digits, _ . -, as it stands in C")
    if clock.hsi_hz * clock.n != board.clock_hz * clock.m * clock.p:
        raise BoardError(f"{where}: clock: hsi_hz / m * n / p is not the board's clock_hz, {board.clock_hz:,}")
    if not board.regions:
        raise BoardError(f"{where}: no memory for it: expected regions")


BOARDS = {board.name: board for board in map(read_board, sorted(Path(__file__).parent.glob("*.yml")))}
# Core -> the board on which latency.json was fitted.
CORE_BOARDS = {"cortex-m4": "stm32f412", "cortex-m7": "stm32h743"}


def like_core(board: Board) -> Board | None:
    """Return the board of ours that stands for the core of `board`, or None."""
    core = CORES.get(board.core)
    return BOARDS[core.board] if core and core.board else None


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
