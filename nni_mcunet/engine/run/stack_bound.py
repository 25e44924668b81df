"""Bound the stack from the code of an ELF: the deepest chain of calls from reset, each function with all that it pushes
and reserves. Interrupts of the user's own come on top.

It is read out of the disassembly, so that hand-written assembly counts as well. A call by pointer may reach every
function that none calls by name. It refuses recursion, which has no bound.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ...core.errors import FirmwareError
from .toolchain import output

ENTRY = "mcu_reset"
FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$(.*?)(?=^[0-9a-f]+ <|\Z)", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"\tblx?\t[0-9a-f]+ <([^>+]+)>")
JUMP = re.compile(r"\tb\S*\t[0-9a-f]+ <([^>+]+)>")  # one to another function is a call, too
BY_POINTER = re.compile(r"\t(?:blx\t|bx\t(?!lr))")
REGISTERS = re.compile(r"\t(?:v?push|(?:v?stmdb)(?:\.w)?\tsp!,)\s*\{([^}]+)\}")
RESERVED = re.compile(r"\tsub(?:w|\.w)?\tsp,(?: sp,)? #(\d+)")
VARIABLE = re.compile(r"\tsub\S*\tsp, (?:sp, )?(?!sp)[a-z]")
STORED = re.compile(r"\tstrd?(?:\.w)?\t.*\[sp, #-(\d+)\]!")


class Function(NamedTuple):
    """Hold what one function does to the stack. frame: bytes; calls: names; by_pointer: whether it calls others than
    these."""

    frame: int
    calls: frozenset[str]
    by_pointer: bool


def stack_bound(elf: str | Path) -> int:
    """Return the bytes of stack that a firmware can need at most. Raises FirmwareError for recursion and for code whose
    use of the stack is not constant."""
    functions = functions_of(output("arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(elf)))
    named = set().union(*(f.calls - {name} for name, f in functions.items()))
    pointed = frozenset(functions) - named - {ENTRY}
    running: list[str] = []

    @cache
    def depth(name: str) -> int:
        if name in running:
            raise FirmwareError(f"{elf}: {' -> '.join([*running, name])} is recursive; its stack has no bound")
        running.append(name)
        function = functions[name]
        reached = function.calls | (pointed if function.by_pointer else set())
        deepest = max((depth(other) for other in reached & set(functions)), default=0)
        running.pop()
        return function.frame + deepest

    return depth(ENTRY)


def functions_of(disassembly: str) -> dict[str, Function]:
    """Return every function of an objdump -d by name. Raises FirmwareError for one that reserves stack by a
    register."""
    return {name: _function(name, text) for name, text in FUNCTION.findall(disassembly)}


def _function(name: str, text: str) -> Function:
    if VARIABLE.search(text):
        raise FirmwareError(f"{name} reserves stack by a register: it has no bound")
    frame = sum(_bytes(registers) for registers in REGISTERS.findall(text))
    frame += sum(map(int, RESERVED.findall(text) + STORED.findall(text)))
    calls = {*CALL.findall(text), *(set(JUMP.findall(text)) - {name})}
    return Function(frame, frozenset(calls), bool(BY_POINTER.search(text)))


def _bytes(registers: str) -> int:
    """Return the bytes of a list such as "r4, r6-r9, lr" or "d8-d10"."""
    total = 0
    for part in registers.split(", "):
        first, _, last = part.partition("-")
        count = int(last[1:]) - int(first[1:]) + 1 if last else 1
        total += count * (8 if part.startswith("d") else 4)
    return total
