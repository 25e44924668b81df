"""Plan + integers -> C sources. Formats, decides nothing: every number printed here was computed by plan() or quant."""

import shutil
from pathlib import Path

import numpy as np

from ..core.errors import UnsupportedOp, UserError
from ..core.files import write_atomic
from ..core.graph import Op
from ..core.kernels import kernel_of
from ..core.plan import Plan
from ..core.stages import Stage
from .detect import detector
from .detect_face import Face
from .detect_yolo import Yolo
from .integers import ConvIntegers, integers
from .quant import PIXELS, QuantModel

KERNELS = Path(__file__).parent / "kernels"


def write_sources(plan: Plan, model: QuantModel, folder) -> Path:
    """Write mcu_model.c, mcu_model.h, mcu_weights.h and the kernels they call into `folder`: a self-contained C99
    library. Everything is formatted before the first file is written. Raises ScheduleError for a cached halo."""
    plan.executable()
    for image in plan.graph.inputs:
        given = model.scales[image.name]
        if given.zero_point != PIXELS.zero_point or abs(given.scale / PIXELS.scale - 1) > 1e-4:
            raise UserError(
                f"{image.name} is {given}, the runtime feeds bytes as {PIXELS}: train and export on pixels / 255, or "
                "fold the normalisation into the first convolution"
            )
    files = {
        "mcu_model.h": _header(plan, model),
        "mcu_model.c": _source(plan, model),
        "mcu_weights.h": _weights(plan, model),
    }
    folder = Path(folder)
    for name, text in files.items():
        write_atomic(folder / name, text)
    for kernel in sorted(KERNELS.glob("*.[ch]")):
        shutil.copyfile(kernel, folder / kernel.name)
    return folder


def _summary(plan: Plan) -> str:
    graph, s = plan.graph, plan.schedule
    how = f"{s.p[0]}x{s.p[1]} patches over the first {s.n} blocks" if s.n else "layer by layer"
    return (
        f"/* {graph.name}: {graph.macs:,} MACs, run {how} ({plan.overhead:+.1%} MACs).\n"
        f" * arena {plan.arena:,} bytes, constants {plan.flash:,} bytes. Generated; do not edit. */\n"
    )


def _header(plan: Plan, model: QuantModel) -> str:
    image = plan.graph.inputs[0]
    post = detector_params(model)
    lines = [
        _summary(plan) + "#ifndef MCU_MODEL_H\n#define MCU_MODEL_H\n#include <stdint.h>",
        '#include "mcu_boxes.h"\n#define MCU_DETECTOR 1' if post else "",
        f"#define MCU_INPUT_H {image.h}\n#define MCU_INPUT_W {image.w}\n#define MCU_INPUT_C {image.c}",
        f"#define MCU_OUTPUTS {len(plan.graph.outputs)}",
        f"#define MCU_ARENA_BYTES {plan.arena}\n",
        "/* Supplies rows y..y+h, columns x..x+w of the picture as int8 NHWC (q = byte - 128): no frame in SRAM. */",
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


def _source(plan: Plan, model: QuantModel) -> str:
    parts = [
        _summary(plan),
        '#include "mcu_model.h"\n#include "mcu.h"\n#include "mcu_weights.h"\n\n',
        '__attribute__((section(".bss.mcu_arena"), aligned(8))) int8_t mcu_arena[MCU_ARENA_BYTES];\n\n',
    ]
    for stage in plan.stages:
        parts += [_tables(plan, stage, op) for op in stage.ops]
    parts.append("\nvoid mcu_run(mcu_read_tile read, void *ctx) {\n    int8_t *const a = mcu_arena;\n")
    parts += [_run_stage(plan, stage) for stage in plan.stages]
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


def _tables(plan: Plan, stage: Stage, op: Op) -> str:
    """The op's axis tables and the static assertion on its scratch."""
    lines = []
    for axis, letter in enumerate("yx"):
        rows = [stage.axis(op, axis, i) for i in range(stage.grid[axis])]
        cells = ", ".join(f"{{{r.n_in}, {r.first}, {r.n_out}, {r.n_dst}, {r.dst}, {r.n_res}, {r.res}}}" for r in rows)
        lines.append(f"static const mcu_axis {op.name}_{letter}[{len(rows)}] = {{{cells}}};\n")
    kernel = kernel_of(plan.graph, op)
    if kernel.startswith("conv"):
        cols = max((a.n_out - 1) * op.s[1] + op.k[1] for a in (stage.axis(op, 1, j) for j in range(stage.grid[1])))
        macro = f"MCU_{kernel.upper()}_SCRATCH({plan.graph.input_of(op).c}, {op.k[0]}, {op.k[1]}, {cols})"
        planned = plan.buffers[plan.scratch[op.name]].size if op.name in plan.scratch else 0
        lines.append(f'_Static_assert({macro} <= {planned}, "scratch of {op.name}");\n')
    return "".join(lines)


def _run_stage(plan: Plan, stage: Stage) -> str:
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
        lines.append(pad + _call(plan, stage, op, index))
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
    call = f"{pad}read(ctx, tile_y[i][0], tile_x[j][0], tile_y[i][1], tile_x[j][1], {target});"
    return "\n".join([*tables, call])


def _call(plan: Plan, stage: Stage, op: Op, index: tuple[str, str]) -> str:
    def at(name):
        return f"a + {plan.buffers[plan.home[name]].offset}"

    kernel, x = kernel_of(plan.graph, op), plan.graph.input_of(op)
    arguments = [f"&{op.name}", f"&{op.name}_y[{index[0]}]", f"&{op.name}_x[{index[1]}]", at(op.inputs[0])]
    if op.kind == "conv":
        scratch = f"a + {plan.buffers[plan.scratch[op.name]].offset}" if op.name in plan.scratch else "0"
        arguments += [at(op.residual) if op.residual is not None else "0", at(op.name), scratch]
    else:
        arguments.append(at(op.name))
    y = plan.graph.tensors[op.name]
    return f"mcu_{kernel}({', '.join(arguments)}); /* {x.h}x{x.w}x{x.c} -> {y.h}x{y.w}x{y.c} */"


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
    for op in plan.graph.ops:
        p = table[op.name]
        parts.append(_conv_params(plan, op, p) if isinstance(p, ConvIntegers) else _pool_params(op, p))
    return "".join(parts) + "#endif\n"


def _conv_params(plan: Plan, op: Op, p: ConvIntegers) -> str:
    # (cout, cin/groups, kh, kw) -> [cout][kh][kw][cin]; depth-wise the same with cin/groups = 1
    weights = p.weight.transpose(0, 2, 3, 1)
    if max(op.k) > 255 or max(op.s) > 255:
        raise UnsupportedOp(f"{op.name}: kernel {op.k} or stride {op.s} above 255")
    return (
        _array("int8_t", f"{op.name}_w", weights)
        + _array("int32_t", f"{op.name}_b", p.bias)
        + _array("int32_t", f"{op.name}_m", p.mult)
        + _array("uint8_t", f"{op.name}_l", p.left)
        + _array("uint8_t", f"{op.name}_r", p.right)
        + f"static const mcu_conv {op.name} = {{\n"
        f"    .cin = {plan.graph.input_of(op).c}, .cout = {op.cout},"
        f" .kh = {op.k[0]}, .kw = {op.k[1]}, .sh = {op.s[0]}, .sw = {op.s[1]},\n"
        f"    .zp_in = {p.zp_in}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi},"
        f" .res_zp = {p.res_zp}, .res_bits = {p.res_bits}, .res_mult = {p.res_mult},\n"
        f"    .weights = {op.name}_w, .bias = {op.name}_b, .mult = {op.name}_m,"
        f" .left = {op.name}_l, .right = {op.name}_r}};\n\n"
    )


def _pool_params(op: Op, p) -> str:
    return (
        f"static const mcu_pool {op.name} = {{.c = {op.cout}, .kh = {op.k[0]}, .kw = {op.k[1]},"
        f" .sh = {op.s[0]}, .sw = {op.s[1]},\n    .zp_in = {p.zp_in}, .zp_out = {p.zp_out}, .lo = {p.lo}, .hi = {p.hi},"
        f" .mult = {p.mult}, .left = {p.left}, .right = {p.right}}};\n\n"
    )


def _array(ctype: str, name: str, values: np.ndarray) -> str:
    flat = [str(int(v)) for v in np.asarray(values).ravel()]
    rows = [",".join(flat[i : i + 32]) for i in range(0, len(flat), 32)]
    body = ",\n    ".join(rows)
    return f"static const {ctype} {name}[{len(flat)}] = {{\n    {body}}};\n"
