"""Lower a plan and its integers to a list of kernel calls: frozen data that computes and formats nothing.

Three read it: codegen prints it as C, reference.py interprets it in numpy, and the cycle model attributes what it
counts to the rows that `row` names. The C and the reference follow one Program, so that their equal bytes prove the
kernels and say nothing of the lowering. Tests that hold patched plans equal to whole ones, and onnxruntime, guard that.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from ...core.errors import UnsupportedOp
from ...core.ir.graph import Op
from ...core.plan.halo_cache import Edge, across
from ...core.plan.kernel_facts import calls, kernel_of
from ...core.plan.plan import Plan
from ...core.plan.segments import Axis, Segment, Spans
from ...core.plan.tiles import Span
from ..model import QuantModel
from ..ops import conv
from .integers import integers
from .slices import with_slices

IMAGE, SELF, DETECT, HALO = "image", "mcu_run", "mcu_detect", ":halo"  # rows of a report, whatever the prefix
Of = TypeVar("Of")  # what each patch row and each patch column has one of


class Tile(NamedTuple):
    """Hold the positions of a tensor in its full map: a span for each patch row and one for each patch column."""

    tensor: str
    rows: tuple[Span, ...]
    cols: tuple[Span, ...]

    def patch(self, i: int, j: int) -> tuple[slice, slice]:
        """Return the positions of patch (i, j), for an (h, w, c) array."""
        rows, cols = self.rows[i], self.cols[j]
        return slice(rows.lo, rows.hi), slice(cols.lo, cols.hi)

    @property
    def idle(self) -> tuple[bool, bool]:
        """Say whether some patch has no rows, and whether some has no columns: a cached halo may leave it none."""
        return not all(span.length for span in self.rows), not all(span.length for span in self.cols)


class Room(NamedTuple):
    """Hold a range of bytes of the arena."""

    offset: int
    size: int


@dataclass(frozen=True)
class Read:
    """Read the image's tile into the arena at byte `offset`; skip it where the patch has none of it."""

    tile: Tile
    offset: int


@dataclass(frozen=True)
class Call:
    """Call an op's kernel in each patch; skip it where the patch computes nothing of it.

    kernel    name of the C function without mcu_
    part      which input of `op` this call is for, None for an op of one call
    axes      what the kernel is told: of each patch row, and of each patch column
    reads     tiles of its input and, where it reads a map at the position that it writes, of that
    out       the positions that it computes; channels: which of the output's, from first to end
    source, second, target   bytes of the arena at which the tiles of its input, of the second map (None: it reads none)
              and of its output begin
    scratch   None where it needs none
    """

    op: Op
    kernel: str
    part: int | None
    axes: tuple[tuple[Axis, ...], tuple[Axis, ...]]
    reads: tuple[Tile, ...]
    out: Tile
    channels: Span
    source: int
    second: int | None
    target: int
    scratch: Room | None

    @property
    def most(self) -> tuple[int, int]:
        """Return the rows and the columns that the largest patch computes."""
        rows, cols = (max(axis.n_out for axis in side) for side in self.axes)
        return rows, cols


@dataclass(frozen=True)
class Copy:
    """Move a cached halo in each patch, when the new positions of an op's output stand: the old ones of its tile come
    out of a cache, and what later patches need goes into it. kind: "rows" or "cols"; across: columns of a row cache;
    target, cache: bytes of the arena at which the tile and the cache begin."""

    op: Op
    kind: str
    edges: tuple[tuple[Edge, ...], tuple[Edge, ...]]
    across: int
    target: int
    cache: int


Step = Read | Call | Copy


@dataclass(frozen=True)
class Loop:
    """Run a segment: the steps, in order, in each patch of the grid (rows, columns). leaves: the tensors that stand
    whole afterwards."""

    grid: tuple[int, int]
    steps: tuple[Step, ...]
    leaves: tuple[str, ...]

    @property
    def patched(self) -> bool:
        """Say whether there is more than one patch."""
        return self.grid != (1, 1)


@dataclass(frozen=True)
class Program:
    """Hold what the engine runs. integers: op name -> see lower.integers; outputs: where in the arena each stands;
    forms: convolution -> what its function's name ends with, see conv.form."""

    plan: Plan
    integers: dict[str, Any]
    loops: tuple[Loop, ...]
    outputs: tuple[Room, ...]
    forms: dict[str, str] = field(default_factory=dict)


def laid_out(program: Program, lie: str) -> Program:
    """Return the program for a core whose convolutions want weights in another order, see Core.weights: the same
    results, by functions of fewer instructions or less code where there are some."""
    graph, found, forms = program.plan.graph, dict(program.integers), {}
    for step in chain.from_iterable(loop.steps for loop in program.loops):
        if lie and isinstance(step, Call) and step.op.kind == "conv":
            op = step.op
            found[op.name] = {"raw": conv.raw, "rows": conv.rows}[lie](graph, op, found[op.name])
            forms[op.name] = conv.form(graph, op, found[op.name], lie, step.most)
    return replace(program, integers=found, forms=forms)


def lower(plan: Plan, model: QuantModel) -> Program:
    """Return the calls that run `model` by `plan`, a plan of its graph. Raises ScheduleError for a halo that the engine
    cannot run, UnsupportedOp for several inputs or an op without kernel, GraphError for what the kernels cannot compute
    (see integers)."""
    graph = plan.executable().graph
    if len(graph.inputs) != 1:
        raise UnsupportedOp(f"{graph.name}: {len(graph.inputs)} inputs; the C engine reads one")
    model = with_slices(model, plan.schedule.slices)
    loops = tuple(_loop(plan, segment) for segment in plan.segments)
    outputs = tuple(Room(_home(plan, name), graph.tensors[name].size) for name in graph.outputs)
    return Program(plan, integers(model), loops, outputs)


def row(step: Step) -> str:
    """Return the row of a report in which a step is counted: IMAGE, the op's name, or for a copy that name and HALO. A
    layer that is called like a row of another sort is marked."""
    if isinstance(step, Read):
        return IMAGE
    name = step.op.name
    taken = name in (IMAGE, SELF, DETECT) or name.endswith(HALO)
    return name + " (layer)" * taken + HALO * isinstance(step, Copy)


def _loop(plan: Plan, segment: Segment) -> Loop:
    image = plan.graph.inputs[0].name
    steps: list[Step] = []
    if any(image in op.reads for op in segment.ops):
        steps.append(Read(_tile(segment, image, segment.spans), _home(plan, image)))
    for op in segment.ops:
        steps += [*_calls(plan, segment, op), *_copies(plan, segment, op)]
    leaves = (segment.out,) if segment.patched else tuple(op.name for op in segment.ops)
    return Loop(segment.grid, tuple(steps), leaves)


def _calls(plan: Plan, segment: Segment, op: Op) -> Iterator[Call]:
    graph, first, count = plan.graph, 0, calls(op)
    second = [op.second] if op.second is not None else []
    room = plan.buffers[plan.scratch[op.name]] if op.name in plan.scratch else None
    for at in range(count):
        source = op.inputs[at]
        end = op.cout if count == 1 else first + graph.tensors[source].c
        yield Call(
            op,
            kernel_of(graph, op),
            at if count > 1 else None,
            _axes(segment, op, at),
            tuple(_held(segment, name) for name in (source, *second)),
            _tile(segment, op.name, segment.new),
            Span(first, end),
            _home(plan, source),
            _home(plan, op.second) if op.second is not None else None,
            _home(plan, op.name),
            Room(room.offset, room.size) if room else None,
        )
        first = end


def _copies(plan: Plan, segment: Segment, op: Op) -> Iterator[Copy]:
    """Yield the rows first, see mcu.h."""
    for kind in ("rows", "cols"):
        cache = plan.cache.get(f"{op.name}:{kind}")
        if cache is not None:
            rows, cols = segment.edges(op.name)
            edges = tuple(rows), tuple(cols)
            yield Copy(op, kind, edges, across(cols), _home(plan, op.name), plan.buffers[cache].offset)


def _home(plan: Plan, name: str) -> int:
    return plan.buffers[plan.home[name]].offset


def _both(segment: Segment, of: Callable[[int, int], Of]) -> tuple[tuple[Of, ...], tuple[Of, ...]]:
    """Return of(axis, i) of each patch row and of each patch column."""
    rows, cols = (tuple(of(axis, i) for i in range(segment.grid[axis])) for axis in (0, 1))
    return rows, cols


def _axes(segment: Segment, op: Op, at: int) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    return _both(segment, lambda axis, i: segment.axis(op, axis, i, at))


def _held(segment: Segment, name: str) -> Tile:
    return Tile(name, *_both(segment, lambda axis, i: segment.held(name, axis, i)))


def _tile(segment: Segment, name: str, spans: Spans) -> Tile:
    return Tile(name, *_both(segment, lambda axis, i: spans[axis][i][name]))
