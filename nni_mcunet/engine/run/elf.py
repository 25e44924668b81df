"""Read an ELF: sections, symbols and lines, and from them where its flash and SRAM go."""

import re
from pathlib import Path
from typing import NamedTuple

from ...core.boards import Board
from .toolchain import RUNTIME, output


class Range(NamedTuple):
    """Hold a range of bytes from an address on."""

    address: int
    size: int


def sections(elf: str | Path) -> dict[str, Range]:
    """Return the range of each section by name. Raises UserError for missing binutils, as all functions here."""
    rows = re.findall(r"^(\.[\w.]+)\s+(\d+)\s+(\d+)$", output("arm-none-eabi-size", "-A", str(elf)), re.MULTILINE)
    return {name: Range(int(address), int(size)) for name, size, address in rows}


def symbols(elf: str | Path) -> dict[str, Range]:
    """Return the range of each function and object by name; the last where several local ones have one name."""
    return {name: place for name, _, place in _symbols(elf)}


def _symbols(elf: str | Path) -> list[tuple[str, str, Range]]:
    """Return (name, FUNC or OBJECT, range) of each. Bit 0 of a function's address says Thumb and is left out."""
    row = r"^ *\d+: (\w+) +(\w+) (FUNC|OBJECT) +\w+ +\w+ +\d+ (\S+)$"
    rows = re.findall(row, output("arm-none-eabi-readelf", "-sW", str(elf)), re.MULTILINE)
    return [(name, kind, Range(int(at, 16) & ~(kind == "FUNC"), int(size, 0))) for at, size, kind, name in rows]


def source_lines(elf: str | Path, addresses: list[int]) -> dict[int, tuple[str, int | None]]:
    """Return (source file, line) by address; the line is None where the ELF does not know it."""
    if not addresses:
        return {}
    text = output("arm-none-eabi-addr2line", "-e", str(elf), *map(hex, addresses))
    rows = re.findall(r"^(.*):(\d+|\?)", text, re.MULTILINE)
    lines = [(path, int(line) if line.isdigit() and line != "0" else None) for path, line in rows]
    return dict(zip(addresses, lines, strict=True))


def flash_parts(elf: str | Path) -> dict[str, int]:
    """Return bytes of flash: weights; constants (requantisation, tables, structures of the layers and the patches);
    code of the kernels, of the model (mcu_model.c) and of the runtime (boards/); initial data; rest (libraries,
    strings, padding). Their sum is elf_report's flash_bytes."""
    where, found = sections(elf), {place.address: (name, kind, place) for name, kind, place in _symbols(elf)}
    text = where[".text"]
    inside = [entry for at, entry in found.items() if text.address <= at < text.address + text.size]
    names = {name for name, _, _ in inside}
    files = source_lines(elf, [place.address for _, kind, place in inside if kind == "FUNC"])
    parts = dict.fromkeys(("weights", "constants", "kernels", "model", "runtime", "rest"), 0)
    for name, kind, place in inside:
        if kind == "FUNC":
            parts[_code_part(*files[place.address])] += place.size
        else:
            parts["weights" if name.endswith("_w") and name[:-2] in names else "constants"] += place.size
    parts["data"] = where.get(".data", Range(0, 0)).size
    parts["rest"] += text.size + parts["data"] - sum(parts.values())
    return parts


def _code_part(path: str, line: int | None) -> str:
    """Say which part a function of a source file is; a library's has no line."""
    if line is None:
        return "rest"
    if Path(path).parent == RUNTIME.resolve():
        return "runtime"
    return "model" if Path(path).name.endswith("_model.c") else "kernels"


def sram_parts(elf: str | Path) -> dict[str, int]:
    """Return bytes of SRAM: arena, or the arena of each region (arena_dtcm), stack (reserved), data, bss. Their sum is
    elf_report's sram_bytes."""
    where = sections(elf)
    arenas = _arenas(where) or {"arena": 0}
    return arenas | {name: where.get(f".{name}", Range(0, 0)).size for name in ("stack", "data", "bss")}


def _arenas(where: dict[str, Range]) -> dict[str, int]:
    """Return the bytes of the sections that hold the arena: "arena", or "arena_" and the region in small letters."""
    names = [name for name, place in where.items() if re.fullmatch(r"\.arena(_\w+)?", name) and place.size]
    return {name[1:]: where[name].size for name in names}


def region_bytes(elf: str | Path, board: Board) -> dict[str, int]:
    """Return the bytes of SRAM by the regions of the board: of its stack and data in the first, of the arena where it
    lies. Their sum is elf_report's sram_bytes. Regions whose addresses adjoin count as one, such as DTCM+SRAM12, where
    one array may lie across them; a board without regions has "SRAM"."""
    parts = sram_parts(elf)
    spread = {name.removeprefix("arena_").upper(): size for name, size in parts.items() if name.startswith("arena_")}
    rest = parts["stack"] + parts["data"] + parts["bss"]
    if spread:
        first = board.regions[0].name if board.regions else next(iter(spread))
        return {first: 0} | spread | {first: spread.get(first, 0) + rest}
    if not board.regions:
        return {"SRAM": parts["arena"] + rest}
    first, where = ("+".join(region.name for region in run) for run in (board.runs[0], board.run_of(parts["arena"])))
    return {first: rest, where: parts["arena"] + rest * (first == where)}


def elf_report(elf: str | Path) -> dict[str, int]:
    """Return bytes from the ELF: arena_bytes (its sections), stack_reserved_bytes, data_bytes (.data, .bss), sram_bytes
    (all of these), flash_bytes (code, constants, initial data) and picture_bytes (the test picture, not in flash)."""
    where = sections(elf)
    size = {name: place.size for name, place in where.items()}
    arena = sum(_arenas(where).values())
    data = size.get(".data", 0) + size.get(".bss", 0)
    return {
        "arena_bytes": arena,
        "stack_reserved_bytes": size[".stack"],
        "data_bytes": data,
        "sram_bytes": arena + size[".stack"] + data,
        "flash_bytes": size[".text"] + size.get(".data", 0),
        "picture_bytes": max(0, size.get(".picture", 0) - 4),  # less its length
    }
