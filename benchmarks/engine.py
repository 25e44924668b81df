"""Measure what the engine needs of a board: docs/results/engine.json and the table of docs/results.md.

    python benchmarks/engine.py [--only mcunet-vww1]

Each network runs under an emulated Cortex-M4 and M7 (with the clock and memories of the STM32F412 and H743) layer by
layer, with the schedule of least computation on its smallest board, and with the least SRAM at no more than 5 % more
computation, in up to three patched segments. Instructions are counted, cycles estimated from them
(engine/timing/layer_cycles.py), the arena, SRAM and flash read from the ELF, and every output byte is held against the
numpy reference: `exact`. The networks are those of networks.py.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from networks import NAMES, TINYENGINE_KB, network
from readme import into_page

from nni_mcunet.core.boards import CORE_BOARDS, Board, get_board
from nni_mcunet.core.errors import Infeasible, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.plan.board_plan import plan_for_board
from nni_mcunet.core.plan.cut_points import grids
from nni_mcunet.core.plan.plan import EXECUTED, SEGMENTS, Plan, pareto, plan
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel
from nni_mcunet.engine.run.elf import elf_report
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.timing.layer_cycles import run_profiled

RESULTS = Path(__file__).parents[1] / "docs/results/engine.json"
LARGE = 1 << 20  # SRAM and flash of the emulated machine: what does not fit a board is measured all the same
MORE_MACS = 1.05
PAGE, BEGIN, END = "results.md", "<!-- engine, by benchmarks/engine.py -->\n", "<!-- end of engine -->\n"


def plans(model: QuantModel) -> dict[str, Plan]:
    """Kind of schedule -> plan, of those whose arena the emulated machine has."""
    found = {"layer by layer": plan(model.graph)}
    for name in ("f412", "f746", "h743"):
        try:
            found["least MACs"] = plan_for_board(model.graph, get_board(name))
            break
        except Infeasible:
            continue
    front = pareto(model.graph, grids(6, square=False), halos=EXECUTED, segments=SEGMENTS)
    found["least SRAM"] = min((p for p in front if p.macs <= MORE_MACS * model.graph.macs), key=lambda p: p.arena)
    small = {kind: p for kind, p in found.items() if p.arena < LARGE - 64 * 1024}
    first = {(p.schedule, p.halo): kind for kind, p in reversed(small.items())}
    return {kind: p for kind, p in small.items() if first[p.schedule, p.halo] == kind}


def measured(found: Plan, model: QuantModel, board: Board) -> dict:
    image, rng = found.graph.inputs[0], np.random.default_rng(0)
    picture = rng.integers(0, 256, (image.h, image.w, image.c)).astype(np.uint8)
    roomy = replace(board, sram=LARGE, flash=4 * LARGE)
    with tempfile.TemporaryDirectory() as folder:
        write_library(folder, found, model, board)
        elf = build_firmware(folder, roomy, picture)
        (run, layers), sizes = run_profiled(elf, roomy), elf_report(elf)
    wanted = reference.run(found, model, (picture.astype(np.int16) - 128).astype(np.int8))
    exact = all(np.array_equal(wanted[n].ravel(), v) for n, v in zip(found.graph.outputs, run["outputs"], strict=True))
    assert sizes["arena_bytes"] == found.arena
    # Only the used part of the reserved stack counts: the user's main() decides how much is kept.
    return {
        "instructions": run["instructions"],
        "cycles_estimated": sum(layer.cycles for layer in layers.values()),
        "macs": found.macs,
        "arena_bytes": found.arena,
        "stack_bytes": run["stack_bytes"],
        "sram_bytes": found.arena + run["stack_bytes"] + sizes["data_bytes"],
        "flash_bytes": sizes["flash_bytes"],
        "exact": exact,
    }


def schedule_text(found: Plan) -> str:
    """Such as "4x4 over 5, 2x2 to 9, halo cache"; a segment that runs layer by layer between others is 1x1."""
    s = found.schedule
    further = "".join(f", {p[0]}x{p[1]} to {n}" for p, n in s.then)
    return f"{s.p[0]}x{s.p[1]} over {s.n}{further}, halo {found.halo}" if s.n else str(s)


def rows_of(name: str, cores) -> list[dict]:
    model, rows = network(name), []
    for kind, found in plans(model).items():
        for core in cores:
            row = {"network": name, "core": core, "schedule": kind, "patches": schedule_text(found)}
            row |= measured(found, model, get_board(CORE_BOARDS[core]))
            row["command"] = f"python benchmarks/engine.py --only {name}"
            print(json.dumps(row), flush=True)
            rows.append(row)
    return rows


HEADER = """\
| network | schedule | MACs, M | M4 instructions, M | a MAC | M4 cycles, M, est. | M7 cycles, M, est. | SRAM, kB | \
TinyEngine's | flash, kB | exact |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|
"""


def table(rows: list[dict]) -> str:
    text = HEADER
    for m4, m7 in zip(rows[::2], rows[1::2], strict=True):  # both cores of a schedule, as rows_of has them
        figures = (
            m4["network"], m4["patches"], f"{m4['macs'] / 1e6:.1f}", f"{m4['instructions'] / 1e6:.1f}",
            f"{m4['instructions'] / m4['macs']:.2f}", *(f"{row['cycles_estimated'] / 1e6:.1f}" for row in (m4, m7)),
            f"{m4['sram_bytes'] / 1024:.1f}", TINYENGINE_KB.get(m4["network"], ""), f"{m4['flash_bytes'] / 1024:.0f}",
            "yes" if m4["exact"] and m7["exact"] else "NO",
        )  # fmt: skip
        text += f"| {' | '.join(map(str, figures))} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    args = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in args.only:
        fresh = rows_of(name, CORE_BOARDS)
        others = [row for row in known if row["network"] != name]
        known = sorted(others + fresh, key=lambda row: NAMES.index(row["network"]))
        write_json(RESULTS, known)
    into_page(PAGE, BEGIN, table(known), END)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
