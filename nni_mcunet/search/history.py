"""history.jsonl, a JSON line for each evolution.Proposal and so the search's whole state: written, read, and what is in
it, the best and the Pareto front.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..core.arch import Schedule
from ..core.errors import UserError
from ..core.files import write_atomic
from .evolution import Evolution, Proposal


class History:
    """The files of the search in folder `out`, each whole or absent whenever the process ends.

    What was told does not change any more and is put into words once: written after each score, a history of thousands
    would otherwise cost minutes.
    """

    def __init__(self, out: str | Path):
        self.out = Path(out)
        self._lines: dict[tuple, str] = {}
        self._best: Proposal | None = None

    def write(self, evolution: Evolution) -> None:
        """Bring history.jsonl up to date, and best.json, the best ArchSpec with its schedule, where it changed."""
        write_atomic(self.out / "history.jsonl", "".join(map(self._line, evolution.proposals)))
        best = next(iter(evolution.ranked()), None)
        if best is not None and best is not self._best:
            evolution.space.spec(best.candidate, best.schedule).save(self.out / "best.json")
            self._best = best

    def _line(self, proposal: Proposal) -> str:
        key = proposal.index, proposal.told, proposal.score
        if key not in self._lines:
            self._lines[key] = json.dumps(asdict(proposal)) + "\n"
        return self._lines[key]


def read_history(out: Path) -> list[dict]:
    """Lines of out/history.jsonl; empty before the first result."""
    path = Path(out) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def schedule_of(line: dict) -> Schedule:
    """The schedule of a line of the history; those of before there was a choice have no halo."""
    return Schedule(line["p"], line["n"], halo=line.get("halo", "clip"))


def scored(history: list[dict]) -> list[dict]:
    """Those with a score. Raises UserError when there is none."""
    found = [p for p in history if p["score"] is not None]
    if not found:
        raise UserError("the history holds no score yet: run the search first")
    return found


def best_of(history: list[dict]) -> dict:
    """The proposal with the highest score, of equals the earlier. Raises UserError when there is none."""
    return min(scored(history), key=lambda p: (-p["score"], p["index"]))


def pareto_front(history: list[dict], costs: tuple[str, ...] = ("sram", "macs")) -> list[dict]:
    """The proposals than which no other has as high a score for as little of every cost and is better in one of them;
    of equals the earlier. The first cost rises. Raises UserError when there is no score."""
    lines = scored(history)
    table = np.array([[-p["score"], *(p[cost] for cost in costs)] for p in lines])  # the lower the better
    front = []
    for at, (row, line) in enumerate(zip(table, lines, strict=True)):
        no_worse = (table <= row).all(1)
        equal = (table == row).all(1)
        if not (no_worse & ~equal).any() and not equal[:at].any():
            front.append(line)
    return sorted(front, key=lambda p: [p[cost] for cost in costs])
