"""The paper's ways to count memory and recomputed work: walks of a Graph that hold for every network, also for those
that the C kernels cannot run. What a board really needs is plan()'s to say, not this module's.

analytic   the paper's rule (ANALYTIC of kernels.py): a depth-wise convolution runs in place with one extra channel, the
           projection writes onto the shortcut; int8 (element = 1 byte) or fp32 (4)
rnnpool    Tables 4, 5 and 7, after RNNPool: block input + block output only, the expanded tensor being streamed; up to
           a recurrent pooling everything streams but its output
single_map the largest map that a block hands on, how those tables count EXTD, LFFD and EagleEye
"""

from collections import defaultdict
from dataclasses import dataclass

from ..core.ir.arch import Schedule
from ..core.ir.graph import Graph, Op
from ..core.plan.kernel_facts import in_place
from ..core.plan.segments import Segment, segments
from ..core.plan.tiles import Span

INT8, FP32 = 1, 4  # bytes of an element


@dataclass(frozen=True)
class Patches:
    """A graph under a schedule, `segment` being its patched segment, None when it runs layer by layer. Its graph,
    schedule, macs, overhead and block_peaks() read as a Plan's do."""

    graph: Graph
    schedule: Schedule
    segment: Segment | None
    halo: str = "clip"

    @property
    def ops(self) -> tuple[Op, ...]:
        """Of the patched segment."""
        return self.segment.ops if self.segment else ()

    @property
    def spans(self) -> tuple[tuple[dict[str, Span], ...], ...]:
        """[axis][i][tensor] of patch row (axis 0) or column (axis 1) i."""
        return self.segment.spans if self.segment else ((), ())

    def tile(self, name: str) -> tuple[int, int]:
        """(h, w) held of a tensor: of the largest patch, or the whole map behind the patched segment."""
        if self.segment and name in self.spans[0][0]:
            rows, columns = (max(spans[name].length for spans in axis) for axis in self.spans)
            return rows, columns
        tensor = self.graph.tensors[name]
        return tensor.h, tensor.w

    def elements(self, name: str) -> int:
        h, w = self.tile(name)
        return h * w * self.graph.tensors[name].c

    @property
    def segment_macs(self) -> int:
        """Multiply-accumulates of all patches, recomputed halo included."""
        return self.segment.macs() if self.segment else 0

    @property
    def macs(self) -> int:
        """Of the whole network, as run."""
        return self.segment_macs + sum(self.graph.op_macs(op) for op in self.graph.ops[len(self.ops) :])

    @property
    def overhead(self) -> float:
        return self.macs / self.graph.macs - 1

    def block_peaks(self) -> dict[int, int]:
        """Block -> most bytes alive during any of its ops, by the analytic rule in int8."""
        blocks: dict[int, int] = {}
        for op, alive in zip(self.graph.ops, _layer_bytes(self), strict=True):
            blocks[op.block] = max(blocks.get(op.block, 0), alive)
        return blocks

    @property
    def peak(self) -> int:
        return max(self.block_peaks().values())


def patches(graph: Graph, schedule: Schedule | None = None, halo: str = "clip") -> Patches:
    """The patched segment under `schedule`; halo "clip" stops every interval at the border of its map, "full" charges
    each patch as an interior one (the paper's Table 1), "none" has none. Raises ScheduleError."""
    schedule = schedule or Schedule()
    return Patches(graph, schedule, segments(graph, schedule, halo)[0] if schedule.n else None, halo)


def _layer_bytes(run: Patches) -> list[int]:
    """Elements alive while each op runs, by the analytic rule. The segment's output lives, whole, through the
    segment."""
    graph, segment = run.graph, run.segment
    size = {name: run.elements(name) for name in graph.tensors}
    born = {t.name: 0 for t in graph.inputs} | {op.name: index for index, op in enumerate(graph.ops)}
    out = segment.out if segment else None
    if out is not None:
        born[out], size[out] = 0, graph.tensors[out].size
    starts, ends, last = defaultdict(int), defaultdict(int), graph.last_use()
    for name in size:
        starts[born[name]] += size[name]
        ends[last[name]] += size[name]
    held, alive, targets = 0, [], in_place(graph)
    for index, op in enumerate(graph.ops):
        held += starts[index]
        total = held
        target = targets.get(index)
        ours = index >= len(run.ops) or target not in {t.name for t in graph.inputs}  # others read the image again
        if target is not None and op.name != out and ours:
            total -= min(size[target], size[op.name])
        if op.is_depthwise(graph.input_of(op).c):
            h, w = run.tile(op.name)
            total += h * w
        alive.append(total)
        held -= ends[index]
    return alive


def analytic(graph: Graph, schedule: Schedule | None = None, element: int = INT8) -> dict[int, int]:
    """Block -> most bytes alive during any of its ops."""
    return {block: element * size for block, size in patches(graph, schedule).block_peaks().items()}


def rnnpool(graph: Graph, schedule: Schedule | None = None, element: int = FP32, halo: str = "clip") -> dict[int, int]:
    """Block -> bytes of its input and output, of one patch inside the patched segment (whose whole output RNNPool's
    rule does not count). Of what a recurrent pooling streams, the image and the blocks before it, only its output
    counts."""
    run, handed, blocks = patches(graph, schedule, halo), _handed_on(graph), {}
    pool = next((op for op in graph.ops if op.kind == "rnnpool"), None)
    for block in sorted({op.block for op in graph.ops}):
        if pool is not None and block <= pool.block:
            blocks[block] = element * run.elements(pool.name)
            continue
        inside = {op.name for op in graph.ops if op.block == block}
        reads = {name for op in graph.ops if op.block == block for name in op.reads} - inside
        blocks[block] = element * sum(run.elements(name) for name in reads | (inside & handed))
    return blocks


def single_map(graph: Graph, element: int = FP32) -> int:
    """Bytes of the largest feature map that a block hands on, the image apart."""
    return element * max(graph.tensors[name].size for name in _handed_on(graph))


def _handed_on(graph: Graph) -> set[str]:
    """The maps that the user, or another block than their own, reads."""
    block = {op.name: op.block for op in graph.ops}
    return {n for op in graph.ops for n in op.reads if block.get(n, op.block) != op.block} | set(graph.outputs)
