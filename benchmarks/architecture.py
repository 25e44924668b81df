"""Draw the parts of the code and which imports which, as benchmarks/house.py reads it: docs/architecture.png.

    python benchmarks/architecture.py

The data of the picture go to docs/results/architecture.json; a test holds them against the code.
"""

import runpy
from pathlib import Path

import matplotlib
import networkx as nx

from nni_mcunet.core.files import write_json

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

ROOT = Path(__file__).parents[1]
PLACES = {  # what imports nothing at the bottom
    "cli": (0, 5), "api": (0, 4), "profiling": (-0.7, 3), "bridge": (1.6, 3), "search": (-3.2, 2), "engine": (-1.2, 2),
    "detection": (3.2, 2), "pages": (0.1, 2), "pictures": (-1.6, 1), "paper": (1.6, 1), "core": (0, 0),
}  # fmt: skip
COLOURS = {"core": "#f3d9b1", "pictures": "#f3d9b1", "search": "#c7dcf0", "engine": "#c9e4ca", "detection": "#ecc8d6"}


def parts() -> dict[str, list[str]]:
    """Return part -> the parts that its files import."""
    house = runpy.run_path(str(ROOT / "benchmarks/house.py"))
    found: dict[str, set[str]] = {}
    for a, b in house["import_graph"](house["read_tree"]()).edges:
        own, other = part(a), part(b)
        if own and other and own != other:
            found.setdefault(own, set()).add(other)
            found.setdefault(other, set())
    return {name: sorted(found[name]) for name in sorted(found)}


def part(module: str) -> str:
    """Name nni_mcunet.core.plan.tiles core; "" for the names at the top, which open the others."""
    words = module.removeprefix("nni_mcunet.").split(".")
    return "" if words[0] in ("nni_mcunet", "__main__") else words[0]


def draw(found: dict[str, list[str]], path: Path) -> None:
    """Draw the parts at their PLACES. An arrow that follows from others is left out."""
    graph = nx.transitive_reduction(nx.DiGraph((a, b) for a, others in found.items() for b in others))
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.set(xlim=(-4, 4), ylim=(-0.4, 5.4))
    texts = {}
    for name in graph:
        box = dict(boxstyle="round,pad=0.5", fc=COLOURS.get(name, "#e6e6e6"), ec="#555555")
        texts[name] = axes.text(*PLACES[name], name, ha="center", va="center", fontsize=11, bbox=box, zorder=2)
    figure.canvas.draw()  # gives the boxes their sizes, at which arrows end
    for a, b in graph.edges:
        box = texts[b].get_window_extent().padded(9).transformed(axes.transData.inverted())
        arrow = dict(arrowstyle="-|>", color="#777777")
        axes.annotate("", _edge(PLACES[a], PLACES[b], box), PLACES[a], arrowprops=arrow, zorder=1)
    axes.set_axis_off()
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _edge(start: tuple[float, float], end: tuple[float, float], box: Bbox) -> tuple[float, float]:
    """Return where the line from `start` to the middle of a box, `end`, meets the box."""
    (x, y), (dx, dy) = end, (start[0] - end[0], start[1] - end[1])
    reach = min(box.width / 2 / abs(dx) if dx else 1, box.height / 2 / abs(dy) if dy else 1)
    return x + reach * dx, y + reach * dy


def main() -> None:
    found = parts()
    write_json(ROOT / "docs/results/architecture.json", found)
    draw(found, ROOT / "docs/architecture.png")


if __name__ == "__main__":
    main()
