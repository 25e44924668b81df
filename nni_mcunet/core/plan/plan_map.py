"""Turn a plan into plain data to look at: which buffer lies where during which op and patch, what each layer costs.

mcunet generate leaves it beside the C as plan_map.json, and the page of mcunet report is drawn from it. The network's
graph is in it, too, so that the front of its schedules can be found without its file.
"""

from ..boards import Board
from ..errors import BoardError
from ..ir.graph import Graph
from ..ir.graph_data import graph_data
from ..types import PlainDict
from .kernel_facts import constant_bytes, kernel_of
from .latency import INSTRUCTIONS, cycle_table, each
from .plan import Plan
from .segments import Patches


def plan_map(plan: Plan, graph: Graph, board: Board) -> PlainDict:
    """Return the data of an executable plan of one image, for `board`. graph: the network's, before its heads are cut.

    {"network", "schedule": in words, "halo", "arena_bytes", "flash_bytes", "macs", "overhead",
     "board": {"name", "core", "clock_hz", "arena_limit", "model_limit"},
     "parts": [{"region", "at", "size"}]: of the arena's bytes those in each region, [] for one array,
     "graph": see graph_data,
     "buffers": [{"name", "offset", "lives": [{"what": "image", "map", "output", "scratch" or "cache", "tensor",
                 "first", "last": numbers of ops, "bytes", "over": the buffer that it may be written over, or null}]}],
     "segments": [{"grid": [rows, columns], "first", "last", "out", "rows", "cols", "new_rows", "new_cols":
                  {tensor: [[first, end] of each patch]}}], the last two where they differ from what is held,
     "layers": [{"name", "kind", "block", "segment", "input", "output": [h, w, c], "kernel", "stride", "macs",
                "own_macs", "weight_bytes", "live_bytes", "instructions", "cycles"}]: sums over all patches; own_macs
                without what patches compute again; cycles null for a core of which nothing is known,
     "image": {"instructions", "cycles"} of reading the picture}
    """
    kept = {name: getattr(board, name) for name in ("name", "core", "clock_hz", "model_limit")}
    return {
        "network": graph.name,
        "schedule": str(plan.schedule),
        "halo": plan.halo,
        "arena_bytes": plan.arena,
        "flash_bytes": plan.flash,
        "macs": plan.macs,
        "overhead": plan.overhead,
        "board": kept | {"arena_limit": plan.limit(board)},
        "parts": [part._asdict() for part in plan.parts],
        "graph": graph_data(graph),
        "buffers": _buffers(plan),
        "segments": _segments(plan),
        **_layers(plan, board),
    }


def _buffers(plan: Plan) -> list[PlainDict]:
    graph, inside = plan.graph, {at: [name] for name, at in (plan.scratch | plan.cache).items()}
    for name, at in plan.home.items():
        inside.setdefault(at, []).append(name)  # in the order of their lives
    what = {at: "scratch" for at in plan.scratch.values()} | {at: "cache" for at in plan.cache.values()}
    images = [image.name for image in graph.inputs]
    found = []
    for at, buffer in enumerate(plan.buffers):
        lives: list[PlainDict] = []
        for tensor, life in zip(inside[at], buffer.lives, strict=True):
            sort = "image" if tensor in images else "output" if tensor in graph.outputs else "map"
            over = plan.buffers[life.over].name if life.over >= 0 else None
            lives.append({"what": what.get(at, sort), "tensor": tensor, "first": life.start, "last": life.end,
                          "bytes": life.size, "over": over})  # fmt: skip
        found.append({"name": buffer.name, "offset": buffer.offset, "lives": lives})
    return found


def _segments(plan: Plan) -> list[PlainDict]:
    found, first = [], 0
    for segment in plan.segments:
        last = first + len(segment.ops) - 1
        row: PlainDict = {"grid": list(segment.grid), "first": first, "last": last, "out": segment.out}
        if segment.patched:
            row |= {"rows": _spans(segment.spans[0]), "cols": _spans(segment.spans[1])}
            if segment.new is not segment.spans:
                row |= {"new_rows": _spans(segment.new[0]), "new_cols": _spans(segment.new[1])}
        found.append(row)
        first = last + 1
    return found


def _spans(patches: Patches) -> dict[str, list[list[int]]]:
    """Return the positions of each tensor in each patch along one axis."""
    return {name: [[patch[name].lo, patch[name].hi] for patch in patches] for name in patches[0]}


def _layers(plan: Plan, board: Board) -> PlainDict:
    graph, index, blocks = plan.graph, 0, plan.graph.block_names
    image, instructions = each(INSTRUCTIONS, plan)
    try:
        image_cycles, cycles = each(cycle_table(board), plan)
    except BoardError:
        image_cycles, cycles = None, {}
    rows: list[PlainDict] = []
    for number, segment in enumerate(plan.segments):
        high, wide = segment.computed
        for op in segment.ops:
            x, y = graph.input_of(op), graph.tensors[op.name]
            rows.append({
                "name": op.name, "kind": kernel_of(graph, op), "block": blocks[op.block], "segment": number,
                "input": [x.h, x.w, x.c], "output": [y.h, y.w, y.c], "kernel": list(op.k), "stride": list(op.s),
                "macs": graph.op_macs(op, sum(high[op.name]) * sum(wide[op.name])), "own_macs": graph.op_macs(op),
                "weight_bytes": constant_bytes(graph, op), "live_bytes": plan.live_bytes(index),
                "instructions": round(instructions[op.name]),
                "cycles": round(cycles[op.name]) if cycles else None,
            })  # fmt: skip
            index += 1
    read = {"instructions": round(image), "cycles": None if image_cycles is None else round(image_cycles)}
    return {"layers": rows, "image": read}
