"""Lay out the page of a search: its curve, its front with each network's blocks and plan, its diversity, its times."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from ...core.errors import UserError
from ...core.files import write_atomic
from ...core.ir.build import Head, build_graph
from ...core.plan.plan import plan
from ...core.types import PlainDict
from ...pages.html import Section, check_library, page
from ..config import SearchConfig
from ..space import Space
from .front import best_limits
from .history import best_of, pareto_front, schedule_of, scored
from .patch_gain import patch_gain, rows, sentence
from .report import network_bars

TEXTS = {
    "curve": "Every candidate in the order of the search; the line is the best so far.",
    "front": "Larger dots are the front: no other network has as high a score for as little SRAM and MACs. Hover "
    "over one for its blocks (kernel as colour, output channels above, blocks in patches outlined) and its memory.",
    "diversity": "How many genes two candidates of a generation differ in, as a share, the mean of all pairs.",
    "times": "When each trial waited and ran, as NNI has noted it.",
}
Rows = list[PlainDict]


def search_page(config: SearchConfig, space: Space, history: Rows, times: Rows | str, out: Path) -> Path:
    """Write search.html into the folder `out` and return its path. times: rows {"trial", "state", "from", "to",
    "seconds"}, or why they are not known. Raises UserError for a history without a score, and where the plotting
    library is not installed."""
    check_library()
    lines = scored(history)
    title = f"Search in {space.name} for the {' and '.join((config.board, *config.boards))}"
    return write_atomic(out / "search.html", page(title, facts(config, space, history), sections(
        space, lines, history, times, config.limits().yolo)))  # fmt: skip


def facts(config: SearchConfig, space: Space, history: Rows) -> list[tuple[str, str]]:
    """Return the lines of the table at the head of the page."""
    best, told = best_of(history), sum(line["told"] for line in history)
    limits = {"kB of SRAM": config.max_sram_kb, "kB of flash": config.max_flash_kb, "M MACs": config.max_mmacs,
              "ms estimated": config.max_latency_ms}  # fmt: skip
    said = ", ".join(f"{value:g} {unit}" for unit, value in limits.items() if value is not None)
    return [
        ("space", f"{space.name}, {space.size:.2g} networks"),
        ("board", " and ".join((config.board, *config.boards)) + (f" with at most {said}" if said else "")),
        ("candidates", f"{told} of {len(history)} judged, in {history[-1]['generation'] + 1} generations"),
        ("best", f"candidate {best['index']}, score {best['score']:.4f}, {best['sram']:,} bytes of SRAM, "
                 f"{best['macs']:,} MACs"),
        *_patches(config, space, history),
    ]  # fmt: skip


def _patches(config: SearchConfig, space: Space, history: Rows) -> list[tuple[str, str]]:
    """Return the lines of the head's table on what the best gained from patches."""
    gain = patch_gain(space, best_limits(config, space, history), history)
    table = [] if gain is None else rows(space, gain)[1:]  # the best itself has a line already
    said = [
        (name, f"score {score}, image {image}, {sram} kB of SRAM, {macs} M MACs")
        for name, score, image, sram, macs in table
    ]
    return [("patches", sentence(gain)), *said]


def sections(space: Space, lines: Rows, history: Rows, times: Rows | str, head: Head | None) -> list[Section]:
    """Return the sections of the page. lines: of the history, those with a score; head: that the network will carry."""
    rows, front = [_row(line) for line in lines], pareto_front(history)
    best, so_far = 0.0, []
    for at, row in enumerate(rows):
        best = row["score"] if at == 0 else max(best, row["score"])
        so_far.append({"index": row["index"], "score": best})
    shown = [_row(line) | {"plan": _plan_line(line)} for line in front]
    blocks = [block for line in front for block in _blocks(space, line, head)]
    found = [
        Section("curve", "The search", TEXTS["curve"], "curve", {"candidates": rows, "best": so_far}),
        Section("front", "The front", TEXTS["front"], "search_front",
                {"candidates": rows, "front": shown, "blocks": blocks}, chosen={"chosen": [{"index": _best(front)}]}),
        Section("diversity", "Diversity", TEXTS["diversity"], "diversity", {"generations": [*_generations(lines)]}),
    ]  # fmt: skip
    if isinstance(times, str):
        return [*found, Section("times", "Time", why=times)]
    return [*found, Section("times", "Time", TEXTS["times"], "times", {"trials": times})]


def _best(front: Rows) -> int:
    index: int = best_of(front)["index"]
    return index


def _row(line: PlainDict) -> PlainDict:
    genes = " ".join(f"{name}={value}" for name, value in line["candidate"].items())
    kept = {key: line[key] for key in ("index", "generation", "score", "sram", "flash", "macs")}
    return kept | {"schedule": f"{schedule_of(line)}, halo {schedule_of(line).halo}", "genes": genes}


def _plan_line(line: PlainDict) -> str:
    return (
        f"candidate {line['index']}: score {line['score']:.4f}, {schedule_of(line)}; {line['sram']:,} bytes of SRAM, "
        f"{line['flash']:,} of flash, {line['macs']:,} MACs"
    )


def _blocks(space: Space, line: PlainDict, head: Head | None) -> Iterator[PlainDict]:
    """Yield a row a block of the network's own, with the bytes alive in it under its schedule."""
    spec = space.spec(line["candidate"], schedule_of(line))
    graph, own = build_graph(spec, head), build_graph(spec).block_names
    alive, names = plan(graph, spec.schedule).block_peaks(), graph.block_names
    bars = [(size, *bar) for size, run in network_bars(spec) for bar in run]
    for number, (size, k, expansion, channels) in zip(sorted(own), bars, strict=True):
        same = names.get(number) == own[number]  # a detector's head stands where the classifier's would
        yield {"index": line["index"], "block": own[number], "size": size, "expansion": expansion,
               "kernel": f"{k}x{k}" if k else "plain convolution", "channels": channels,
               "patched": number < spec.schedule.n, "bytes": alive[number] if same else None}  # fmt: skip


def _generations(lines: Rows) -> Iterator[PlainDict]:
    for generation in sorted({line["generation"] for line in lines}):
        own = [line for line in lines if line["generation"] == generation]
        pairs = [_apart(a["candidate"], b["candidate"]) for a, b in combinations(own, 2)]
        scores = [line["score"] for line in own]
        yield {"generation": generation, "candidates": len(own), "best": max(scores),
               "mean": sum(scores) / len(scores), "diversity": sum(pairs) / len(pairs) if pairs else 0}  # fmt: skip


def _apart(a: PlainDict, b: PlainDict) -> float:
    """Return the share of genes in which two candidates differ, one that only one has included."""
    names = a.keys() | b.keys()
    return sum(a.get(name) != b.get(name) for name in names) / len(names)


def check_page(out: Path) -> Path:
    """Return the page's path. Raises UserError where another's file has its name."""
    path = out / "search.html"
    if path.exists() and not path.read_bytes().startswith(b"<!DOCTYPE html>\n<!-- nni-mcunet"):
        raise UserError(f"{path} is there and no product of this command: move it away")
    return path
