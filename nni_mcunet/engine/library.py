"""What tools/generate.py writes: the library, plan.json and the project around it, as one set of files."""

import json
from pathlib import Path

from ..core.boards import Board
from ..core.file_sets import Files, write_set
from ..core.plan import Plan
from .board_report import PLAN, plan_facts
from .emit import MODEL, SEAL, SHARED, shared_files, sources
from .project import project_files
from .quant import QuantModel


def write_library(
    folder: str | Path, plan: Plan, model: QuantModel, board: Board, project: bool = False, picture=None
) -> dict:
    """Write the library of `model` into `folder` and return what its plan.json says; with `project` the firmware of
    `board` around it, and in that the picture, (h, w, c) uint8. Raises what emit.sources, project_files and write_set
    raise."""
    facts, library = plan_facts(plan, board), sources(plan, model)
    files: Files = {**library, PLAN: json.dumps(facts, indent=1) + "\n"}
    if project:
        image = plan.graph.inputs[0]
        files |= project_files(shared_files() | library, board, plan.arena, (image.h, image.w, image.c), picture)
    write_set(folder, {SHARED: shared_files(), MODEL: files}, SEAL)
    return facts
