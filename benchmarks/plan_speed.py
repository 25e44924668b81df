"""How many candidates a second the planner judges on one core: a search's Limits.check, all (p, n) enumerated.

    git worktree add --detach /tmp/before COMMIT
    python benchmarks/plan_speed.py --before /tmp/before --json docs/results/plan_speed.json

Each row is measured in turns, this tree and the one before, on the same candidates, none of which either has seen:
what a planner keeps of blocks helps as it does in a search. The fastest of the rounds counts, in seconds of CPU. Growth
is measured with unlimited flash, so that no candidate is turned away before its schedules are looked at.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import Infeasible
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.plan import best_schedule, schedules
from nni_mcunet.search.constraint import Limits, Violation
from nni_mcunet.search.space import load_space

ROOT = Path(__file__).parents[1]
WARM = 600  # candidates that are judged first, as a search has them behind it soon
GROWTH = [{"depth": d} for d in (1, 2, 3, 4)] + [{"p": p} for p in (1, 2, 4, 8)] + [{"segments": s} for s in (1, 2, 3)]


def candidates(space, count: int, seed: int, depth: int | None = None) -> list:
    """Random specs of the space; `depth` fixes the blocks of every stage, as near as the space allows."""
    rng, specs = np.random.default_rng(seed), []
    for _ in range(count):
        genes = space.random(rng)
        if depth is not None:
            depths = {g: min(c, key=lambda d: abs(d - depth)) for g, c in space.genes.items() if g.endswith("_d")}
            genes = genes | depths
        specs.append(space.spec(genes))
    return specs


def judge(row: dict, specs: list) -> dict[str, int]:
    """How many of the specs end in which way."""
    board, ends = get_board(row["board"]), {}
    if row["any_flash"]:
        board = replace(board, flash=1 << 30)
    p_choices = tuple(range(1, row.get("p", 4) + 1))
    limits = Limits(board, patches=p_choices)
    for spec in specs:
        if "segments" in row:
            try:
                best_schedule(build_graph(spec), board, p_choices=p_choices, segments=row["segments"])
                end = "fits"
            except Infeasible as error:
                end = f"over {error.what}"
        else:
            found = limits.check(spec)
            end = f"over {found.what}" if isinstance(found, Violation) else "fits"
        ends[end] = ends.get(end, 0) + 1
    return ends


def work() -> None:
    """Measure the rows of standard input, a line of JSON each, and print the seconds of CPU a candidate."""
    for line in sys.stdin:
        row = json.loads(line)
        space = load_space(row["space"])
        specs = candidates(space, row["count"], row["seed"], row.get("depth"))
        begin = time.process_time()
        ends = judge(row, specs)
        print(json.dumps({"seconds": (time.process_time() - begin) / len(specs), "ends": ends}), flush=True)


class Tree:
    """A process that measures with the package of one tree."""

    def __init__(self, root: Path):
        env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--work"]
        self.process = subprocess.Popen(
            command, env=env, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, row: dict) -> dict:
        self.process.stdin.write(json.dumps(row) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def size(row: dict) -> dict:
    """Mean ops and schedules of the row's candidates."""
    specs = candidates(load_space(row["space"]), 40, 0, row.get("depth"))
    graphs, choices = [build_graph(spec) for spec in specs], tuple(range(1, row.get("p", 4) + 1))
    return {
        "ops": round(float(np.mean([len(g.ops) for g in graphs]))),
        "schedules": round(float(np.mean([len(schedules(g, choices)) for g in graphs]))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="mcunet384")
    parser.add_argument("--count", type=int, default=200, help="candidates a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--before", type=Path, help="another tree of the project, to measure in turns with this one")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work()
        return
    trees = {"now": Tree(ROOT)} | ({"before": Tree(args.before)} if args.before else {})
    rows = [{"board": b, "any_flash": flash} for b in ("f412", "h743") for flash in (False, True)]
    rows += [{"board": "h743", "any_flash": True} | growth for growth in GROWTH]
    print("| " + " | ".join(["board", "flash", "row", "ops", "schedules", "ends", *trees]) + " |")
    for at, row in enumerate(rows):
        asked, best = row | {"space": args.space, "count": args.count}, {}
        for tree in trees.values() if not at else ():
            tree.measure(asked | {"count": WARM, "seed": 10**6})
        for turn in range(args.rounds):
            for name, tree in trees.items():
                found = tree.measure(asked | {"seed": 1000 * at + turn})
                best[name] = min(best.get(name, 1e9), found["seconds"])
        row |= size(asked) | {"ends": found["ends"]}
        row |= {f"per_second_{name}": round(1 / seconds) for name, seconds in best.items()}
        what = ", ".join(f"{key} {row[key]}" for key in ("depth", "p", "segments") if key in row)
        ends = ", ".join(f"{count} {end}" for end, count in sorted(row["ends"].items()))
        cells = [row["board"], "any" if row["any_flash"] else "its own", what, row["ops"], row["schedules"], ends]
        cells += [f"{row[f'per_second_{name}']:,}" for name in trees]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"space": args.space, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
