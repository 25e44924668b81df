"""Plan + integers -> C sources. Formats, decides nothing: every number printed here was computed by plan() or quant."""

from functools import cache
from pathlib import Path

from ..core.errors import Infeasible, UnsupportedOp, UserError
from ..core.file_sets import Seal, write_set
from ..core.graph import Op
from ..core.kernels import calls, kernel_of
from ..core.plan import Plan
from ..core.stages import Stage
from ..core.stream import across
from .callbacks import picture_files, rows_macro
from .detect import detector
from .detect_face import Face
from .detect_yolo import Yolo
from .emit_params import params
from .integers import integers
from .limits import BYTES
from .quant import QuantModel, view_of
from .stamp import fingerprint, stamp, stamped

KERNELS = Path(__file__).parent / "kernels"


SHARED, MODEL = "kernels", "mcu"  # the sets of files that make a library
SEAL = Seal("mcu_model.h", '#error "tools/generate.py was stopped while it wrote this folder: run it again"\n')


def write_sources(plan: Plan, model: QuantModel, folder) -> Path:
    """Write the library alone into `folder`, see `sources` and core.file_sets.write_set."""
    return write_set(folder, {SHARED: shared_files(), MODEL: sources(plan, model)}, SEAL)


def sources(plan: Plan, model: QuantModel) -> dict[str, str]:
    """mcu_model.h, mcu_model.c and mcu_weights.h, which with shared_files() make a self-contained C99 library. They
    end in a common mark, and mcu_model.h in that of the kernels, too. Raises ScheduleError for a halo it cannot run,
    GraphError for what the kernels cannot compute (see integers) and UnsupportedOp for several inputs."""
    plan.executable()
    if len(plan.graph.inputs) != 1:
        raise UnsupportedOp(f"{plan.graph.name}: {len(plan.graph.inputs)} inputs; the C engine reads one")
    if plan.arena > BYTES:
        raise Infeasible.over("sram", plan.arena, BYTES, f"{plan.graph.name} with offsets of 32 bits")
    files = {
        "mcu_model.h": _header(plan, model),
        "mcu_model.c": _source(plan, model),
        "mcu_weights.h": _weights(plan, model),
    }
    files = stamped(files, "MCU_FILES")
    files["mcu_model.h"] += stamp("mcu_model.h", "MCU_KERNELS", fingerprint(_shared_texts()))
    return files


@cache
def shared_files() -> dict[str, str]:
    """What is the same for every model, by name: the kernels, and in pictures/ the ready callbacks."""
    return stamped(_shared_texts(), "MCU_KERNELS")


@cache
def _shared_texts() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(KERNELS.glob("*.[ch]"))} | picture_files()


def _summary(plan: Plan) -> str:
    graph, halo = plan.graph, f", halo '{plan.halo}'" if plan.schedule.n else ""
    return (
        f"/* {graph.name}: {graph.macs:,} MACs, run {plan.schedule}{halo} ({plan.overhead:+.1%} MACs).\n"
        f" * arena {plan.arena:,} bytes, constants {plan.flash:,} bytes. Generated; do not edit. */\n"
    )


def _header(plan: Plan, model: QuantModel) -> str:
    image = plan.graph.inputs[0]
    scale, post = model.scales[image.name], detector_params(model)
    lines = [
        _summary(plan) + "#ifndef MCU_MODEL_H\n#define MCU_MODEL_H\n#include <stdint.h>",
        '#include "mcu_boxes.h"\n#define MCU_DETECTOR 1' if post else "",
        f"#define MCU_INPUT_H {image.h}\n#define MCU_INPUT_W {image.w}\n#define MCU_INPUT_C {image.c}",
        _view(model),
        f"#define MCU_OUTPUTS {len(plan.graph.outputs)}",
        f"#define MCU_ARENA_BYTES {plan.arena}\n",
        rows_macro(plan),
        "/* Supplies rows y..y+h, columns x..x+w of the picture as int8 NHWC (q = byte - 128): no frame in SRAM.",
        f" * To the network it is real = {scale.scale:.9g} * (q - {scale.zero_point}). */",
        "typedef void (*mcu_read_tile)(void *ctx, int y, int x, int h, int w, int8_t *dst);\n",
        "extern int8_t mcu_arena[MCU_ARENA_BYTES];",
        "void mcu_run(mcu_read_tile read, void *ctx);",
        "/* Output maps, NHWC int8, valid until the next mcu_run: */",
    ]
    for i, name in enumerate(plan.graph.outputs):
        t, s = plan.graph.tensors[name], model.scales[name]
        lines.append(f"/*   {i}: {name} {t.h}x{t.w}x{t.c}, real = {s.scale:.9g} * (q - {s.zero_point}) */")
    lines += ["const int8_t *mcu_output(int i);", "int mcu_output_bytes(int i);"]
    if post:
        classes = len(model.meta["detector"]["classes"])
        lines.append(f"#define MCU_CLASSES {classes}\nextern const char *const mcu_class_names[MCU_CLASSES];")
        lines.append(f"#define MCU_MOST_BOXES {post.candidates} /* room for the candidates of mcu_detect */")
        lines.append("int mcu_detect(mcu_box *boxes, int most); /* number of boxes written, best first */")
    return "\n".join(lines) + "\n#endif\n"


def _view(model: QuantModel) -> str:
    """What a camera's frame is to be made of, which firmware.input_view reads back."""
    view = view_of(model)
    if view.keep is None:
        return f"/* view: {view} (all of the picture is resized to this, bilinear) */"
    part = f"the largest centred part of this shape, {view.keep:g} of its side"
    return f"/* view: {view} ({part}, is resized to this, every pixel averaged) */"


def _source(plan: Plan, model: QuantModel) -> str:
    parts = [
        _summary(plan),
        '#include "mcu_model.h"\n#include "mcu.h"\n#include "mcu_weights.h"\n\n',
        '__attribute__((section(".bss.mcu_arena"), aligned(8))) int8_t mcu_arena[MCU_ARENA_BYTES];\n\n',
    ]
    tables, names = _axis_tables(plan)
    parts.append(tables)
    for stage in plan.stages:
        parts += [_edges(plan, stage, op) + _scratch(plan, stage, op) for op in stage.ops]
    parts.append("\nvoid mcu_run(mcu_read_tile read, void *ctx) {\n    int8_t *const a = mcu_arena;\n")
    parts += [_run_stage(plan, stage, names) for stage in plan.stages]
    parts.append("}\n\n" + _outputs(plan))
    if post := detector_params(model):
        parts += [post.to_c(), _class_names(model.meta["detector"]["classes"])]
    return "".join(parts)


def detector_params(model: QuantModel) -> Yolo | Face | None:
    """The integers of the model's post-processing, with its numpy twin and its C; None for one that has none."""
    if "detector" not in model.meta:
        return None
    outputs = []
    for name in model.graph.outputs:
        t, s = model.graph.tensors[name], model.scales[name]
        outputs.append({"h": t.h, "w": t.w, "c": t.c, "scale": s.scale, "zero_point": s.zero_point})
    return detector(model.meta["detector"], outputs)


def _class_names(names: list[str]) -> str:
    for name in names:
        if not name.isprintable() or set(name) & set('"\\'):
            raise UserError(f"the class name {name!r} cannot stand in a C string; rename the class")
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"\nconst char *const mcu_class_names[MCU_CLASSES] = {{{quoted}}};\n"


def _axis_tables(plan: Plan) -> tuple[str, dict[tuple[str, str], str]]:
    """All axis tables, of those that are alike the first, and (op, "y" or "x") -> the name of its own: of a concat one
    table for each input."""
    lines, first, names = [], {}, {}
    for stage, op, (axis, letter) in ((s, op, side) for s in plan.stages for op in s.ops for side in enumerate("yx")):
        size, grid, own = f"[{stage.grid[axis]}]", range(stage.grid[axis]), f"{op.name}_{letter}"
        tables = [_axes(stage.axis(op, axis, i, at) for i in grid) for at in range(calls(op))]
        if op.kind == "concat":
            size, tables = f"[{len(tables)}]{size}", [f"{{{', '.join(tables)}}}"]
        body = f"{size} = {tables[0]};\n"
        names[op.name, letter] = first.setdefault(body, own)
        if first[body] == own:
            lines.append(f"static const mcu_axis {own}{body}")
    return "".join(lines), names


def _scratch(plan: Plan, stage: Stage, op: Op) -> str:
    """The static assertion on a convolution's scratch."""
    kernel = kernel_of(plan.graph, op)
    if not kernel.startswith("conv"):
        return ""
    cols = max((a.n_out - 1) * op.s[1] + op.k[1] for a in (stage.axis(op, 1, j) for j in range(stage.grid[1])))
    cin = plan.graph.input_of(op).c // op.groups
    macro = f"MCU_{kernel.upper()}_SCRATCH({cin}, {op.k[0]}, {op.k[1]}, {cols})"
    planned = plan.buffers[plan.scratch[op.name]].size if op.name in plan.scratch else 0
    return f'_Static_assert({macro} <= {planned}, "scratch of {op.name}");\n'


def _edges(plan: Plan, stage: Stage, op: Op) -> str:
    """What the tiles of an op's output hand on, where they do."""
    if not _caches(plan, op):
        return ""
    lines = []
    for letter, side in zip("yx", stage.edges(op.name), strict=True):
        cells = ", ".join(f"{{{e.n}, {e.old}, {e.keep}, {e.at}}}" for e in side)
        lines.append(f"static const mcu_edge {op.name}_e{letter}[{len(side)}] = {{{cells}}};\n")
    return "".join(lines)


def _caches(plan: Plan, op: Op) -> dict[str, int]:
    """Which caches the op's output has, "rows" and "cols" -> their offsets."""
    found = {kind: plan.cache.get(f"{op.name}:{kind}") for kind in ("rows", "cols")}
    return {kind: plan.buffers[at].offset for kind, at in found.items() if at is not None}


def _axes(rows) -> str:
    cells = (f"{{{r.n_in}, {r.first}, {r.n_out}, {r.n_dst}, {r.dst}, {r.n_res}, {r.res}}}" for r in rows)
    return f"{{{', '.join(cells)}}}"


def _run_stage(plan: Plan, stage: Stage, names: dict[tuple[str, str], str]) -> str:
    image = plan.graph.inputs[0]
    reads_image = any(image.name in op.reads for op in stage.ops)
    pad, index, lines = "    ", ("0", "0"), []
    if stage.patched:
        index = ("i", "j")
        lines.append(f"    for (int i = 0; i < {stage.grid[0]}; i++) {{")
        lines.append(f"        for (int j = 0; j < {stage.grid[1]}; j++) {{")
        pad = " " * 12
    if reads_image:
        lines.append(_read_image(plan, stage, image, pad))
    for op in stage.ops:
        lines += [pad + _call(plan, stage, op, at, index, names) for at in range(calls(op))]
        lines += [pad + line for line in _hand_on(plan, stage, op)]
    if stage.patched:
        lines += ["        }", "    }"]
    return "\n".join(lines) + "\n"


def _read_image(plan: Plan, stage: Stage, image, pad: str) -> str:
    target = f"a + {plan.buffers[plan.home[image.name]].offset}"
    if not stage.patched:
        return f"{pad}read(ctx, 0, 0, {image.h}, {image.w}, {target});"
    tables = []
    for axis, letter in enumerate("yx"):
        spans = ", ".join(f"{{{s[image.name].lo}, {s[image.name].length}}}" for s in stage.spans[axis])
        tables.append(f"{pad}static const int16_t tile_{letter}[][2] = {{{spans}}}; /* first, length */")
    some = _unless_idle(stage.lengths, image.name, "tile_y[i][1]", "tile_x[j][1]")
    call = f"read(ctx, tile_y[i][0], tile_x[j][0], tile_y[i][1], tile_x[j][1], {target});"
    return "\n".join([*tables, pad + some + call])


def _call(plan: Plan, stage: Stage, op: Op, at: int, index: tuple[str, str], names) -> str:
    """The call of an op's kernel; a concat's on input `at`. names: see _axis_tables."""

    def home(name):
        return f"a + {plan.buffers[plan.home[name]].offset}"

    kernel, x, y = kernel_of(plan.graph, op), plan.graph.tensors[op.inputs[at]], plan.graph.tensors[op.name]
    part = f"[{at}]" if op.kind == "concat" else ""
    sides = [f"{names[op.name, letter]}{part}[{i}]" for letter, i in zip("yx", index, strict=True)]
    some = _unless_idle(stage.computed, op.name, *(f"{side}.n_out" for side in sides))
    arguments = [f"&{op.name}{part}", *(f"&{side}" for side in sides), home(x.name)]
    if op.kind == "conv":
        arguments.append(home(op.residual) if op.residual is not None else "0")
    elif op.kind in ("add", "mul"):
        arguments.append(home(op.inputs[1]))
    arguments.append(home(op.name))
    if op.kind == "conv":
        arguments.append(f"a + {plan.buffers[plan.scratch[op.name]].offset}" if op.name in plan.scratch else "0")
    return f"{some}mcu_{kernel}({', '.join(arguments)}); /* {x.h}x{x.w}x{x.c} -> {y.h}x{y.w}x{y.c} */"


def _unless_idle(lengths, name: str, *in_c: str) -> str:
    """A cached halo may leave a patch nothing of a tensor to read or compute: the condition that it does not, its
    lengths along both axes being `in_c` to the C."""
    some = [length for length, side in zip(in_c, lengths, strict=True) if 0 in side[name]]
    return f"if ({' && '.join(some)}) " if some else ""


def _hand_on(plan: Plan, stage: Stage, op: Op) -> list[str]:
    """The old positions of a tile out of its caches, and into them what the next patches need."""
    edges, tile = f"&{op.name}_ey[i], &{op.name}_ex[j]", f"a + {plan.buffers[plan.home[op.name]].offset}"
    wide = {"rows": f"{across(stage.edges(op.name)[1])}, ", "cols": ""}
    found = _caches(plan, op).items()
    return [f"mcu_{kind}({op.cout}, {wide[kind]}{edges}, {tile}, a + {offset});" for kind, offset in found]


def _outputs(plan: Plan) -> str:
    cases = [(plan.buffers[plan.home[n]].offset, plan.graph.tensors[n].size) for n in plan.graph.outputs]
    offsets, sizes = ", ".join(str(o) for o, _ in cases), ", ".join(str(s) for _, s in cases)
    return (
        f"const int8_t *mcu_output(int i) {{\n    static const int32_t offset[] = {{{offsets}}};\n"
        f"    return mcu_arena + offset[i];\n}}\n\n"
        f"int mcu_output_bytes(int i) {{\n    static const int32_t bytes[] = {{{sizes}}};\n    return bytes[i];\n}}\n\n"
    )


def _weights(plan: Plan, model: QuantModel) -> str:
    parts = [_summary(plan), "#ifndef MCU_WEIGHTS_H\n#define MCU_WEIGHTS_H\n", '#include "mcu.h"\n\n']
    table = integers(model)
    parts += [params(plan.graph, op, table[op.name]) for op in plan.graph.ops]
    return "".join(parts) + "#endif\n"
