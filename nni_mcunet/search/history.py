"""A search's files: history.jsonl, a JSON line for each proposal and so the evolution's whole state, and best.json."""

import json
from dataclasses import asdict
from pathlib import Path

from ..core.arch import Schedule
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
            schedule = Schedule(tuple(best.p), best.n)
            evolution.space.spec(best.candidate, schedule).save(self.out / "best.json")
            self._best = best

    def _line(self, proposal: Proposal) -> str:
        key = proposal.index, proposal.told, proposal.score
        if key not in self._lines:
            self._lines[key] = json.dumps(asdict(proposal)) + "\n"
        return self._lines[key]
