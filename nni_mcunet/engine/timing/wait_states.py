"""Say how long the core waits for flash and SRAM: the board's `memory`, or that of the board of ours with its core.

The figures are data of core/boards. qemu/counts.c counts the lines that the caches miss, layer_cycles.py multiplies.
An STM32F4 waits for the flash behind the ART accelerator. An STM32F7 or H7 waits for the flash on the AXI bus, behind
the Cortex-M7's caches. DTCM never waits; an arena that it cannot hold is in SRAM on the AXI bus, behind the data cache.

Estimated by us: what crossing the bus and filling a line adds to the wait states, 5 bus cycles; that caches replace the
line longest unused (the M7's choose at random). Not modelled: conflicts of code and data for the flash, writing back of
dirty lines, and other masters on the bus.
"""

from ...core.boards import CORES, Board, like_core
from ...core.boards.parts import Memory
from ...core.errors import UserError


def memory_of(board: Board) -> Memory:
    """Return the board's memory, or for a board that says none that of the board of ours with its core. Raises
    UserError for another core."""
    found = board.memory or getattr(like_core(board), "memory", None)
    if found is None:
        known = ", ".join(name for name, core in CORES.items() if core.board)
        raise UserError(
            f"{board.name}: no model of a {board.core}'s memory, only for {known}: "
            "give the board's file a part 'memory'"
        )
    return found
