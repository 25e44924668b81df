"""Does searching the network and its patches together find better networks? On real photographs, on a CPU.

    python benchmarks/search_study.py [--shared ../shared] [--out out/study] [--jobs 2]

The task is a visual wake word: does a microscope picture show a platelet? Squares of about 300 pixels are cut from the
364 photographs of BCCD; its lists separate training, validation and test photographs. One super-network is trained;
then, for an STM32F410 (32 kB of SRAM), three ways of searching get the same number of evaluations: the evolution over
all schedules (p, n), random search over the same networks, and the evolution without patches (p = 1). A search sees
validation photographs only; its winner, as sliced from the super-network, is judged on the test photographs.

Goes on where it was stopped: the super-network has its checkpoint, every score is kept. Writes search.json, search.md
and search.png to docs/results.
"""

import argparse
import io
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, set_start_method
from pathlib import Path
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
import torch
from tqdm import tqdm

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import sha256, write_atomic, write_json
from nni_mcunet.search.config import SearchConfig
from nni_mcunet.search.data import open_data
from nni_mcunet.search.evolution import Evolution, Proposal
from nni_mcunet.search.space import load_space
from nni_mcunet.search.supernet.training import Recipe, load_supernet, specialise, train

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SPACE, BOARD, SEEDS = "configs/nni/spaces/study.yml", "stm32f410", (0, 1, 2)
BUDGET = {"population": 24, "parents": 6, "iterations": 9}
ARMS = {  # what differs from the joint search
    "joint": {},
    "random": {"parents": 0},
    "per layer": {"patches": [1]},
}
RECIPE = Recipe(largest=700, shared=700, batch=32, lr=0.1)
SIDE = 300  # of a square, pixels
SPREAD = {"train": (0.2, 1.15), "val": (0.85, 1.15), "test": (0.85, 1.15)}  # of SIDE; large platelets teach small ones
CROPS = {"train": (8, 12), "val": (4, 6), "test": (4, 6)}  # without and with a platelet, of a photograph at most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", default=os.environ.get("MCUNET_SHARED", "../shared"), help="holds data/bccd/BCCD")
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--jobs", type=int, default=2, help="processes that evaluate, one core each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bccd, crops, supernet = Path(args.shared) / "data/bccd/BCCD", args.out / "cells", args.out / "supernet.pth"
    if not crops.exists():
        if not bccd.is_dir():
            raise UserError(f"{bccd} is missing: set MCUNET_SHARED to the folder that holds data/bccd")
        cut_crops(bccd, crops)
    options = {"crop": [0.9, 1.0], "jitter": 0.1, "keep": 1.0, "calibration": [4, 64], "workers": 0}
    data = {"kind": "folder", "root": str(crops)} | options
    with tqdm(total=RECIPE.steps, unit="step", desc="super-network", disable=None) as bar:

        def progress(step: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.2f}", refresh=False)
            bar.update(step - bar.n)

        train(load_space(SPACE), RECIPE, supernet, open_data(data), 100, progress)
    settings = {"space": SPACE, "board": BOARD, "supernet": str(supernet), "out": "unused", "data": data} | BUDGET
    searches = {
        (arm, seed): SearchConfig.from_dict(settings | changes | {"seed": seed}).evolution()
        for arm, changes in ARMS.items()
        for seed in SEEDS
    }
    with Scores(args.out / "scores.jsonl", supernet, data, args.jobs) as scores:
        run(list(searches.values()), scores)
        winners = {key: evolution.ranked()[0] for key, evolution in searches.items()}
        tested = scores("test", [p.candidate for p in winners.values()])
    rows = [row(*key, searches[key], winner, test) for (key, winner), test in zip(winners.items(), tested, strict=True)]
    write_results(args.results, rows, {key: evolution.proposals for key, evolution in searches.items()})


# --- the pictures


def cut_crops(bccd: Path, folder: Path, wanted: str = "Platelets", size: int = 160) -> None:
    """folder/{train,val,test}/{none,platelet}/*.png, size x size, cut where a whole platelet is in or none at all."""
    for split, (without, with_) in CROPS.items():
        rng, most = np.random.default_rng(len(split)), {"none": without, "platelet": with_}
        for name in tqdm(
            (bccd / f"ImageSets/Main/{split}.txt").read_text().split(), desc=f"squares to {split}", disable=None
        ):
            image, found = cv2.imread(str(bccd / f"JPEGImages/{name}.jpg")), {"none": 0, "platelet": 0}
            platelets = boxes(bccd / f"Annotations/{name}.xml", wanted)
            for _ in range(24 * with_):
                s = min(int(SIDE * np.exp(rng.uniform(*np.log(SPREAD[split])))), *image.shape[:2])
                x, y = (int(rng.integers(0, length - s + 1)) for length in (image.shape[1], image.shape[0]))
                label = label_of(platelets, x, y, s)
                if label is not None and found[label] < most[label]:
                    crop = cv2.resize(image[y : y + s, x : x + s], (size, size), interpolation=cv2.INTER_AREA)
                    path = folder / split / label / f"{name}_{found[label]}.png"
                    write_atomic(path, cv2.imencode(".png", crop)[1].tobytes())
                    found[label] += 1


def boxes(annotation: Path, wanted: str) -> list[tuple[float, ...]]:
    """x1, y1, x2, y2 of every object of that name in a VOC annotation."""
    objects = [o for o in ElementTree.parse(annotation).iter("object") if o.findtext("name") == wanted]
    corners = ("xmin", "ymin", "xmax", "ymax")
    return [tuple(float(o.findtext(f"bndbox/{corner}")) for corner in corners) for o in objects]


def label_of(platelets: list[tuple[float, ...]], x: int, y: int, s: int) -> str | None:
    """platelet: at least one lies in the square by 70 %; none: not one touches it by 5 %; None: neither is true."""
    inside = [0.0]
    for x1, y1, x2, y2 in platelets:
        w, h = min(x2, x + s) - max(x1, x), min(y2, y + s) - max(y1, y)
        inside.append(max(w, 0) * max(h, 0) / max((x2 - x1) * (y2 - y1), 1))
    if max(inside) > 0.7:
        return "platelet"
    return "none" if max(inside) <= 0.05 else None


# --- the searches


class Scores:
    """scores(split, candidates) -> what the task measures, once each, by warm processes; kept in a file."""

    def __init__(self, path: Path, supernet: Path, data: dict, jobs: int):
        self.path, (self.space, _) = path, load_supernet(supernet)
        self.known = {(split, key): score for split, key, score in known_lines(path, supernet)}
        # mmdet's metric starts processes of its own, which those of multiprocessing.Pool may not.
        self.pool = ProcessPoolExecutor(jobs, get_context("spawn"), warm_up, (str(supernet), data))

    def __enter__(self) -> "Scores":
        return self

    def __exit__(self, *_) -> None:
        self.pool.shutdown(cancel_futures=True)

    def __call__(self, split: str, candidates: list[dict]) -> list[float]:
        keys = [self._key(candidate) for candidate in candidates]
        new = {key: c for key, c in zip(keys, candidates, strict=True) if (split, key) not in self.known}
        work = sorted(((split, key, c) for key, c in new.items()), key=lambda job: job[2]["r"])
        jobs = [self.pool.submit(score_one, job) for job in work]
        for job in tqdm(as_completed(jobs), total=len(work), unit="net", leave=False, disable=None):
            key, score = job.result()
            self.known[split, key] = score
            with self.path.open("a") as file:
                file.write(json.dumps([split, key, score]) + "\n")
        return [self.known[split, key] for key in keys]

    def _key(self, candidate: dict) -> str:
        """The same for two candidates that are the same network."""
        return json.dumps(self.space.spec(candidate).to_dict())


def known_lines(path: Path, supernet: Path) -> list:
    """The lines of a file of results; a last one that a kill has cut is removed from it. UserError where they are of
    another training of the super-network: path.sha256 says of which."""
    of, digest = path.with_suffix(".sha256"), sha256(supernet)
    if path.exists() and of.exists() and of.read_text() != digest:
        raise UserError(f"{path} holds results of another training of {supernet}: delete it")
    write_atomic(of, digest)
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomic(path, whole)
    return [json.loads(line) for line in whole.splitlines()]


WARM: dict = {}


def warm_up(supernet: str, data: dict) -> None:
    torch.set_num_threads(1)
    set_start_method(
        "fork", force=True
    )  # of mmdet's metric, whose processes are to know what detection has put in place
    WARM["space"], WARM["supernet"] = load_supernet(supernet)
    WARM["data"] = open_data(data)


def score_one(job: tuple[str, str, dict]) -> tuple[str, float]:
    split, key, candidate = job
    space, data = WARM["space"], WARM["data"]
    net = specialise(space, WARM["supernet"], candidate, data)
    pictures = data.held_out if split == "val" else data.test
    return key, data.task.score(net, pictures(space.resolution(candidate)))


def run(searches: list[Evolution], scores: Scores) -> None:
    """All searches to their ends, a generation of all of them at a time."""
    with tqdm(desc="generation", disable=None) as bar:
        while any(not evolution.done for evolution in searches):
            asked: list[tuple[Evolution, Proposal]] = []
            for evolution in searches:
                while (proposal := evolution.ask()) is not None:
                    asked.append((evolution, proposal))
            found = scores("val", [proposal.candidate for _, proposal in asked])
            for (evolution, proposal), score in zip(asked, found, strict=True):
                evolution.tell(proposal.index, score)
            bar.update()


# --- the results


def row(arm: str, seed: int, evolution: Evolution, winner: Proposal, test: float) -> dict:
    return {
        "search": arm, "seed": seed, "evaluated": len(evolution.proposals), "accuracy_val": winner.score,
        "accuracy_test": test, "r": winner.candidate["r"], "p": winner.p, "n": winner.n, "sram": winner.sram,
        "macs": winner.macs, "candidate": winner.candidate,
    }  # fmt: skip


def write_results(folder: Path, rows: list[dict], histories: dict[tuple[str, int], list[Proposal]]) -> None:
    space = load_space(SPACE)
    about = {
        "command": "python benchmarks/search_study.py", "task": "platelet or none, squares of BCCD's photographs",
        "board": BOARD, "space": SPACE, "space_size": space.size, "budget": BUDGET,
    }  # fmt: skip
    write_json(folder / "search.json", about | {"recipe": RECIPE.__dict__, "results": rows})
    write_atomic(folder / "search.md", table(rows))
    plot(folder / "search.png", rows, histories)
    print(table(rows))


def table(rows: list[dict]) -> str:
    lines = [
        "| search | seed | networks | accuracy, validation | accuracy, test | r | patches | SRAM, kB | MACs, M |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        patches = f"{r['p'][0]}x{r['p'][1]} over {r['n']}" if r["n"] else "none"
        cells = [
            r["search"],
            r["seed"],
            r["evaluated"],
            f"{r['accuracy_val']:.3f}",
            f"{r['accuracy_test']:.3f}",
            r["r"],
        ]
        cells += [patches, f"{r['sram'] / 1024:.1f}", f"{r['macs'] / 1e6:.2f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    for arm in ARMS:
        means = [np.mean([r[key] for r in rows if r["search"] == arm]) for key in ("accuracy_val", "accuracy_test")]
        lines.append(f"| {arm} | mean | | {means[0]:.3f} | {means[1]:.3f} | | | | |")
    return "\n".join(lines) + "\n"


def plot(path: Path, rows: list[dict], histories: dict[tuple[str, int], list[Proposal]]) -> None:
    """Left: best validation accuracy so far, mean and range of the seeds. Right: test accuracy of the winners."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=(2, 1))
    for at, arm in enumerate(ARMS):
        curves = [np.maximum.accumulate([p.score for p in histories[arm, seed]]) for seed in SEEDS]
        shortest = min(map(len, curves))
        best = np.stack([curve[:shortest] for curve in curves])
        left.plot(best.mean(0), label=arm, color=f"C{at}")
        left.fill_between(np.arange(shortest), best.min(0), best.max(0), color=f"C{at}", alpha=0.2, linewidth=0)
        found = [r["accuracy_test"] for r in rows if r["search"] == arm]
        right.scatter([at] * len(found), found, color=f"C{at}")
        right.plot([at - 0.2, at + 0.2], [np.mean(found)] * 2, color=f"C{at}")
    left.set(xlabel="networks evaluated", ylabel="best accuracy so far, validation", title=f"{BOARD}, 32 kB of SRAM")
    left.legend(loc="lower right")
    right.set(xticks=range(len(ARMS)), xticklabels=ARMS, xlim=(-0.5, len(ARMS) - 0.5))
    right.set(ylabel="accuracy of the winners, test")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
    write_atomic(path, file.getvalue())


if __name__ == "__main__":
    with exit_on_user_error():
        main()
