"""What a search leaves behind: the best architecture with its schedule, its weights, and the search's curve."""

import io
import json
from itertools import pairwise
from pathlib import Path

import torch

from ..core.arch import ArchSpec, Schedule
from ..core.errors import UserError
from ..core.files import write_atomic
from .config import SearchConfig
from .space import Space
from .training import load_supernet, specialise


def read_history(out: Path) -> list[dict]:
    """Lines of history.jsonl, see evolution.Proposal; empty before the first result."""
    path = Path(out) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def best_of(history: list[dict]) -> dict:
    """The proposal with the highest score, of equals the earlier. Raises UserError when there is none."""
    scored = [p for p in history if p["score"] is not None]
    if not scored:
        raise UserError("the history holds no score yet: run the search first")
    return min(scored, key=lambda p: (-p["score"], p["index"]))


def export_best(config: SearchConfig, out: Path) -> ArchSpec:
    """Write out/best.json, an ArchSpec with its (p, n), and out/best.pth, the state dict of core's Net of it."""
    best = best_of(read_history(out))
    space, supernet = load_supernet(config.supernet)
    spec = space.spec(best["candidate"], Schedule(best["p"], best["n"]))
    file = io.BytesIO()
    torch.save(specialise(space, supernet, best["candidate"]).state_dict(), file)
    write_atomic(out / "best.pth", file.getvalue())
    spec.save(out / "best.json")
    return spec


def check_same_space(space: Space, path: str) -> None:
    """Raises UserError unless the super-network at `path` was trained for `space`."""
    trained, _ = load_supernet(path)
    if trained != space:
        raise UserError(
            f"{path} was trained for space {trained.name} as it was then, not this {space.name}: train again"
        )


def plot_curve(history: list[dict], path: Path) -> None:
    """Every candidate's accuracy in the order of the search, and the best so far, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    scored = [p for p in history if p["score"] is not None]
    best = [max(p["score"] for p in scored[: i + 1]) for i in range(len(scored))]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    dots = axes.scatter(
        [p["index"] for p in scored], [p["score"] for p in scored], c=[p["macs"] / 1e6 for p in scored], s=18
    )
    axes.step([p["index"] for p in scored], best, where="post", color="black", linewidth=1, label="best so far")
    for p, q in pairwise(scored):
        if p["generation"] != q["generation"]:
            axes.axvline(q["index"] - 0.5, color="0.85", linewidth=0.8, zorder=0)
    figure.colorbar(dots, label="million MACs")
    axes.set(xlabel="candidate", ylabel="accuracy of the super-network's slice")
    axes.legend(loc="upper left")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
    write_atomic(path, file.getvalue())
