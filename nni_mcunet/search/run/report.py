"""Draw what a search found: its curve, its Pareto front and the winner block by block (the paper's Fig. 9)."""

from itertools import groupby, pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ...core.files import write_atomic, write_figure
from ...core.ir.arch import ArchSpec
from ...core.ir.build import build_graph
from ...core.types import PlainDict
from ..commands import to_board
from ..config import SearchConfig
from ..space import Space
from .front import PATCHED, best_limits, front_of, plot_front, table
from .history import best_of, pareto_front, schedule_of, scored
from .patch_gain import HEAD, patch_gain, rows, sentence
from .rescored import markdown, read_rescored

KERNEL = {0: "#c8ccd2", 3: "#7fb3e0", 5: "#f2a65a", 7: "#b2476b"}  # 0: a plain convolution
OTHER_KERNEL, BEST = "#5b8c5a", "#c0392b"
PICTURES = {"the curve": "search.png", "the front": "pareto.png", "the winner": "winner.png"}
RUNNING = "running"  # folder of the results until all are there
SCORE = "score of the super-network's slice"


def report(space: Space, history: list[PlainDict], out: Path) -> str:
    """Write search.png, pareto.png and winner.png into `out`. Returns a line about the winner. Raises UserError for a
    history without a score."""
    out, best = Path(out), best_of(history)
    plot_curve(history, out / "search.png")
    plot_pareto(history, out / "pareto.png")
    spec = space.spec(best["candidate"], schedule_of(best))
    title = f"score {best['score']:.1%}, {best['sram'] / 1024:.1f} kB SRAM, {best['macs'] / 1e6:.1f} million MACs"
    plot_network(spec, out / "winner.png", f"{spec.name} at {'×'.join(map(str, spec.resolution))}: {title}")
    patches = "×".join(map(str, best["p"])) + f" patches over {best['n']} blocks" if best["n"] else "no patches"
    return f"best of {len(history)}: {title}, r {best['candidate']['r']}, {patches}"


def write_markdown(config: SearchConfig, space: Space, history: list[PlainDict], out: Path, summary: str) -> Path:
    """Write report.md into `out`, next to the pictures: the summary, the front of a search for one, with its picture
    front.png, what patches gained, what is noise, and the commands that follow. Returns its path."""
    boards, pictures = " and ".join((config.board, *config.boards)), PICTURES
    lines = [f"# Search in {space.name} for the {boards}", "", f"{summary}.", ""]
    if config.objectives:
        found = front_of(config, space, history)
        plot_front(config, space, history, found, Path(out) / "front.png")
        pictures = {"the front of the objectives": "front.png"} | pictures
        lines += [f"## The front of {', '.join(config.objectives)}", "", *table(config, found), ""]
    gain = patch_gain(space, best_limits(config, space, history), history)
    lines += ["## What patches gained", "", sentence(gain), ""]
    if gain is not None:
        cells = [HEAD, ("---",) * len(HEAD), *rows(space, gain)]
        lines += [*(f"| {' | '.join(row)} |" for row in cells), ""]
    lines += markdown(read_rescored(out))
    lines += [f"![{what}]({name})" for what, name in pictures.items()]
    home = Path(out).parent if Path(out).name == RUNNING else Path(out)
    lines += ["", "## From the winner to the board", "", "```", *to_board(config, home), "```"]
    return write_atomic(Path(out) / "report.md", "\n".join(lines) + "\n")


def plot_curve(history: list[PlainDict], path: Path) -> None:
    """Draw every candidate's score in the order of the search, a gap between generations, and the best so far."""
    lines = scored(history)
    index, score = [p["index"] for p in lines], [p["score"] for p in lines]
    best = [max(score[: i + 1]) for i in range(len(score))]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    size = 18 if len(lines) < 500 else 6
    dots = axes.scatter(index, score, c=[p["macs"] / 1e6 for p in lines], s=size, label="candidate")
    axes.step(index, best, where="post", color="black", linewidth=1.2, label="best so far")
    for p, q in pairwise(lines):
        if p["generation"] != q["generation"]:
            axes.axvline(q["index"] - 0.5, color="0.85", linewidth=0.8, zorder=0)
    figure.colorbar(dots, label="million MACs")
    axes.set(xlabel="candidate (a line between generations)", ylabel=SCORE)
    axes.locator_params(axis="x", integer=True)
    axes.legend(loc="lower right")
    _save(figure, path)


def plot_pareto(history: list[PlainDict], path: Path) -> None:
    """Draw the score against SRAM and against MACs, each with its own front, and the best candidate."""
    lines, best = scored(history), best_of(history)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for axes, cost, unit, label in zip(
        panels, ("sram", "macs"), (1024, 1e6), ("SRAM of the network, kB", "million MACs, halo included"), strict=True
    ):
        front = pareto_front(history, (cost,))
        axes.scatter(
            [p[cost] / unit for p in lines], [p["score"] for p in lines], color="0.75", s=12, label="candidate"
        )
        x, y = [p[cost] / unit for p in front], [p["score"] for p in front]
        axes.step(x, y, where="post", color=PATCHED, linewidth=1.2, marker="o", markersize=4, label="Pareto front")
        axes.plot(best[cost] / unit, best["score"], "*", color=BEST, markersize=13, label="best")
        axes.set_xlabel(label)
        axes.grid(color="0.93")
        axes.set_axisbelow(True)
    panels[0].set_ylabel(SCORE)
    panels[1].legend(loc="lower right")
    _save(figure, path)


def plot_network(spec: ArchSpec, path: Path, title: str) -> None:
    """Draw a bar a block: kernel as colour, expansion as height, output channels above. Stages are separated, with the
    size of their maps below; the patch segment is shaded."""
    stages = network_bars(spec)
    blocks = sum(len(bars) for _, bars in stages)
    figure, axes = plt.subplots(figsize=(max(6.5, 1.5 + 0.5 * blocks), 3.8), layout="constrained")
    x, places, seen = 0.0, [], set()
    for size, bars in stages:
        begin = x
        for k, expansion, channels in bars:
            axes.bar(x, expansion, 0.8, color=KERNEL.get(k, OTHER_KERNEL), edgecolor="white")
            axes.text(x, expansion + 0.1, str(channels), ha="center", va="bottom", fontsize=8)
            seen.add(k)
            places.append(x)
            x += 1
        axes.text((begin + x - 1) / 2, -0.25, size, ha="center", va="top", fontsize=8)
        axes.plot([begin - 0.4, x - 0.6], [-0.12, -0.12], color="0.4", linewidth=1, clip_on=False)
        x += 0.5
    top = max(expansion for _, bars in stages for _, expansion, _ in bars) + 1.2
    schedule = spec.schedule
    if schedule.n:
        end = places[min(schedule.n, len(places)) - 1]
        axes.axvspan(-0.6, end + 0.5, color=PATCHED, alpha=0.12, linewidth=0, zorder=0)
        text = f"{schedule.p[0]}×{schedule.p[1]} patches"
        axes.text(-0.45, top - 0.1, text, color=PATCHED, ha="left", va="top", fontsize=9)
    names = {k: f"{k}×{k} depth-wise" if k else "plain convolution" for k in sorted(seen)}
    handles = [Patch(color=KERNEL.get(k, OTHER_KERNEL), label=name) for k, name in names.items()]
    figure.legend(handles=handles, ncols=len(handles), loc="outside lower center", frameon=False, fontsize=8)
    axes.set_xlabel("stages with the size of their maps; above a block its output channels", fontsize=8)
    axes.set(title=title, ylabel="expansion", xlim=(-0.7, places[-1] + 0.7), ylim=(-0.7, top), xticks=[])
    axes.set_yticks(range(0, int(top) + 1))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    _save(figure, path)


def network_bars(spec: ArchSpec) -> list[tuple[str, list[tuple[int, float, int]]]]:
    """Return runs of blocks of one stage, each with the size of its maps and its bars (kernel, 0 for a plain
    convolution; expansion; output channels). The layers behind the last block are one more run."""
    graph, cin = build_graph(spec), spec.stem
    found: dict[str, tuple[int, tuple[int, float, int]]] = {}
    for i, stage in enumerate(spec.stages):
        for j, block in enumerate(stage):
            found[f"s{i}_b{j}"] = i, (block.k, block.mid / cin if block.k else 1, block.c)
            cin = block.c
    rows: list[tuple[int | str, str, tuple[int, float, int]]] = []
    for number, name in sorted(graph.block_names.items()):
        last = graph.tensors[[op for op in graph.ops if op.block == number][-1].name]
        if name in found:
            place: int | str
            place, bar = found[name]
        else:  # the first convolution, which has a stage of its own, or the head and what follows it
            op = next(op for op in graph.ops if op.block == number and op.kind == "conv")
            last = graph.tensors[op.name]
            place, bar = name, (0, 1, op.cout)
        rows.append((place, f"{last.h}×{last.w}", bar))
    return [(size, [bar for _, _, bar in run]) for (_, size), run in groupby(rows, key=lambda row: row[:2])]


def _save(figure: Figure, path: Path) -> None:
    plt.close(figure)
    write_figure(figure, path, dpi=150)
