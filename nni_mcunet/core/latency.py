"""How long an inference takes: instructions of a plan, and from them an estimate of cycles and milliseconds.

Instructions are a linear table over what a kernel does, one row a kernel, fitted to counts of the generated C under
QEMU (benchmarks/calibrate_cycles.py prints the table and its error). Cycles are instructions times one factor a core:
an estimate, never to stand in one column with a measurement.
"""

from .boards import Board
from .errors import BoardError
from .graph import Graph, Op
from .kernels import kernel_of
from .plan import EXECUTED, Plan, best_schedule, plan, schedules
from .stages import Stage

# Kernel -> instructions per unit of each of its features, see `features`. Fitted on a Cortex-M4; whole networks that
# had no part in the fit are within 3 % on it and on an M7.
INSTRUCTIONS = {
    "conv_pw": {"macs": 0.87, "singles": 1.76, "outputs": 8.04, "positions": 40.41, "residual": 30.81},
    "conv_dense": {"macs": 0.94, "singles": 2.86, "outputs": 5.53, "positions": 214.65},
    "conv_dw": {"macs": 6.13, "outputs": 165.75, "inputs": 6.43},
    "conv_dw3s1": {"outputs": 13.58, "inputs": 8.06, "edges": 12.76, "lines": 22.44, "channels": 299.57},
    "conv_dw3s2": {"outputs": 25.09, "inputs": 2.83, "edges": 33.87, "lines": 61.07, "channels": 224.85},
    "conv_dw5s1": {"outputs": 43.64, "inputs": 8.01, "edges": 31.35, "lines": 23.4, "channels": 336.88},
    "conv_dw5s2": {"outputs": 40.21, "inputs": 8.62, "lines": 31.41, "channels": 352.43},
    "conv_dw7s1": {"outputs": 72.27, "inputs": 1.92, "edges": 54.64, "lines": 68.0, "channels": 256.64},
    "conv_dw7s2": {"outputs": 83.97, "inputs": 1.43, "edges": 37.18, "lines": 196.51},
    "conv_group": {"macs": 1.99, "outputs": 45.04, "gathers": 60.37},
    "gap": {"inputs": 6.0, "channels": 26.61},
    "maxpool": {"macs": 16.62},
    "avgpool": {"macs": 6.11, "outputs": 48.84},
    "upsample": {"outputs": 6.0, "positions": 29.33},
    "pad": {"outputs": 0.54, "positions": 48.57},
    "add": {"outputs": 9.88, "positions": 0.09},
    "mul": {"outputs": 18.01, "positions": 22.18},
    "act": {"outputs": 5.99, "positions": 1.86},
    "concat": {"outputs": 3.29, "positions": 44.17},
    "softmax": {"outputs": 27.99, "positions": 31.72},
    "image": {"inputs": 6.14},
    "halo": {"copied": 0.51, "copies": 31.59},
}

# Core -> cycles an instruction of these kernels takes. Estimates, measured on no board of ours:
# M4: a 1x1 convolution's loop in C, 25 instructions in 30 cycles by ARM's instruction timings, 31.5 with the three wait
#     states of each line of weights in the F412's flash, and loads weigh more outside it. Within about 15 %; not
#     counted again for today's loop in assembly.
# M7: TinyEngine's published 51 ms of mcunet-vww1 on an H743 at 480 MHz, over the 34.6 million instructions counted of
#     that code; two may issue at once. Within about 25 %.
CYCLES_PER_INSTRUCTION = {"cortex-m4": 1.3, "cortex-m7": 0.7}


def table_row(kernel: str, op: Op) -> str:
    """The row of INSTRUCTIONS for an op: a depth-wise convolution has one for each kernel and stride with fast code,
    and "conv_dw" for all others."""
    if kernel == "conv_dw" and op.k in ((3, 3), (5, 5), (7, 7)) and op.s in ((1, 1), (2, 2)):
        return f"conv_dw{op.k[0]}s{op.s[0]}"
    return kernel


def features(plan: Plan, stage: Stage, op: Op) -> dict[str, int]:
    """What the kernel of `op` does in all patches together.

    macs       multiply-accumulates; of a pool the elements it looks at
    singles    multiply-accumulates of positions that are left where three are computed at once
    outputs    elements written; positions: of all channels at once
    residual   elements added
    gathers    runs of channels that a grouped convolution copies
    inputs     elements of the input that the patches hold
    edges      elements written singly, at the end of a line of odd length (kernels compute pairs)
    lines      rows of outputs of one channel; channels: calls times channels
    """
    rows, cols = stage.computed
    high, wide, source = rows[op.name], cols[op.name], op.inputs[0]
    positions, calls = sum(high) * sum(wide), len(high) * len(wide)
    singles = _singles(stage, op) * op.cout if op.kind == "conv" and op.groups == 1 else 0
    cin, inputs = plan.graph.input_of(op).c, sum(stage.lengths[0][source]) * sum(stage.lengths[1][source])
    looked_at = op.k[0] * op.k[1] * positions * op.cout
    return {
        "macs": plan.graph.op_macs(op, positions) if op.kind == "conv" else looked_at,
        "singles": op.k[0] * op.k[1] * cin * singles,
        "outputs": positions * op.cout,
        "positions": positions,
        "gathers": op.k[0] * op.k[1] * op.groups * positions,
        "residual": positions * op.cout if op.residual is not None else 0,
        "inputs": inputs * cin,
        "edges": sum(high) * sum(length % 2 for length in wide) * op.cout,
        "lines": sum(high) * len(wide) * op.cout,
        "channels": calls * op.cout,
    }


def _singles(stage: Stage, op: Op) -> int:
    """Positions left over by threes: of the whole patch where all rows that the kernel sees are packed, or of each
    row."""
    high, total = stage.computed[0][op.name], 0
    same = [op.inputs[0]] if op.is_pointwise else []
    same += [op.residual] if op.residual is not None else []
    for j, n in enumerate(stage.computed[1][op.name]):
        packed = not stage.patched or op.name != stage.out
        packed &= all(stage.held(name, 1, j).length == n for name in same)
        total += sum(h * n % 3 for h in high) if packed else sum(high) * (n % 3)
    return total


def image_bytes(plan: Plan) -> int:
    """Bytes of the image that the first stage reads, overlap counted as often as it is read."""
    (image,), (rows, cols) = plan.graph.inputs, plan.stages[0].lengths
    return sum(rows[image.name]) * sum(cols[image.name]) * image.c


def halo_features(stage: Stage, op: Op) -> dict[str, int]:
    """What a cached halo moves of an op's output in all patches together: bytes copied, in how many runs."""
    if not stage.copied(op.name):
        return {"copied": 0, "copies": 0}
    rows, cols = stage.edges(op.name)
    below = sum(edge.keep for edge in rows) * len(cols)
    beside = sum(edge.n for edge in rows) * sum(edge.keep > 0 for edge in cols)
    return {"copied": stage.copied(op.name), "copies": 2 * (below + beside)}


def op_instructions(plan: Plan, stage: Stage, op: Op) -> float:
    """Of an op in all patches, what its output hands on to other patches included."""
    row = table_row(kernel_of(plan.graph, op), op)
    return _estimate(row, features(plan, stage, op)) + _estimate("halo", halo_features(stage, op))


def _estimate(row: str, found: dict[str, int]) -> float:
    return sum(rate * found[name] for name, rate in INSTRUCTIONS[row].items())


def instructions(plan: Plan) -> int:
    """Estimated instructions of one inference under the plan's schedule, recomputed tiles, copies of a cached halo and
    the reading of the image included, the post-processing of a detector's boxes not."""
    total = _estimate("image", {"inputs": image_bytes(plan)})
    for stage in plan.stages:
        total += sum(op_instructions(plan, stage, op) for op in stage.ops)
    return round(total)


def fastest(graph: Graph, board: Board, p_choices=(1, 2, 3, 4), halos: tuple[str, ...] = EXECUTED) -> Plan:
    """Of all schedules that fit the board the one of the fewest estimated instructions, ties to the smaller arena: some
    recomputation may cost less than copies or many small patches. Every plan is placed, so it takes a second where
    best_schedule takes milliseconds. Raises Infeasible, see best_schedule."""
    best_schedule(graph, board, "sram", p_choices, halos=halos)  # raises where nothing fits
    plans = (plan(graph, schedule, halo=halo) for halo in halos for schedule in schedules(graph, p_choices))
    return min((p for p in plans if p.arena <= board.arena_limit), key=lambda p: (instructions(p), p.arena))


def cycles_per_instruction(board: Board) -> float:
    """Raises BoardError for a core without a known figure."""
    known = board.cycles_per_instruction or CYCLES_PER_INSTRUCTION.get(board.core)
    if known is None:
        raise BoardError(
            f"board {board.name}: no estimate for {board.core}, only for {', '.join(CYCLES_PER_INSTRUCTION)}; "
            "measure the board's cycles_per_instruction and give it"
        )
    return known


def milliseconds(plan: Plan, board: Board) -> float:
    """Estimated time of one inference on `board`. Raises BoardError, see cycles_per_instruction."""
    return instructions(plan) * cycles_per_instruction(board) / board.clock_hz * 1e3
