"""How many candidates a second the planner judges on one core: build_graph and best_schedule, all (p, n) enumerated.

    python benchmarks/plan_speed.py [--board h743] [--count 300] [--seed 0]

Prints candidates per second of CPU time, then milliseconds a candidate as depth and the number of grids grow. The
growth is measured with unlimited flash, so that no candidate is turned away before its schedules are looked at.
"""

import argparse
import time
from dataclasses import replace

import numpy as np

from nni_mcunet.core.boards import Board, get_board
from nni_mcunet.core.errors import Infeasible
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.plan import best_schedule, schedules
from nni_mcunet.search.space import load_space


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


def measure(specs, board: Board, **options) -> tuple[float, dict[str, int]]:
    """Seconds of CPU a candidate, and how many end in which way. Three passes, the fastest counts."""
    fastest = float("inf")
    for _ in range(3):
        ends: dict[str, int] = {}
        begin = time.process_time()
        for spec in specs:
            try:
                best_schedule(build_graph(spec), board, **options)
                end = "fits"
            except Infeasible as error:
                end = f"over {error.what}"
            ends[end] = ends.get(end, 0) + 1
        fastest = min(fastest, (time.process_time() - begin) / len(specs))
    return fastest, ends


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="mcunet384")
    parser.add_argument("--board", action="append", help="may be given more than once (default: f412 and h743)")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    space, boards = load_space(args.space), [get_board(b) for b in args.board or ("f412", "h743")]
    print("| board | candidates | of them | ms each | candidates/s |\n|---|---|---|---|---|")
    for board in boards:
        for flash, name in ((board.flash, board.name), (1 << 30, f"{board.name}, any flash")):
            specs = candidates(space, args.count, args.seed)
            seconds, ends = measure(specs, replace(board, flash=flash))
            how = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
            print(f"| {name} | {len(specs)} | {how} | {seconds * 1e3:.2f} | {1 / seconds:,.0f} |", flush=True)
    board, few = replace(boards[-1], flash=1 << 30), max(1, args.count // 5)
    print(f"\n| {boards[-1].name}, any flash | ops | schedules | ms each |\n|---|---|---|---|")
    for d in (1, 2, 3, 4):
        growth(f"p = 1..4, d = {d}", candidates(space, few, args.seed, d), board, 4)
    for p in (1, 2, 4, 8):
        growth(f"p = 1..{p}, any d", candidates(space, few, args.seed), board, p)


def growth(label: str, specs, board: Board, p_most: int) -> None:
    """One row: mean ops, mean number of schedules, milliseconds a candidate."""
    choices = tuple(range(1, p_most + 1))
    graphs = [build_graph(spec) for spec in specs]
    ops = np.mean([len(graph.ops) for graph in graphs])
    many = np.mean([len(schedules(graph, choices)) for graph in graphs])
    seconds, _ = measure(specs, board, p_choices=choices)
    print(f"| {label} | {ops:.0f} | {many:.0f} | {seconds * 1e3:.2f} |", flush=True)


if __name__ == "__main__":
    main()
