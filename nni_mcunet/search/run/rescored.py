"""Say what several draws of the re-calibration's pictures tell of the best networks of a search: in which order they
are, how well that is known, which to take. rescore.py makes the draws.

The draw by which a network was chosen is no part of its mean: the highest of many scores is in part the luckiest.
"""

from pathlib import Path
from statistics import fmean, variance
from typing import NamedTuple

from ...core.types import PlainDict
from ...core.validate import read_json
from .result_folder import ResultsError

CONFIDENCE = 2  # standard errors of a difference that count as none: 95 %
FILE = "rescored.json"
COLUMNS = ("candidate", "in the search", "mean of the draws", "lowest to highest", "SRAM, kB", "MACs, M")
NOT_COUNTED = "Other pictures to judge by would move the means as well, which is not counted."


class Rescored(NamedTuple):
    """Hold the networks scored again, best mean first, and the one to take.

    rows    {"index", "candidate", "p", "n", "halo", "sram", "macs", "score": of the history, "scores": one a draw,
            "mean"}
    error   standard error of a mean, the same for all: the networks share one spread
    chosen  the row of the fewest MACs among those whose mean is not known to be below the best
    """

    rows: list[PlainDict]
    error: float
    chosen: PlainDict

    def to_dict(self) -> PlainDict:
        """Return what rescored.json holds."""
        return {"error": self.error, "chosen": self.chosen["index"], "rows": self.rows}


def judged(rows: list[PlainDict]) -> Rescored:
    """Sort networks by the mean of their scores, and choose."""
    rows = sorted(rows, key=lambda row: (-row["mean"], row["macs"]))
    error = (fmean(variance(row["scores"]) for row in rows) / len(rows[0]["scores"])) ** 0.5
    equal = [row for row in rows if rows[0]["mean"] - row["mean"] <= CONFIDENCE * 2**0.5 * error]
    return Rescored(rows, error, min(equal, key=lambda row: (row["macs"], row["sram"], row["index"])))


def read_rescored(out: Path) -> Rescored | None:
    """Read out/rescored.json; None where there is none, or one of an earlier version, whose means had the search's own
    draw in them. Raises ResultsError for a damaged file."""
    path = Path(out) / FILE
    found = read_json(path, ResultsError) if path.exists() else {"rows": []}
    try:
        rows = found["rows"]
        if not rows or any("score" not in row for row in rows):
            return None
        return Rescored(rows, found["error"], next(row for row in rows if row["index"] == found["chosen"]))
    except (KeyError, TypeError, StopIteration):
        raise ResultsError(f"{path} is damaged: delete it, or run `mcunet search rescore` again") from None


def cells(found: Rescored) -> list[tuple[str, ...]]:
    """Return a row a network under COLUMNS, each mean with its 95 %."""
    return [
        (f"{row['index']}", f"{row['score']:.2%}", f"{row['mean']:.2%} ± {CONFIDENCE * found.error:.2%}",
         f"{min(row['scores']):.2%} to {max(row['scores']):.2%}", f"{row['sram'] / 1024:.1f}",
         f"{row['macs'] / 1e6:.2f}")
        for row in found.rows
    ]  # fmt: skip


def table(found: Rescored) -> str:
    """Return the networks as lines, the chosen one marked."""
    lines = [COLUMNS, *cells(found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    marks = ["", *("  <- chosen" if row is found.chosen else "" for row in found.rows)]
    shown = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join([*(line + mark for line, mark in zip(shown, marks, strict=True)), sentence(found)])


def sentence(found: Rescored) -> str:
    """Say in words what the draws tell."""
    draws, best = len(found.rows[0]["scores"]), found.rows[0]
    luck = fmean(row["score"] - row["mean"] for row in found.rows)
    taken = (
        "the best, and none that is as good is cheaper" if found.chosen is best
        else f"the cheapest of those that are not known to be worse than candidate {best['index']}"
    )  # fmt: skip
    return (
        f"Each mean is of {draws} draws that the search has not seen, ± its 95 % interval. "
        f"{NOT_COUNTED} The search's own scores are {luck:+.2%} off these means on average. "
        f"Candidate {found.chosen['index']} is chosen: {taken}."
    )


def markdown(found: Rescored | None) -> list[str]:
    """Return the report's section on it as lines."""
    title = "## The best scored again"
    if found is None:
        return [title, "", "Not done: `mcunet search rescore` says how much of a score is noise.", ""]
    rows = [COLUMNS, ("---",) * len(COLUMNS), *cells(found)]
    return [title, "", sentence(found), "", *(f"| {' | '.join(row)} |" for row in rows), ""]
