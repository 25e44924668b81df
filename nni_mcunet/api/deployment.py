"""Gather what the steps of `mcunet deploy` measured: report(), of the folder that holds their files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import UserError
from ..core.files import write_json
from ..core.ir.arch import Schedule
from ..core.outputs import check_outputs
from ..core.plan.plan import Plan, plan
from ..core.types import FilePath, PlainDict
from ..core.validate import check_numbers, read_json, short
from ..engine.lower.dead_channels import without_dead_channels
from .inputs import path_of, user_errors
from .networks import load

MARKER = "deploy.json"  # says of what the folder holds the products
KB = 1024
PLANNED = ("arena_bytes", "arena_limit", "macs", "patch_overhead", "n")
MEASURED = ("arena_bytes", "stack_bytes", "sram_bytes", "flash_bytes", "instructions")
OF_SOURCE = ("source_bytes", "sram_with_source")
COMPARED = {"map50": "mAP50", "map50_95": "mAP50:95"}
ROWS = (
    ("arena, kB", "arena_bytes", KB),
    ("stack high-water, kB", "stack_bytes", KB),
    ("total SRAM, kB", "sram_bytes", KB),
    ("picture's source, kB", "source_bytes", KB),
    ("SRAM with that, kB", "sram_with_source", KB),
    ("flash, kB", "flash_bytes", KB),
    ("MACs, M", "macs", 1e6),
    ("patch overhead, %", "patch_overhead", 0.01),
    ("instructions, M", "instructions", 1e6),
    ("estimated ms", "milliseconds_estimated", 1),
)


@dataclass(frozen=True, eq=False)
class Report:
    """The figures of a deployed detector; print them as a table with a column for each board.

    folder  that the files lie in
    facts   what report.json says, plain data
    whole, patched  the plans of the first board, layer by layer and as it runs; limit: bytes for the arena there
    """

    folder: Path
    facts: PlainDict
    whole: Plan
    patched: Plan
    limit: int

    @user_errors
    def save(self) -> None:
        """Write report.json and memory.png, the memory of each block, into the folder. Raises UserError where files of
        others have these names."""
        from ..profiling.pictures import memory_figure

        drawn, written = outputs(self.folder)
        memory_figure(self.whole, self.patched, self.limit, drawn, self.whole.graph.name)
        write_json(written, self.facts)

    def __str__(self) -> str:
        return table(self.facts)


def outputs(folder: Path) -> tuple[Path, Path]:
    """Return the picture and the JSON that Report.save writes into a folder. Raises UserError where files of others
    have these names and no deploy.json says that the folder is ours."""
    drawn, written = folder / "memory.png", folder / "report.json"
    if not (folder / MARKER).exists():
        check_outputs({"the folder's picture": (drawn, ".png"), "the folder's report": (written, ".json")})
    return drawn, written


def table(facts: PlainDict) -> str:
    """Return the contents of report.json as a table, a column for each board."""
    boards = facts["boards"]
    lines = [f"{'':24}" + "".join(f"{name:>14}" for name in boards)]
    for label, key, scale in ROWS:
        cells = [row.get(key) for row in boards.values()]
        if key not in OF_SOURCE or any(cell is not None for cell in cells):
            lines.append(f"{label:24}" + "".join(_cell(cell, scale) for cell in cells))
    sure = [sum(box["score"] >= 0.3 for box in row["boxes"]) for row in boards.values()]
    lines += [f"{name}: {row['source']}" for name, row in boards.items() if "source" in row]
    lines.append(f"{'boxes of score >= 0.3':24}" + "".join(f"{n:14}" for n in sure))
    floats, int8 = facts["metrics"]["float"], facts["metrics"]["int8"]
    for name in shown(floats):
        lines.append(f"{COMPARED.get(name, name)} float {floats[name]:.3f}, int8 {int8[name]:.3f} (same test pictures)")
    return "\n".join(lines)


def _cell(value: float | None, scale: float) -> str:
    """Return a figure of the table, a dash where it is not known."""
    return f"{'-':>14}" if value is None else f"{value / scale:14.1f}"


def shown(metrics: PlainDict) -> list[str]:
    """Return the names of the metrics that are compared: those of all detectors, and those of faces."""
    own = [name for name in metrics if not name.startswith(("pascal_voc/", "coco/"))]
    return [*(name for name in COMPARED if name in own), *(name for name in own if name not in COMPARED)]


@user_errors
def report(folder: FilePath, boards: Sequence[str]) -> Report:
    """Return what `mcunet deploy` measured in a folder on each of the boards.

    boards  names, as in the files of the folder: NAME/plan.json, NAME.json

    Raises UserError for files that are missing or broken, and where a plan and its ELF have not the same arena.

    >>> print(mcu.report("out/demo", ["stm32h743", "stm32f412"]))
    """
    where = path_of(folder, "folder")
    if isinstance(boards, str) or not boards or not all(isinstance(name, str) for name in boards):
        raise UserError(f"boards is {short(boards)}: expected a list of names, such as ['stm32f412']")

    def read(name: str, numbers: Iterable[str] = ()) -> PlainDict:
        found: PlainDict = read_json(where / name)
        check_numbers(found, numbers, where / name)
        return found

    metrics = {kind: read(f"{kind}.json") for kind in ("float", "int8")}
    for kind, found in metrics.items():
        check_numbers(found, shown(metrics["float"]), where / f"{kind}.json")
    facts: PlainDict = {f"map50_{kind}": found["map50"] for kind, found in metrics.items() if "map50" in found}
    facts |= {"metrics": metrics, "box_agreement": read("boxes.json")}
    plans = {name: read(f"{name}/plan.json", PLANNED) for name in boards}
    facts["boards"] = {name: board_row(name, read(f"{name}.json", MEASURED), plans[name]) for name in boards}
    facts["boxes"] = facts["boards"][boards[0]]["boxes"]
    chosen, model = plans[boards[0]], load(where / "model.int8.onnx").int8_model()
    graph, facts["params"] = without_dead_channels(model).graph, model.graph.params
    keys = {key: chosen[key] for key in ("p", "n", "then", "halo", "slices") if key in chosen}
    patched = plan(graph, Schedule(**keys), halo=keys.get("halo", "clip"))
    return Report(where, facts, plan(graph), patched, chosen["arena_limit"])


def board_row(name: str, run: PlainDict, planned: PlainDict) -> PlainDict:
    """Return one board's row: sizes read from its ELF, counts from its run, computation from the plan of its C."""
    if planned["arena_bytes"] != run["arena_bytes"]:
        raise UserError(f"{name}: the plan's arena is {planned['arena_bytes']} bytes, the ELF's {run['arena_bytes']}")
    boxes = run.get("boxes", [])
    for box in boxes if isinstance(boxes, list) else [boxes]:
        check_numbers(box, ("score",), f"{name}: a box")
    return {
        **{key: run[key] for key in MEASURED},
        "boxes": run.get("boxes", []),
        "macs": planned["macs"],
        "patch_overhead": round(planned["patch_overhead"], 4),
        "milliseconds_estimated": planned.get("milliseconds_estimated"),
        **_source(run, planned),
    }


def _source(run: PlainDict, planned: PlainDict) -> PlainDict:
    """Return what the source of the picture takes that the C was planned for, which no measured size has; {} where no
    source was named."""
    if "source" not in planned:
        return {}
    check_numbers(planned, ("source_bytes",), "plan.json")
    size, limit = planned["source_bytes"], planned["arena_limit"]
    both, name = run["arena_bytes"] + size, short(planned["source"])
    said = f"arena and {name} take {both:,} of {limit:,} bytes: {'fits' if both <= limit else 'does not fit'}"
    return {"source_bytes": size, "sram_with_source": run["sram_bytes"] + size, "source": said}
