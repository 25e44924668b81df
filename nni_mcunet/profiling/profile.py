"""Show where a network's memory goes, what patches save and what they cost: a Profile of any Graph, as table and dict.

Bytes are those of the paper's rule (paper/memory_rules.py), which holds for every network. Where a board has a best
schedule in patches they are what our kernels need. This module reads no file: nni_mcunet.load gives the graph of any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.boards import Board
from ..core.errors import BoardError, Infeasible, UnsupportedOp, UserError
from ..core.ir.arch import Schedule
from ..core.ir.graph import Graph
from ..core.plan.board_plan import knee, plan_for_board
from ..core.plan.cut_points import Grid
from ..core.plan.latency import milliseconds
from ..core.plan.plan import Plan, plan
from ..core.plan.segments import Spans
from ..core.types import PlainDict
from ..paper.memory_rules import FP32, INT8, least_peak, paper_plan, rnnpool, single_map

KB = 1024
GRIDS = (1, 2, 3, 4)  # the paper's p


@dataclass(frozen=True)
class Profile:
    """A graph layer by layer and in patches.

    whole    its plan layer by layer
    patched  its plan under the schedule asked for, or the board's best, or the one with the least peak
    best     the board's best plan, or without a board the one with the least peak; None where `why` says why not
    """

    graph: Graph
    whole: Plan
    patched: Plan
    board: Board | None
    best: Plan | None
    why: str | None = None

    def __str__(self) -> str:
        return table(self)

    @property
    def limit(self) -> int | None:
        """Return the bytes of SRAM that the board has for the best plan, None without a board."""
        if self.board is None:
            return None
        return self.board.arena_limit if self.best is None else self.best.limit(self.board)

    def rules(self) -> dict[str, int]:
        """Return the three ways in which papers count a network's memory, in bytes of int8 (fp32: four times)."""
        return {
            "single_map": single_map(self.graph, INT8),
            "block_in_out": max(rnnpool(self.graph, element=INT8).values()),
            "layer_in_out": paper_plan(self.graph).peak,
        }

    def blocks(self) -> list[PlainDict]:
        """Return one row a block. A bottleneck is a block with the peak."""
        before, after = self.whole.block_peaks(), self.patched.block_peaks()
        graph, names = self.graph, self.graph.block_names
        rows = []
        for block in before:
            ops = [op for op in graph.ops if op.block == block]
            out = graph.tensors[ops[-1].name]
            rows.append({
                "block": block, "name": names[block], "shape": [out.h, out.w, out.c],
                "macs": sum(map(graph.op_macs, ops)),
                "params": sum(map(graph.op_params, ops)),
                "bytes_per_layer": before[block], "bytes_per_patch": after[block],
                "bottleneck": before[block] == self.whole.peak,
                "bottleneck_patched": after[block] == self.patched.peak,
            })  # fmt: skip
        return rows

    def to_dict(self) -> PlainDict:
        """Return the profile for JSON, as mcunet profile --json prints it. Sizes are bytes."""
        facts: PlainDict = {
            "name": self.graph.name,
            "macs": self.graph.macs,
            "params": self.graph.params,
            "peak_bytes_per_layer": self.whole.peak,
            "peak_bytes_per_patch": self.patched.peak,
            "best": schedule_dict(self.best) if self.best else None,
            "patched": {**schedule_dict(self.patched), "macs": self.patched.macs},
            "rules": self.rules(),
            "blocks": self.blocks(),
            "patches": [
                [{name: list(span) for name, span in spans.items()} for spans in axis] for axis in _spans(self.patched)
            ],
        }
        if self.board:
            facts["board"] = {"name": self.board.name, "arena_limit": self.limit, "why_not": self.why}
            if self.best:
                regions = {part.region: part.size for part in self.best.parts}
                facts["board"] |= {"arena_bytes": self.best.arena, "flash_bytes": self.best.flash, "regions": regions}
        return facts


def schedule_dict(run: Plan) -> PlainDict:
    """Return the schedule of a plan for JSON: grid, blocks, later segments, halo."""
    s = run.schedule
    return {"p_h": s.p[0], "p_w": s.p[1], "n": s.n, "then": s.then, "halo": run.halo, "slices": s.slices}


def _spans(run: Plan) -> Spans:
    """[axis][i][tensor] of the first patched segment."""
    return next((segment.spans for segment in run.segments if segment.patched), ((), ()))


def profile(
    graph: Graph, board: Board | None = None, schedule: Schedule | None = None, p_choices: Sequence[Grid] = GRIDS
) -> Profile:
    """Return the profile of a graph, layer by layer and under `schedule`.

    Without `schedule` the best one of the grids `p_choices` at every cut is shown: for a board the one that mcunet
    generate chooses, else the one with the least peak. Where nothing fits the board the profile's `why` says so.

    Raises ScheduleError for a schedule that the graph does not allow, UserError for a graph without a convolution.
    """
    if not graph.macs:
        raise UserError(f"{graph.name}: no convolution, so nothing to profile")
    best, why = None, None
    if board is None:
        best = least_peak(graph, p_choices)
    else:
        try:
            best = plan_for_board(graph, board, schedule=schedule, p_choices=p_choices)
        except (Infeasible, UnsupportedOp) as error:
            why = str(error)
    if board is not None and best is not None and best.schedule.n:
        return Profile(graph, plan(graph), best, board, best)
    shown = least_peak(graph, p_choices) if schedule is None else paper_plan(graph, schedule)
    return Profile(graph, paper_plan(graph), shown, board, best, why)


def front_table(front: Sequence[Plan], board: Board | None = None) -> str:
    """Return a front of SRAM against computation as text, a line a plan, with the estimated time on a board. The knee
    is marked: see board_plan.knee."""
    found = knee(front)
    lines = [f"{'arena, bytes':>12}{'MACs, M':>10}{'overhead':>10}{'ms, est.' if board else '':>10}  schedule; halo"]
    for p in front:
        how = f"{p.schedule}; {p.halo}" if p.schedule.n else str(p.schedule)
        time = _milliseconds(p, board) if board else ""
        mark = " <- knee" if p is found else ""
        lines.append(f"{p.arena:12,}{p.macs / 1e6:10.2f}{p.overhead:+10.1%}{time:>10}  {how}{mark}")
    return "\n".join(lines)


def _milliseconds(p: Plan, board: Board) -> str:
    """Return the estimated time, "-" for a core of which there is none."""
    try:
        return f"{milliseconds(p, board):.1f}"
    except BoardError:
        return "-"


def table(p: Profile) -> str:
    """Return the profile for reading: a line a block, the bottlenecks marked."""
    image, s = p.graph.inputs[0], p.patched.schedule
    patched = " ".join(f"{p_h}x{p_w} n={n}" for (p_h, p_w), n in s.segments) or "unpatched"
    rows = p.blocks()
    named = max(14, *(len(row["name"]) for row in rows))
    last = max(14, len(patched) + 5)
    lines = [
        f"{p.graph.name}: {image.h}x{image.w}x{image.c}, {p.graph.macs / 1e6:.2f}M MACs, "
        f"{p.graph.params / 1e6:.3f}M parameters (batch normalisation folded)",
        f"{'block':>5}  {'name':{named}}{'output':>14}{'MACs, M':>10}{'params, k':>11}{'kB per layer':>14}"
        f"{'kB ' + patched:>{last}}",
    ]
    for row in rows:
        shape = "x".join(map(str, row["shape"]))
        mark = " <- peak" * row["bottleneck"] + " <- peak, patched" * row["bottleneck_patched"]
        lines.append(
            f"{row['block']:5}  {row['name']:{named}}{shape:>14}{row['macs'] / 1e6:10.2f}{row['params'] / 1e3:11.2f}"
            f"{row['bytes_per_layer'] / KB:14.1f}{row['bytes_per_patch'] / KB:{last}.1f}{mark}"
        )
    ratio = p.whole.peak / p.patched.peak
    lines += [
        f"peak {p.whole.peak / KB:.1f} kB layer by layer, {p.patched.peak / KB:.1f} kB patched ({ratio:.2f}x less), "
        f"MACs {p.patched.overhead:+.1%}",
        "as papers count, int8 kB / fp32 MB: "
        + ", ".join(f"{k.replace('_', ' ')} {v / KB:.1f} / {FP32 * v / KB**2:.2f}" for k, v in p.rules().items()),
        _verdict(p),
    ]
    return "\n".join(lines)


def _home(board: Board, best: Plan) -> str:
    """Say where one array lies on a board of several memories."""
    if len(board.runs) < 2:
        return ""
    return f" in {' and '.join(region.name for region in board.run_of(best.arena))}"


def _verdict(p: Profile) -> str:
    """Return the line on the best schedule."""
    if p.best is None:
        assert p.board is not None  # without a board there is always a least peak
        return f"no schedule for {p.board.name}: {p.why}"
    how = str(p.best.schedule)
    if p.best.schedule.n:
        how += f", halo {p.best.halo}, MACs {p.best.overhead:+.1%}"
    if p.board is None:
        return f"least peak: {how}"
    parts = ", ".join(f"{part.size / KB:.1f} in {part.region}" for part in p.best.parts)
    parts = f" ({parts})" if parts else _home(p.board, p.best)
    return (
        f"best on {p.board.name}: {how}; arena {p.best.arena / KB:.1f} of {p.best.limit(p.board) / KB:.0f} kB{parts}, "
        f"constants {p.best.flash / KB:.0f} of {p.board.model_limit / KB:.0f} kB"
    )
