"""Write and read history.jsonl, a JSON line for each evolution.Proposal and so the search's whole state; find the best
and the Pareto front in it."""

import json
import sys
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

import numpy as np

from ...core.errors import UserError
from ...core.files import write_atomic, write_json
from ...core.ir.arch import Schedule
from ...core.types import FilePath, Plain, PlainDict
from ...core.validate import file_bytes, parse_json, short
from ..evolution import Evolution, HistoryError, Proposal, first_of_equals

LARGEST = 1 << 62  # bytes or MACs: beyond it a line is damaged
EXPECTED = {
    "candidate": "an object of genes",
    "p": "[rows, columns] of patches, from 1 to 64",
    "score": "a number or null",
    "told": "true or false",
    "halo": "a word",
}


class History:
    """Write the files of the search in folder `out`, each whole or absent whenever the process ends.

    A line that was told does not change any more, so it is formatted once. A history of thousands, written after each
    score, would otherwise cost minutes.
    """

    def __init__(self, out: FilePath):
        self.out = Path(out)
        self._lines: dict[tuple[object, ...], str] = {}
        self._best: Proposal | None = None

    def write(self, evolution: Evolution) -> None:
        """Bring history.jsonl up to date, and best.json, the best ArchSpec with its schedule, where it changed."""
        write_atomic(self.out / "history.jsonl", "".join(map(self._line, evolution.proposals)))
        best = next(iter(evolution.winners()), None)
        if best is not None and best is not self._best:
            evolution.space.spec(best.candidate, best.schedule).save(self.out / "best.json")
            self._best = best

    def close(self, evolution: Evolution) -> None:
        """Say in done.json that the search is over: only that file does."""
        self.write(evolution)
        best = [asdict(p) for p in evolution.winners()[:1]]
        write_json(self.out / "done.json", {"candidates": len(evolution.proposals), "best": best})

    def _line(self, proposal: Proposal) -> str:
        key = proposal.index, proposal.told, proposal.score
        if key not in self._lines:
            self._lines[key] = json.dumps(asdict(proposal)) + "\n"
        return self._lines[key]


def read_history(out: Path) -> list[PlainDict]:
    """Read the lines of out/history.jsonl; none before the first result. The last line may be cut, as a full disk or a
    broken copy leaves it: that is said on stderr, and the others are taken. Raises HistoryError, which names the
    line, for any other damage."""
    path = Path(out) / "history.jsonl"
    if not path.exists():
        return []
    texts = file_bytes(path, kind=HistoryError).split(b"\n")
    lines: list[PlainDict] = []
    while texts and not texts[-1].strip(b"\0 \r\t"):  # behind the last line, or never written to the disk
        texts.pop()
    for number, text in enumerate(texts, 1):
        try:
            lines.append(_checked(_parsed(text), lines))
        except HistoryError as error:
            if number == len(texts) and _is_cut(text):
                _say(f"{path}: line {number}, the last one, is cut and left out")
                break
            raise HistoryError(
                f"{path}, line {number}: {error}; without it and the lines behind it `mcunet search resume` goes on"
            ) from None
    return lines


@cache
def _say(text: str) -> None:
    """Print a text once: a command reads its history more than once."""
    print(text, file=sys.stderr, flush=True)


def _parsed(text: bytes) -> Plain:
    if not text.strip():
        raise HistoryError("it is empty")
    try:
        return parse_json(text.decode(), "it", HistoryError)
    except UnicodeDecodeError:
        raise HistoryError("it is no UTF-8 text") from None
    except HistoryError as error:
        raise HistoryError(str(error).replace("not valid JSON, line 1: ", "not valid JSON: ")) from None


def count_told(out: Path) -> int:
    """Count the candidates of out/history.jsonl that have been told, for a progress bar."""
    path = Path(out) / "history.jsonl"
    return path.read_bytes().count(b'"told": true') if path.exists() else 0


def _is_cut(text: bytes) -> bool:
    """Tell whether a line is the beginning of one: an object that does not end."""
    depth, quoted, escaped = 0, False, False
    for char in text.decode(errors="replace"):
        if escaped or (quoted and char == "\\"):
            escaped = not escaped
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += (char in "{[") - (char in "}]")
            if depth <= 0:
                return False
    return depth > 0


def _checked(line: Plain, before: list[PlainDict]) -> PlainDict:
    """Check a line as Proposal has it, behind the lines `before`. Raises HistoryError."""
    names = [field.name for field in fields(Proposal)]
    if not isinstance(line, dict):
        raise HistoryError(f"it is {short(line)}: expected an object with the keys {', '.join(names)}")
    for name in names:
        if name not in line and name != "halo":  # older lines have none: there was no choice
            raise HistoryError(f"it lacks the key '{name}'")
    for name, value in line.items():
        if name not in names:
            raise HistoryError(f"it has the unknown key {short(name)}")
        if not _right(name, value):
            raise HistoryError(f"{name} is {short(value)}: expected {EXPECTED.get(name, 'an integer from 0')}")
    last = before[-1]["generation"] if before else 0
    if line["index"] != len(before):
        raise HistoryError(f"index is {line['index']}: expected {len(before)}, the line's place")
    if line["generation"] not in (last, last + 1):
        raise HistoryError(f"generation is {line['generation']}: expected {last} or the next")
    if line["score"] is not None and not line["told"]:
        raise HistoryError("told is False beside a score")
    return line


def _right(name: str, value: Plain) -> bool:
    if name == "candidate":
        return isinstance(value, dict) and all(isinstance(v, (str, int, float)) for v in value.values())
    if name == "p":
        return isinstance(value, list) and len(value) == 2 and all(type(v) is int and 1 <= v <= 64 for v in value)
    if name == "score":
        return value is None or (type(value) in (int, float) and abs(value) < LARGEST)
    if name == "told":
        return isinstance(value, bool)
    if name == "halo":
        return isinstance(value, str)
    return type(value) is int and 0 <= value < LARGEST


def schedule_of(line: PlainDict) -> Schedule:
    """Return the schedule of a line of the history; older lines, of before there was a choice, have no halo."""
    return Schedule(line["p"], line["n"], halo=line.get("halo", "clip"))


def scored(history: list[PlainDict]) -> list[PlainDict]:
    """Return the lines with a score. Raises UserError when there is none."""
    found = [p for p in history if p["score"] is not None]
    if not found:
        raise UserError("the history holds no score yet: run the search first")
    return found


def best_of(history: list[PlainDict]) -> PlainDict:
    """Return the proposal with the highest score, the cheaper of equals. Raises UserError when there is none."""
    return winners(history)[0]


def winners(history: list[PlainDict]) -> list[PlainDict]:
    """Return the lines with a score, the winner first, see first_of_equals. Raises UserError when there is none."""
    return sorted(scored(history), key=lambda p: first_of_equals(p["score"], p["macs"], p["sram"], p["index"]))


def pareto_front(history: list[PlainDict], costs: tuple[str, ...] = ("sram", "macs")) -> list[PlainDict]:
    """Return the proposals than which no other has as high a score for as little of every cost and is better in one of
    them; the earlier of equals. The first cost rises. Raises UserError when there is no score."""
    lines = scored(history)
    table = np.array([[-p["score"], *(p[cost] for cost in costs)] for p in lines])  # the lower the better
    front = []
    for at, (row, line) in enumerate(zip(table, lines, strict=True)):
        no_worse = (table <= row).all(1)
        equal = (table == row).all(1)
        if not (no_worse & ~equal).any() and not equal[:at].any():
            front.append(line)
    return sorted(front, key=lambda p: [p[cost] for cost in costs])
