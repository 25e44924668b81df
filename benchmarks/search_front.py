"""Search the front of four boards at once, beside a search for each board: python benchmarks/search_front.py

The score is synthetic, so that hours of evaluation become minutes: what a candidate's genes add to the accuracy of a
network, drawn once a seed, with less and less to gain from more MACs. It asks what the search can find, not how well a
super-network ranks. Four single searches get as many evaluations each as the one search for all (four times as many
together), and a quarter of them (as many together). Writes docs/results/search_front.json and .md.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.predictor import is_there
from nni_mcunet.search.run.front import front_of
from nni_mcunet.search.space import Candidate, Space, load_space

ROOT = Path(__file__).resolve().parent.parent
BOARDS = ("stm32f410", "stm32f412", "stm32f746", "stm32h743")  # the smallest first
WAYS = {"board": ("board",), "sram, flash": ("sram", "flash")}


def synthetic(space: Space, seed: int) -> Callable[[Candidate], float]:
    """Return candidate -> accuracy, 0 to 1: rising with the logarithm of MACs of the network itself, and with what each
    choice of each gene of a block that is there adds, by itself and beside its neighbour's."""
    rng, genes = np.random.default_rng([seed, 7]), list(space.genes)
    own = {gene: rng.normal(0, 0.004, len(choices)) for gene, choices in space.genes.items()}
    pairs = {gene: rng.normal(0, 0.003, (len(space.genes[gene]), len(space.genes[other])))
             for gene, other in pairwise(genes)}  # fmt: skip

    def score(candidate: Candidate) -> float:
        at = {gene: choices.index(candidate[gene]) for gene, choices in space.genes.items()}
        there = [gene for gene in genes if is_there(gene, candidate)]
        value = sum(own[gene][at[gene]] for gene in there)
        value += sum(pairs[a][at[a], at[b]] for a, b in pairwise(genes) if a in there and b in there)
        macs = build_graph(space.spec(candidate)).macs
        return 0.7 - 0.5 * math.exp(-(math.log(macs) - 13) / 3) + value

    return score


def run(evolution: Evolution, score: Callable[[Candidate], float]) -> list[dict[str, object]]:
    """Run a search to its end. Returns its history."""
    while not evolution.done:
        while (proposal := evolution.ask()) is not None:
            evolution.tell(proposal.index, score(proposal.candidate))
    return evolution.state_dict()["proposals"]


def best_scores(config: SearchConfig, space: Space, history: list[dict[str, object]]) -> dict[str, float]:
    """Return the score of the best network of each board."""
    return {line["board"]: line["score"] for line in front_of(config, space, history)}


def measure(space_name: str, seed: int, population: int, iterations: int, parents: int) -> dict[str, dict[str, float]]:
    """Return what each way found: way -> board -> best score."""
    space = load_space(space_name)
    score = synthetic(space, seed)
    four = SearchConfig(space_name, BOARDS[-1], "none.pth", "none", seed=seed, population=population,
                        iterations=iterations, parents=parents, boards=BOARDS[:-1], objectives=("board",))  # fmt: skip
    found = {}
    for way, objectives in WAYS.items():
        config = replace(four, objectives=objectives)
        found[f"one search, {way}"] = best_scores(config, space, run(config.evolution(), score))
    for name, each in (
        ("four searches, as many each", iterations),
        ("four searches, as many together", iterations // 4),
    ):
        found[name] = {}
        for board in BOARDS:
            single = replace(four, board=board, boards=(), objectives=(), iterations=each)
            found[name][board] = max(p["score"] for p in run(single.evolution(), score))
    random = replace(four, parents=0)
    found["one search, random"] = best_scores(random, space, run(random.evolution(), score))
    return found


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return means and ranges over the seeds as Markdown."""
    lines = ["| way | " + " | ".join(BOARDS) + " |", "|---|" + "---|" * len(BOARDS)]
    for way in next(iter(results.values())):
        cells = []
        for board in BOARDS:
            values = [found[way].get(board, float("nan")) for found in results.values()]
            cells.append(f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="configs/nni/spaces/boards.yml")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--population", type=int, default=60)
    parser.add_argument("--iterations", type=int, default=11)
    parser.add_argument("--parents", type=int, default=12)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/search_front.json")
    args = parser.parse_args()
    results, begin = {}, time.time()
    settings = {key: getattr(args, key) for key in ("space", "population", "iterations", "parents")}
    for seed in range(args.seeds):
        results[str(seed)] = measure(args.space, seed, args.population, args.iterations, args.parents)
        print(f"seed {seed}, {time.time() - begin:.0f} s\n{table(results)}", flush=True)
        write_json(args.out, {"settings": settings, "results": results})
        write_atomic(args.out.with_suffix(".md"), table(results))


if __name__ == "__main__":
    main()
