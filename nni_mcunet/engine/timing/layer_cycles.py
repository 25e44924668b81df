"""Count the instructions of every layer and estimate its cycles, from one run of a firmware under QEMU.

Instructions are counted: every one between the call of mcu_run and its return belongs to a layer, to the reading of the
picture, to a cached halo or to mcu_run itself. Cycles are an estimate: how often each basic block ran times what it
takes on the core (core_pipelines.py), and the lines missed times the cycles that the core waits for one
(wait_states.py). The same program on a real board measures them (DWT_CYCCNT).
"""

from pathlib import Path
from typing import NamedTuple

from ...core.boards import Board
from ...core.boards.parts import Memory
from ...core.errors import UserError
from ...core.types import PlainDict
from ..codegen.sources import model_files
from ..lower.program import DETECT, SELF
from ..run.elf import source_lines, symbols
from ..run.emulator import EMULATED
from ..run.generated import prefix_of
from .core_pipelines import Pipeline, pipeline_of
from .disassembly import Instruction, disassemble
from .plan_file import call_sites
from .qemu_counts import Counts, run_counted
from .wait_states import memory_of


class Layer(NamedTuple):
    """Hold a row of a report: one op in every patch, its cached halo, the reading of the picture, mcu_run's own code or
    mcu_detect (see lower/program.py: row). stalls: cycles of these that wait for memory."""

    instructions: int
    cycles: int
    stalls: int
    calls: int


def run_profiled(elf: str | Path, board: Board, timeout: float = EMULATED) -> tuple[PlainDict, dict[str, Layer]]:
    """Return (what emulator.run_emulated gives, name -> Layer in the order of the calls). elf: of build_firmware, in a
    folder of mcunet generate, whose plan.json says what each line of the C calls. timeout: seconds. Raises UserError
    for a core without a model, a missing program or no such plan.json, and see run_emulated."""
    memory, pipeline = memory_of(board), pipeline_of(board)
    run, sites = run_counted(elf, board, memory, timeout)
    calls = _names(elf, sites)
    by_name: dict[str, Counts] = {}
    times: dict[str, int] = {}
    for site in sorted(calls, key=lambda site: calls[site][1]):
        name = calls[site][0]
        by_name.setdefault(name, Counts()).add(_callee(sites[site], site, name))
        if name not in (SELF, DETECT):
            by_name.setdefault(SELF, Counts()).instructions[site] = sites[site].instructions[site]
            times[name] = times.get(name, 0) + sites[site].instructions[site][0]
    code = disassemble(elf, max(address for c in sites.values() for address in c.instructions) + 4)
    layers = _layers(by_name, times, code, pipeline, memory)
    return run, {name: layers[name] for name in [*(n for n in layers if n != SELF), SELF]}


def _callee(counts: Counts, site: int, name: str) -> Counts:
    """Return what the functions called at a site do, without the call itself; for a caller's own instructions all of
    it."""
    if name in (SELF, DETECT):
        return counts
    rest = {address: count for address, count in counts.instructions.items() if address != site}
    return Counts(rest, counts.jumps, counts.sequence, counts.flash, counts.sram, counts.misaligned)


def _names(elf: str | Path, sites: dict[int, Counts]) -> dict[int, tuple[str, int]]:
    """Return site in the model's run() or detect() -> (name of a Layer, line of its source)."""
    folder = Path(elf).parent.parent
    found, prefix = symbols(elf), prefix_of(folder)
    inside: dict[int, str] = {}
    rows, source = call_sites(folder), model_files(prefix)[1]
    for caller, symbol in ((SELF, f"{prefix}_run"), (DETECT, f"{prefix}_detect")):
        lo, size = found.get(symbol, (0, 0))
        inside |= {site: caller for site in sites if lo <= site < lo + size}
    lines = _lines(elf, list(inside))
    names = {}
    for site, caller in inside.items():
        path, line = lines[site]
        calls = caller == SELF and Path(path).name == source and any(at != site for at in sites[site].instructions)
        names[site] = (rows.get(line, SELF) if calls else caller, line)
    return names


def _lines(elf: str | Path, addresses: list[int]) -> dict[int, tuple[str, int]]:
    """Return address -> (source file, line). Raises UserError where a line is not known."""
    lines = source_lines(elf, addresses)
    found = {address: (path, line) for address, (path, line) in lines.items() if line is not None}
    if len(found) < len(lines):
        raise UserError(f"{elf}: no line numbers of mcu_run; build it with -g1, as build_firmware does")
    return found


def _layers(
    by_name: dict[str, Counts],
    times: dict[str, int],
    code: dict[int, Instruction],
    pipeline: Pipeline,
    memory: Memory,
) -> dict[str, Layer]:
    block_cycles, taken_cycles = pipeline
    entered = {a for counts in by_name.values() for a, (_, entered) in counts.instructions.items() if entered}
    blocks = _blocks(code, entered)
    length = {first: block_cycles(block) for first, block in blocks.items()}
    layers = {}
    for name, counts in by_name.items():
        executed = counts.instructions
        cycles = sum(length[a] * count for a, (count, _) in executed.items() if a in length)
        cycles += taken_cycles * sum(jumped for _, jumped in executed.values())
        stalls = counts.jumps * memory.jump + counts.sequence * memory.sequence
        stalls += counts.flash * memory.flash + counts.sram + counts.misaligned
        layers[name] = Layer(counts.executed, cycles + stalls, stalls, times.get(name, 1))
    return layers


def _blocks(code: dict[int, Instruction], entered: set[int]) -> dict[int, list[Instruction]]:
    """Return first address -> basic block."""
    blocks: dict[int, list[Instruction]] = {}
    block: list[Instruction] = []
    for address, insn in code.items():
        if not block or block[-1].jumps or address in entered or block[-1].address + block[-1].size != address:
            block = blocks.setdefault(address, [])
        block.append(insn)
    return blocks
