"""What the flash and the SRAM of a board make the core wait, to which the caches of qemu/counts.c count the lines.

STM32F410, F412: 3 wait states at 100 MHz, lines of 128 bits, the ART accelerator keeping 64 of code and 8 of data and
reading ahead (RM0401, RM0402). A jump to a line that is not kept waits; the next line in memory is there in time.
STM32F746: 7 wait states at 216 MHz, lines of 256 bits (RM0385), on the AXI bus behind the Cortex-M7's caches of
4 kB each. STM32H743: 4 wait states of the bus at 240 MHz, the core at 480 (RM0433), caches of 16 kB each.
DTCM never waits; an arena that it cannot hold is in SRAM on the AXI bus, behind the data cache.

Estimated by us: what crossing the bus and filling a line adds to the wait states, 5 bus cycles; that caches replace the
line longest unused (the M7's choose at random). Not modelled: conflicts of code and data for the flash, writing back of
dirty lines, and other masters on the bus.
"""

from dataclasses import dataclass

from ...core.boards import KB, Board
from ...core.errors import UserError


@dataclass(frozen=True)
class Cache:
    """A line has 1 << shift bytes."""

    sets: int
    ways: int
    shift: int

    def __str__(self):
        return f"{self.sets:x}:{self.ways:x}:{self.shift:x}"


@dataclass(frozen=True)
class Memory:
    """Cycles that the core waits for a line: of code behind a jump, of code in sequence, of constants in flash, of the
    arena in SRAM. tcm: bytes of SRAM that never wait, None for all."""

    code: Cache
    data: Cache
    jump: int
    sequence: int
    flash: int
    sram: int = 0
    tcm: int | None = None


ART = Memory(Cache(1, 64, 4), Cache(1, 8, 4), jump=3, sequence=0, flash=3)
F746 = Memory(Cache(64, 2, 5), Cache(32, 4, 5), jump=12, sequence=12, flash=12, sram=5, tcm=64 * KB)
H743 = Memory(Cache(256, 2, 5), Cache(128, 4, 5), jump=18, sequence=18, flash=18, sram=10, tcm=128 * KB)
BOARDS = {"stm32f410": ART, "stm32f412": ART, "stm32f746": F746, "stm32h743": H743}
CORES = {"cortex-m4": ART, "cortex-m7": H743}


def memory_of(board: Board) -> Memory:
    """The board's, or for one of the user's that of the board with its core. Raises UserError for another core."""
    found = BOARDS.get(board.name, CORES.get(board.core))
    if found is None:
        raise UserError(f"{board.name}: no model of a {board.core}'s memory, only for {', '.join(CORES)}")
    return found
