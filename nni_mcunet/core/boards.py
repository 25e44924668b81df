"""The boards: memory, clock and core, and what the runtime itself needs of them."""

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path

import yaml

from .errors import BoardError

KB = 1024


@dataclass(frozen=True)
class Board:
    """A microcontroller. sram, flash in bytes; `reserved_*` is kept for stack, .data/.bss and code beside the model;
    cycles_per_instruction: where it was measured, instead of the core's in latency.py."""

    name: str
    core: str  # gcc's -mcpu name
    clock_hz: int
    sram: int
    flash: int
    reserved_sram: int = 8 * KB
    reserved_flash: int = 32 * KB
    cycles_per_instruction: float | None = None

    def __post_init__(self):
        for name in ("name", "core"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise BoardError(f"board {self.name}: {name} is {getattr(self, name)!r}, a string is wanted")
        for name in ("clock_hz", "sram", "flash", "reserved_sram", "reserved_flash"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BoardError(f"board {self.name}: {name} is {value!r}, a number of bytes (or Hz) is wanted")
        if not self.clock_hz:
            raise BoardError(f"board {self.name}: clock_hz is 0")
        factor = self.cycles_per_instruction
        if factor is not None and (isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0):
            raise BoardError(f"board {self.name}: cycles_per_instruction is {factor!r}, a number above 0 is wanted")
        if self.reserved_sram >= self.sram or self.reserved_flash >= self.flash:
            raise BoardError(f"board {self.name}: what the runtime keeps (reserved_*) leaves nothing for a network")

    @property
    def arena_limit(self) -> int:
        return self.sram - self.reserved_sram

    @property
    def model_limit(self) -> int:
        return self.flash - self.reserved_flash

    def with_arena(self, arena_bytes: int | None) -> "Board":
        """The board with so many bytes for the arena at most, the rest of its SRAM being the application's."""
        if arena_bytes is None:
            return self
        return replace(self, sram=min(self.sram, arena_bytes + self.reserved_sram))

    def to_dict(self) -> dict:
        return asdict(self)


BOARDS = {
    board.name: board
    for board in (
        Board("stm32f410", "cortex-m4", 100_000_000, 32 * KB, 128 * KB, reserved_sram=4 * KB),
        Board("stm32f412", "cortex-m4", 100_000_000, 256 * KB, 1024 * KB),
        Board("stm32f746", "cortex-m7", 216_000_000, 320 * KB, 1024 * KB),
        Board("stm32h743", "cortex-m7", 480_000_000, 512 * KB, 2048 * KB),
    )
}


def get_board(name: str) -> Board:
    """A board by name (stm32h743), by the paper's short name (H743), or from a YAML or JSON file with Board's fields.

    Raises BoardError naming the known boards.
    """
    key = str(name).lower()
    for known, board in BOARDS.items():
        if key in (known, known.removeprefix("stm32")):
            return board
    if not str(name).endswith((".yml", ".yaml", ".json")):
        raise BoardError(
            f"unknown board '{name}': use one of {', '.join(BOARDS)} or a .yml or .json file with a board's fields"
        )
    text = Path(name).read_bytes()
    try:
        data = json.loads(text) if str(name).endswith(".json") else yaml.safe_load(text)
        return Board(**_checked(data))
    except (yaml.YAMLError, UnicodeDecodeError, json.JSONDecodeError, BoardError) as error:
        names = ", ".join(f.name for f in fields(Board))
        reason = " ".join(str(error).split())
        raise BoardError(f"{name}: {reason}; a board has the fields {names}") from None


def _checked(data) -> dict:
    if not isinstance(data, dict):
        raise BoardError("no mapping")
    for key in data:
        if key not in {f.name for f in fields(Board)}:
            raise BoardError(f"unknown field '{key}'")
    for field in fields(Board):
        if field.default is MISSING and field.name not in data:
            raise BoardError(f"the field '{field.name}' is missing")
    return data
