"""Count the evaluations that the sieve saves: python benchmarks/search_predictor.py

Plain evolution (the paper's 100 networks a generation) against one with a sieve, equal seeds, on the synthetic score of
benchmarks/search_front.py with a noise of 0.3 points, as re-calibration has. Best is the best by the noisy score, as a
search knows it; its score without noise is what counts. How many networks does each way judge until its best is as good
as that of plain evolution after half its evaluations, and at its end? Writes docs/results/search_predictor.json and its
table, search_predictor.md.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from search_front import synthetic

from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.search.constraint import Fit
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.space import Space, load_space

ROOT = Path(__file__).resolve().parent.parent
NOISE = 0.003
SIEVED = {"sieve of 4, 40 a generation": (40, 4), "sieve of 8, 40 a generation": (40, 8)}
PLAIN, SMALL = "plain, 100 a generation", "plain, 40 a generation"


def curve(space: Space, seed: int, population: int, sieve: int, most: int) -> list[float]:
    """Return the noise-free score of the best so far behind each evaluation."""
    truth, rng = synthetic(space, seed), np.random.default_rng([seed, 1])
    fit = Fit.of(plan(build_graph(space.spec(space.smallest()))))  # no limit is in the way: it is not what is measured
    evolution = Evolution(space, lambda spec: fit, seed, population, 20, most // population - 1, sieve=sieve)
    best, found = (-1.0, -1.0), []
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            true = float(truth(proposal.candidate))
            score = true + rng.normal(0, NOISE)
            evolution.tell(proposal.index, score)
            best = max(best, (score, true))
            found.append(best[1])
    return found


def reached(found: list[float], wanted: float) -> int | None:
    """Return the number of evaluations until the best is as good as wanted; None: it never is."""
    return next((count for count, best in enumerate(found, 1) if best >= wanted), None)


def table(results: dict[str, dict[str, dict[str, object]]], most: int) -> str:
    """Return a row a way: evaluations to plain evolution's best at half and at its end, for each seed."""
    seeds = list(results)
    lines = ["| way | " + " | ".join(f"seed {seed}" for seed in seeds) + " |", "|---|" + "---|" * len(seeds)]
    for way in results[seeds[0]]:
        cells = [" / ".join("never" if results[seed][way][key] is None else f"{results[seed][way][key]:,}"
                            for key in ("half", "end")) for seed in seeds]  # fmt: skip
        lines.append(f"| {way} | {' | '.join(cells)} |")
    said = f"Evaluations until the best score is plain evolution's after {most // 2:,} / after {most:,} evaluations."
    return "\n".join([*lines, "", said]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="configs/nni/spaces/vww_small.yml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=2000, help="evaluations of plain evolution")
    parser.add_argument("--sieved", type=int, default=800, help="evaluations of one with a sieve")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/search_predictor.json")
    args = parser.parse_args()
    space = load_space(args.space)
    results: dict[str, dict[str, dict[str, object]]] = {}
    begin = time.time()
    for seed in range(args.seeds):
        plain = {PLAIN: 100, SMALL: 40}
        curves = {name: curve(space, seed, count, 1, args.most) for name, count in plain.items()}
        curves |= {name: curve(space, seed, *how, args.sieved) for name, how in SIEVED.items()}
        half, end = curves[PLAIN][args.most // 2 - 1], curves[PLAIN][-1]
        results[str(seed)] = {
            way: {"half": reached(found, half), "end": reached(found, end), "best": found[-1], "curve": found[19::20]}
            for way, found in curves.items()
        }
        print(f"seed {seed}, {time.time() - begin:.0f} s\n{table(results, args.most)}", flush=True)
        write_json(args.out, {"settings": {key: str(value) for key, value in vars(args).items() if key != "out"},
                              "noise": NOISE, "results": results})  # fmt: skip
        write_atomic(args.out.with_suffix(".md"), table(results, args.most))


if __name__ == "__main__":
    main()
