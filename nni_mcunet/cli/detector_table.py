"""The README's table of detectors: every config of configs/det with its size, beside the paper's row where it has one.

mcunet detector-table            prints it
mcunet detector-table --write    puts it into README.md, between its two marks
"""

import argparse
from pathlib import Path

from detection import config_graph, load_config
from detection.backbone import read_arch

from ..core.boards import KB, get_board
from ..core.errors import Infeasible, UnsupportedOp
from ..core.files import write_atomic
from ..core.ir.arch import Schedule
from ..core.ir.graph import Graph
from ..core.plan.plan import best_schedule, fitting_plan
from ..paper.baselines import BASELINES
from ..paper.memory_rules import rnnpool, single_map
from ..profiling.profile import GRIDS

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- detectors, by `make tables` -->\n", "<!-- end of detectors -->\n"
HEAD = """| config | input | MACs, M | parameters, M | smallest board, kB for the network | fp32, MB | the paper |
|---|---|---:|---:|---|---:|---|
"""


def on_boards(graph: Graph, schedule: Schedule, grids) -> tuple[str, Schedule]:
    """The smallest of the boards on which the network fits under the architecture's schedule, or with the `grids` if it
    has none: the arena there, and how it is run."""
    for name in ("f412", "f746", "h743"):
        board = get_board(name)
        try:
            plan = fitting_plan(graph, board, schedule) if schedule.n else best_schedule(graph, board, p_choices=grids)
        except Infeasible:
            continue
        except UnsupportedOp:
            return "not for the engine", schedule
        s = plan.schedule
        how = f"{s.p[0]}x{s.p[1]} over {s.n}, {plan.overhead:+.1%} MACs" if s.n else "layer by layer"
        return f"{name.upper()}: {plan.arena / KB:.0f}, {how}", s
    return "none", schedule


def row(path: Path) -> str:
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
    return HEAD + "".join(row(path) for path in sorted((ROOT / "configs/det").glob("*.py")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="into README.md")
    write, text = parser.parse_args().write, table()
    if not write:
        print(text, end="")
        return
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    write_atomic(readme, before + BEGIN + text + END + rest.split(END)[1])
