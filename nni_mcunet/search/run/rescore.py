"""Score the best networks of a search again, each with several draws of the pictures that re-calibrate its slice.

One draw moves a score by some tenths of a percent, often as much as lies between the best networks. So the winner of
one draw is in part the luckiest. The means of several draws say which differences are there, and between equals the
cheaper network wins.
"""

from pathlib import Path
from statistics import fmean, variance
from typing import NamedTuple

from ...core.errors import UserError
from ...core.files import write_json
from ...core.progress import Progress
from ...core.types import PlainDict
from ..config import SearchConfig
from ..supernet.training import evaluate
from .export import Exporter
from .history import read_history, scored

CONFIDENCE = 2  # standard errors of a difference that count as none: 95 %
KEPT = ("index", "candidate", "p", "n", "halo", "sram", "macs")


class Rescored(NamedTuple):
    """Hold the networks scored again, best mean first, and the one to take.

    rows    {"index", "candidate", "p", "n", "halo", "sram", "macs": of the history, "scores": one a draw, "mean"}
    error   standard error of a mean, the same for all: the networks share one spread
    chosen  the row of the fewest MACs among those whose mean is not known to be below the best
    """

    rows: list[PlainDict]
    error: float
    chosen: PlainDict


def rescore(config: SearchConfig, out: Path, best: int = 10, draws: int = 5) -> Rescored:
    """Score the `best` networks of the search in `out` with `draws` draws each; the search's own is the first. Writes
    out/rescored.json, and out/chosen.json and .pth, the network to take. Raises UserError for fewer than two draws or
    one network, StateError for another super-network than the search's."""
    if draws < 2 or best < 1:
        raise UserError(f"{best} networks with {draws} draws: expected 1 and 2 at least")
    lines = sorted(scored(read_history(out)), key=lambda line: (-line["score"], line["index"]))[:best]
    exporter, rows = Exporter(config, out), []
    with Progress(len(lines) * draws, "draw", "scored") as bar:
        for line in lines:
            scores = []
            for seed in range(draws):
                scores.append(evaluate(exporter.space, exporter.supernet, line["candidate"], exporter.data, seed=seed))
                bar.to(bar.done + 1)
            rows.append({key: line[key] for key in KEPT if key in line} | {"scores": scores, "mean": fmean(scores)})
    found = judged(rows)
    chosen = next(line for line in lines if line["index"] == found.chosen["index"])
    exporter.write(chosen, Path(out) / "chosen")
    write_json(Path(out) / "rescored.json", {"error": found.error, "chosen": chosen["index"], "rows": found.rows})
    return found


def judged(rows: list[PlainDict]) -> Rescored:
    """Sort networks by the mean of their scores, and choose."""
    rows = sorted(rows, key=lambda row: (-row["mean"], row["macs"]))
    error = (fmean(variance(row["scores"]) for row in rows) / len(rows[0]["scores"])) ** 0.5
    equal = [row for row in rows if rows[0]["mean"] - row["mean"] <= CONFIDENCE * 2**0.5 * error]
    return Rescored(rows, error, min(equal, key=lambda row: (row["macs"], row["sram"], row["index"])))


def table(found: Rescored) -> str:
    """Return the networks as lines, the chosen one marked."""
    lines = ["candidate  mean score  of one draw       MACs, M  SRAM, kB"]
    for row in found.rows:
        low, high = min(row["scores"]), max(row["scores"])
        mark = "  <- chosen" if row is found.chosen else ""
        lines.append(
            f"{row['index']:9d}  {row['mean']:10.2%}  {low:.2%} to {high:.2%}  {row['macs'] / 1e6:8.2f}  "
            f"{row['sram'] / 1024:8.1f}{mark}"
        )
    return "\n".join([*lines, f"a mean is known to {CONFIDENCE * found.error:.2%} (95 %)"])
