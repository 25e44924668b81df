"""Write the paper's tables and figures that need no training: docs/paper/tables.md, tables.json and the pictures.

mcunet tables [-o docs/paper]
"""

import argparse
import os

from ..core.file_sets import named_folder
from ..core.files import write_atomic, write_json
from ..core.outputs import check_own_report
from ..paper.figure import UNSOURCED, Cell
from ..paper.tables import RANGE, Paper
from .steps import CONFIGS

Sweep = dict[tuple[int, int], tuple[float, float]]  # p, n -> peak in kB, overhead in percent
LIMIT = 256 * 1024  # SRAM of the F412, the line of the paper's Fig. 1
HEAD = """# The paper's tables and figures, recomputed

`make tables` writes this file; edit nothing here. Where a value to compare with is from: *paper*, printed in MCUNetV2
(arXiv 2110.15352); *recomputed*, under its rule and independently of this code, where it prints fewer digits or draws a
bar; *authors*, of the network, in their publication; *measured*, on a board by TinyEngine's authors. Memory is in kB of
1024 bytes (int8) or MB of 2^20 (fp32); parameters count batch normalisation's two a channel, as their authors do.
"""
PICTURES = (  # below the table that begins so, file, network, n: 4x4 patches up to the 28x28 map
    ("Fig. 1:", "fig1", "mobilenet_v2", 5),
    ("Table 1:", "fig4_rd", "mobilenet_v2_rd", 4),
    ("Fig. 5:", "fig5_mnasnet_b1", "mnasnet_b1", 6),
    ("Fig. 5:", "fig5_fbnet_a", "fbnet_a", 4),
)


def markdown(cells: list[Cell], sweeps: dict[str, Sweep]) -> str:
    """Return the cells as docs/paper/tables.md."""
    compared = [cell.same for cell in cells if cell.ours is not None and cell.paper != UNSOURCED]
    lines = [
        HEAD,
        f"{sum(compared)} of the {len(compared)} figures that can be compared agree; the others say why.",
        "",
    ]
    for table in dict.fromkeys(cell.table for cell in cells):
        lines += [f"## {table}", "", "| | | to compare with | from | ours | |", "|---|---|---:|---|---:|---|"]
        lines += [
            f"| {c.row} | {c.what} | {c.paper} | {c.source} | {c.ours or '-'} | {c.note} |"
            for c in cells
            if c.table == table
        ]
        lines.append("")
        if table.startswith("Fig. 8"):
            lines += ["![Fig. 8](fig8.png)", ""] + [line for item in sweeps.items() for line in _grid(*item)]
        for above, file, name, _ in PICTURES:
            if table.startswith(above):
                lines += [f"![{name}]({file}.png)", ""]
    return "\n".join(lines)


def _grid(name: str, sweep: Sweep) -> list[str]:
    lines = [f"{name}: peak in kB / overhead in %", "", "| | " + " | ".join(f"n = {n}" for n in RANGE) + " |"]
    lines.append("|---" * (len(RANGE) + 1) + "|")
    for p in RANGE:
        row = " | ".join(f"{sweep[p, n][0]:.1f} / {sweep[p, n][1]:.1f}" for n in RANGE)
        lines.append(f"| p = {p} | {row} |")
    return [*lines, ""]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", default="docs/paper", help="folder to write (default %(default)s)")


def main(args: argparse.Namespace) -> None:
    out = named_folder(args.out)
    check_own_report(out, sorted(os.listdir(out)) if out.is_dir() else [], "tables.md", HEAD[:20])
    from ..profiling.pictures import memory_figure, sweep_figure

    paper = Paper(CONFIGS / "arch")
    cells = paper.cells()
    sweeps = {name: paper.sweep(name) for name in ("mobilenet_v2", "mobilenet_v2_rd")}
    for _, file, name, n in PICTURES:
        memory_figure(paper.run(name), paper.run(name, 4, n), LIMIT, out / f"{file}.png", name)
    sweep_figure(sweeps, out / "fig8.png")
    grid = [
        {"network": name, "p": p, "n": n, "peak_kB": round(peak, 1), "overhead_percent": round(overhead, 2)}
        for name, sweep in sweeps.items()
        for (p, n), (peak, overhead) in sweep.items()
    ]
    write_json(out / "tables.json", {"cells": [cell.to_dict() for cell in cells], "fig8": grid})
    write_atomic(out / "tables.md", markdown(cells, sweeps))
    print(f"{out}: {len(cells)} cells, {sum(cell.same for cell in cells)} as printed; the rest say why")
