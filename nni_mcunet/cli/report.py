"""Gather what the steps of mcunet deploy measured: a table, report.json and the picture of memory per block.

mcunet report out/demo --boards stm32h743 stm32f412
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import UserError
from ..core.files import write_json
from ..core.outputs import check_outputs
from ..core.validate import check_numbers, read_json

KB = 1024
PLANNED = ("arena_bytes", "arena_limit", "macs", "patch_overhead", "n")
MEASURED = ("arena_bytes", "stack_bytes", "sram_bytes", "flash_bytes", "instructions")


def board_figures(name: str, run: dict[str, Any], plan_: dict[str, Any]) -> dict[str, Any]:
    """Return one board's row: sizes read from its ELF, counts from its run, computation from the plan of its C."""
    if plan_["arena_bytes"] != run["arena_bytes"]:
        raise UserError(f"{name}: the plan's arena is {plan_['arena_bytes']} bytes, the ELF's {run['arena_bytes']}")
    boxes = run.get("boxes", [])
    for box in boxes if isinstance(boxes, list) else [boxes]:
        check_numbers(box, ("score",), f"{name}: a box")
    return {
        **{k: run[k] for k in MEASURED},
        "boxes": run.get("boxes", []),
        "macs": plan_["macs"],
        "patch_overhead": round(plan_["patch_overhead"], 4),
    }


def print_table(report: dict[str, Any]) -> None:
    """Print report.json as a table, a column a board."""
    boards = report["boards"]
    print(f"{'':24}" + "".join(f"{name:>14}" for name in boards))
    for label, key, scale in (
        ("arena, kB", "arena_bytes", KB),
        ("stack high-water, kB", "stack_bytes", KB),
        ("total SRAM, kB", "sram_bytes", KB),
        ("flash, kB", "flash_bytes", KB),
        ("MACs, M", "macs", 1e6),
        ("patch overhead, %", "patch_overhead", 0.01),
        ("instructions, M", "instructions", 1e6),
    ):
        print(f"{label:24}" + "".join(f"{row[key] / scale:14.1f}" for row in boards.values()))
    sure = [sum(b["score"] >= 0.3 for b in row["boxes"]) for row in boards.values()]
    print(f"{'boxes of score >= 0.3':24}" + "".join(f"{n:14}" for n in sure))
    floats, int8 = report["metrics"]["float"], report["metrics"]["int8"]
    for name in floats if "map50" not in floats else ["map50"]:
        label = "mAP50" if name == "map50" else name
        print(f"{label} float {floats[name]:.3f}, int8 {int8[name]:.3f} (same test pictures)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder of mcunet deploy")
    parser.add_argument("--boards", nargs="+", required=True, help="names of the boards, as in its files")


def main(args: argparse.Namespace) -> None:
    from ..core.ir.arch import Schedule
    from ..core.plan.plan import plan
    from ..engine.frontend import load_model
    from ..engine.lower.dead_channels import without_dead_channels
    from ..engine.model import QuantModel
    from ..profiling.pictures import memory_figure

    def read(name: str, numbers: Iterable[str] = ()) -> dict[str, Any]:
        found: dict[str, Any] = read_json(args.out / name)
        check_numbers(found, numbers, args.out / name)
        return found

    drawn, written = args.out / "memory.png", args.out / "report.json"
    check_outputs({"OUT's picture": (drawn, ".png"), "OUT's report": (written, ".json")})
    metrics = {kind: read(f"{kind}.json") for kind in ("float", "int8")}
    for kind, found in metrics.items():
        check_numbers(found, ["map50"] if "map50" in metrics["float"] else metrics["float"], args.out / f"{kind}.json")
    report: dict[str, Any] = {f"map50_{kind}": found["map50"] for kind, found in metrics.items() if "map50" in found}
    report |= {"metrics": metrics, "box_agreement": read("boxes.json")}
    plans = {name: read(f"{name}/plan.json", PLANNED) for name in args.boards}
    report["boards"] = {name: board_figures(name, read(f"{name}.json", MEASURED), plans[name]) for name in args.boards}
    first = args.boards[0]
    report["boxes"] = report["boards"][first]["boxes"]
    model, chosen = load_model(args.out / "model.int8.onnx"), plans[first]
    if not isinstance(model, QuantModel):
        raise UserError(f"{args.out / 'model.int8.onnx'} is float: expected what mcunet quantize writes")
    graph, report["params"] = without_dead_channels(model).graph, model.graph.params
    keys = {key: chosen[key] for key in ("p", "n", "then", "halo") if key in chosen}
    patched = plan(graph, Schedule(**keys), halo=keys.get("halo", "clip"))
    memory_figure(plan(graph), patched, chosen["arena_limit"], drawn, graph.name)
    print_table(report)
    write_json(written, report)
    print(
        f"{args.out}/report.json, memory.png and, with the boards' boxes, {', '.join(f'{b}.png' for b in args.boards)}"
    )
