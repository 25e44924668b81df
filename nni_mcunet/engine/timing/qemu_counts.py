"""Count what a firmware executes under QEMU, call by call: the plugin qemu/counts.c, built at need, its run, its
file."""

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ...core.boards import Board
from ...core.boards.parts import Cache, Memory
from ...core.files import user_cache
from ...core.types import PlainDict
from ..codegen.arenas import suffix
from ..run.elf import Range, sections, symbols
from ..run.emulator import EMULATED, machine, run_qemu
from ..run.generated import arena_regions, prefix_of
from ..run.run_report import parse_run
from ..run.toolchain import WARNINGS, tool

PLUGIN = Path(__file__).parents[1] / "qemu/counts.c"
CALLERS = "main", "mcu_report"  # and a model's run() and detect()


@dataclass
class Counts:
    """Hold what one call executed. instructions: address -> [times executed, times jumped to]; lines missed of code
    behind a jump and in sequence, of constants in flash; cycles that lines missed of the arena wait; accesses that
    misaligned data adds."""

    instructions: dict[int, list[int]] = field(default_factory=dict)
    jumps: int = 0
    sequence: int = 0
    flash: int = 0
    sram: int = 0
    misaligned: int = 0

    def add(self, other: "Counts") -> None:
        """Add the counts of another call."""
        for address, (executed, entered) in other.instructions.items():
            own = self.instructions.setdefault(address, [0, 0])
            own[0] += executed
            own[1] += entered
        for name in ("jumps", "sequence", "flash", "sram", "misaligned"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def executed(self) -> int:
        """Return the number of instructions."""
        return sum(count for count, _ in self.instructions.values())


def run_counted(
    elf: str | Path, board: Board, memory: Memory, timeout: float = EMULATED
) -> tuple[PlainDict, dict[int, Counts]]:
    """Return (what emulator.run_emulated gives, site -> Counts). A site is the address of an instruction of CALLERS: of
    a call, for all that it calls, or its own; 0 is what runs before main. The run is the same as without counting, a
    few times slower. Raises UserError for a missing program, see run_emulated for the others."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "counts"
        plugin = ",".join([str(_plugin()), f"out={out}", *_arguments(elf, board, memory)])
        run = parse_run(run_qemu(elf, machine(board), timeout, plugin))
        return run, _read(out, [wait for _, wait in _waits(elf, board, memory)])


def _waits(elf: str | Path, board: Board, memory: Memory) -> list[tuple[Range, int]]:
    """Return the range of each array of the arena that is behind the data cache, and the cycles for a line of it."""
    found, folder = symbols(elf), Path(elf).parent.parent
    prefix, spread = prefix_of(folder), arena_regions(folder)
    if spread:
        waits = {region.name: region.wait for region in board.regions}
        arrays = [(found[f"{prefix}_arena{suffix(region)}"], waits.get(region, 0)) for region in spread]
        return [(where, wait) for where, wait in arrays if wait]
    arena = found[f"{prefix}_arena"]
    return [(arena, memory.sram)] if memory.tcm is not None and arena.size > memory.tcm else []


def _arguments(elf: str | Path, board: Board, memory: Memory) -> list[str]:
    found, where = symbols(elf), sections(elf)
    constants, prefix = where[".text"], prefix_of(Path(elf).parent.parent)
    callers = *CALLERS, f"{prefix}_run", f"{prefix}_detect"
    ranges: list[tuple[str, tuple[int, int]]] = [("caller", found[name]) for name in callers if name in found]
    ranges.append(("cached", (constants.address, constants.size)))
    ranges += [("cached", where) for where, _ in _waits(elf, board, memory)]
    return [f"icache={_cache(memory.code)}", f"dcache={_cache(memory.data)}"] + [
        f"{name}={address:x}:{address + size:x}" for name, (address, size) in ranges
    ]


def _cache(cache: Cache) -> str:
    """Return a cache as the plugin reads it: a line has 1 << the last number bytes."""
    return f"{cache.sets:x}:{cache.ways:x}:{cache.line.bit_length() - 1:x}"


@cache
def _plugin() -> Path:
    """Return the plugin compiled for this host, kept in the user's cache under a name by its source."""
    home = user_cache()
    path = home / f"counts-{hashlib.sha256(PLUGIN.read_bytes()).hexdigest()[:16]}.so"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as folder:
            fresh = Path(folder) / "counts.so"
            flags = ["-O2", "-D_GNU_SOURCE", *WARNINGS, "-Wno-unused-parameter", "-shared", "-fPIC"]
            subprocess.run([tool("gcc"), *flags, str(PLUGIN), "-o", str(fresh)], check=True)
            os.replace(fresh, path)
    return path


def _read(path: Path, waits: list[int]) -> dict[int, Counts]:
    """Read the plugin's file. waits: cycles for a line of each cached range behind the flash."""
    found: dict[int, Counts] = {}
    for line in path.read_text().splitlines():
        kind, site, *numbers = line.split()
        own = found.setdefault(int(site), Counts())
        if kind == "i":
            address, _, executed, entered = map(int, numbers)
            own.instructions[address] = [executed, entered]
        else:
            own.jumps, own.sequence, own.misaligned, own.flash, *sram = map(int, numbers)
            own.sram = sum(lines * wait for lines, wait in zip(sram, waits, strict=True))
    return found
