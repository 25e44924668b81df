"""Measure how little memory networks need at how much computation: docs/results/memory.json and a table of profile.md.

    python benchmarks/memory.py [--only mcunet-vww1] [--plan]

For each network the front of memory against computation (`mcunet profile --pareto`, up to 18 patches a side and ten
segments) is asked for its smallest arena at no computation more, at 5 % more, and at each point that the authors of
msf-CNN (NeurIPS 2025) give for it. Beside it stands what the planner found before segments and axes had a halo of their
own: one halo for the plan, three segments, grids up to 6x6, no slices. Each row's C runs on this host under the
sanitizers and on an emulated Cortex-M4, and every output byte is held against the numpy reference layer by layer:
`exact`. Instructions are counted, cycles estimated. --plan leaves all that out.

The floor is the least arena of the whole front, at any computation: no schedule that was looked at goes below it.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from calibrate_cycles import random_integers
from engine import LARGE, measured
from networks import network
from readme import into_page

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.core.ir.arch import Block
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.plan.board_plan import front_for_board
from nni_mcunet.core.plan.cut_points import grids
from nni_mcunet.core.plan.plan import ENDS, Plan, pareto, plan
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel
from nni_mcunet.engine.run.host import run_sanitized

RESULTS = Path(__file__).parents[1] / "docs/results/memory.json"
PAGE, BEGIN, END = "profile.md", "<!-- memory, by benchmarks/memory.py -->\n", "<!-- end of memory -->\n"
SIDES, SEGMENTS = (*range(1, 11), 12, 14, 16, 18), 10
MSF = "mbv2-w0.35-r144, head 448"
# Bytes at computation over the network's own, of msf-CNN's planner; the frame and the shortcuts are not counted there.
MSF_CNN = {
    "mcunet-vww1": {1.113: 26_240, 1.296: 20_568, 1.345: 17_904, 1.957: 15_368},
    "mcunet-in3": {1.455: 94_224, 2.020: 63_456, 2.695: 51_164},
    MSF: {1.230: 63_603, 1.253: 25_803, 1.298: 21_389, 1.382: 15_199, 1.563: 14_132, 1.680: 8_560},
}
NAMES = ("mcunet-vww1", "mcunet-in1", "mcunet-in2", "mcunet-in3", "mcunet-in4", "mbv2-w0.35-r144", MSF,
         "MobileNetV2-224")  # fmt: skip


def model_of(name: str) -> QuantModel:
    return (
        random_integers(build_graph(msf_network()).folded(), np.random.default_rng(0)) if name == MSF else network(name)
    )


def msf_network():
    """MobileNetV2 as msf-CNN narrows it: int(0.35 c) channels, no multiples of 8, and a head of 448."""
    wide, cin, stages = mobilenet_v2(144), int(0.35 * 32), []
    for stage in wide.stages:
        narrow = []
        for block in stage:
            e, cout = (1 if not stages else 6), int(0.35 * block.c)
            narrow.append(Block(block.k, block.s, e * cin, cout))
            cin = cout
        stages.append(tuple(narrow))
    return replace(wide, name="mobilenet_v2_msf", stem=int(0.35 * 32), stages=tuple(stages), head=448)


def at_most(front: list[Plan], share: float) -> Plan:
    """The smallest arena at no more than `share` times the network's own computation."""
    return min((p for p in front if p.overhead <= share - 1 + 1e-9), key=lambda p: p.arena)


def figures(found: Plan) -> dict:
    return {"arena_bytes": found.arena, "macs_over_own": round(1 + found.overhead, 4), "schedule": str(found.schedule)}


def run(found: Plan, model: QuantModel) -> dict:
    """Exact flags, instructions and cycles of the plan's C; none where the emulated machine is too small."""
    if found.arena > LARGE - 64 * 1024:
        return {}
    board, image = get_board("stm32f412"), model.graph.inputs[0]
    picture = np.random.default_rng(0).integers(0, 256, (image.h, image.w, image.c)).astype(np.uint8)
    whole = reference.run(plan(model.graph), model, (picture.astype(np.int16) - 128).astype(np.int8))
    with tempfile.TemporaryDirectory() as folder:
        write_library(folder, found, model, replace(board, sram=LARGE, flash=4 * LARGE))
        host = run_sanitized(folder, picture)["outputs"]
    same = all(np.array_equal(whole[n].ravel(), got) for n, got in zip(model.graph.outputs, host, strict=True))
    emulated = measured(found, model, board)
    kept = ("instructions", "cycles_estimated", "stack_bytes", "flash_bytes")
    return {"exact": {"host": same, "cortex-m4": emulated["exact"]}} | {key: emulated[key] for key in kept}


def rows_of(name: str, planned_only: bool) -> list[dict]:
    model, rows = model_of(name), []
    graph = model.graph
    front = front_for_board(graph, p_choices=[(a, b) for a in SIDES for b in SIDES], segments=SEGMENTS)
    before = pareto(graph, grids(6, square=False), halos=ENDS, segments=3)
    limits = {None: plan(graph), 1.0: None, 1.05: None} | dict.fromkeys(MSF_CNN.get(name, {}))
    for share, found in limits.items():
        found = found or at_most(front, share)
        row = {"network": name, "macs_over_own_at_most": share} | figures(found)
        row |= {"halo": found.halo, "lower_bound_bytes": found.peak, "floor_bytes": front[-1].arena}
        if share is not None:
            row["before"] = figures(at_most(before, share))
            row["msf_cnn_bytes"] = MSF_CNN.get(name, {}).get(share)
        row |= {} if planned_only else run(found, model)
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


HEADER = """\
| network | MACs over own, at most | arena, bytes | before | msf-CNN | floor | MACs over own | M4 instructions, M | \
exact |
|---|---:|---:|---:|---:|---:|---:|---:|---|
"""


def table(rows: list[dict]) -> str:
    text = HEADER
    for row in rows:
        share, exact = row["macs_over_own_at_most"], row.get("exact")
        cells = (
            row["network"], "layer by layer" if share is None else f"{share:.3f}", f"{row['arena_bytes']:,}",
            f"{row['before']['arena_bytes']:,}" if "before" in row else "",
            f"{row['msf_cnn_bytes']:,}" if row.get("msf_cnn_bytes") else "", f"{row['floor_bytes']:,}",
            f"{row['macs_over_own']:.3f}", f"{row['instructions'] / 1e6:.1f}" if exact else "",
            ("yes" if all(exact.values()) else "NO") if exact else "not run",
        )  # fmt: skip
        text += f"| {' | '.join(cells)} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--plan", action="store_true", help="plan only: run no C")
    args = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for name in args.only:
        fresh = rows_of(name, args.plan)
        known = sorted(
            [row for row in known if row["network"] != name] + fresh, key=lambda row: NAMES.index(row["network"])
        )
        write_json(RESULTS, known)
    into_page(PAGE, BEGIN, table(known), END)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
