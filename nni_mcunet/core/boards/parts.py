"""The parts of a board's file, as dataclasses that check what they hold: caches, memory, clock, UART, project.

They are data. How C starts such a board stands in engine/boards, chosen by the project's family.
"""

import re
from dataclasses import dataclass, is_dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from ..errors import BoardError
from ..types import Plain
from ..validate import check_fields, integer, short

KB = 1024
MOST = 1 << 40  # bytes, or Hz, that a board's file may say
ADDRESSES = 1 << 32
WAITS = 1000  # cycles for a line
CACHE_LINES = 1024  # that engine/qemu/counts.c counts of a cache
WORD = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}"
PIN = r"[A-K](1[0-5]|[0-9])"
WORDS = WORD, "a word of letters, digits, _ . -"
PROSE = r"[\w .,;:()+-]{0,200}", "a line of letters, digits, spaces and . , ; : ( ) + -"  # stands in C and in make
LINKER = ("FLASH", "PICTURE", "SRAM", "ARENA")  # names of regions that engine/boards/sections.ld uses
T = TypeVar("T")


def parse(cls: type[T], data: Plain, name: str) -> T:
    """Build a board or a part of one from plain data of a file, the parts in it likewise. name: what a message calls
    it. Raises BoardError for unknown or missing keys and for values that the part refuses."""
    check_fields(data, cls, name, BoardError)
    values = dict(data)
    for key, hint in get_type_hints(cls).items():
        kinds = (hint, *get_args(hint))
        part = next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
        if part is None or key not in values or (values[key] is None and type(None) in kinds):
            continue
        if get_origin(hint) is not tuple:
            values[key] = parse(part, values[key], f"{name}: {key}")
        elif isinstance(values[key], list) and values[key]:
            values[key] = tuple(parse(part, one, f"{name}: {key}") for one in values[key])
        else:
            raise BoardError(f"{name}: {key} is {short(values[key])}: expected a list with at least one part")
    try:
        return cls(**values)
    except BoardError as error:
        raise BoardError(f"{name}: {error}") from None


def check_whole(part: object, names: str, low: int, high: int) -> None:
    """Raise BoardError unless each of these fields, their names in one text, is an integer in low..high."""
    for name in names.split():
        integer(getattr(part, name), name, low, high, BoardError)


def check_text(part: object, names: str, pattern: str, expected: str) -> None:
    """Raise BoardError unless each of these fields is a text of `pattern`."""
    for name in names.split():
        value = getattr(part, name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise BoardError(f"{name} is {short(value)}: expected {expected}")


@dataclass(frozen=True)
class Cache:
    """Hold a cache's geometry. line: bytes, a power of two."""

    sets: int
    ways: int
    line: int

    def __post_init__(self) -> None:
        check_whole(self, "sets ways", 1, CACHE_LINES)
        check_whole(self, "line", 4, 256)
        if self.line & (self.line - 1):
            raise BoardError(f"line is {self.line}: expected a power of 2")
        if self.sets * self.ways > CACHE_LINES:
            raise BoardError(f"sets times ways is {self.sets * self.ways}: expected {CACHE_LINES} lines at most")


@dataclass(frozen=True)
class Memory:
    """Hold the cycles that the core waits for a line: of code behind a jump, of code in sequence, of constants in
    flash, of the arena in SRAM. tcm: bytes of SRAM that never wait, None for all."""

    code: Cache
    data: Cache
    jump: int
    sequence: int
    flash: int
    sram: int = 0
    tcm: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "jump sequence flash sram", 0, WAITS)
        if self.tcm is not None:
            check_whole(self, "tcm", 0, MOST)


@dataclass(frozen=True)
class Clock:
    """Hold what the project's start-up writes: hsi_hz / m * n / p is the core's clock. wait_states: of the flash at it.
    note: for the project's README."""

    hsi_hz: int
    m: int
    n: int
    p: int
    wait_states: int
    note: str

    def __post_init__(self) -> None:
        check_whole(self, "hsi_hz", 1, MOST)
        check_whole(self, "m n p", 1, 512)
        check_whole(self, "wait_states", 0, 15)
        check_text(self, "note", *PROSE)


@dataclass(frozen=True)
class Uart:
    """Hold which USART the project speaks through, and its pins such as D8, both with alternate function 7."""

    number: int
    tx: str
    rx: str

    def __post_init__(self) -> None:
        check_whole(self, "number", 1, 3)
        check_text(self, "tx rx", PIN, "a pin such as D8")


class Room(NamedTuple):
    """Hold what a network may take of a region: `bytes`; its `wait` cycles, and whether DMA writes it."""

    name: str
    bytes: int
    wait: int
    dma: bool = True


@dataclass(frozen=True)
class Region:
    """Hold one memory of a board.

    at     its address
    bytes  whole kilobytes
    wait   cycles that the core waits for a line that its data cache lacks; 0: as fast as the core
    dma    whether the DMA of a camera writes it
    """

    name: str
    at: int
    bytes: int
    wait: int = 0
    dma: bool = True

    def __post_init__(self) -> None:
        check_text(self, "name", "[A-Z][A-Z0-9_]{0,30}", "capitals and digits")
        if self.name in LINKER:
            raise BoardError(f"name is {self.name}, which the linker script uses itself: expected another, such as RAM")
        check_whole(self, "at", 0, ADDRESSES - 1)
        check_whole(self, "bytes", KB, ADDRESSES)
        if self.bytes % KB:
            raise BoardError(f"bytes is {self.bytes}: expected whole kilobytes ({KB} bytes)")
        check_whole(self, "wait", 0, WAITS)
        if not isinstance(self.dma, bool):
            raise BoardError(f"dma is {short(self.dma)}: expected true or false")


def check_regions(regions: tuple[Region, ...], key: str) -> None:
    """Raise BoardError, with the key of the file, for regions of one name or at one address."""
    names = [region.name for region in regions]
    if len({*names}) < len(names):
        raise BoardError(f"{key} has the names {', '.join(names)}: expected each once")
    ordered = sorted(regions, key=lambda region: region.at)
    for low, high in pairwise(ordered):
        if low.at + low.bytes > high.at:
            raise BoardError(f"{key}: {low.name} and {high.name} overlap: expected each address in one region")


@dataclass(frozen=True)
class Project:
    """Hold what the firmware project of a real board needs to know.

    kit         ST's board that carries the device; discovery: where another one has its UART
    family      the start-up code, such as STM32F4
    fpu         gcc's -mfpu name
    interrupts  of the device, behind the core's 16
    openocd     target script, without .cfg; pyocd: target name
    ram         the board's regions, in a file that does not give them as `regions`
    """

    kit: str
    family: str
    fpu: str
    interrupts: int
    clock: Clock
    uart: Uart
    openocd: str
    pyocd: str
    discovery: str = ""
    ram: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        check_text(self, "kit family fpu openocd pyocd", *WORDS)
        check_text(self, "discovery", *PROSE)
        check_whole(self, "interrupts", 1, 480)
        check_regions(self.ram, "ram")
