"""How long an inference takes: instructions of a plan, and from them an estimate of cycles and milliseconds.

Instructions are a linear table over what a kernel does, one row a kernel, fitted to counts of the generated C under
QEMU. Cycles are a table of the same form for each core, fitted to what the engine's model of the pipeline and memory
gives for an STM32F412 and an STM32H743: estimates, never to stand in one column with a measurement. The tables are
benchmarks/calibrate_cycles.py's; benchmarks/latency.py holds them against whole networks.
"""

from ..boards import Board
from ..errors import BoardError
from ..ir.graph import Graph, Op
from .kernel_facts import kernel_of
from .plan import EXECUTED, Plan, best_schedule, plan, schedules
from .segments import Segment

Table = dict[str, dict[str, float]]

# Kernel -> instructions per unit of each of its features, see `features`; fitted on a Cortex-M4. Core -> kernel ->
# estimated cycles, likewise. Written by benchmarks/calibrate_cycles.py --write.
INSTRUCTIONS = {
    "conv_pw": {
        "macs": 0.92,
        "singles": 0.74,
        "repeated": 1.08,
        "outputs": 6.27,
        "positions": 36.69,
        "lines": 2.85,
        "residual": 7.5,
    },
    "conv_dense": {
        "macs": 0.99,
        "singles": 0.84,
        "repeated": 1.02,
        "outputs": 2.69,
        "positions": 156.66,
        "lines": 40.54,
    },
    "conv_dw": {"macs": 6.05, "outputs": 160.64, "inputs": 10.8},
    "conv_dw3s1": {"outputs": 19.11, "edges": 19.94, "lines": 26.19, "channels": 220.44},
    "conv_dw3s2": {"outputs": 18.23, "inputs": 2.86, "edges": 10.66, "lines": 29.4, "channels": 228.32},
    "conv_dw5s1": {"outputs": 35.68, "inputs": 4.83, "edges": 35.13, "lines": 40.54, "channels": 94.87},
    "conv_dw5s2": {"outputs": 43.59, "inputs": 2.27, "edges": 16.89, "lines": 26.97, "channels": 227.21},
    "conv_dw7s1": {"outputs": 58.29, "inputs": 1.74, "edges": 41.56, "lines": 68.24, "channels": 183.58},
    "conv_dw7s2": {"outputs": 69.07, "inputs": 1.17, "edges": 27.9, "lines": 85.38, "channels": 191.44},
    "conv_group": {"macs": 1.32, "outputs": 60.63, "gathers": 60.81},
    "gap": {"inputs": 6.0, "channels": 26.28},
    "maxpool": {"macs": 16.69},
    "avgpool": {"macs": 6.59, "outputs": 41.71},
    "upsample": {"outputs": 6.0, "positions": 29.5},
    "pad": {"outputs": 0.54, "positions": 48.06},
    "add": {"outputs": 9.24, "positions": 3.54},
    "mul": {"outputs": 18.02, "positions": 22.4},
    "act": {"outputs": 6.02, "positions": 0.73},
    "concat": {"outputs": 3.3, "positions": 44.86},
    "softmax": {"outputs": 28.0, "positions": 31.47},
    "image": {"inputs": 6.14},
    "halo": {"copied": 0.53, "copies": 27.48},
}
CYCLES = {
    "cortex-m4": {
        "conv_pw": {
            "macs": 1.18,
            "singles": 1.43,
            "repeated": 1.43,
            "outputs": 8.84,
            "positions": 76.44,
            "lines": 5.02,
            "residual": 9.85,
        },
        "conv_dense": {
            "macs": 1.3,
            "singles": 1.58,
            "repeated": 1.24,
            "outputs": 3.27,
            "positions": 254.49,
            "lines": 62.4,
        },
        "conv_dw": {"macs": 9.79, "outputs": 248.74, "inputs": 16.07},
        "conv_dw3s1": {"outputs": 28.38, "edges": 32.78, "lines": 38.0, "channels": 362.67},
        "conv_dw3s2": {"outputs": 27.67, "inputs": 4.4, "edges": 20.13, "lines": 33.25, "channels": 415.79},
        "conv_dw5s1": {"outputs": 58.89, "inputs": 8.67, "edges": 66.97, "lines": 61.38, "channels": 83.27},
        "conv_dw5s2": {"outputs": 75.69, "inputs": 2.94, "edges": 31.81, "lines": 34.11, "channels": 368.51},
        "conv_dw7s1": {"outputs": 103.24, "inputs": 1.77, "edges": 83.27, "lines": 119.5, "channels": 202.59},
        "conv_dw7s2": {"outputs": 121.37, "inputs": 0.1, "edges": 49.31, "lines": 177.19, "channels": 202.26},
        "conv_group": {"macs": 2.13, "outputs": 82.6, "gathers": 98.11},
        "gap": {"inputs": 9.0, "channels": 30.72},
        "maxpool": {"macs": 20.78},
        "avgpool": {"macs": 9.35, "outputs": 48.38},
        "upsample": {"outputs": 10.0, "positions": 46.82},
        "pad": {"outputs": 0.77, "positions": 71.63},
        "add": {"outputs": 10.74, "positions": 5.19},
        "mul": {"outputs": 21.62, "positions": 33.59},
        "act": {"outputs": 10.03, "positions": 0.89},
        "concat": {"outputs": 5.43, "positions": 64.94},
        "softmax": {"outputs": 46.01, "positions": 33.12},
        "image": {"inputs": 9.51},
        "halo": {"copied": 0.79, "copies": 44.78},
    },
    "cortex-m7": {
        "conv_pw": {
            "macs": 0.9,
            "weights": 0.18,
            "singles": 0.9,
            "repeated": 0.95,
            "outputs": 3.85,
            "positions": 43.56,
            "lines": 4.17,
            "residual": 4.9,
        },
        "conv_dense": {
            "macs": 0.88,
            "singles": 1.23,
            "repeated": 0.98,
            "outputs": 2.61,
            "positions": 153.14,
            "lines": 39.27,
        },
        "conv_dw": {"macs": 4.8, "outputs": 176.7, "inputs": 11.12},
        "conv_dw3s1": {"outputs": 20.02, "edges": 17.11, "lines": 8.7, "channels": 269.99},
        "conv_dw3s2": {"outputs": 19.34, "inputs": 2.1, "edges": 12.68, "lines": 28.83, "channels": 242.43},
        "conv_dw5s1": {"outputs": 47.26, "inputs": 2.91, "channels": 307.46},
        "conv_dw5s2": {"outputs": 51.51, "inputs": 1.86, "edges": 23.04, "lines": 26.29, "channels": 218.91},
        "conv_dw7s1": {"outputs": 78.2, "edges": 83.68, "lines": 54.57, "channels": 103.91},
        "conv_dw7s2": {"outputs": 80.18, "inputs": 0.15, "edges": 30.39, "lines": 111.74, "channels": 128.2},
        "conv_group": {"macs": 2.1, "gathers": 63.63},
        "gap": {"inputs": 6.63},
        "maxpool": {"macs": 13.36},
        "avgpool": {"macs": 4.86, "outputs": 36.65},
        "upsample": {"outputs": 7.08, "positions": 31.95},
        "pad": {"outputs": 0.71, "positions": 41.07},
        "add": {"outputs": 9.83, "positions": 0.56},
        "mul": {"outputs": 19.09, "positions": 19.97},
        "act": {"outputs": 7.14},
        "concat": {"outputs": 3.98, "positions": 30.59},
        "softmax": {"outputs": 35.24, "positions": 20.25},
        "image": {"inputs": 5.12},
        "halo": {"copied": 0.77, "copies": 26.77},
    },
}
# End of the fit.


def table_row(kernel: str, op: Op) -> str:
    """The row of INSTRUCTIONS for an op: a depth-wise convolution has one for each kernel and stride with fast code,
    and "conv_dw" for all others."""
    if kernel == "conv_dw" and op.k in ((3, 3), (5, 5), (7, 7)) and op.s in ((1, 1), (2, 2)):
        return f"conv_dw{op.k[0]}s{op.s[0]}"
    return kernel


def features(plan: Plan, segment: Segment, op: Op) -> dict[str, int]:
    """What the kernel of `op` does in all patches together.

    macs       multiply-accumulates; of a pool the elements it looks at
    weights    bytes of weights, for every patch anew
    singles    multiply-accumulates of positions computed alone where four go at once; repeated: of those done twice
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
        "macs": plan.graph.op_macs(op, positions) if op.kind == "conv" else looked_at,
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
    """(positions that are computed alone, positions that are computed twice). They go in fours, of the whole patch
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
    """What a cached halo moves of an op's output in all patches together: bytes copied, in how many runs."""
    if not segment.copied(op.name):
        return {"copied": 0, "copies": 0}
    rows, cols = segment.edges(op.name)
    below = sum(edge.keep for edge in rows) * len(cols)
    beside = sum(edge.n for edge in rows) * sum(edge.keep > 0 for edge in cols)
    return {"copied": segment.copied(op.name), "copies": 2 * (below + beside)}


def op_cost(table: Table, plan: Plan, segment: Segment, op: Op) -> float:
    """Of an op in all patches, what its output hands on to other patches included, by INSTRUCTIONS or a table of
    CYCLES."""
    row = table_row(kernel_of(plan.graph, op), op)
    return _estimate(table, row, features(plan, segment, op)) + _estimate(table, "halo", halo_features(segment, op))


def _estimate(table: Table, row: str, found: dict[str, int]) -> float:
    return sum(rate * found[name] for name, rate in table[row].items())


def _total(table: Table, plan: Plan) -> int:
    total = _estimate(table, "image", {"inputs": image_bytes(plan)})
    for segment in plan.segments:
        total += sum(op_cost(table, plan, segment, op) for op in segment.ops)
    return round(total)


def instructions(plan: Plan) -> int:
    """Estimated instructions of one inference under the plan's schedule, recomputed tiles, copies of a cached halo and
    the reading of the image included, the post-processing of a detector's boxes not."""
    return _total(INSTRUCTIONS, plan)


def fastest(graph: Graph, board: Board, p_choices=(1, 2, 3, 4), halos: tuple[str, ...] = EXECUTED) -> Plan:
    """Of all schedules that fit the board the one of the fewest estimated instructions, ties to the smaller arena: some
    recomputation may cost less than copies or many small patches. Every plan is placed, so it takes a second where
    best_schedule takes milliseconds. Raises Infeasible, see best_schedule."""
    best_schedule(graph, board, "sram", p_choices, halos=halos)  # raises where nothing fits
    plans = (plan(graph, schedule, halo=halo) for halo in halos for schedule in schedules(graph, p_choices))
    return min((p for p in plans if p.arena <= board.arena_limit), key=lambda p: (instructions(p), p.arena))


def cycle_table(board: Board) -> Table:
    """The core's table of CYCLES or, where the board's cycles_per_instruction was measured, INSTRUCTIONS times that.
    Raises BoardError for a core without either."""
    if board.cycles_per_instruction:
        factor = board.cycles_per_instruction
        return {row: {name: rate * factor for name, rate in rates.items()} for row, rates in INSTRUCTIONS.items()}
    if board.core not in CYCLES:
        raise BoardError(
            f"board {board.name}: no estimate for {board.core}, only for {', '.join(CYCLES)}; "
            "measure the board's cycles_per_instruction and give it"
        )
    return CYCLES[board.core]


def cycles(plan: Plan, board: Board) -> int:
    """Estimated cycles of one inference on `board`, see instructions. Raises BoardError, see cycle_table."""
    return _total(cycle_table(board), plan)


def milliseconds(plan: Plan, board: Board) -> float:
    """Estimated time of one inference on `board`. Raises BoardError, see cycle_table."""
    return cycles(plan, board) / board.clock_hz * 1e3
