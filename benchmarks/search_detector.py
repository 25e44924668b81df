"""Does searching beat drawing at random, for a detector? From the folders of the two searches, run before through NNI:

    mcunet train-supernet --config configs/det/supernet_bccd.yml
    mcunet search run --config configs/nni/bccd_f412.yml
    mcunet search run --config configs/nni/bccd_f412_random.yml
    python benchmarks/search_detector.py

Both judge the same number of networks by the mAP50 of slices of one super-network on the same held-out photographs of
BCCD. Writes search_detector.json, .md and .png to docs/results, and the evolution's winner with its schedule to
configs/arch/bccd_f412.json.
"""

import argparse
import io
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.ir.arch import Schedule
from nni_mcunet.search.run.history import best_of, read_history, scored
from nni_mcunet.search.run.run_folder import read_settings
from nni_mcunet.search.space import load_space

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
SEARCHES = {"evolution": "bccd_f412", "random": "bccd_f412_random"}
NOTE = "One seed; how slices rank against the same networks trained by themselves has not been measured."
TOP = 5  # networks whose mean says how good a search's finds are, not only its luckiest


def row(arm: str, history: list[dict]) -> dict:
    best, scores = best_of(history), sorted((p["score"] for p in scored(history)), reverse=True)
    kept = {key: best[key] for key in ("p", "n", "sram", "flash", "macs", "candidate")}
    return {"search": arm, "evaluated": len(history), "map50": scores[0], "map50_top": float(np.mean(scores[:TOP])),
            "map50_mean": float(np.mean(scores))} | kept  # fmt: skip


def table(rows: list[dict]) -> str:
    lines = [
        f"| search | networks | best mAP50 | mean of the best {TOP} | mean of all | r | patches | SRAM, kB | MACs, M |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        patches = f"{r['p'][0]}x{r['p'][1]} over {r['n']}" if r["n"] else "none"
        scores = " | ".join(f"{r[key]:.3f}" for key in ("map50", "map50_top", "map50_mean"))
        lines.append(
            f"| {r['search']} | {r['evaluated']} | {scores} | {r['candidate']['r']} | {patches} | "
            f"{r['sram'] / 1024:.1f} | {r['macs'] / 1e6:.1f} |"
        )
    lines += ["", NOTE]
    return "\n".join(lines) + "\n"


def plot(path: Path, histories: dict[str, list[dict]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for at, (arm, history) in enumerate(histories.items()):
        scores = [p["score"] for p in scored(history)]
        axes.scatter(range(len(scores)), scores, s=10, color=f"C{at}", alpha=0.5)
        axes.step(range(len(scores)), np.maximum.accumulate(scores), where="post", color=f"C{at}", label=arm)
    axes.set(xlabel="networks evaluated", ylabel="mAP50 of the slice, held out", title="BCCD, STM32F412, 96 kB of SRAM")
    axes.legend(loc="lower right")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
    write_atomic(path, file.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=Path, default=ROOT / "out" / "search", help="holds the folders of the two")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "results")
    args = parser.parse_args()
    histories = {arm: read_history(args.searches / name) for arm, name in SEARCHES.items()}
    rows = [row(arm, history) for arm, history in histories.items()]
    settings = read_settings(args.searches / SEARCHES["evolution"])
    space, best = load_space(settings.space), best_of(histories["evolution"])
    spec = space.spec(best["candidate"], Schedule(tuple(best["p"]), best["n"]))
    replace(spec, name="bccd_f412").save(ROOT / "configs" / "arch" / "bccd_f412.json")
    about = {"command": "python benchmarks/search_detector.py", "score": "mAP50 of a slice on 58 held-out photographs",
             "board": settings.board, "space_size": space.size, "seed": settings.seed}  # fmt: skip
    write_json(args.results / "search_detector.json", about | {"results": rows})
    write_atomic(args.results / "search_detector.md", table(rows))
    plot(args.results / "search_detector.png", histories)
    print(table(rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
