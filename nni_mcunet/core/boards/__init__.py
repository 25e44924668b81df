"""The boards: memory, clock and core, and what the runtime itself needs of them."""

from dataclasses import asdict, dataclass, replace

from ..errors import BoardError
from ..validate import check_fields, read_plain, short

KB = 1024
MOST = 1 << 40  # bytes, or Hz, that a board's file may say


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
        where = f"board {short(self.name)}"
        for name in ("name", "core"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise BoardError(f"{where}: {name} is {short(getattr(self, name))}: expected a string")
        for name in ("clock_hz", "sram", "flash", "reserved_sram", "reserved_flash"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
                raise BoardError(f"{where}: {name} is {short(value)}: expected a number of bytes (or Hz)")
        if not self.clock_hz:
            raise BoardError(f"{where}: clock_hz is 0")
        factor = self.cycles_per_instruction
        if factor is not None and (isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0):
            raise BoardError(f"{where}: cycles_per_instruction is {short(factor)}: expected a number above 0")
        if self.reserved_sram >= self.sram or self.reserved_flash >= self.flash:
            raise BoardError(f"{where}: what the runtime keeps (reserved_*) leaves nothing for a network")

    @property
    def arena_limit(self) -> int:
        return self.sram - self.reserved_sram

    @property
    def model_limit(self) -> int:
        return self.flash - self.reserved_flash

    def with_arena(self, arena_bytes: int | None) -> "Board":
        """The board with so many bytes for the arena at most, the rest of its SRAM being the application's. Raises
        BoardError for less than one."""
        if arena_bytes is None:
            return self
        if arena_bytes < 1:
            raise BoardError(f"{arena_bytes:,} bytes for the network: expected more than 0")
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
            f"unknown board {short(str(name))}: use one of {', '.join(BOARDS)} or a .yml or .json file with a "
            "board's fields"
        )
    data = read_plain(name, BoardError)
    try:
        check_fields(data, Board, "the board", BoardError)
        return Board(**data)
    except BoardError as error:
        raise BoardError(f"{name}: {error}") from None
