"""Plan + integers -> C sources. Formats, decides nothing: every number printed here was computed by plan() or quant."""

from functools import cache
from pathlib import Path

from ...core.errors import Infeasible, UnsupportedOp
from ...core.file_sets import Seal, write_set
from ...core.ir.graph import Op
from ...core.plan.halo_cache import across
from ...core.plan.kernel_facts import calls, kernel_of
from ...core.plan.plan import Plan
from ...core.plan.segments import Segment
from ..lower.c_limits import BYTES
from ..lower.integers import integers
from ..model import QuantModel
from .constants import params
from .header import CLOSED, OPENED, detector_params, header, summary
from .names import DEFAULT, Names, c_string, check_beside, check_prefix, commented
from .picture_callbacks import pictures
from .stamp import fingerprint, stamp, stamped

KERNELS = Path(__file__).parents[1] / "kernels"


SHARED = "kernels"  # the set of files that every model of a folder calls; a model's own set has its prefix for a name


def write_sources(plan: Plan, model: QuantModel, folder, prefix: str = DEFAULT) -> Path:
    """Write the library into `folder`, without plan.json: see `sources` and core.file_sets.write_set."""
    check_beside(Path(folder), prefix)
    return write_set(folder, {SHARED: shared_files(), prefix: sources(plan, model, prefix)}, seal(prefix))


def seal(prefix: str) -> Seal:
    """Return the text of a model's header until its library is whole."""
    return Seal(model_files(prefix)[0], '#error "mcunet generate was stopped while it wrote this: run it again"\n')


@cache
def shared_files() -> dict[str, str]:
    """{file: text} of the kernels, which are the same for every model."""
    return stamped(_kernels(), "MCU_KERNELS")


@cache
def _kernels() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(KERNELS.glob("*.[ch]"))}


def model_files(prefix: str) -> tuple[str, str, str]:
    """Names of a model's own header, source and constants."""
    return f"{prefix}_model.h", f"{prefix}_model.c", f"{prefix}_weights.h"


def sources(plan: Plan, model: QuantModel, prefix: str = DEFAULT) -> dict[str, str]:
    """{file: text} of what is the model's own: header, source, constants and pictures/, which has the ready callbacks.
    With shared_files() they make a self-contained C11 library. They end in a common mark, and the header in that of
    the kernels, too. prefix: what all its names begin with, those of files as well. Raises UserError for a prefix that
    cannot be one, ScheduleError for a halo it cannot run, GraphError for what the kernels cannot compute (see integers)
    and UnsupportedOp for several inputs."""
    names = Names(check_prefix(prefix), plan.graph)
    plan.executable()
    if len(plan.graph.inputs) != 1:
        raise UnsupportedOp(f"{plan.graph.name}: {len(plan.graph.inputs)} inputs; the C engine reads one")
    if plan.arena > BYTES:
        raise Infeasible.over("sram", plan.arena, BYTES, f"{plan.graph.name} with offsets of 32 bits")
    texts = header(plan, model, names), _source(plan, model, names), _weights(plan, model, names)
    files = {**dict(zip(model_files(prefix), texts, strict=True)), **pictures(prefix)}
    files, first = stamped(files, f"{names.macro}_FILES"), model_files(prefix)[0]
    files[first] += stamp(first, "MCU_KERNELS", fingerprint(_kernels()))
    return files


def _source(plan: Plan, model: QuantModel, names: Names) -> str:
    p, (model_h, _, weights_h) = names.prefix, model_files(names.prefix)
    section = f".bss.{DEFAULT}_arena" + f".{p}" * (p != DEFAULT)
    parts = [
        summary(plan),
        f'#include "{model_h}"\n#include "mcu.h"\n#include "{weights_h}"\n\n',
        "#if !defined(MCU_SHARED_ARENA)\n",
        f'__attribute__((section("{section}"), aligned(8))) int8_t {p}_arena[{names.macro}_ARENA_BYTES];\n#endif\n\n',
    ]
    tables, of_tables = _axis_tables(plan, names)
    parts.append(tables)
    for segment in plan.segments:
        parts += [_edges(plan, segment, op, names) + _scratch(plan, segment, op, names) for op in segment.ops]
    parts.append(f"\nvoid {p}_run({p}_read_tile read, void *ctx) {{\n    int8_t *const a = {p}_arena;\n")
    parts += [_run_segment(plan, segment, names, of_tables) for segment in plan.segments]
    parts.append("}\n\n" + _outputs(plan, names))
    if post := detector_params(model):
        parts += [post.to_c(p), _class_names(model.meta["detector"]["classes"], names)]
    return "".join(parts)


def _class_names(classes: list[str], names: Names) -> str:
    lines = []
    for name in classes:
        literal = c_string(name)
        comment = f" /* {commented(name)} */" * (literal != f'"{name}"')
        lines.append(f"    {literal},{comment}\n")
    table = f"const char *const {names.prefix}_class_names[{names.macro}_CLASSES]"
    return f"\n{table} = {{\n{''.join(lines)}}};\n"


def _axis_tables(plan: Plan, names: Names) -> tuple[str, dict[tuple[str, str], str]]:
    """All axis tables, of those that are alike the first, and (op, "y" or "x") -> the name of its own: of a concat one
    table for each input."""
    lines, first, found = [], {}, {}
    for segment, op, (axis, letter) in (
        (s, op, side) for s in plan.segments for op in s.ops for side in enumerate("yx")
    ):
        size, grid, own = f"[{segment.grid[axis]}]", range(segment.grid[axis]), f"{names.of(op.name)}_{letter}"
        tables = [_axes(segment.axis(op, axis, i, at) for i in grid) for at in range(calls(op))]
        if op.kind == "concat":
            size, tables = f"[{len(tables)}]{size}", [f"{{{', '.join(tables)}}}"]
        body = f"{size} = {tables[0]};\n"
        found[op.name, letter] = first.setdefault(body, own)
        if first[body] == own:
            lines.append(f"static const mcu_axis {own}{body}")
    return "".join(lines), found


def _scratch(plan: Plan, segment: Segment, op: Op, names: Names) -> str:
    """The static assertion on a convolution's scratch."""
    kernel = kernel_of(plan.graph, op)
    if not kernel.startswith("conv"):
        return ""
    cols = max((a.n_out - 1) * op.s[1] + op.k[1] for a in (segment.axis(op, 1, j) for j in range(segment.grid[1])))
    cin = plan.graph.input_of(op).c // op.groups
    macro = f"MCU_{kernel.upper()}_SCRATCH({cin}, {op.k[0]}, {op.k[1]}, {cols})"
    planned = plan.buffers[plan.scratch[op.name]].size if op.name in plan.scratch else 0
    return f'_Static_assert({macro} <= {planned}, "scratch of {names.of(op.name)}");\n'


def _edges(plan: Plan, segment: Segment, op: Op, names: Names) -> str:
    """What the tiles of an op's output hand on, where they do."""
    if not _caches(plan, op):
        return ""
    lines = []
    for letter, side in zip("yx", segment.edges(op.name), strict=True):
        cells = ", ".join(f"{{{e.n}, {e.old}, {e.keep}, {e.at}}}" for e in side)
        lines.append(f"static const mcu_edge {names.of(op.name)}_e{letter}[{len(side)}] = {{{cells}}};\n")
    return "".join(lines)


def _caches(plan: Plan, op: Op) -> dict[str, int]:
    """Which caches the op's output has, "rows" and "cols" -> their offsets."""
    found = {kind: plan.cache.get(f"{op.name}:{kind}") for kind in ("rows", "cols")}
    return {kind: plan.buffers[at].offset for kind, at in found.items() if at is not None}


def _axes(rows) -> str:
    cells = (f"{{{r.n_in}, {r.first}, {r.n_out}, {r.n_dst}, {r.dst}, {r.n_res}, {r.res}}}" for r in rows)
    return f"{{{', '.join(cells)}}}"


def _run_segment(plan: Plan, segment: Segment, names: Names, tables: dict[tuple[str, str], str]) -> str:
    image = plan.graph.inputs[0]
    reads_image = any(image.name in op.reads for op in segment.ops)
    pad, index, lines = "    ", ("0", "0"), []
    if segment.patched:
        index = ("i", "j")
        lines.append(f"    for (int i = 0; i < {segment.grid[0]}; i++) {{")
        lines.append(f"        for (int j = 0; j < {segment.grid[1]}; j++) {{")
        pad = " " * 12
    if reads_image:
        lines.append(_read_image(plan, segment, image, pad))
    for op in segment.ops:
        lines += [pad + _call(plan, segment, op, at, index, names, tables) for at in range(calls(op))]
        lines += [pad + line for line in _hand_on(plan, segment, op, names)]
    if segment.patched:
        lines += ["        }", "    }"]
    return "\n".join(lines) + "\n"


def _read_image(plan: Plan, segment: Segment, image, pad: str) -> str:
    target = f"a + {plan.buffers[plan.home[image.name]].offset}"
    if not segment.patched:
        return f"{pad}read(ctx, 0, 0, {image.h}, {image.w}, {target});"
    tables = []
    for axis, letter in enumerate("yx"):
        spans = ", ".join(f"{{{s[image.name].lo}, {s[image.name].length}}}" for s in segment.spans[axis])
        tables.append(f"{pad}static const int16_t tile_{letter}[][2] = {{{spans}}}; /* first, length */")
    some = _unless_idle(segment.lengths, image.name, "tile_y[i][1]", "tile_x[j][1]")
    call = f"read(ctx, tile_y[i][0], tile_x[j][0], tile_y[i][1], tile_x[j][1], {target});"
    return "\n".join([*tables, pad + some + call])


def _call(plan: Plan, segment: Segment, op: Op, at: int, index: tuple[str, str], names: Names, tables) -> str:
    """The call of an op's kernel; a concat's on input `at`. tables: of _axis_tables. timing reads the comment."""

    def home(name):
        return f"a + {plan.buffers[plan.home[name]].offset}"

    kernel, x, y = kernel_of(plan.graph, op), plan.graph.tensors[op.inputs[at]], plan.graph.tensors[op.name]
    part = f"[{at}]" if op.kind == "concat" else ""
    sides = [f"{tables[op.name, letter]}{part}[{i}]" for letter, i in zip("yx", index, strict=True)]
    some = _unless_idle(segment.computed, op.name, *(f"{side}.n_out" for side in sides))
    arguments = [f"&{names.of(op.name)}{part}", *(f"&{side}" for side in sides), home(x.name)]
    if op.kind == "conv":
        arguments.append(home(op.residual) if op.residual is not None else "0")
    elif op.kind in ("add", "mul"):
        arguments.append(home(op.inputs[1]))
    arguments.append(home(op.name))
    if op.kind == "conv":
        arguments.append(f"a + {plan.buffers[plan.scratch[op.name]].offset}" if op.name in plan.scratch else "0")
    what = f"{commented(op.name)} {x.h}x{x.w}x{x.c} -> {y.h}x{y.w}x{y.c}"
    return f"{some}mcu_{kernel}({', '.join(arguments)}); /* {what} */"


def _unless_idle(lengths, name: str, *in_c: str) -> str:
    """A cached halo may leave a patch nothing of a tensor to read or compute: the condition that it does not, its
    lengths along both axes being `in_c` to the C."""
    some = [length for length, side in zip(in_c, lengths, strict=True) if 0 in side[name]]
    return f"if ({' && '.join(some)}) " if some else ""


def _hand_on(plan: Plan, segment: Segment, op: Op, names: Names) -> list[str]:
    """The old positions of a tile out of its caches, and into them what the next patches need."""
    own, tile = names.of(op.name), f"a + {plan.buffers[plan.home[op.name]].offset}"
    edges, what = f"&{own}_ey[i], &{own}_ex[j]", f"{commented(op.name)} halo"
    wide = {"rows": f"{across(segment.edges(op.name)[1])}, ", "cols": ""}
    found = _caches(plan, op).items()
    return [f"mcu_{kind}({op.cout}, {wide[kind]}{edges}, {tile}, a + {offset}); /* {what} */" for kind, offset in found]


def _outputs(plan: Plan, names: Names) -> str:
    cases = [(plan.buffers[plan.home[n]].offset, plan.graph.tensors[n].size) for n in plan.graph.outputs]
    offsets, sizes = ", ".join(str(o) for o, _ in cases), ", ".join(str(s) for _, s in cases)
    p, known = names.prefix, f"i >= 0 && i < {names.macro}_OUTPUTS"
    return (
        f"const int8_t *{p}_output(int i) {{\n    static const int32_t offset[] = {{{offsets}}};\n"
        f"    return {known} ? {p}_arena + offset[i] : 0;\n}}\n\n"
        f"int {p}_output_bytes(int i) {{\n    static const int32_t bytes[] = {{{sizes}}};\n"
        f"    return {known} ? bytes[i] : 0;\n}}\n\n"
    )


def _weights(plan: Plan, model: QuantModel, names: Names) -> str:
    guard = f"{names.macro}_WEIGHTS_H"
    table, opening = integers(model), f'#ifndef {guard}\n#define {guard}\n#include "mcu.h"\n\n{OPENED}\n'
    return "".join(
        [summary(plan), opening, *(params(names, op, table[op.name]) for op in plan.graph.ops), f"{CLOSED}\n#endif\n"]
    )
