"""Say and draw what a search for a front has found: the best network of each board, or those that no other beats in one
objective without losing in another."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ...core.files import write_figure
from ...core.types import PlainDict
from ..config import SearchConfig
from ..constraint import Fit, Limits
from ..evolution import Proposal
from ..objectives import Objectives
from ..space import Space
from .history import best_of, pareto_front, schedule_of, scored, winners

AXES = {"sram": ("SRAM of the network, kB", 1024), "flash": ("flash, kB", 1024), "macs": ("million MACs", 1e6),
        "ms": ("estimated ms", 1)}  # fmt: skip
PATCHED = "#2f6fb2"
DEFAULT = ("sram", "macs")  # of the front of a search for one best network
Rows = list[PlainDict]


def front_of(config: SearchConfig, space: Space, history: Rows) -> Rows:
    """Return the lines of the networks that a search leaves as its front. With boards one for each, the smallest first,
    with "board" and the schedule that it has there; one that none fits is left out. Raises UserError for a history
    without a score."""
    return _of_boards(config, space, history) if config.boards else pareto_front(
        with_costs(config, space, history), config.objectives or DEFAULT)  # fmt: skip


def _of_boards(config: SearchConfig, space: Space, history: Rows) -> Rows:
    lines, found = winners(history), []
    for limits in config.every_limit().each:
        checked = ((line, limits.check(space.spec(line["candidate"]))) for line in lines)
        line, fit = next(((line, fit) for line, fit in checked if isinstance(fit, Fit)), (None, None))
        if line is not None and fit is not None:
            own = {"p": list(fit.schedule.p), "n": fit.schedule.n, "halo": fit.schedule.halo}
            found.append(line | own | {"sram": fit.arena, "flash": fit.flash, "macs": fit.macs,
                                       "board": limits.board.name})  # fmt: skip
    return found


def best_limits(config: SearchConfig, space: Space, history: Rows) -> Limits:
    """Return the limits within which the best network was planned: of the smallest board that it fits."""
    boards = config.every_limit()
    return boards.each[boards.first(space.spec(best_of(history)["candidate"]))[0]]


def with_costs(config: SearchConfig, space: Space, history: Rows) -> Rows:
    """Return the lines with a score, each with its estimated "ms" where that is an objective."""
    lines = scored(history)
    if "ms" not in config.objectives:
        return lines
    objectives = Objectives(config.objectives, space, config.every_limit())
    return [line | {"ms": objectives.cost(Proposal(**line), "ms")} for line in lines]


def table(config: SearchConfig, front: Rows) -> list[str]:
    """Return the front as lines of Markdown."""
    costs = list(dict.fromkeys(name for name in ("sram", "macs", *config.objectives) if name in AXES))
    names = ["board"] * bool(config.boards) + ["candidate", "score", *(AXES[name][0] for name in costs), "schedule"]
    cells = [
        [*([line["board"]] if config.boards else []), str(line["index"]), f"{line['score']:.4f}",
         *(f"{line[name] / AXES[name][1]:.1f}" for name in costs), str(schedule_of(line))]
        for line in front
    ]  # fmt: skip
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *cells)]


def plot_front(config: SearchConfig, space: Space, history: Rows, front: Rows, path: Path) -> None:
    """Draw the score against each cost of the objectives, with the front; of several boards against SRAM, with what
    each of them has."""
    lines = with_costs(config, space, history)
    costs = ["sram"] if config.boards else [name for name in config.objectives if name in AXES]
    figure, panels = plt.subplots(1, len(costs), figsize=(5 * len(costs) + 1, 4), layout="constrained", sharey=True,
                                  squeeze=False)  # fmt: skip
    for axes, cost in zip(panels[0], costs, strict=True):
        name, unit = AXES[cost]
        all_, best = ([(p[cost] / unit, p["score"]) for p in rows] for rows in (lines, front))
        axes.scatter(*zip(*all_, strict=True), color="0.75", s=12, label="candidate")
        axes.scatter(
            *zip(*best, strict=True), color=PATCHED, s=28, label="best of a board" if config.boards else "front"
        )
        axes.set_xlabel(name)
        axes.grid(color="0.93")
        axes.set_axisbelow(True)
    if config.boards:
        _draw_boards(config, panels[0][0], front)
    panels[0][0].set_ylabel("score of the super-network's slice")
    panels[0][-1].legend(loc="lower right")
    plt.close(figure)
    write_figure(figure, path, dpi=150)


def _draw_boards(config: SearchConfig, axes: Axes, front: Rows) -> None:
    """Draw each board's SRAM as a line, and name its best network."""
    for limits in config.every_limit().each:
        axes.axvline(limits.board.usable / 1024, color="0.6", linewidth=0.8, linestyle="--")
    for line in front:
        axes.annotate(line["board"], (line["sram"] / 1024, line["score"]), xytext=(4, 6), textcoords="offset points",
                      fontsize=8)  # fmt: skip
