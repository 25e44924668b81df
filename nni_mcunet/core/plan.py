"""Where and in what order: plan(graph, schedule) -> Plan, the only answer to "does it fit?".

A plan is one or two stages. The first n blocks may run patch by patch on a p_h x p_w grid (the paper's section 3.1);
the rest is a stage of one patch. Time is the op index; inside a patched stage it restarts for each patch, so a buffer
of that stage is as large as its largest patch needs, and the stage's output lives through the whole stage.
"""

from dataclasses import dataclass
from functools import cached_property

from .arch import Schedule
from .boards import Board
from .errors import Infeasible, ScheduleError
from .graph import Graph, Op
from .kernels import CORTEX_M, Kernels, constant_bytes, kernel_of, overwrites
from .place import Buffer, Life, lower_bound, place
from .tiles import Span, patch_bounds, patch_spans, window

GLOBAL = ("gap",)  # ops that see the whole map end the patch stage


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

    def extent(self, name: str, axis: int) -> int:
        """Largest length of a tensor over the patches of one axis: what its buffer must hold."""
        if self.patched and name == self.out:
            return self._full(name, axis)
        return max(spans[name].length for spans in self.spans[axis])

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
        total = 0
        for op in self.ops:
            rows, cols = (sum(s[op.name].length for s in spans if op.name in s) for spans in self.spans)
            total += self.graph.op_macs(op, rows * cols)
        return total


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


def split(graph: Graph, n: int) -> tuple[tuple[Op, ...], str]:
    """Ops of the first n blocks and the one tensor they hand on. Raises ScheduleError when n is no possible cut."""
    ops = tuple(op for op in graph.ops if op.block < n)
    if not 0 < n <= graph.ops[-1].block + 1:
        raise ScheduleError(f"n = {n}: {graph.name} has {graph.ops[-1].block + 1} blocks")
    for op in ops:
        if op.kind in GLOBAL:
            raise ScheduleError(f"n = {n}: {op.name} needs the whole map; end the patch stage before block {op.block}")
    inside = {op.name for op in ops}
    read_later = {name for op in graph.ops[len(ops) :] for name in op.reads} | set(graph.outputs)
    escaping = sorted(inside & read_later)
    if len(escaping) != 1:
        raise ScheduleError(f"n = {n}: the patch stage must hand on one tensor, not {', '.join(escaping)}")
    return ops, escaping[0]


def _stages(graph: Graph, schedule: Schedule, clip: bool) -> tuple[Stage, ...]:
    stages, rest = [], graph.ops
    if schedule.n:
        ops, out = split(graph, schedule.n)
        tensor, rest = graph.tensors[out], graph.ops[len(ops) :]
        spans = tuple(
            tuple(patch_spans(graph, ops, out, part, axis, clip) for part in patch_bounds(length, p))
            for axis, (length, p) in enumerate(zip((tensor.h, tensor.w), schedule.p, strict=True))
        )
        stages.append(Stage(graph, ops, schedule.p, out, spans))
    if rest:
        whole = [{name: Span(0, t.w if axis else t.h) for name, t in graph.tensors.items()} for axis in (0, 1)]
        stages.append(Stage(graph, rest, (1, 1), None, ((whole[0],), (whole[1],))))
    return tuple(stages)


def _buffers(graph: Graph, stages: tuple[Stage, ...], kernels: Kernels):
    """Unplaced buffers with sizes and live ranges; tensors that share one by aliasing share an entry of `home`."""
    last, home, scratch, table = graph.last_use(), {}, {}, []

    def add(name, size, start, end, onto=None):
        """A life of a new buffer, or of buffer `onto`; returns the buffer's index."""
        if onto is None:
            table.append((name, []))
            onto = len(table) - 1
        table[onto][1].append(Life(start, end, -(-size // kernels.align) * kernels.align))
        return onto

    index = 0
    for stage in stages:
        begin, written = index, {op.name for op in stage.ops}
        for name in dict.fromkeys(n for op in stage.ops for n in op.reads if n not in written):
            if name not in home:  # the image: each patch reads its tile anew, so it dies with its last reader
                size = stage.extent(name, 0) * stage.extent(name, 1) * graph.tensors[name].c
                home[name] = add(name, size, begin, last[name])
        for op in stage.ops:
            whole = stage.patched and op.name == stage.out
            out_h, out_w = stage.extent(op.name, 0), stage.extent(op.name, 1)
            target = overwrites(graph, op)
            # In place where nobody reads the target later; what comes from outside a patched stage other patches read.
            free = target is not None and last[target] == index and (target in written or not stage.patched)
            onto = home[target] if free and not whole else None
            home[op.name] = add(op.name, out_h * out_w * op.cout, begin if whole else index, last[op.name], onto)
            patch_h, patch_w = (max(s[op.name].length for s in spans) for spans in stage.spans)
            bytes_ = kernels.scratch(kernel_of(graph, op), op, graph.input_of(op).c, patch_h, patch_w)
            if bytes_:
                scratch[op.name] = add(f"{op.name}:scratch", bytes_, index, index)
            index += 1
    return [Buffer(name, tuple(lives)) for name, lives in table], home, scratch


def schedules(graph: Graph, p_choices=(1, 2, 3, 4), n_max: int | None = None) -> list[Schedule]:
    """Per layer, then every square grid of `p_choices` at every cut the graph allows."""
    found = [Schedule()]
    for n in range(1, (n_max or graph.ops[-1].block + 1) + 1):
        try:
            _, out = split(graph, n)
        except ScheduleError:
            continue
        tensor = graph.tensors[out]
        found += [Schedule((p, p), n) for p in p_choices if 1 < p <= min(tensor.h, tensor.w)]
    return found


def best_schedule(
    graph: Graph, board: Board, p_choices=(1, 2, 3, 4), n_max: int | None = None, kernels: Kernels = CORTEX_M
) -> Plan:
    """Of all schedules the feasible one with the least computation (section 3.3), ties to the smaller arena.

    Raises Infeasible with `what` ("sram" or "flash"), `needed` and `limit` in bytes.
    """
    flash = sum(constant_bytes(graph, op) for op in graph.ops)
    if flash > board.model_limit:
        raise Infeasible.over("flash", flash, board.model_limit, f"{graph.name} on {board.name}")
    limit, best, smallest = board.arena_limit, None, None
    staged = [(s, _stages(graph, s, clip=True)) for s in schedules(graph, p_choices, n_max)]
    costs = [sum(stage.macs() for stage in stages) for _, stages in staged]
    for at in sorted(range(len(staged)), key=costs.__getitem__):
        schedule, stages = staged[at]
        if best is not None and costs[at] > best.macs:
            break  # cheapest first: the rest compute more
        buffers, home, scratch = _buffers(graph, stages, kernels)
        needed = lower_bound(buffers)
        if needed <= limit:
            placed, needed = place(buffers)
            if needed <= limit and (best is None or needed < best.arena):
                best = Plan(graph, schedule, stages, placed, home, scratch, needed, costs[at])
        smallest = needed if smallest is None else min(smallest, needed)
    if best is None:
        raise Infeasible.over("sram", smallest, limit, f"{graph.name} on {board.name}")
    return best
