"""Where and in what order: plan(graph, schedule) -> Plan, the only answer to "does it fit?".

A plan is one or two stages. The first n blocks may run patch by patch on a p_h x p_w grid (the paper's section 3.1);
the rest is a stage of one patch. Time is the op index; inside a patched stage it restarts for each patch, so a buffer
of that stage is as large as its largest patch needs, and the stage's output lives through the whole stage.
"""

from dataclasses import dataclass
from functools import cached_property
from math import inf

from .arch import Schedule
from .boards import Board
from .costs import Costs, costs
from .cuts import schedules, split
from .errors import Infeasible, ScheduleError
from .graph import Graph, Op
from .kernels import CORTEX_M, Kernels, constant_bytes, in_place, kernel_of
from .place import Buffer, Life, lower_bound, place
from .tiles import Span, is_square, patch_bounds, patch_spans, window


@dataclass(frozen=True)
class Axis:
    """One axis of one op in one patch, in positions; the C struct mcu_axis, see engine/kernels/mcu.h."""

    n_in: int
    first: int
    n_out: int
    n_dst: int
    dst: int
    n_res: int = 0
    res: int = 0


@dataclass(frozen=True)
class Stage:
    """Ops run patch by patch: spans[axis][i][tensor] for patch row (axis 0) or column (axis 1) i; `out` is the stage's
    output, written in place in its full map."""

    graph: Graph
    ops: tuple[Op, ...]
    grid: tuple[int, int]
    out: str | None
    spans: tuple[tuple[dict[str, Span], ...], tuple[dict[str, Span], ...]]

    @property
    def patched(self) -> bool:
        return self.grid != (1, 1)

    @cached_property
    def lengths(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Per axis: tensor -> its length in each patch. A buffer must hold the largest."""
        rows, cols = ({name: [patch[name].length for patch in spans] for name in spans[0]} for spans in self.spans)
        return rows, cols

    def _full(self, name: str, axis: int) -> int:
        tensor = self.graph.tensors[name]
        return tensor.w if axis else tensor.h

    def axis(self, op: Op, axis: int, i: int) -> Axis:
        """What the kernel of `op` is told of patch i along `axis`."""
        spans = self.spans[axis][i]
        out, source = spans[op.name], spans[op.inputs[0]]
        whole = self.patched and op.name == self.out
        res = spans[op.residual] if op.residual is not None else None
        first = out.lo if op.kind == "upsample" else window(op, out, axis).lo - source.lo
        if op.kind == "upsample":  # in output positions: which of the s copies comes first
            first = out.lo - source.lo * op.s[axis]
        return Axis(
            source.length,
            first,
            out.length,
            self._full(op.name, axis) if whole else out.length,
            out.lo if whole else 0,
            res.length if res else 0,
            out.lo - res.lo if res else 0,
        )

    def macs(self) -> int:
        """Multiply-accumulates of all patches."""
        rows, cols = self.lengths
        return sum(self.graph.op_macs(op, sum(rows[op.name]) * sum(cols[op.name])) for op in self.ops)


@dataclass(frozen=True)
class Plan:
    """A graph with its schedule, buffers and costs.

    buffers  placed buffers; home[tensor] and scratch[op] index them
    arena    bytes of the placed arena; peak: bytes alive at once at the worst op (no placement can do with less)
    flash    bytes of constants; macs: multiply-accumulates, recomputed halo included
    """

    graph: Graph
    schedule: Schedule
    stages: tuple[Stage, ...]
    buffers: tuple[Buffer, ...]
    home: dict[str, int]
    scratch: dict[str, int]
    arena: int
    macs: int

    @cached_property
    def peak(self) -> int:
        return lower_bound(self.buffers)

    @property
    def flash(self) -> int:
        return sum(constant_bytes(self.graph, op) for op in self.graph.ops)

    @property
    def overhead(self) -> float:
        """Recomputed multiply-accumulates over the network's own, the paper's computation overhead."""
        return self.macs / self.graph.macs - 1

    def live_bytes(self, index: int) -> int:
        """Bytes alive while op `index` runs."""
        return sum(b.live_bytes(index) for b in self.buffers)

    def block_peaks(self) -> dict[int, int]:
        """Block -> most bytes alive during any of its ops (Fig. 1 of the paper)."""
        peaks: dict[int, int] = {}
        for index, op in enumerate(self.graph.ops):
            peaks[op.block] = max(peaks.get(op.block, 0), self.live_bytes(index))
        return peaks


def plan(graph: Graph, schedule: Schedule | None = None, kernels: Kernels = CORTEX_M, halo: str = "clip") -> Plan:
    """Plan of `graph` under `schedule` (default: per layer).

    halo "clip" is what the engine runs; "full" charges every patch as an interior one, the convention of the paper's
    Table 1. Raises ScheduleError for a schedule the graph does not allow.
    """
    schedule = schedule or Schedule()
    stages = _stages(graph, schedule, clip=halo == "clip")
    buffers, home, scratch = _buffers(graph, stages, kernels)
    placed, arena = place(buffers)
    return Plan(graph, schedule, stages, placed, home, scratch, arena, sum(s.macs() for s in stages))


def _stages(graph: Graph, schedule: Schedule, clip: bool) -> tuple[Stage, ...]:
    stages, rest = [], graph.ops
    if schedule.n:
        ops, out = split(graph, schedule.n)
        rest = graph.ops[len(ops) :]
        rows = _patches(graph, ops, out, schedule.p[0], 0, clip)
        alike = is_square(graph) and schedule.p[0] == schedule.p[1]
        cols = rows if alike else _patches(graph, ops, out, schedule.p[1], 1, clip)
        stages.append(Stage(graph, ops, schedule.p, out, (rows, cols)))
    if rest:
        tensors = [graph.tensors[name] for op in rest for name in (*op.reads, op.name)]
        rows = {t.name: Span(0, t.h) for t in tensors}
        cols = rows if is_square(graph) else {t.name: Span(0, t.w) for t in tensors}
        stages.append(Stage(graph, rest, (1, 1), None, ((rows,), (cols,))))
    return tuple(stages)


def _patches(graph: Graph, ops: tuple[Op, ...], out: str, p: int, axis: int, clip: bool) -> tuple[dict[str, Span], ...]:
    """Spans of each of the p patches of one axis, as integers."""
    tensor = graph.tensors[out]
    spans = patch_spans(graph, ops, {out: patch_bounds(tensor.w if axis else tensor.h, p)}, axis, clip)
    each = {name: list(map(Span, span.lo.tolist(), span.hi.tolist())) for name, span in spans.items()}
    return tuple({name: spans[i] for name, spans in each.items()} for i in range(p))


def _buffers(graph: Graph, stages: tuple[Stage, ...], kernels: Kernels):
    """Unplaced buffers with sizes and live ranges; tensors that share one by aliasing share an entry of `home`."""
    last, onto, home, scratch, table = graph.last_use(), in_place(graph), {}, {}, []

    def add(name, size, start, end, at=None):
        """A life of a new buffer, or of buffer `at`; returns the buffer's index."""
        if at is None:
            table.append((name, []))
            at = len(table) - 1
        table[at][1].append(Life(start, end, kernels.aligned(size)))
        return at

    index = 0
    for stage in stages:
        begin, written, (rows, cols) = index, {op.name for op in stage.ops}, stage.lengths
        for name in dict.fromkeys(n for op in stage.ops for n in op.reads if n not in written):
            if name not in home:  # the image: each patch reads its tile anew, so it dies with its last reader
                home[name] = add(name, max(rows[name]) * max(cols[name]) * graph.tensors[name].c, begin, last[name])
        for op in stage.ops:
            target, h, w = onto.get(index), max(rows[op.name]), max(cols[op.name])
            if stage.patched and op.name == stage.out:
                home[op.name] = add(op.name, graph.tensors[op.name].size, begin, last[op.name])
            else:  # what comes from outside a patched stage other patches read: nothing is written onto it
                free = target in written or not stage.patched
                home[op.name] = add(op.name, h * w * op.cout, index, last[op.name], home.get(target) if free else None)
            bytes_ = kernels.scratch(kernel_of(graph, op), op, graph.input_of(op).c, h, w)
            if bytes_:
                scratch[op.name] = add(f"{op.name}:scratch", bytes_, index, index)
            index += 1
    return [Buffer(name, tuple(lives)) for name, lives in table], home, scratch


def best_schedule(
    graph: Graph,
    board: Board,
    objective: str = "macs",
    p_choices=(1, 2, 3, 4),
    n_max: int | None = None,
    kernels: Kernels = CORTEX_M,
) -> Plan:
    """Of all schedules the best one that fits the board: "macs", the least computation (section 3.3), ties to the
    smaller arena; or "sram", the smallest arena, ties to less computation. Further ties to the first of `schedules`.

    Raises Infeasible with `what` ("sram" or "flash"), `needed` and `limit` in bytes; `needed` is exact: the constants,
    or the smallest arena over all schedules.
    """
    if objective not in RANKS:
        raise ScheduleError(f"objective '{objective}': one of {', '.join(RANKS)} is wanted")
    flash = sum(constant_bytes(graph, op) for op in graph.ops)
    if flash > board.model_limit:
        raise Infeasible.over("flash", flash, board.model_limit, f"{graph.name} on {board.name}")
    candidates = schedules(graph, p_choices, n_max)
    table = costs(graph, candidates, kernels)
    best = _first(graph, candidates, table, kernels, RANKS[objective], board.arena_limit)
    if best is None:
        smallest = _first(graph, candidates, table, kernels, RANKS["sram"])
        raise Infeasible.over("sram", smallest.arena, board.arena_limit, f"{graph.name} on {board.name}")
    return best


def pareto(graph: Graph, p_choices=(1, 2, 3, 4), n_max: int | None = None, kernels: Kernels = CORTEX_M) -> list[Plan]:
    """The schedules than which no other has both less arena and less computation, MACs rising, arena falling."""
    candidates = schedules(graph, p_choices, n_max)
    table = costs(graph, candidates, kernels)
    front: list[Plan] = []
    for cost, schedule in sorted(zip(table, candidates, strict=True), key=lambda pair: pair[0]):
        if front and cost.peak >= front[-1].arena:
            continue  # no placement of it is smaller than what costs no more
        found = plan(graph, schedule, kernels)
        if front and found.arena >= front[-1].arena:
            continue
        if front and found.macs == front[-1].macs:
            front.pop()
        front.append(found)
    return front


# Objective -> what is compared, the smaller the better. Both rise with each argument, so that the rank of a schedule's
# peak is a lower bound of the rank of its arena.
RANKS = {
    "macs": lambda macs, sram, at: (macs, sram, at),
    "sram": lambda macs, sram, at: (sram, macs, at),
}


def _first(graph: Graph, candidates, table: list[Costs], kernels: Kernels, rank, limit: float = inf) -> Plan | None:
    """Best-first: plans are placed in the order of their lower bounds until the next bound is no better than the best
    placed one."""
    best = None
    for at in sorted(range(len(table)), key=lambda at: rank(*table[at], at)):
        if best is not None and rank(*table[at], at) >= best[0]:
            break
        if table[at].peak <= limit:
            found = plan(graph, candidates[at], kernels)
            key = rank(found.macs, found.arena, at)
            if found.arena <= limit and (best is None or key < best[0]):
                best = key, found
    return best and best[1]
