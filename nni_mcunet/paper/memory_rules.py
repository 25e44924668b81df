"""Count memory and recomputed work in the paper's ways, each a walk of a Plan or a Graph.

The rules hold for every network, also for those that the C kernels cannot run. They say nothing of a board: plan()
under CORTEX_M does.

analytic    the paper's rule (ANALYTIC of kernel_facts.py): a depth-wise convolution runs in place with one extra
            channel, the projection writes onto the shortcut; int8 (1 byte an element) or fp32 (4)
rnnpool     Tables 4, 5 and 7, after RNNPool: a block's input and output only, the expanded tensor being streamed; up
            to a recurrent pooling everything streams but its output
single_map  the largest map that a block hands on; those tables count EXTD, LFFD and EagleEye so
"""

from collections.abc import Sequence

from ..core.ir.arch import Schedule
from ..core.ir.graph import Graph
from ..core.plan.cut_points import Grid, schedules
from ..core.plan.kernel_facts import ANALYTIC
from ..core.plan.plan import Plan, plan
from ..core.plan.schedule_costs import costs

INT8, FP32 = 1, 4  # bytes of an element


def paper_plan(graph: Graph, schedule: Schedule | None = None, halo: str = "clip") -> Plan:
    """Return the plan of `schedule` (default: layer by layer) in bytes of the paper's rule, int8.

    halo "clip" stops every patch at the border of its map, "full" charges each as an interior one (the paper's Table
    1), "none" has no overlap (Table 5). Raises ScheduleError for a schedule that the graph does not allow.
    """
    return plan(graph, schedule, ANALYTIC, halo)


def analytic(graph: Graph, schedule: Schedule | None = None, element: int = INT8) -> dict[int, int]:
    """Return block -> most bytes alive during any of its ops, by the paper's rule; `element` bytes an element."""
    return {block: element * size for block, size in paper_plan(graph, schedule).block_peaks().items()}


def least_peak(graph: Graph, p_choices: Sequence[Grid] = (1, 2, 3, 4)) -> Plan:
    """Return the plan of the schedule with the least peak by the paper's rule, ties to the least computation. Looked at
    are the grids `p_choices` at every cut, see schedules. Raises ScheduleError for a grid without patches."""
    every = schedules(graph, p_choices)
    peaks = ((cost.peak, cost.macs, at) for at, cost in enumerate(costs(graph, every, ANALYTIC)))
    return paper_plan(graph, every[min(peaks)[2]])


def tile(run: Plan, name: str) -> tuple[int, int]:
    """Return the rows and columns of a tensor that the largest patch holds; of the whole map outside of patches."""
    for segment in run.segments:
        if segment.patched and name in segment.lengths[0]:
            rows, columns = segment.lengths
            return max(rows[name]), max(columns[name])
    tensor = run.graph.tensors[name]
    return tensor.h, tensor.w


def rnnpool(graph: Graph, schedule: Schedule | None = None, element: int = FP32, halo: str = "clip") -> dict[int, int]:
    """Return block -> bytes of its input and output, of one patch inside a patched segment, `element` bytes an element.

    RNNPool's rule does not count the whole output of a patched segment. A recurrent pooling streams the image and the
    blocks before it, of which only its output counts. Raises ScheduleError, see paper_plan.
    """
    run, handed, blocks = paper_plan(graph, schedule, halo), _handed_on(graph), {}
    pool = next((op for op in graph.ops if op.kind == "rnnpool"), None)
    tiles = {name: tile(run, name) for name in graph.tensors}
    elements = {name: h * w * graph.tensors[name].c for name, (h, w) in tiles.items()}
    for block in sorted({op.block for op in graph.ops}):
        if pool is not None and block <= pool.block:
            blocks[block] = element * elements[pool.name]
            continue
        inside = {op.name for op in graph.ops if op.block == block}
        reads = {name for op in graph.ops if op.block == block for name in op.reads} - inside
        blocks[block] = element * sum(elements[name] for name in reads | (inside & handed))
    return blocks


def single_map(graph: Graph, element: int = FP32) -> int:
    """Return the bytes of the largest feature map that a block hands on; the image is none."""
    return element * max(graph.tensors[name].size for name in _handed_on(graph))


def _handed_on(graph: Graph) -> set[str]:
    """Return the maps that the user, or another block than their own, reads."""
    block = {op.name: op.block for op in graph.ops}
    return {n for op in graph.ops for n in op.reads if block.get(n, op.block) != op.block} | set(graph.outputs)
