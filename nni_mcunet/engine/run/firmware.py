"""Build a firmware out of generated C for a board's core and memory sizes, on the memory layout of QEMU's boards
(mps2.ld).

Nothing here talks to real hardware: board_project.py writes the project of a real board.
"""

from pathlib import Path

import numpy as np

from ...core.boards import Board
from ...core.errors import UserError
from ...core.files import write_atomic
from ..codegen.arenas import sections_ld
from .emulator import machine
from .generated import arena_regions, build_folder, sources, write_picture
from .machines import MACHINES, MB
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
    spread = arena_regions(folder)
    link = [f"-Lbuild/{write_memories(folder, board, [*spread])}"] if spread else []
    link += [f"-Wl,--defsym={name}={value}" for name, value in sizes.items()]
    c_files = [*sources(folder), *PROGRAM, RUNTIME / "startup.c", RUNTIME / "mps2.c"]
    write_picture(folder, picture)
    emulated = MACHINES[machine(board)]
    flags = [*core_flags(board.core), "-g1", *emulated.defines]
    # -g1: layer_cycles.py finds the layer of a call by the line of its source.
    compile_c("arm-none-eabi-gcc", flags, c_files, folder, out, board, [*link, *emulated.link])
    return out


def write_memories(folder: Path, board: Board, regions: list[str]) -> str:
    """Write the linker scripts of an arena in several regions of the board, and return the name of their folder in
    build/. Each region has its own length, so that what does not fit does not link. Its address is one that the
    emulated machine has: the first, with stack and data, begins where the SRAM does, each other one some MB behind it.
    Raises UserError for a region that the board lacks, and for more memory than the machine has."""
    known = {region.name: region for region in board.regions}
    if lacking := [name for name in regions if name not in known]:
        raise UserError(
            f"{folder} has a part of its arena in {', '.join(lacking)}, which {board.name} lacks: "
            "generate it for that board"
        )
    first = board.regions[0].name
    emulated = MACHINES[machine(board)]
    at, lines, place = emulated.sram, [], build_folder(folder) / f"{board.name}_regions"
    for name in dict.fromkeys((first, *regions)):
        lines.append(f"{'SRAM' if name == first else name} (rwx) : ORIGIN = {at:#010x}, LENGTH = {known[name].bytes}\n")
        at += -(-known[name].bytes // MB) * MB
    if at > emulated.sram + emulated.sram_bytes:
        raise UserError(
            f"{board.name}: {', '.join(regions)}: expected no more than {emulated.sram_bytes // MB} MB to emulate"
        )
    place.mkdir(exist_ok=True)
    write_atomic(place / "mps2_sram.ld", "".join(lines))
    write_atomic(place / "arenas.ld", sections_ld({name: "SRAM" if name == first else name for name in regions}))
    return place.name
