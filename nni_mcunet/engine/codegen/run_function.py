"""Print a Program as C: its tables of axes and edges, and mcu_run. It formats and decides nothing.

Which row of a report a line of mcu_run is counted in is noted as the line is printed, for the cycle model.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from typing import NamedTuple

from ...core.ir.kinds import FACTS
from ...core.plan.halo_cache import Edge
from ...core.plan.kernel_facts import function_of
from ...core.plan.plan import Plan
from ...core.plan.segments import Axis
from ..lower.program import Call, Copy, Loop, Program, Read, Step, Tile, row
from ..ops import OPERATORS
from .arenas import pointer
from .names import Names, commented

Line = tuple[str, str | None]  # of C, and the row of a report in which its calls are counted (program.row)


class Tables(NamedTuple):
    """Hold the text of the tables, and (op, "y" or "x") -> the name of its table of axes."""

    text: str
    axes: dict[tuple[str, str], str]


def tables(program: Program, names: Names) -> Tables:
    """Print the tables of axes, the first of those that are alike; behind them each op's edges and static assertions
    on its scratch and on the bytes that it writes over its input."""
    axes: list[str] = []
    rest: list[str] = []
    first: dict[str, str] = {}
    found: dict[tuple[str, str], str] = {}
    plan, times = program.plan, {op.name: time for time, op in enumerate(program.plan.graph.ops)}
    for calls, copies in _of_ops(program):
        op = calls[0].op
        for axis, letter in enumerate("yx"):
            own = f"{names.of(op.name)}_{letter}"
            body = _axis_table(calls, axis)
            found[op.name, letter] = first.setdefault(body, own)
            if first[body] == own:
                axes.append(f"static const mcu_axis {own}{body}")
        rest += [*map(_edges(names), copies[:1]), _scratch(program, calls[0], names)]
        if any(life.over >= 0 and life.start == times[op.name] for life in plan.unplaced[plan.home[op.name]].lives):
            rest.append(_overlap(plan, calls[0], names))
    return Tables("".join([*axes, *rest]), found)


def _of_ops(program: Program) -> Iterator[tuple[list[Call], list[Copy]]]:
    """Yield the calls and the copies of each op, in order."""
    steps = (step for loop in program.loops for step in loop.steps if not isinstance(step, Read))
    for _, group in groupby(steps, lambda step: step.op.name):
        own = list(group)
        yield [s for s in own if isinstance(s, Call)], [s for s in own if isinstance(s, Copy)]


def _axis_table(calls: list[Call], axis: int) -> str:
    """Print the part of a table behind its name; of an op of several calls one table for each."""
    size, parts = f"[{len(calls[0].axes[axis])}]", [_axes(call.axes[axis]) for call in calls]
    if calls[0].part is not None:
        size, parts = f"[{len(parts)}]{size}", [f"{{{', '.join(parts)}}}"]
    return f"{size} = {parts[0]};\n"


def _axes(rows: Iterable[Axis]) -> str:
    cells = (f"{{{r.n_in}, {r.first}, {r.n_out}, {r.n_dst}, {r.dst}, {r.n_res}, {r.res}}}" for r in rows)
    return f"{{{', '.join(cells)}}}"


def _edges(names: Names) -> Callable[[Copy], str]:
    """Return the function that prints what the tiles of an op's output hand on."""

    def of(copy: Copy) -> str:
        rows, cols = (_edge_table(names.of(copy.op.name), *side) for side in zip("yx", copy.edges, strict=True))
        return rows + cols

    return of


def _edge_table(own: str, letter: str, side: tuple[Edge, ...]) -> str:
    cells = ", ".join(f"{{{e.n}, {e.old}, {e.keep}, {e.at}}}" for e in side)
    return f"static const mcu_edge {own}_e{letter}[{len(side)}] = {{{cells}}};\n"


def _scratch(program: Program, call: Call, names: Names) -> str:
    """Print the static assertion on the scratch of a kernel that takes some: the kernel states its need in mcu.h."""
    op = call.op
    if "scratch" not in OPERATORS[op.kind].arguments:
        return ""
    most = call.most
    size = most[0] * most[1] if call.kernel == "conv_pw" else (most[1] - 1) * op.s[1] + op.k[1]
    cin = program.plan.graph.input_of(op).c // op.groups
    macro = f"MCU_{call.kernel.upper()}_SCRATCH({cin}, {op.k[0]}, {op.k[1]}, {size})"
    planned = call.scratch.size if call.scratch else 0
    return f'_Static_assert({macro} <= {planned}, "scratch of {names.of(op.name)}");\n'


def _overlap(plan: Plan, call: Call, names: Names) -> str:
    """Print the static assertion on an output that may lie over the input: the kernel says in mcu.h how far before it,
    or behind it, the output must begin. Elsewhere they share no byte."""
    op, (y, x) = call.op, ([max(side, key=lambda axis: axis.n_out) for side in call.axes])
    into, out = plan.graph.input_of(op).c, op.cout
    bytes_in, bytes_out = y.n_in * x.n_in * into, y.n_dst * x.n_dst * out
    before, behind = call.source - call.target, call.target - call.source
    if op.is_pointwise:
        n = y.n_out * x.n_out
        needs = [f"MCU_BEFORE_PW({out}, {into}, {n}) <= {before}", f"MCU_BEFORE_PW({into}, {out}, {n}) <= {behind}"]
    elif FACTS[op.kind].enlarges:
        needs = [f"MCU_BEFORE_UPSAMPLE({y.n_out}, {x.n_in * into}, {x.n_out * out}, {op.s[0]}) <= {before}"]
    else:
        needs = [f"MCU_BEFORE({y.n_out}, {x.n_in * into}, {x.n_out * out}, {op.s[0]}, {op.pad[0]}) <= {before}"]
    needs += [f"{bytes_out} <= {before}", f"{bytes_in} <= {behind}"]
    return f'_Static_assert({" || ".join(needs)}, "overlap of {names.of(op.name)}");\n'


def run_lines(program: Program, names: Names, axes: dict[tuple[str, str], str]) -> list[Line]:
    """Print the body of mcu_run. axes: of `tables`."""
    return list(chain.from_iterable(_loop(program, loop, names, axes) for loop in program.loops))


def _loop(program: Program, loop: Loop, names: Names, axes: dict[tuple[str, str], str]) -> Iterator[Line]:
    if loop.patched:
        yield f"    for (int i = 0; i < {loop.grid[0]}; i++) {{", None
        yield f"        for (int j = 0; j < {loop.grid[1]}; j++) {{", None
    pad, index = (" " * 12, "ij") if loop.patched else (" " * 4, "00")
    for step in loop.steps:
        yield from ((pad + text, where) for text, where in _step(program, step, index, names, axes))
    if loop.patched:
        yield from (("        }", None), ("    }", None))


def _step(program: Program, step: Step, index: str, names: Names, axes: dict[tuple[str, str], str]) -> Iterator[Line]:
    if isinstance(step, Read):
        yield from _read(program, step, index)
    elif isinstance(step, Call):
        yield _call(program, step, index, names, axes), row(step)
    else:
        yield _copy(program, step, names), row(step)


def _read(program: Program, step: Read, index: str) -> Iterator[Line]:
    """Print the call of the callback, and in patches the tables of the tiles that it is asked for."""
    tile, at = step.tile, pointer(program.plan, step.offset)
    if index == "00":
        h, w = tile.rows[0].length, tile.cols[0].length
        yield f"read(ctx, 0, 0, {h}, {w}, {at});", row(step)
        return
    for letter, side in zip("yx", (tile.rows, tile.cols), strict=True):
        spans = ", ".join(f"{{{span.lo}, {span.length}}}" for span in side)
        yield f"static const int16_t tile_{letter}[][2] = {{{spans}}}; /* first, length */", None
    some = _unless_idle(tile, "tile_y[i][1]", "tile_x[j][1]")
    call = f"read(ctx, tile_y[i][0], tile_x[j][0], tile_y[i][1], tile_x[j][1], {at});"
    yield some + call, row(step)


def _call(program: Program, call: Call, index: str, names: Names, axes: dict[tuple[str, str], str]) -> str:
    op, tensors = call.op, program.plan.graph.tensors
    part = "" if call.part is None else f"[{call.part}]"
    sides = [f"{axes[op.name, letter]}{part}[{i}]" for letter, i in zip("yx", index, strict=True)]
    at = {"source": call.source, "second": call.second, "out": call.target}
    at["scratch"] = call.scratch.offset if call.scratch else None
    pointers = [at[name] for name in OPERATORS[op.kind].arguments]
    arguments = [f"&{names.of(op.name)}{part}", *(f"&{side}" for side in sides)]
    arguments += [pointer(program.plan, offset) for offset in pointers]
    some = _unless_idle(call.out, *(f"{side}.n_out" for side in sides))
    x, y = tensors[call.reads[0].tensor], tensors[op.name]
    what = f"{commented(op.name)} {x.h}x{x.w}x{x.c} -> {y.h}x{y.w}x{y.c}"
    function = function_of(program.plan.graph, op, program.forms.get(op.name, ""))
    return f"{some}{function}({', '.join(arguments)}); /* {what} */"


def _unless_idle(tile: Tile, *in_c: str) -> str:
    """Print the condition that a patch has some of the tile, its lengths along both axes being `in_c` to the C, where
    there is a patch that has none."""
    some = [length for length, idle in zip(in_c, tile.idle, strict=True) if idle]
    return f"if ({' && '.join(some)}) " if some else ""


def _copy(program: Program, copy: Copy, names: Names) -> str:
    own, wide = names.of(copy.op.name), f"{copy.across}, " if copy.kind == "rows" else ""
    pointers = ", ".join(pointer(program.plan, offset) for offset in (copy.target, copy.cache))
    what = f"{commented(copy.op.name)} halo"
    return f"mcu_{copy.kind}({copy.op.cout}, {wide}&{own}_ey[i], &{own}_ex[j], {pointers}); /* {what} */"
