"""Write and read plan.json, which mcunet generate leaves next to the C: what was planned, and which line of the C calls
which layer. Read plan_map.json, too, which is for people to look at (see core/plan/plan_map.py).

The C does without it. A report has live bytes and the callbacks' bytes from it, the cycle model its call sites.
"""

from pathlib import Path

from ...core.boards import Board
from ...core.errors import BoardError, UserError
from ...core.plan.latency import milliseconds
from ...core.plan.picture_source import callback_bytes
from ...core.plan.plan import Plan
from ...core.types import PlainDict
from ...core.validate import check_numbers, read_json, short
from ...core.view import STRETCH, View
from ..codegen.names import DEFAULT
from ..run.generated import prefix_of

PLAN, MAP = "plan.json", "plan_map.json"
KEYS = {"network", "board", "parts", "graph", "buffers", "segments", "layers", "image", "arena_bytes"}  # of a map


def plan_facts(plan: Plan, board: Board, sites: dict[int, str], view: View = STRETCH) -> PlainDict:
    """Return what plan.json says of the C in its folder. sites: see codegen.sources.Generated; view: the model's."""
    s = plan.schedule
    return {"board": board.name, "p": s.p, "n": s.n, "then": s.then, "halo": plan.halo, "arena_bytes": plan.arena,
            "arena_limit": plan.limit(board),
            "regions": {part.region: part.size for part in plan.parts}, "constant_bytes": plan.flash, "macs": plan.macs,
            "patch_overhead": plan.overhead, "callback_bytes": callback_bytes(plan, view),
            "milliseconds_estimated": _estimate(plan, board),
            "live_bytes": {op.name: plan.live_bytes(i) for i, op in enumerate(plan.graph.ops)},
            "sites": {str(line): row for line, row in sites.items()}, "slices": s.slices}  # fmt: skip


def _estimate(plan: Plan, board: Board) -> float | None:
    """Return the estimated milliseconds of an inference, None for a board of whose core nothing is known."""
    try:
        return round(milliseconds(plan, board), 3)
    except BoardError:
        return None


def plan_file(prefix: str) -> str:
    """Return the file's name for a model of this prefix."""
    return PLAN if prefix == DEFAULT else f"{prefix}_{PLAN}"


def map_file(prefix: str) -> str:
    """Return the name of the plan's map for a model of this prefix."""
    return MAP if prefix == DEFAULT else f"{prefix}_{MAP}"


def mapped(folder: Path) -> PlainDict:
    """Return the plan_map.json of the one model in `folder`. Raises UserError where there is none, or none of this
    plan."""
    path = folder / map_file(prefix_of(folder))
    if not path.is_file():
        raise UserError(f"{path}: no such file; run mcunet generate again, which writes it")
    found = read_json(path)
    known = planned(folder).get("arena_bytes")
    if not isinstance(found, dict) or not set(found) >= KEYS or found["arena_bytes"] != known:
        raise UserError(f"{path} is not of the plan in {plan_file(prefix_of(folder))}: run mcunet generate again")
    return found


def planned(folder: Path) -> PlainDict:
    """Return the plan.json of the one model in `folder`, {} where there is none. Raises UserError for one that mcunet
    generate did not write."""
    path = folder / plan_file(prefix_of(folder))
    if not path.is_file():
        return {}
    found = read_json(path)
    check_numbers(found, (), path)
    for key in ("live_bytes", "callback_bytes"):
        sizes = found.get(key, {})
        if not isinstance(sizes, dict) or not all(isinstance(size, int) for size in sizes.values()):
            raise UserError(f"{path}: {key} is {short(sizes)}: expected bytes by name; run mcunet generate again")
    return found


def call_sites(folder: Path) -> dict[int, str]:
    """Return line of the model's source -> the row of a report in which its calls are counted. Raises UserError where
    plan.json does not say so."""
    found, path = planned(folder).get("sites"), folder / plan_file(prefix_of(folder))
    if not isinstance(found, dict) or not all(line.isdecimal() and isinstance(at, str) for line, at in found.items()):
        raise UserError(f"{path} does not say which layer each line of the C calls: run mcunet generate again")
    return {int(line): at for line, at in found.items()}
