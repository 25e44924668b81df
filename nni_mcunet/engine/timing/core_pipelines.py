"""Count the cycles of a basic block on a Cortex-M4 or M7 whose memory never waits; memory is wait_states.py's.

Cortex-M4: the instruction table and the load/store rules of its Technical Reference Manual (ARM DDI 0439, 3.3). Not
known and not modelled: how a skipped instruction of an IT block differs from one that is executed (both count in full),
folded ITs, divisions by operand (SDIV, UDIV 2 to 12: 7), contention of literal loads with the fetch.

Cortex-M7: Arm publishes no timings. An in-order schedule of at most two instructions a cycle, under the restrictions of
GCC's description of the core (gcc/config/arm/cortex-m7.md: one multiply-accumulate, one shifted operand, one branch a
cycle, DSP operations in one of the two pipes) and those that others measured (two single loads may go together; DSP
operations only as the first of a pair; a shifted operand is needed one cycle early). Branches count as predicted:
mispredictions, which short loops of odd lengths have, are not in it, nor overlaps of blocks. Expect 25 % either way.

Cortex-M3: the same pipeline as the M4's, with the slower multiplications of its manual (ARM DDI 0337, 18.2), a long
one at its longest. Cortex-M0+: the table of its manual (ARM DDI 0484, 3.3), with the multiplier of one cycle.
Cortex-M33 and M55: Arm publishes no timings. They are counted as a Cortex-M4, which is a guess: they issue some pairs
of instructions in one cycle. Expect up to 30 % less.
"""

from collections.abc import Callable, Sequence

from ...core.boards import Board
from ...core.errors import UserError
from .disassembly import Instruction

REFILL = 2  # P of the manual, 1 to 3 by the target's alignment and width
DIVIDE, FLOAT_DIVIDE = 7, 14


def cortex_m4(block: Sequence[Instruction]) -> int:
    """Return the cycles of a block without what its last branch costs when taken."""
    total, before = 0, None
    for insn in block:
        total += _m4_cost(insn, before)
        before = insn
    return total


def _m4_cost(insn: Instruction, before: Instruction | None) -> int:
    if insn.kind.endswith(("many", "pair")):
        cost = 1 + insn.words
    elif insn.kind in ("load", "store"):
        follows = before is not None and before.kind == "load" and not before.writes & insn.address_reads
        register_offset = len(insn.address_reads) > 1
        cost = 1 if follows or (insn.stores and not register_offset) else 2
    else:
        costs = {"divide": DIVIDE, "float divide": FLOAT_DIVIDE, "float multiply": 3, "table branch": 2}
        cost = costs.get(insn.kind, 1)
    if before is not None and (insn.loads or insn.stores) and not (before.loads or before.stores):
        cost += bool(before.writes & insn.address_reads)  # no forwarding from the ALU to an address
    return cost


def cortex_m3(block: Sequence[Instruction]) -> int:
    """Return the cycles, as cortex_m4."""
    return cortex_m4(block) + sum(_m3_multiply(insn) for insn in block if insn.kind == "multiply")


def _m3_multiply(insn: Instruction) -> int:
    """Return what a multiplication takes longer than the M4's one cycle: MLA and MLS 2, SMULL and UMULL up to 5, SMLAL
    and UMLAL up to 7."""
    long = {"smull": 4, "umull": 4, "smlal": 6, "umlal": 6}
    return long.get(insn.mnemonic, int(insn.mnemonic in ("mla", "mls")))


def cortex_m0plus(block: Sequence[Instruction]) -> int:
    """Return the cycles, as cortex_m4."""
    return sum(_m0_cost(insn) for insn in block)


def _m0_cost(insn: Instruction) -> int:
    if insn.kind.endswith("many"):
        return 1 + insn.words
    if insn.mnemonic in ("bl", "blx"):
        return 2  # and one more as taken
    return 2 if insn.loads or insn.stores else 1


def cortex_m7(block: Sequence[Instruction]) -> int:
    """Return the cycles, as cortex_m4, in which something is issued or waited for."""
    ready: dict[str, tuple[int, Instruction]] = {}  # register -> first cycle that may read it, who wrote it
    cycle, first = 0, None  # the cycle in which the next instruction may issue, what it has already issued
    for insn in block:
        wanted = max([cycle, *(_available(ready, name, insn) for name in insn.reads)])
        if first is not None and (wanted > cycle or not _pairs(first, insn)):
            wanted, first = max(wanted, cycle + 1), None
        elif wanted > cycle:
            first = None
        busy = _m7_busy(insn)
        for name in insn.writes:
            ready[name] = (wanted + (1 if name in insn.updated else _m7_latency(insn)), insn)
        if first is None and busy == 1 and not insn.jumps:
            cycle, first = wanted, insn
        else:
            cycle, first = wanted + busy, None
    return cycle + (first is not None)


def _available(ready: dict[str, tuple[int, Instruction]], name: str, insn: Instruction) -> int:
    if name not in ready:
        return 0
    cycle, writer = ready[name]
    if name in insn.accumulator and writer.kind == "multiply":
        return cycle - 1
    return cycle + (insn.shifts and not insn.loads and not insn.stores)


def _pairs(first: Instruction, second: Instruction) -> bool:
    """Say whether both may issue in one cycle; a result that the second needs is not looked at."""
    memory = (first.loads or first.stores) and (second.loads or second.stores)
    return (
        not (memory and not (first.kind == second.kind == "load"))
        and not (first.kind == second.kind == "multiply")
        and not (first.shifts and second.shifts)
        and not (_single_pipe(second) or second.kind in ("divide", "float divide"))
        and not ("float" in first.kind and "float" in second.kind)
        and not first.writes & second.writes
        and _m7_busy(second) == 1
    )


def _single_pipe(insn: Instruction) -> bool:
    """Say whether it issues only as the first of a pair: operations on lanes, multiplications among them."""
    lanes = ("smla", "smul", "smua", "smus", "smls")
    return insn.kind == "dsp" or (insn.kind == "multiply" and insn.mnemonic.startswith(lanes) and not _long(insn))


def _long(insn: Instruction) -> bool:
    return insn.mnemonic in ("smull", "smlal")


def _m7_busy(insn: Instruction) -> int:
    if insn.kind.endswith("many"):
        return -(-insn.words // 2)
    return {"divide": DIVIDE, "float divide": FLOAT_DIVIDE}.get(insn.kind, 1)


def _m7_latency(insn: Instruction) -> int:
    if insn.loads:
        return 1 + _m7_busy(insn)
    latencies = {"multiply": 2, "float": 3, "float multiply": 6, "divide": DIVIDE, "float divide": FLOAT_DIVIDE}
    return latencies.get(insn.kind, 1)


Pipeline = tuple[Callable[[Sequence[Instruction]], int], int]  # cycles of a block, what a taken branch adds
CORES: dict[str, Pipeline] = {
    "cortex-m0plus": (cortex_m0plus, 1),
    "cortex-m3": (cortex_m3, REFILL),
    "cortex-m4": (cortex_m4, REFILL),
    "cortex-m7": (cortex_m7, 1),
    "cortex-m33": (cortex_m4, REFILL),
    "cortex-m55": (cortex_m4, REFILL),
}


def pipeline_of(board: Board) -> Pipeline:
    """Return the model of the board's core. Raises UserError for a core without one."""
    if board.core not in CORES:
        raise UserError(f"{board.name}: no model of a {board.core}'s pipeline, only for {', '.join(CORES)}")
    return CORES[board.core]
