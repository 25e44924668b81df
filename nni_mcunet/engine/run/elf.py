"""Read an ELF: sections, symbols and lines, and from them where its flash and SRAM go."""

import re
from pathlib import Path
from typing import NamedTuple

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
    """Return bytes of SRAM: arena, stack (reserved), data, bss. Their sum is elf_report's sram_bytes."""
    where = sections(elf)
    return {name: where.get(f".{name}", Range(0, 0)).size for name in ("arena", "stack", "data", "bss")}


def elf_report(elf: str | Path) -> dict[str, int]:
    """Return bytes from the ELF: arena_bytes (its section), stack_reserved_bytes, data_bytes (.data, .bss), sram_bytes
    (all of these), flash_bytes (code, constants, initial data) and picture_bytes (the test picture, not in flash)."""
    size = {name: place.size for name, place in sections(elf).items()}
    data = size.get(".data", 0) + size.get(".bss", 0)
    return {
        "arena_bytes": size.get(".arena", 0),
        "stack_reserved_bytes": size[".stack"],
        "data_bytes": data,
        "sram_bytes": size.get(".arena", 0) + size[".stack"] + data,
        "flash_bytes": size[".text"] + size.get(".data", 0),
        "picture_bytes": max(0, size.get(".picture", 0) - 4),  # less its length
    }
