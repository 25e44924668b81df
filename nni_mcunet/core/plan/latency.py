"""How long an inference takes: instructions of a plan, and from them an estimate of cycles and milliseconds.

Instructions are a linear table over what a kernel does, one row a kernel, fitted to counts of the generated C under
QEMU. Cycles are a table of the same form for each core, fitted to what the engine's model of the pipeline and memory
gives for an STM32F412 and an STM32H743: estimates, never to stand in one column with a measurement. The tables are data
in latency.json: benchmarks/calibrate_cycles.py fits them, benchmarks/latency.py holds them against whole networks.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ..boards import CORES, Board
from ..errors import BoardError
from ..ir.graph import Graph, Op
from .cut_points import Grid
from .kernel_facts import is_run, kernel_of
from .plan import ENDS, Beside, Plan, best_schedule, plan, schedules
from .segments import Segment

Table = dict[str, dict[str, float]]

# Written by benchmarks/calibrate_cycles.py --write. Kernel -> instructions per unit of each of its features, see
# `features`; fitted on a Cortex-M4. Core -> kernel -> estimated cycles, likewise.
TABLES = Path(__file__).with_name("latency.json")
INSTRUCTIONS: Table
CYCLES: dict[str, Table]
INSTRUCTIONS, CYCLES = (json.loads(TABLES.read_text())[name] for name in ("instructions", "cycles"))


def table_row(kernel: str, op: Op) -> str:
    """Return the row of INSTRUCTIONS for an op: a depth-wise convolution has one for each kernel and stride with fast
    code, and "conv_dw" for all others; a take of a run of channels has one."""
    if kernel == "conv_dw" and op.k in ((3, 3), (5, 5), (7, 7)) and op.s in ((1, 1), (2, 2)):
        return f"conv_dw{op.k[0]}s{op.s[0]}"
    if kernel == "take" and is_run(op.channels):
        return "take_run"
    return kernel


def features(plan: Plan, segment: Segment, op: Op) -> dict[str, int]:
    """Return what the kernel of `op` does in all patches.

    macs       multiply-accumulates; of a pool the elements it looks at
    weights    bytes of weights, for every patch anew
    singles    multiply-accumulates of positions computed singly where four go at once; repeated: of those done twice
    outputs    elements written; positions: of all channels at once
    residual   elements added
    gathers    runs of channels that a grouped convolution copies
    inputs     elements of the input that the patches hold
    edges      elements written singly, at the end of a line of odd length (kernels compute pairs)
    lines      rows of outputs of one channel; channels: calls times channels
    """
    rows, cols = segment.computed
    high, wide, source = rows[op.name], cols[op.name], op.inputs[0]
    positions, calls = sum(high) * sum(wide), len(high) * len(wide)
    alone, twice = _left_over(segment, op) if op.kind == "conv" and op.groups == 1 else (0, 0)
    cin, inputs = plan.graph.input_of(op).c, sum(segment.lengths[0][source]) * sum(segment.lengths[1][source])
    looked_at = op.k[0] * op.k[1] * positions * op.cout
    return {
        "macs": plan.graph.op_macs(op, positions) or looked_at,
        "weights": op.k[0] * op.k[1] * cin // op.groups * op.cout * calls if op.kind == "conv" else 0,
        "singles": op.k[0] * op.k[1] * cin * op.cout * alone,
        "repeated": op.k[0] * op.k[1] * cin * op.cout * twice,
        "outputs": positions * op.cout,
        "positions": positions,
        "gathers": op.k[0] * op.k[1] * op.groups * positions,
        "residual": positions * op.cout if op.residual is not None else 0,
        "inputs": inputs * cin,
        "edges": sum(high) * sum(length % 2 for length in wide) * op.cout,
        "lines": sum(high) * len(wide) * op.cout,
        "channels": calls * op.cout,
    }


def _left_over(segment: Segment, op: Op) -> tuple[int, int]:
    """Count (positions computed singly, positions computed twice). They go in fours, of the whole patch
    where all rows that the kernel sees are packed, or of each row; two or three behind them go with some of the last
    four once more, unless these have written over their residual."""
    high, alone, twice = segment.computed[0][op.name], 0, 0
    same = [op.name, *op.inputs[:1]] if op.is_pointwise else [op.name]
    same += [op.residual] if op.residual is not None else []
    for j, wide in enumerate(segment.computed[1][op.name]):
        packed = not segment.patched or op.name != segment.out
        packed &= all(segment.held(name, 1, j).length == wide for name in same)
        for n in [h * wide for h in high] if packed else [wide] * sum(high):
            if n > 4 and n % 4 > 1 and op.residual is None:
                twice += 4 - n % 4
            else:
                alone += n % 4
    return alone, twice


def image_bytes(plan: Plan) -> int:
    """Bytes of the image that the first segment reads, overlap counted as often as it is read."""
    (image,), (rows, cols) = plan.graph.inputs, plan.segments[0].lengths
    return sum(rows[image.name]) * sum(cols[image.name]) * image.c


def halo_features(segment: Segment, op: Op) -> dict[str, int]:
    """Return what a cached halo moves of an op's output in all patches: bytes copied, in how many runs."""
    if not segment.copied(op.name):
        return {"copied": 0, "copies": 0}
    rows, cols = segment.edges(op.name)
    below = sum(edge.keep for edge in rows) * len(cols)
    beside = sum(edge.n for edge in rows) * sum(edge.keep > 0 for edge in cols)
    return {"copied": segment.copied(op.name), "copies": 2 * (below + beside)}


def op_cost(table: Table, plan: Plan, segment: Segment, op: Op) -> float:
    """Estimate an op, summed over the patches, with the copies of its output for other patches, by INSTRUCTIONS or a
    table of CYCLES."""
    row = table_row(kernel_of(plan.graph, op), op)
    return _estimate(table, row, features(plan, segment, op)) + _estimate(table, "halo", halo_features(segment, op))


def _estimate(table: Table, row: str, found: dict[str, int]) -> float:
    return sum(rate * found[name] for name, rate in table[row].items())


def each(table: Table, plan: Plan) -> tuple[float, dict[str, float]]:
    """Estimate the reading of the image and each op by name, summed over the patches, by INSTRUCTIONS or a table of
    CYCLES."""
    ops = {op.name: op_cost(table, plan, segment, op) for segment in plan.segments for op in segment.ops}
    return _estimate(table, "image", {"inputs": image_bytes(plan)}), ops


def _total(table: Table, plan: Plan) -> int:
    image, ops = each(table, plan)
    return round(image + sum(ops.values()))


def instructions(plan: Plan) -> int:
    """Estimated instructions of one inference on a Cortex-M4 under the plan's schedule, recomputed tiles, copies of a
    cached halo and the reading of the image included, the post-processing of a detector's boxes not."""
    return _total(INSTRUCTIONS, plan)


def fastest(
    graph: Graph,
    board: Board,
    p_choices: Sequence[Grid] = (1, 2, 3, 4),
    halos: tuple[str, ...] = ENDS,
    beside: Beside | None = None,
) -> Plan:
    """Plan the schedule of the fewest estimated instructions that fits the board, ties to the smaller arena. Some
    recomputation may cost less than copies or many small patches. Every plan is placed, so it takes a second where
    best_schedule takes milliseconds. Raises Infeasible, see best_schedule."""
    best_schedule(graph, board, "sram", p_choices, halos=halos, beside=beside)  # raises where nothing fits
    plans = (plan(graph, schedule, halo=halo) for halo in halos for schedule in schedules(graph, p_choices))

    def needed(p: Plan) -> int:
        return p.arena + (beside(graph, p.schedule, p.halo) if beside else 0)

    return min((p for p in plans if needed(p) <= board.arena_limit), key=lambda p: (instructions(p), p.arena))


def cycle_table(board: Board) -> Table:
    """Return the table of CYCLES of the board's core, or of the core that stands for it, or where the board's
    cycles_per_instruction was measured, INSTRUCTIONS times it. Raises BoardError for a core without either, and for one
    without the DSP extension, on which other kernels run."""
    core, factor = CORES.get(board.core), board.cycles_per_instruction
    if factor and (core is None or core.timing):
        return {row: {name: rate * factor for name, rate in rates.items()} for row, rates in INSTRUCTIONS.items()}
    if core is None or core.timing is None:
        advice = "run the C on the emulator" if core else "measure the board's cycles_per_instruction and give it"
        known = ", ".join(name for name, other in CORES.items() if other.timing)
        raise BoardError(f"board {board.name}: no estimate for {board.core}, only for {known}; {advice}")
    return CYCLES[core.timing]


def cycles(plan: Plan, board: Board) -> int:
    """Estimated cycles of one inference on `board`, see instructions. Raises BoardError, see cycle_table."""
    return _total(cycle_table(board), plan)


def milliseconds(plan: Plan, board: Board) -> float:
    """Estimated time of one inference on `board`. Raises BoardError, see cycle_table."""
    return cycles(plan, board) / board.clock_hz * 1e3
