"""Generated C -> a project for a real STM32 board: start-up, clock, UART, linker script, Makefile and CMake.

The folder of the plain C library gets `board/`, Makefile, CMakeLists.txt, toolchain.cmake and README.txt; what they
are made of lies in boards/. Boards from a file have no project: their clock and pins are not known.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np

from ...core.boards import KB, Board, get_board
from ...core.errors import UserError
from ...core.file_sets import Files, owned
from ..codegen.names import DEFAULT
from .generated import aliases
from .pictures import checked_picture
from .toolchain import RUNTIME, core_flags

COMMON = ("crc.h", "frame.c", "frame.h", "picture.S", "port.h", "print.h", "report.c", "report.h", "sections.ld",
          "serve.c", "startup.c", "stm32.c", "stm32.h", "stm32.ld")  # fmt: skip
USART = {1: "0x40011000", 2: "0x40004400", 3: "0x40004800"}


@dataclass(frozen=True)
class Target:
    """What the project of a board needs to know. ram: name -> (origin, bytes), the first for stack and data; tx, rx:
    pins of the ST-LINK's serial port; interrupts: of the device, behind the core's 16."""

    nucleo: str
    family: str
    fpu: str
    interrupts: int
    ram: dict[str, tuple[int, int]]
    hsi: int
    uart: int
    tx: str
    rx: str
    openocd: str
    pyocd: str
    clock: str
    discovery: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        caches = () if self.family == "STM32F4" else ("cache_m7.c", "cache_m7.h")
        shared = () if self.family == "STM32H7" else ("stm32f4f7.h",)
        return (*COMMON, f"{self.family.lower()}.c", *shared, *caches)


F4 = dict(family="STM32F4", fpu="fpv4-sp-d16", hsi=16_000_000, openocd="stm32f4x",
          clock="100 MHz, 3 flash wait states, ART accelerator and prefetch on;")  # fmt: skip
PORT = dict(uart=3, tx="D8", rx="D9")
TARGETS = {
    "stm32f410": Target("NUCLEO-F410RB", interrupts=98, ram={"RAM": (0x20000000, 32 * KB)}, uart=2, tx="A2", rx="A3",
                        pyocd="stm32f410rbtx", **F4),
    "stm32f412": Target("NUCLEO-F412ZG", interrupts=97, ram={"RAM": (0x20000000, 256 * KB)}, pyocd="stm32f412xg",
                        discovery="STM32F412G-DISCO: USART2, TX PA2, RX PA3.", **PORT, **F4),
    "stm32f746": Target("NUCLEO-F746ZG", "STM32F7", "fpv5-sp-d16", 98, {"RAM": (0x20000000, 320 * KB)}, 16_000_000,
                        openocd="stm32f7x", pyocd="stm32f746zgtx", **PORT,
                        clock="216 MHz with over-drive, 7 flash wait states, both caches on;",
                        discovery="STM32F746G-DISCO: USART1, TX PA9, RX PB7."),
    "stm32h743": Target("NUCLEO-H743ZI2", "STM32H7", "fpv5-d16", 150,
                        {"DTCM": (0x20000000, 128 * KB), "AXI": (0x24000000, 512 * KB)}, 64_000_000,
                        openocd="stm32h7x", pyocd="stm32h743xx", **PORT,
                        clock="480 MHz (VOS0) on silicon revision V, 400 MHz (VOS1) on any other, both caches on;"),
}  # fmt: skip


def target_of(board: Board) -> Target:
    """Raises UserError for a board that has no project."""
    if board.name not in TARGETS:
        raise UserError(f"no project for '{board.name}', only for {', '.join(TARGETS)}; without --project: the library")
    return TARGETS[board.name]


def model_hash(folder: str | Path) -> str:
    """16 hex digits that change with any C file of the generated library in `folder`: the identity of an image. Raises
    UserError for a folder that no mcunet generate of this version has written."""
    names = [name for names in owned(folder).values() for name in names if _of_library(name)]
    if not names:
        raise UserError(f"{folder} holds no library of this version: write it with mcunet generate and flash it")
    return _hash({name: (Path(folder) / name).read_bytes() for name in names})


def _of_library(name: str) -> bool:
    return "/" not in name and name.endswith((".c", ".h"))


def _hash(library: Files) -> str:
    found = hashlib.sha256()
    for name, data in sorted(library.items()):
        found.update(name.encode() + b"\0" + (data.encode() if isinstance(data, str) else data))
    return found.hexdigest()[:16]


def project_files(
    library: Files, board: Board, arena: int, shape, picture: np.ndarray | None = None, prefix: str = DEFAULT
) -> Files:
    """The project of `board` around a library, whose arena has so many bytes and whose model reads pictures of `shape`,
    by name. picture: (h, w, c) uint8, run after each reset. Raises UserError for a board without a project or a
    picture of another size."""
    target, library = target_of(board), {name: data for name, data in library.items() if _of_library(name)}
    files: Files = {f"board/{name}": (RUNTIME / name).read_bytes() for name in target.sources}
    files["board/picture.rgb"] = b"" if picture is None else checked_picture(picture, shape).tobytes()
    if prefix != DEFAULT:
        files["board/mcu_model.h"] = aliases(library[f"{prefix}_model.h"], prefix)
    values = _values(library, board, target, arena) | {"prefix": prefix}
    for path in sorted((RUNTIME / "project").iterdir()):
        name = f"board/{path.name}" if path.name in ("memory.ld", "config.h") else path.name
        files[name] = Template(path.read_text()).substitute(values)
    return files


def arena_region(target: Target, board: Board, arena: int) -> str:
    """The first region that holds the arena: beside what the runtime keeps in the one for stack and data."""
    first = next(iter(target.ram))
    fits = [name for name, (_, size) in target.ram.items() if arena + (name == first) * board.reserved_sram <= size]
    return fits[0] if fits else list(target.ram)[-1]  # the linker says by how much it is too large


def _values(library: Files, board: Board, target: Target, arena: int) -> dict[str, str]:
    """What the templates of boards/project ask for."""
    ram, where = target.ram, arena_region(target, board, arena)
    first = next(iter(ram))
    regions = {"FLASH": (0x08000000, board.flash), **ram}
    sources = sorted(name for name in library if name.endswith(".c"))
    own = sorted(f"board/{name}" for name in target.sources if name.endswith((".c", ".S")))
    compile_flags = [f for f in core_flags(board.core) if f not in ("-nostartfiles", "-Wl,--gc-sections")]
    base = 0x58020000 if target.family == "STM32H7" else 0x40020000
    pins = {side: (f"{base + (ord(pin[0]) - ord('A')) * KB:#010x}", pin[1:])
            for side, pin in (("tx", target.tx), ("rx", target.rx))}  # fmt: skip
    note = f"arena {arena} bytes in {where}, stack and data in {first}."
    if where != first:
        note += f" The planner counts only {where}: {first} comes on top."
    return {
        "nucleo": f"{target.nucleo} ({board.name})", "board": board.name, "family": target.family,
        "flags": " ".join([*compile_flags, f"-mfpu={target.fpu}", f"-DMCU_INTERRUPTS={target.interrupts}"]),
        "sources": " ".join([*sources, *own]), "openocd": target.openocd, "pyocd": target.pyocd,
        "regions": "\n".join(f"    {name} ({'rx' if name == 'FLASH' else 'rwx'}) : ORIGIN = {at:#010x}, "
                             f"LENGTH = {size // KB}K" for name, (at, size) in regions.items()),
        "stack": str(get_board(board.name).reserved_sram // 2), "sram": first, "arena": where,
        "model": _hash(library), "hsi": str(target.hsi), "uart": str(target.uart),
        "usart_base": USART[target.uart], "tx": target.tx, "rx": target.rx,
        "tx_gpio": pins["tx"][0], "tx_pin": pins["tx"][1], "rx_gpio": pins["rx"][0], "rx_pin": pins["rx"][1],
        "clock_note": target.clock, "memory_note": note,
        "discovery": f" {target.discovery}".rstrip(), "gpio": f"{base:#010x}",
        "uart_note": f"{target.discovery} Pins and UART: board/config.h.".strip(),
    }  # fmt: skip
