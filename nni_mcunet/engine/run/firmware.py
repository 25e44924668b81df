"""Build a firmware out of generated C for a board's core and memory sizes, on the memory layout of QEMU's boards
(mps2.ld).

Nothing here talks to real hardware: board_project.py writes the project of a real board.
"""

from pathlib import Path

import numpy as np

from ...core.boards import Board
from .generated import build_folder, sources, write_picture
from .toolchain import PROGRAM, RUNTIME, compile_c, core_flags


def build_firmware(folder: str | Path, board: Board, picture: np.ndarray, stack_bytes: int | None = None) -> Path:
    """Build the ELF of the model in `folder` for `board`'s core, SRAM and flash, with a picture to run on.

    picture: (h, w, c) uint8. stack_bytes: reserved for the stack, half of what the board keeps for the runtime unless
    given. Raises Infeasible where SRAM or flash do not suffice, UserError for a missing compiler or a picture of
    another size, FirmwareError where the C does not compile.
    """
    folder = Path(folder)
    out = build_folder(folder) / f"{board.name}.elf"
    stack = stack_bytes or board.reserved_sram // 2
    sizes = {"FLASH_BYTES": board.flash, "SRAM_BYTES": board.sram, "STACK_BYTES": stack}
    link = [f"-Wl,--defsym={name}={value}" for name, value in sizes.items()]
    c_files = [*sources(folder), *PROGRAM, RUNTIME / "startup.c", RUNTIME / "mps2.c"]
    write_picture(folder, picture)
    flags = [*core_flags(board.core), "-g1", *link, f"-L{RUNTIME}", "-T", str(RUNTIME / "mps2.ld")]
    # -g1: layer_cycles.py finds the layer of a call by the line of its source.
    compile_c("arm-none-eabi-gcc", flags, c_files, folder, out, board)
    return out
