"""history.jsonl, a search's record of its candidates: read it, find the best and the Pareto front.

A line is an evolution.Proposal."""

import json
from pathlib import Path

import numpy as np

from ..core.errors import UserError


def read_history(out: Path) -> list[dict]:
    """Lines of out/history.jsonl; empty before the first result."""
    path = Path(out) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
