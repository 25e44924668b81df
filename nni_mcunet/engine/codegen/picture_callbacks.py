"""Give the picture by callback: say which rows of it a plan may still ask for, and what pictures/*.c take."""

import re
from pathlib import Path

from ...core.plan.plan import Plan
from ...core.view import STRETCH, View
from .names import DEFAULT

# FILES come in pictures/, next to the library. A user compiles some of them with it; it needs none of them.
FOLDERS = Path(__file__).parents[1] / "pictures", Path(__file__).parents[1] / "boards"
FILES = ("frame.c", "frame.h", *sorted(path.name for path in FOLDERS[0].glob("*.[ch]")))
BOX = "mcu_letterbox."  # only with a network that sees letterboxed pictures
LETTERBOX = {"letterbox": 20, "lines": 4}  # bytes of its struct, and what it adds to that of the lines
GROUPS = (16, 8, 4, 2, 1)  # rows that a JPEG's blocks give at once; a camera gives one
CONTEXT = {"lines": 52, "jpeg": 1400}  # bytes of the C structs of a 32-bit core, ring and band not counted
HALVES = {"grey": 2, "444": 6, "422": 4, "440": 4, "420": 3}  # half samples a pixel, by a JPEG's sampling


def kept_rows(plan: Plan, group: int = 1) -> int:
    """Return how many rows of the picture to keep at once, so that each tile that the generated C asks for finds its
    own. Rows come in order, `group` at a time, as they are asked for. The number is even for groups, which may have
    half the rows of chroma."""
    image = plan.graph.inputs[0].name  # which no segment but the first reads, see cut_points.split
    spans = [span for span in (patch[image] for patch in plan.segments[0].spans[0]) if span.length]
    rows = max(_up(span.hi, group) - span.lo for span in spans)
    return _up(rows, min(group, 2))


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def callback_bytes(plan: Plan, view: View = STRETCH) -> dict[str, int]:
    """Return the bytes of SRAM that each ready callback needs besides the arena: context and ring or band, on a 32-bit
    core. "letterbox" is what that of a letterboxed picture adds to any other. A network that reads neither RGB nor grey
    has only the one for a frame."""
    image, sizes = plan.graph.inputs[0], {"frame": 8}
    if view.pad is not None:
        sizes["letterbox"] = LETTERBOX["letterbox"]
    if image.c not in (1, 3):
        return sizes
    lines = CONTEXT["lines"] + (LETTERBOX["lines"] if view.pad is not None else 0)
    sizes |= {"grey": 12, "rgb565": 12, "lines": lines + kept_rows(plan) * image.w * 2}
    for sampling, halves in HALVES.items():
        high, wide = (16 if sampling in names else 8 for names in (("440", "420"), ("422", "420")))
        band = kept_rows(plan, high) * _up(image.w, wide) * (2 if image.c == 1 else halves) // 2
        sizes[f"jpeg_{sampling}"] = CONTEXT["jpeg"] + band
    return sizes


def rows_macro(plan: Plan, prefix: str) -> str:
    """Return kept_rows as a C macro, for the ready callbacks and for others."""
    *groups, last = [(group, kept_rows(plan, group)) for group in GROUPS]
    cases = "".join(f"(m) == {group} ? {rows} : " for group, rows in groups)
    return (
        "/* Rows of the picture to be kept at once where they come in order, m = 16, 8, 4, 2 or 1 at a time: tiles\n"
        " * are asked for from left to right, then further down, and no row above so many. */\n"
        f"#define {prefix.upper()}_PICTURE_ROWS(m) ({cases}{last[1]})\n"
    )


def pictures(prefix: str, view: View) -> dict[str, str]:
    """Return {file: text} of the ready callbacks of a model with this view, in pictures/. They know its sizes, so
    each model has its own, under its own names; what is called mcu there is the model's, not the kernels'."""
    found = {}
    for name in (name for name in FILES if view.pad is not None or not name.startswith(BOX)):
        text = next(path / name for path in FOLDERS if (path / name).is_file()).read_text(encoding="utf-8")
        if prefix != DEFAULT:
            text = re.sub(r"\bmcu_(?=\w)", f"{prefix}_", text)
            text = re.sub(r"\bMCU_(?=\w)", f"{prefix.upper()}_", text).replace('"frame.h"', f'"{prefix}_frame.h"')
            name = f"{prefix}_{name.removeprefix('mcu_')}"
        found[f"pictures/{name}"] = text
    return found
