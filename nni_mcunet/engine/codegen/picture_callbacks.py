"""Give the picture by callback: the ready ones of pictures/, and how many rows they keep. Their bytes: see core, in
plan/picture_source.py."""

import re
from pathlib import Path

from ...core.plan.picture_source import kept_rows
from ...core.plan.plan import Plan
from ...core.view import View
from .names import DEFAULT

# FILES come in pictures/, next to the library. A user compiles some of them with it; it needs none of them.
FOLDERS = Path(__file__).parents[1] / "pictures", Path(__file__).parents[1] / "boards"
FILES = ("frame.c", "frame.h", *sorted(path.name for path in FOLDERS[0].glob("*.[ch]")))
BOX = "mcu_letterbox."  # only with a network that sees letterboxed pictures
GROUPS = (16, 8, 4, 2, 1)  # rows that a JPEG's blocks give at once; a camera gives one


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
