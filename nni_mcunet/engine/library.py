"""Write the library, plan.json, plan_map.json and the project around it as one set of files, for mcunet generate."""

import json
from pathlib import Path

from ..core.boards import Board
from ..core.boards.cores import CORES
from ..core.errors import UserError
from ..core.file_sets import Files, owned, write_set
from ..core.plan.plan import Plan
from ..core.plan.plan_map import plan_map
from ..core.types import Picture, PlainDict
from .codegen.names import DEFAULT, check_beside
from .codegen.sources import SHARED, generated, seal, shared_files
from .model import QuantModel, class_names, view_of
from .run.board_project import project_files
from .timing.plan_file import map_file, plan_facts, plan_file


def write_library(
    folder: str | Path,
    plan: Plan,
    model: QuantModel,
    board: Board,
    project: bool = False,
    picture: Picture | None = None,
    prefix: str = DEFAULT,
    source: tuple[str, int] | None = None,
) -> PlainDict:
    """Write the library of `model` into `folder` and return what its plan.json says; with `project` the firmware of
    `board` around it, and in that the picture, (h, w, c) uint8. source: that the plan leaves room for, and its bytes of
    SRAM. Models of other prefixes stay as they are. Raises what codegen.sources.generated,
    project_files and write_set raise."""
    check_beside(Path(folder), prefix)
    others = sorted({*owned(folder)} - {SHARED, prefix})
    if project and others:
        raise UserError(f"{folder} holds the model {', '.join(others)}, too; a project is of one: give another folder")
    core = CORES.get(board.core)
    library, sites = generated(plan, model, prefix, "" if core is None else core.weights)
    facts = plan_facts(plan, board, sites, view_of(model))
    facts |= {"source": source[0], "source_bytes": source[1]} if source else {}
    if "detector" not in model.meta and (classes := class_names(model)):
        facts["classes"] = classes
    shown = json.dumps(plan_map(plan, model.graph, board), separators=(",", ":"))
    files: Files = {**library, plan_file(prefix): json.dumps(facts, indent=1) + "\n", map_file(prefix): shown + "\n"}
    if project:
        image = plan.graph.inputs[0]
        shape = image.h, image.w, image.c
        regions = {part.region: part.size for part in plan.parts}
        files |= project_files({**shared_files(), **library}, board, plan.arena, shape, picture, prefix, regions)
    write_set(folder, {SHARED: {**shared_files()}, prefix: files}, seal(prefix))
    return facts
