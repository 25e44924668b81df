"""Print the table of detectors of docs/detectors.md: every config of configs/det, its size, and its row of the paper.

mcunet detector-table            prints it
mcunet detector-table --write    puts it into that page, between its two marks
"""

import argparse
from pathlib import Path

from ..core.boards import KB, get_board
from ..core.errors import Infeasible, UnsupportedOp, UserError
from ..core.files import write_atomic
from ..core.ir.arch import Schedule
from ..core.ir.graph import Graph
from ..core.plan.plan import best_schedule, fitting_plan
from ..paper.baselines import BASELINES
from ..paper.memory_rules import rnnpool, single_map
from ..profiling.profile import GRIDS
from .steps import CONFIGS

BEGIN, END = "<!-- detectors, by `make tables` -->\n", "<!-- end of detectors -->\n"
HEAD = """| config | input | MACs, M | parameters, M | smallest board, kB for the network | fp32, MB | the paper |
|---|---|---:|---:|---|---:|---|
"""


def on_boards(graph: Graph, schedule: Schedule, grids: tuple[int, ...]) -> tuple[str, Schedule]:
    """Say the smallest board on which the network fits under the architecture's schedule, or with the `grids` if it has
    none: the arena there, and how it is run."""
    for name in ("stm32f412", "stm32f746", "stm32h743"):
        board = get_board(name)
        try:
            plan = fitting_plan(graph, board, schedule) if schedule.n else best_schedule(graph, board, p_choices=grids)
        except Infeasible:
            continue
        except UnsupportedOp:
            return "not for the engine", schedule
        s = plan.schedule
        how = f"{s.p[0]}x{s.p[1]} over {s.n}, {plan.overhead:+.1%} MACs" if s.n else "layer by layer"
        return f"{name}: {plan.arena / KB:.0f}, {how}", s
    return "none", schedule


def row(path: Path) -> str:
    """Return a config's line."""
    from detection import config_graph, load_config
    from detection.models.backbone import read_arch

    config = load_config(str(path))
    graph, paper, backbone = config_graph(config), dict(config.get("paper") or {}), config.model.backbone
    image, baseline = graph.inputs[0], isinstance(backbone.arch, str) and backbone.arch in BASELINES
    schedule = Schedule() if baseline else read_arch(backbone.arch).schedule
    board, schedule = on_boards(graph, schedule, GRIDS if paper.pop("patched", True) else (1,))
    halo = "none" if backbone.get("halo") == "none" else "clip"
    peak = single_map(graph) if baseline else max(rnnpool(graph, schedule, halo=halo).values())
    return (
        f"| {path.stem} | {image.w}x{image.h} | {graph.macs / 1e6:.1f} | {graph.params / 1e6:.2f} | "
        f"{board} | {peak / 2**20:.2f} | {', '.join(paper.values())} |\n"
    )


def table() -> str:
    """Return the table of all configs."""
    return HEAD + "".join(row(path) for path in sorted((CONFIGS / "det").glob("*.py")))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write", action="store_true", help="into docs/detectors.md of this folder")


def main(args: argparse.Namespace) -> None:
    if not args.write:
        print(table(), end="")
        return
    page = Path("docs/detectors.md")
    old = page.read_text() if page.exists() else ""
    if BEGIN not in old or END not in old:
        raise UserError(f"{page} lacks the marks {BEGIN.strip()} and {END.strip()}: run this in the project's tree")
    text, (before, rest) = table(), old.split(BEGIN)
    write_atomic(page, before + BEGIN + text + END + rest.split(END)[1])
