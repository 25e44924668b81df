"""Does searching beat drawing at random, for a detector? Three seeds of 240 networks at most each way, on photographs:

    python benchmarks/search_detector.py [--jobs 2]

BCCD's blood cells on an STM32F412 with 96 kB, as configs/nni/bccd_f412.yml has them, with more networks. Every network
is judged by the mAP50 of its slice of one super-network on the same 58 held-out photographs of the training set.
Goes on where it was stopped: the super-network and all scores are kept in --out. Writes search_detector.json, .md and
.png to docs/results. The photographs are in $MCUNET_SHARED (default ../shared).
"""

import argparse
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from search_study import Scores, run
from tqdm import tqdm

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.data import open_data
from nni_mcunet.search.evolution import Evolution
from nni_mcunet.search.nni.experiment_file import load_config as load_experiment
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet.recipe import Recipe
from nni_mcunet.search.supernet.training import train

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
ARMS = {"evolution": {}, "random": {"parents": 0}}
BUDGET = {"population": 24, "parents": 6, "iterations": 9}
RECIPE = Recipe(largest=480, shared=1120, subnets=2, batch=8, lr=0.003, weight_decay=0.01, adam=True, ema=0.98)
TOP = 5  # networks whose mean says how good a search's finds are, not only its luckiest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "out/search_detector")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one core each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    experiment = load_experiment(ROOT / "configs/nni/bccd_f412.yml")
    search, supernet = SearchConfig.from_dict(experiment["tuner"]["classArgs"], ROOT), args.out / "supernet.pth"
    with tqdm(total=RECIPE.steps, unit="step", desc="super-network", disable=None) as bar:

        def progress(step: int, loss: float) -> None:
            bar.update(step - bar.n)

        train(load_space(search.space), RECIPE, supernet, open_data(search.data), 20, progress)
    searches = {
        (arm, seed): replace(search, seed=seed, **BUDGET | changes).evolution()
        for seed in args.seeds
        for arm, changes in ARMS.items()
    }
    with Scores(args.out / "scores.jsonl", supernet, search.data, args.jobs) as scores:
        run(list(searches.values()), scores)
    rows = [row(*key, evolution) for key, evolution in searches.items()]
    path = args.results / "search_detector.json"
    about = {
        "command": "python benchmarks/search_detector.py", "score": "mAP50 of a slice on 58 held-out photographs",
        "board": search.board, "space_size": load_space(search.space).size, "budget": BUDGET,
        "recipe": asdict(RECIPE), "results": rows, "bccd_f412": json.loads(path.read_text())["bccd_f412"],
    }  # fmt: skip
    write_json(path, about)
    write_atomic(args.results / "search_detector.md", table(rows))
    write_atomic(args.results / "search_detector.png", plot(searches))
    print(table(rows))


def row(arm: str, seed: int, evolution: Evolution) -> dict:
    best = evolution.winners()[0]
    scores = sorted((proposal.score for proposal in evolution.proposals), reverse=True)
    return {
        "search": arm, "seed": seed, "evaluated": len(scores), "map50": scores[0],
        "map50_top": float(np.mean(scores[:TOP])), "map50_mean": float(np.mean(scores)), "p": best.p, "n": best.n,
        "sram": best.sram, "flash": best.flash, "macs": best.macs, "candidate": best.candidate,
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    lines = [
        f"| search | seed | networks | best mAP50 | mean of the best {TOP} | mean of all "
        "| r | patches | SRAM, kB | MACs, M |",
        "|---|---|---:|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        patches = f"{r['p'][0]}x{r['p'][1]} over {r['n']}" if r["n"] else "none"
        lines.append(
            f"| {r['search']} | {r['seed']} | {r['evaluated']} | {_scores([r])} | {r['candidate']['r']} | {patches} | "
            f"{r['sram'] / 1024:.1f} | {r['macs'] / 1e6:.1f} |"
        )
    for arm in ARMS:
        lines.append(f"| {arm} | mean | | {_scores([r for r in rows if r['search'] == arm])} | | | | |")
    return "\n".join(lines) + "\n"


def _scores(rows: list[dict]) -> str:
    return " | ".join(f"{np.mean([r[key] for r in rows]):.3f}" for key in ("map50", "map50_top", "map50_mean"))


def plot(searches: dict[tuple[str, int], Evolution]) -> bytes:
    """The best so far, mean and range of the seeds."""
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for at, arm in enumerate(ARMS):
        curves = [
            np.maximum.accumulate([p.score for p in evolution.proposals])
            for (name, _), evolution in searches.items()
            if name == arm
        ]
        best = np.stack([curve[: min(map(len, curves))] for curve in curves])
        axes.plot(best.mean(0), color=f"C{at}", label=arm)
        axes.fill_between(np.arange(best.shape[1]), best.min(0), best.max(0), color=f"C{at}", alpha=0.2, linewidth=0)
    axes.set(xlabel="networks evaluated", ylabel="best mAP50 of a slice so far", title="BCCD, STM32F412, 96 kB of SRAM")
    axes.legend(loc="lower right")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
    return file.getvalue()


if __name__ == "__main__":
    with exit_on_user_error():
        main()
