"""Write generated C as a project for a real STM32 board: start-up, clock, UART, linker script, Makefile and CMake.

The folder of the plain C library gets `board/`, Makefile, CMakeLists.txt, toolchain.cmake and README.txt. Their parts
lie in engine/boards. The facts of a board are data, the part `project` of its file. The start-up C is chosen by the
family.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Template

import numpy as np

from ...core.boards import BOARDS, KB, Board
from ...core.boards.parts import Clock, Project, Region
from ...core.errors import UserError
from ...core.file_sets import Files, owned
from ..codegen.arenas import sections_ld
from ..codegen.names import DEFAULT
from ..model import checked_picture
from .generated import aliases
from .toolchain import RUNTIME, core_flags

COMMON = ("crc.h", "frame.c", "frame.h", "picture.S", "port.h", "print.h", "report.c", "report.h", "sections.ld",
          "serve.c", "startup.c", "stm32.c", "stm32.h", "stm32.ld")  # fmt: skip
USART = {1: 0x40011000, 2: 0x40004400, 3: 0x40004800}
FLASH_AT = 0x08000000
ONE_ARRAY = RUNTIME / "arenas.ld"
PORT = 0x400  # bytes of a GPIO port's registers


@dataclass(frozen=True)
class Family:
    """Hold what the start-up C of a family is and can do. gpio: address of port A's registers; m, n, p: values that the
    PLL's dividers and its multiplier take; input_hz, vco_hz: bounds behind m and behind n; most_hz: highest core clock
    for the supply and the buses as the C sets them."""

    core: str
    sources: tuple[str, ...]
    gpio: int
    m: range
    n: range
    p: range
    input_hz: tuple[int, int]
    vco_hz: tuple[int, int]
    most_hz: int


M7 = ("cache_m7.c", "cache_m7.h")
MHZ = 1_000_000
F4F7 = partial(Family, gpio=0x40020000, m=range(2, 64), n=range(50, 433), p=range(2, 9, 2), input_hz=(MHZ, 2 * MHZ),
               vco_hz=(100 * MHZ, 432 * MHZ))  # fmt: skip
FAMILIES = {
    "STM32F4": F4F7("cortex-m4", ("stm32f4.c", "stm32f4f7.h"), most_hz=100 * MHZ),
    "STM32F7": F4F7("cortex-m7", ("stm32f7.c", "stm32f4f7.h", *M7), most_hz=216 * MHZ),
    "STM32H7": Family("cortex-m7", ("stm32h7.c", *M7), 0x58020000, range(1, 64), range(4, 513), range(2, 129, 2),
                      (8 * MHZ, 16 * MHZ), (192 * MHZ, 960 * MHZ), 480 * MHZ),
}  # fmt: skip


def project_of(board: Board) -> Project:
    """Return what the project of `board` needs to know. Raises UserError for a board that has none, or one that the
    start-up C of its family cannot serve."""
    project, known = board.project, [name for name, other in BOARDS.items() if other.project]
    if project is None:
        raise UserError(
            f"no project for '{board.name}', only for {', '.join(known)} and for a board whose file has the part "
            "'project'; without --project: the library"
        )
    if project.family not in FAMILIES:
        raise UserError(f"{board.name}: family is '{project.family}': expected one of {', '.join(FAMILIES)}")
    family = FAMILIES[project.family]
    if board.core != family.core:
        raise UserError(f"{board.name}: core is '{board.core}': expected {family.core}, that of the {project.family}")
    _check_clock(board, project.clock, family)
    return project


def _check_clock(board: Board, clock: Clock, family: Family) -> None:
    """Raise UserError for a clock tree that the start-up C of the family cannot set."""
    where, input_hz = f"{board.name}: clock", clock.hsi_hz / clock.m
    for name in "mnp":
        value, can = getattr(clock, name), getattr(family, name)
        if value not in can:
            raise UserError(f"{where}: {name} is {value}: expected {can[0]}..{can[-1]}{', even' * (can.step == 2)}")
    if not family.input_hz[0] <= input_hz <= family.input_hz[1]:
        least, most = family.input_hz
        raise UserError(f"{where}: hsi_hz / m is {input_hz:,.0f}: expected {least:,}..{most:,}")
    if board.clock_hz > family.most_hz:
        raise UserError(f"{where}_hz is {board.clock_hz:,}: expected {family.most_hz:,} at most")
    if not family.vco_hz[0] <= board.clock_hz * clock.p <= family.vco_hz[1]:
        least, most = family.vco_hz
        raise UserError(f"{where}: hsi_hz / m * n is {board.clock_hz * clock.p:,}: expected {least:,}..{most:,}")


def model_hash(folder: str | Path) -> str:
    """Return 16 hex digits that change with any C file of the generated library in `folder`: the identity of an image.
    Raises UserError for a folder that no mcunet generate of this version has written."""
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
    library: Files,
    board: Board,
    arena: int,
    shape: tuple[int, int, int],
    picture: np.ndarray | None = None,
    prefix: str = DEFAULT,
    regions: dict[str, int] | None = None,
) -> Files:
    """Return the files of the project of `board` around a library, by name. arena: its bytes; regions: its bytes in
    each region of the board, where it lies in several; shape: (h, w, c) of the
    pictures that the model reads; picture: (h, w, c) uint8, run after each reset. Raises UserError for a board without
    a project or a picture of another size."""
    project, library = project_of(board), {name: data for name, data in library.items() if _of_library(name)}
    files: Files = {f"board/{name}": (RUNTIME / name).read_bytes() for name in _own(project)}
    files["board/picture.rgb"] = b"" if picture is None else checked_picture(picture, shape).tobytes()
    if prefix != DEFAULT:
        header = library[f"{prefix}_model.h"]
        files["board/mcu_model.h"] = aliases(header if isinstance(header, str) else header.decode(), prefix)
    values = _values(library, board, project, arena, regions or {}) | {"prefix": prefix}
    files["board/arenas.ld"] = sections_ld({name: name for name in regions}) if regions else ONE_ARRAY.read_bytes()
    for path in sorted((RUNTIME / "project").iterdir()):
        name = f"board/{path.name}" if path.name in ("memory.ld", "config.h") else path.name
        files[name] = Template(path.read_text()).substitute(values)
    return files


def _own(project: Project) -> tuple[str, ...]:
    """Return the names of the files of engine/boards that the project takes."""
    return (*COMMON, *FAMILIES[project.family].sources)


def _values(library: Files, board: Board, project: Project, arena: int, spread: dict[str, int]) -> dict[str, str]:
    """Return what the templates of engine/boards/project ask for. spread: bytes of the arena by region, {} for one
    array, which may lie across regions whose addresses adjoin."""
    clock, family = project.clock, FAMILIES[project.family]
    memories: list[Run] = [(region,) for region in board.regions] if spread else [*board.runs]
    first, where = memories[0], memories[0] if spread else board.run_of(arena)
    sources = sorted(name for name in library if name.endswith(".c"))
    own = sorted(f"board/{name}" for name in _own(project) if name.endswith((".c", ".S")))
    compile_flags = [f for f in core_flags(board.core) if f not in ("-nostartfiles", "-Wl,--gc-sections")]
    return {
        "nucleo": f"{project.kit} ({board.name})", "board": board.name, "family": project.family,
        "flags": " ".join([*compile_flags, f"-mfpu={project.fpu}", f"-DMCU_INTERRUPTS={project.interrupts}"]),
        "sources": " ".join([*sources, *own]), "openocd": project.openocd, "pyocd": project.pyocd,
        "regions": _regions(board, memories), "stack": str(board.reserved_sram // 2), "sram": _joined(first),
        "arena": _joined(where),
        "model": _hash(library), "gpio": f"{family.gpio:#010x}",
        "clock_hz": str(board.clock_hz), "hsi": str(clock.hsi_hz), "pll_m": str(clock.m), "pll_n": str(clock.n),
        "pll_p": str(clock.p), "wait_states": str(clock.wait_states),
        "clock_note": clock.note, "memory_note": _memory_note(board, [*spread.items()] or [(where, arena)], first),
        "discovery": f" {project.discovery}".rstrip(),
        "uart_note": f"{project.discovery} Pins and UART: board/config.h.".strip(), **_pins(project, family),
    }  # fmt: skip


Run = tuple[Region, ...]  # of a board whose addresses adjoin


def _joined(run: Run) -> str:
    """Return the linker script's name of a memory."""
    return "_".join(region.name for region in run)


def _regions(board: Board, memories: list[Run]) -> str:
    """Return the regions of the linker script."""
    places = [("FLASH", "rx", FLASH_AT, board.flash)]
    places += [(_joined(run), "rwx", run[0].at, sum(region.bytes for region in run)) for run in memories]
    return "\n".join(
        f"    {name} ({how}) : ORIGIN = {at:#010x}, LENGTH = {size // KB}K" for name, how, at, size in places
    )


def _memory_note(board: Board, arenas: list[tuple[str | Run, int]], first: Run) -> str:
    """Say where everything lies, and which memories the project leaves to the application."""

    def said(memory: str | Run) -> str:
        return memory if isinstance(memory, str) else " and ".join(region.name for region in memory)

    parts = ", ".join(f"{size} bytes in {said(memory)}" for memory, size in arenas)
    used = " ".join(map(said, (*(memory for memory, _ in arenas), first))).split()
    free = [f"{region.name} {region.bytes // KB} kB" for region in board.regions if region.name not in used]
    note = f"arena {parts}; stack and data in {said(first)}."
    return note + (f" Free for the application: {', '.join(free)}." if free else "")


def _pins(project: Project, family: Family) -> dict[str, str]:
    """Return the values of the UART and its two pins."""
    uart = project.uart
    values = {"uart": str(uart.number), "usart_base": f"{USART[uart.number]:#010x}"}
    for side, pin in (("tx", uart.tx), ("rx", uart.rx)):
        port = family.gpio + (ord(pin[0]) - ord("A")) * PORT
        values |= {side: pin, f"{side}_gpio": f"{port:#010x}", f"{side}_pin": pin[1:]}
    return values
