"""Read the instructions of an ELF as core_pipelines.py sees them: the kind of each, and what it reads and writes."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..run.toolchain import output

CONDITION = "eq|ne|cs|cc|hs|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al"
# Kind -> mnemonics; the first pattern that fits the whole mnemonic, without .w or .n, counts.
KINDS = {
    "branch": rf"(b|bl|bx|blx)({CONDITION})?|cbz|cbnz",
    "table branch": "tbb|tbh",
    "load pair": "ldrd.*",
    "store pair": "strd.*",
    "load": "ldr.*|vldr.*",
    "store": "str.*|vstr.*",
    "load many": "ldm.*|pop.*|vldm.*|vpop.*",
    "store many": "stm.*|push.*|vstm.*|vpush.*",
    "divide": "[su]div.*",
    "multiply": "mul.*|mla.*|mls.*|umaal|[su]ml[as].*|[su]mu.*|smm.*",
    "float divide": "vdiv.*|vsqrt.*",
    "float multiply": "vml[as].*|vfn?m[as].*",
    "float": "v.*",
    # Packing, byte and halfword lanes, saturation: parts of the M7 have these once.
    "dsp": "[su]xt[ab].*16.*|pkh.*|[su]h?(add|sub|asx|sax)(8|16).*|[uq](add|sub).*|qd.*|sel.*|[su]sat.*|usad.*|rev.*",
    "extend": "[su]xt.*|[su]bfx.*|bf[ic].*",
    "it": "it[te]*",
    "other": ".*",
}
_KINDS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}
_LINE = re.compile(r"^ *([0-9a-f]+):\t([0-9a-f]{4})(?: ([0-9a-f]{4}))? *\t(\S+)(?:\t([^@;<]*))?")
_REGISTER = re.compile(r"\b(?:r\d+|sb|sl|fp|ip|sp|lr|pc|[sd]\d+)\b")
NO_RESULT = ("cmp", "cmn", "tst", "teq", "vcmp", "nop", "push", "vpush")
MOVES = ("mov", "mvn", "sxt", "uxt", "rev", "clz", "rbit", "neg", "vmov", "vcvt", "vmrs")


@dataclass(frozen=True)
class Instruction:
    """Hold one instruction. size: bytes; mnemonic: without .w or .n."""

    address: int
    size: int
    mnemonic: str
    operands: str

    @cached_property
    def kind(self) -> str:
        """Return a key of KINDS."""
        return next(kind for kind, pattern in _KINDS.items() if pattern.fullmatch(self.mnemonic))

    @cached_property
    def jumps(self) -> bool:
        """Say whether it may write the program counter, which ends a basic block."""
        return "branch" in self.kind or "pc" in self.writes

    @cached_property
    def loads(self) -> bool:
        """Say whether it loads."""
        return self.kind.startswith("load")

    @cached_property
    def stores(self) -> bool:
        """Say whether it stores."""
        return self.kind.startswith("store")

    @cached_property
    def words(self) -> int:
        """Return how many registers a load or store moves."""
        if self.kind.endswith("many"):
            first, _, last = "".join(re.findall(r"\{(.*)\}", self.operands)).partition("-")
            if last:  # {d8-d15}; core registers are listed one by one, or as r4-r7 by some objdumps
                return int(last[1:]) - int(first[1:]) + 1
            return len(_REGISTER.findall(first))
        return 2 if self.kind.endswith("pair") else 1

    @cached_property
    def shifts(self) -> bool:
        """Say whether it has an operand that passes the shifter first."""
        return self.kind == "extend" or bool(re.search(r"(lsl|lsr|asr|ror) #|rrx", self.operands))

    @cached_property
    def _split(self) -> tuple[list[str], list[str]]:
        """Return (registers of the result, as named first; all others)."""
        registers = _REGISTER.findall(self.operands)
        if self.kind == "load many":
            listed = _REGISTER.findall("".join(re.findall(r"\{.*\}", self.operands)))
            return listed, [r for r in registers if r not in listed]
        if self.stores or "branch" in self.kind or self.mnemonic.startswith(NO_RESULT) or self.kind == "it":
            return [], registers
        two = self.kind == "load pair" or re.match(r"[su]mu?ll|[su]mlal|[su]mlsl|smlald|smlsld|umaal", self.mnemonic)
        return registers[: 1 + bool(two)], registers[1 + bool(two) :]

    @cached_property
    def writes(self) -> frozenset[str]:
        """Return the registers that it writes."""
        results, _ = self._split
        return frozenset([*results, *self.updated])

    @cached_property
    def updated(self) -> frozenset[str]:
        """Return the base registers that are written back."""
        if self.mnemonic.startswith(("push", "pop", "vpush", "vpop")):
            return frozenset({"sp"})
        back = re.match(r"(\w+)!,", self.operands) or re.search(r"\[(\w+).*\]!|\[(\w+)\], ", self.operands)
        return frozenset(filter(None, back.groups())) if back else frozenset()

    @cached_property
    def reads(self) -> frozenset[str]:
        """Return the registers that it reads."""
        results, others = self._split
        both = self.operands.count(",") == 1 and not self.loads and not self.mnemonic.startswith(MOVES)  # adds r0, r1
        if self.accumulator or both:
            others = [*others, *results]
        return frozenset([*others, *self.updated])

    @cached_property
    def address_reads(self) -> frozenset[str]:
        """Return the registers of the address of a load or store."""
        inside = re.search(r"\[([^\]]*)\]", self.operands)
        return frozenset(_REGISTER.findall(inside[1])) if inside else self.updated

    @cached_property
    def accumulator(self) -> frozenset[str]:
        """Return the registers that a multiply-accumulate adds to: a chain of them does not wait for the multiplier."""
        results, others = self._split
        if self.kind != "multiply":
            return frozenset()
        if re.match(r"[su]mlal|[su]mlsl|smlald|smlsld|umaal", self.mnemonic):
            return frozenset(results)
        return frozenset(others[2:3])


def disassemble(elf: str | Path, stop: int) -> dict[int, Instruction]:
    """Return the instructions of the code below address `stop` by address, in order. Raises UserError for missing
    binutils."""
    text = output("arm-none-eabi-objdump", "-d", f"--stop-address={stop}", str(elf))
    found = {}
    for address, _, second, mnemonic, operands in filter(None, map(_parts, text.splitlines())):
        at = int(address, 16)
        found[at] = Instruction(at, 4 if second else 2, re.sub(r"\.[wn]$", "", mnemonic), (operands or "").strip())
    return found


def _parts(line: str) -> tuple[str, ...] | None:
    match = _LINE.match(line)
    return match.groups() if match else None
