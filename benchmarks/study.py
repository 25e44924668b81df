"""Does searching networks and their patches together find better ones? The paper's Fig. 7 in small, on photographs.

    python benchmarks/study.py [--task person] [--supernets 0 1 2] [--searches 0 1]

The photographs are VOC 2012's of animals, official train and val: is there a person ("person"), or which of six classes
is the largest ("animals")? Super-networks begin with the published ImageNet weights of mcunet-in3. A fifth of train
judges a search. For arenas of 32, 64, 128 and 256 kB four ways to search get the same number of networks: "joint" over
all schedules (p, n), "layer by layer", the same with a stem of 8 channels, and "random" over the joint space. Winners
are trained by themselves and judged once on val. Intervals are of 95 %, by a bootstrap over super-networks and
photographs at once, paired between two ways: another training and other photographs, not only these. Three
super-networks say little about a fourth, so such an interval is rather too narrow; the table shows each one's figure.

Goes on where it was stopped. Writes study.json, study.md and study.png to docs/results. The photographs are in
$MCUNET_SHARED (default ../shared), the published weights as well.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import torch
from search_study import Scores, known_lines, run
from tqdm import tqdm

from nni_mcunet.core.boards import KB, get_board
from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_atomic, write_json
from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.search.constraint import Limits
from nni_mcunet.search.data import Data, open_data
from nni_mcunet.search.evolution import Evolution, Proposal
from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.supernet.recipe import Recipe
from nni_mcunet.search.supernet.supernet import slice_net
from nni_mcunet.search.supernet.training import finetune, load_supernet, load_weights, train

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
SPACE, BOARD = str(ROOT / "configs/nni/spaces/photos.yml"), replace(get_board("stm32f412"), flash=2048 * KB)
SIX = ("cat", "cow", "dog", "horse", "person", "sheep")
TASKS = {"person": "is there a person", "animals": f"the largest of {', '.join(SIX)}"}
AREA = 0.005  # of the picture, from which on a person counts, as in Visual Wake Words
LIMITS = (32, 64, 128, 256)  # kB of arena
ARMS = {  # what differs from the joint search: genes, the p of patches, parents of a generation
    "joint": ({}, (1, 2, 3, 4), 5),
    "layer by layer": ({}, (1,), 5),
    "stem 8, layer by layer": ({"s1_w": [0.5]}, (1,), 5),
    "random": ({}, (1, 2, 3, 4), 0),
}
POPULATION, ITERATIONS = 16, 5
SUPERNET = Recipe(largest=200, shared=800, batch=32, lr=0.02)
WINNER = Recipe(largest=200, shared=0, batch=32, lr=0.01)
DRAWS = 2000  # of the bootstrap
INTERVALS = (
    "In brackets: 95 %, by a bootstrap over super-networks and photographs. A few super-networks say little about "
    "another, so the intervals are rather too narrow. The seeds of the searches are the same on each super-network and "
    "are not drawn again. A winner is trained once."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, default="person")
    parser.add_argument("--supernets", type=int, nargs="+", default=[0, 1, 2], help="their seeds")
    parser.add_argument("--searches", type=int, nargs="+", default=[0, 1], help="seeds of the searches on each")
    parser.add_argument("--limits", type=int, nargs="+", default=LIMITS, help="kB of arena")
    parser.add_argument("--out", type=Path, default=ROOT / "out/study_photos")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--jobs", type=int, default=2, help="processes, one core each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.out / args.task
    hours = Hours(out / "hours.json")
    config = {"kind": "folder", "root": str(photographs(args.task, out)), "crop": [0.5, 1.0], "workers": 0}
    config |= {"calibration": [2, 64]}
    with pool(args.jobs) as workers:
        jobs = [(seed, out / f"supernet_{seed}.pth", config) for seed in args.supernets]
        for _ in workers.imap(make_supernet, jobs):
            hours.spent()
    keys = [(limit, arm, seed) for limit in args.limits for arm in ARMS for seed in args.searches]
    rows = []
    for number in args.supernets:
        supernet = out / f"supernet_{number}.pth"
        searches = [evolution(*key) for key in keys]
        with Scores(out / f"scores_{number}.jsonl", supernet, config, args.jobs) as scores:
            run(searches, scores)
        hours.spent()
        winners = [one.ranked()[0] for one in searches]
        hits = judged(out, supernet, config, winners, args.jobs)
        rows += [
            row(args.task, number, *key, len(one.proposals), winner, right)
            for key, one, winner, right in zip(keys, searches, winners, hits, strict=True)
        ]
        write_results(args, rows, hours.spent())


class Hours:
    """The hours of a study over all its runs, kept in a file. A part that a kill cuts short is lost."""

    def __init__(self, path: Path):
        self.path, self.began = path, time.monotonic()
        self.before = json.loads(path.read_text())["hours"] if path.exists() else 0.0

    def spent(self) -> float:
        found = self.before + (time.monotonic() - self.began) / 3600
        write_json(self.path, {"hours": found})
        return found


def pool(jobs: int):
    return multiprocessing.get_context("spawn").Pool(jobs, partial(torch.set_num_threads, 1))


# --- the photographs


def photographs(task: str, out: Path) -> Path:
    """Sort the photographs into out/photos/{train,test}/CLASS and return out/photos."""
    voc, photos = SHARED / "data/voc2012_animals/VOCdevkit/VOC2012", out / "photos"
    if photos.exists():
        return photos
    if not voc.is_dir():
        raise UserError(f"{voc} is missing: set MCUNET_SHARED to the folder that holds data/voc2012_animals")
    fresh = out / "photos.part"
    for part, split in (("train", "train"), ("val", "test")):
        for name in tqdm((voc / f"ImageSets/Main/{part}.txt").read_text().split(), desc=split, disable=None):
            label = label_of(task, voc / f"Annotations/{name}.xml")
            if label is not None:
                (fresh / split / label).mkdir(parents=True, exist_ok=True)
                shutil.copy(voc / f"JPEGImages/{name}.jpg", fresh / split / label)
    fresh.rename(photos)
    return photos


def label_of(task: str, annotation: Path) -> str | None:
    """The class of a photograph by its objects; None: it has none."""
    root = ElementTree.parse(annotation)
    whole = float(root.findtext("size/width", "")) * float(root.findtext("size/height", ""))
    areas = [(area(found) / whole, str(found.findtext("name"))) for found in root.iter("object")]
    if task == "person":
        return "person" if any(name == "person" and share > AREA for share, name in areas) else "none"
    return max(((share, name) for share, name in areas if name in SIX), default=(0.0, None))[1]


def area(found: ElementTree.Element) -> float:
    x1, y1, x2, y2 = (float(found.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
    return (x2 - x1) * (y2 - y1)


# --- super-networks, searches, winners


def make_supernet(job: tuple[int, Path, dict]) -> None:
    seed, path, config = job
    spec = ArchSpec.load(ROOT / "configs/arch/mcunet_in3.json")
    start = spec, load_weights(spec, SHARED / "models/mcunet-in3/weights.pth")
    with tqdm(total=SUPERNET.steps, unit="step", desc=f"super-network {seed}", position=seed, disable=None) as bar:

        def progress(step: int, loss: float) -> None:
            bar.update(step - bar.n)

        train(load_space(SPACE), replace(SUPERNET, seed=seed), path, open_data(config), 25, progress, start=start)


def evolution(limit: int, arm: str, seed: int) -> Evolution:
    """The search of one way for an arena of so many kB, on the space of two classes or six: they need the same."""
    genes, patches, parents = ARMS[arm]
    board = replace(BOARD, sram=limit * KB + BOARD.reserved_sram)
    space = load_space(SPACE)
    space = Space.from_dict(space.to_dict() | {"only": list(genes.items())})
    return Evolution(space, Limits(board, patches=patches).check, seed, POPULATION, parents, ITERATIONS)


def judged(out: Path, supernet: Path, config: dict, winners: list[Proposal], jobs: int) -> list[np.ndarray]:
    """Train each winner by itself and return which photographs of the test it gets right; each network once."""
    path, space = out / f"winners_{supernet.stem}.jsonl", load_space(SPACE)
    known = dict(known_lines(path, supernet))
    names = [json.dumps(space.spec(winner.candidate).to_dict()) for winner in winners]
    work = {name: w.candidate for name, w in zip(names, winners, strict=True) if name not in known}
    todo = [(name, candidate, supernet, config, out / "winners") for name, candidate in work.items()]
    with pool(jobs) as workers:
        for name, right in tqdm(
            workers.imap_unordered(train_winner, todo), total=len(todo), desc="winners", disable=None
        ):
            known[name] = right
            with path.open("a") as file:
                file.write(json.dumps([name, right]) + "\n")
    return [np.array(list(known[name])) == "1" for name in names]


def train_winner(job: tuple[str, dict, Path, dict, Path]) -> tuple[str, str]:
    name, candidate, path, config, folder = job
    data = open_data(config)
    space, supernet = load_supernet(path, data)
    spec = replace(space.spec(candidate), classes=data.task.identity["classes"])
    net = slice_net(supernet, data.task.graph(spec))
    checkpoint = folder / f"{path.stem}_{hashlib.sha256(name.encode()).hexdigest()[:12]}.pth"
    net = finetune(spec, net, WINNER, data, checkpoint, save_every=WINNER.steps).eval()
    checkpoint.unlink(missing_ok=True)
    return name, right_ones(net, data, spec.resolution)


@torch.no_grad()
def right_ones(net, data: Data, resolution: tuple[int, int]) -> str:
    """A 1 for each photograph of the test that the net gets right, else a 0."""
    found = [net(images)[0].flatten(1).argmax(1) == labels for images, labels in data.test(resolution)]
    return "".join("1" if right else "0" for right in torch.cat(found).tolist())


# --- the results


def row(task, supernet, limit, arm, seed, evaluated, winner: Proposal, right: np.ndarray) -> dict:
    return {
        "task": task, "supernet": supernet, "limit_kb": limit, "search": arm, "seed": seed, "evaluated": evaluated,
        "accuracy_val": winner.score, "accuracy_test": round(float(right.mean()), 4), "r": winner.candidate["r"],
        "p": winner.p, "n": winner.n, "sram": winner.sram, "macs": winner.macs, "right": right,
    }  # fmt: skip


def summary(rows: list[dict]) -> list[dict]:
    """For each limit and way the mean accuracy of its winners, and the points that "joint" is ahead: with intervals,
    and on each super-network."""
    found = []
    for limit in dict.fromkeys(r["limit_kb"] for r in rows):
        joint = by_supernet(rows, limit, "joint")
        for arm in ARMS:
            own = [r for r in rows if (r["limit_kb"], r["search"]) == (limit, arm)]
            right = by_supernet(rows, limit, arm)
            ahead = joint - right
            found.append({
                "limit_kb": limit, "search": arm, "winners": len(own), "supernets": len(right),
                "accuracy": round(float(right.mean()), 4), "accuracy_95": interval(right),
                "joint_ahead": round(float(ahead.mean()), 4), "joint_ahead_95": interval(ahead),
                "joint_ahead_in_each": [round(float(one), 4) for one in ahead.mean(1)],
                "sram": round(float(np.mean([r["sram"] for r in own]))),
                "macs": round(float(np.mean([r["macs"] for r in own]))),
            })  # fmt: skip
    return found


def by_supernet(rows: list[dict], limit: int, arm: str) -> np.ndarray:
    """(super-networks, photographs): the share of a way's winners that get it right. Searches on one super-network
    share its luck, so they are averaged and count as one."""
    right: dict[int, list[np.ndarray]] = {}
    for r in rows:
        if (r["limit_kb"], r["search"]) == (limit, arm):
            right.setdefault(r["supernet"], []).append(r["right"])
    return np.array([np.mean(each, axis=0) for _, each in sorted(right.items())])


def means_drawn(values: np.ndarray) -> np.ndarray:
    """Means of (super-networks, photographs) drawn again, both by themselves (Owen 2007). One super-network less is
    drawn than there are, which gives the variance of their mean without bias (Rao and Wu 1988); as many would give
    (s - 1) / s of it. A single super-network stays."""
    rng, (supernets, photos) = np.random.default_rng(0), values.shape
    means = np.empty(DRAWS)
    for at in range(DRAWS):
        drawn = rng.integers(supernets, size=max(1, supernets - 1))
        means[at] = values[drawn].mean(0)[rng.integers(photos, size=photos)].mean()
    return means


def interval(values: np.ndarray) -> list[float]:
    return [round(float(end), 4) for end in np.percentile(means_drawn(values), [2.5, 97.5])]


def write_results(args: argparse.Namespace, rows: list[dict], hours: float) -> None:
    path, numbers = args.results / "study.json", " ".join(map(str, args.supernets))
    known = json.loads(path.read_text()) if path.exists() else {}
    plain = [{key: value for key, value in r.items() if key != "right"} for r in rows]
    known[args.task] = {
        "question": TASKS[args.task], "command": f"python benchmarks/study.py --task {args.task} --supernets {numbers}",
        "space": "configs/nni/spaces/photos.yml", "networks_a_search": POPULATION * (1 + ITERATIONS),
        "hours": round(hours, 2), "supernet": SUPERNET.__dict__, "winner": WINNER.__dict__,
        "summary": summary(rows), "rows": plain,
    }  # fmt: skip
    write_json(path, known)
    write_atomic(args.results / "study.md", table(known))
    write_atomic(args.results / "study.png", plot(known))
    print(table(known))


def table(known: dict) -> str:
    lines = [
        "| task | arena, kB | search | winners | accuracy, test | joint is ahead by | on each super-network | SRAM, kB "
        "| MACs, M |",
        "|---|---:|---|---:|---|---|---|---:|---:|",
    ]
    for task, study in known.items():
        for one in study["summary"]:
            ahead, each = "", ""
            if one["search"] != "joint":
                ahead = spread(one["joint_ahead"], one["joint_ahead_95"])
                each = ", ".join(f"{points:+.3f}" for points in one["joint_ahead_in_each"])
            cells = (
                task, one["limit_kb"], one["search"], one["winners"],
                spread(one["accuracy"], one["accuracy_95"]), ahead, each,
                f"{one['sram'] / KB:.1f}", f"{one['macs'] / 1e6:.1f}",
            )  # fmt: skip
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*lines, "", INTERVALS]) + "\n"


def spread(value: float, ends: list[float]) -> str:
    return f"{value:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


def plot(known: dict) -> bytes:
    """A row a task. Left: test accuracy by arena; right: the points that the joint search is ahead."""
    figure, axes = plt.subplots(len(known), 2, figsize=(9, 3.4 * len(known)), layout="constrained", squeeze=False)
    for (left, right), (task, study) in zip(axes, known.items(), strict=True):
        for at, arm in enumerate(ARMS):
            own = [one for one in study["summary"] if one["search"] == arm]
            x = np.arange(len(own)) + 0.06 * at
            for axis, key in ((left, "accuracy"), (right, "joint_ahead")):
                if key == "joint_ahead" and arm == "joint":
                    continue
                ends = np.array([one[f"{key}_95"] for one in own]).T
                y = np.array([one[key] for one in own])
                axis.errorbar(x, y, np.abs(ends - y), label=arm, color=f"C{at}", marker="o", capsize=3)
        right.axhline(0, color="grey", linewidth=0.8)
        for axis in (left, right):
            limits = dict.fromkeys(one["limit_kb"] for one in study["summary"])
            axis.set(xticks=range(len(limits)), xticklabels=limits, xlabel="arena, kB")
        left.set_title(f"{task}: {study['question']}", fontsize="medium")
        left.set(ylabel="accuracy, test")
        right.set(ylabel="ahead by", title="joint search against the others")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    plt.close(figure)
    return file.getvalue()


if __name__ == "__main__":
    with exit_on_user_error():
        main()
