"""Print the header of a generated model: what its user may call, and how large everything is."""

from ...core.plan.plan import Plan
from ..detect import detector_params
from ..model import QuantModel, class_names, view_of
from ..ops import pixels
from . import arenas
from .names import Names, commented
from .picture_callbacks import rows_macro

OPENED = '#if defined(__cplusplus)\nextern "C" {\n#endif\n'
CLOSED = "#if defined(__cplusplus)\n}\n#endif\n"


def summary(plan: Plan) -> str:
    """Return the comment that a generated file begins with: the network, how it runs, and what memory it takes."""
    graph, halo = plan.graph, f", halo '{plan.halo}'" if plan.schedule.n else ""
    parts = ", ".join(f"{part.region} {part.size:,}" for part in plan.parts)
    memory = f"arena {plan.arena:,} bytes{f' ({parts})' if parts else ''}, constants {plan.flash:,} bytes"
    return (
        f"/* {commented(graph.name)}: {graph.macs:,} MACs, run {plan.schedule}{halo} ({plan.overhead:+.1%} MACs).\n"
        f" * {memory}. Generated; do not edit. */\n"
    )


def header(plan: Plan, model: QuantModel, names: Names) -> str:
    """Return the C of the header."""
    image, p, macro = plan.graph.inputs[0], names.prefix, names.macro
    scale, post = model.scales[image.name], detector_params(model)
    how = "byte - 128" if pixels.is_plain(model) else f"{macro}_PIXEL(channel, byte)"
    lines = [
        summary(plan) + f"#ifndef {macro}_MODEL_H\n#define {macro}_MODEL_H\n#include <stdint.h>",
        f'#include "mcu_boxes.h"\n#define {macro}_DETECTOR 1' if post else "",
        f"\n{OPENED}",
        f"#define {macro}_INPUT_H {image.h}\n#define {macro}_INPUT_W {image.w}\n#define {macro}_INPUT_C {image.c}",
        _view(model, macro),
        f"#define {macro}_OUTPUTS {len(plan.graph.outputs)}",
        "\n".join(arenas.sizes(plan, names)) + "\n",
        rows_macro(plan, names.prefix),
        f"/* Supplies rows y..y+h, columns x..x+w of the picture as int8 NHWC (q = {how}): no frame in SRAM.",
        f" * To the network it is real = {scale.scale:.9g} * (q - {scale.zero_point}). */",
        _pixel_macro(model, names),
        f"typedef void (*{p}_read_tile)(void *ctx, int y, int x, int h, int w, int8_t *dst);\n",
        arenas.declared(plan, names),
        f"void {p}_run({p}_read_tile read, void *ctx);",
        "/* Output maps, NHWC int8, valid until the next run in the same arena: */",
    ]
    for i, name in enumerate(plan.graph.outputs):
        t, s = plan.graph.tensors[name], model.scales[name]
        lines.append(f"/*   {i}: {commented(name)} {t.h}x{t.w}x{t.c}, real = {s.scale:.9g} * (q - {s.zero_point})"
                     f"{_gains(model, name)} */")  # fmt: skip
    lines += [f"const int8_t *{p}_output(int i); /* null where there is no such output */"]
    lines += [f"int {p}_output_bytes(int i); /* 0 where there is none */"]
    if classes := len(class_names(model)):
        lines.append(f"#define {macro}_CLASSES {classes}\nextern const char *const {p}_class_names[{macro}_CLASSES];")
    if post:
        lines.append(f"#define {macro}_MOST_BOXES {post.candidates} /* room for the candidates of {p}_detect */")
        lines.append("/* Number of boxes written, best first; 0 where most <= 0. boxes: [most] */")
        lines.append(f"int {p}_detect(mcu_box *boxes, int most);")
    return "\n".join(lines) + f"\n\n{CLOSED}\n#endif\n"


def _gains(model: QuantModel, name: str) -> str:
    """Say by what the values of some of an output's channels are divided; generated.output_maps reads it back."""
    gains, found = model.gains.get(name, []), ""
    for gain in dict.fromkeys(gains):
        channels = [str(i) for i, own in enumerate(gains) if own == gain]
        found += "" if gain == 1 else f", / {gain:.9g} in channels {' '.join(channels)}"
    return found


def _pixel_macro(model: QuantModel, names: Names) -> str:
    """Define what a callback makes of a byte of the picture."""
    p, macro, rows = names.prefix, names.macro, len(pixels.table(model))
    if pixels.is_plain(model):
        return f"#define {macro}_PIXEL(channel, byte) ((int8_t)((byte) - 128))"
    return (
        f"/* {pixels.described(model)} */\nextern const int8_t {p}_pixels[{rows}][256];\n"
        f"#define {macro}_PIXEL_IS_TABLE 1\n"
        f"#define {macro}_PIXEL(channel, byte) ({p}_pixels[{'channel' if rows > 1 else '0'}][byte])"
    )


def pixel_table(model: QuantModel, names: Names) -> str:
    """Define the table behind that macro; nothing where it has none."""
    found = pixels.table(model)
    rows = ",\n".join(f"    {{{', '.join(map(str, row))}}}" for row in found.tolist())
    name = f"const int8_t {names.prefix}_pixels[{len(found)}][256]"
    return "" if pixels.is_plain(model) else f"{name} = {{\n{rows}}};\n\n"


def _view(model: QuantModel, macro: str) -> str:
    """Say which part of a camera's frame the network reads; generated.input_view reads it back."""
    view = view_of(model)
    if view.pad is not None:
        part = "all of the picture in its own shape, at the top left; the rest is this byte"
        return f"/* view: {view} ({part}) */\n#define {macro}_LETTERBOX {view.pad}"
    if view.keep is None:
        return f"/* view: {view} (all of the picture is resized to this, bilinear) */"
    part = f"the largest centred part of this shape, {view.keep:g} of its side"
    return f"/* view: {view} ({part}, is resized to this, every pixel averaged) */"
