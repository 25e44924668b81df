"""What an ELF says of itself: sections and symbols, and from them where its flash and SRAM go."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from .firmware import tool


class Range(NamedTuple):
    """Bytes from an address on."""

    address: int
    size: int


def sections(elf: str | Path) -> dict[str, Range]:
    rows = re.findall(r"^(\.[\w.]+)\s+(\d+)\s+(\d+)$", _output("arm-none-eabi-size", "-A", elf), re.MULTILINE)
    return {name: Range(int(address), int(size)) for name, size, address in rows}


def symbols(elf: str | Path) -> dict[str, Range]:
    """Name -> range of functions and objects; of several local ones of one name the last."""
    rows = re.findall(r"^(\w+) (\w+) \w (\S+)$", _output("arm-none-eabi-nm", "-S", elf), re.MULTILINE)
    return {name: Range(int(address, 16), int(size, 16)) for address, size, name in rows}


def _output(program: str, *arguments) -> str:
    command = [tool(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
