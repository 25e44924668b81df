"""Score the best networks of a search again, each with several draws of the pictures that re-calibrate its slice.

One draw moves a score by some tenths of a percent, often as much as lies between the best networks. So the winner of
one draw is in part the luckiest. The means of several others say which differences are there, and between equals the
cheaper network wins: see rescored.py.
"""

from pathlib import Path
from statistics import fmean

from ...core.errors import UserError
from ...core.files import write_json
from ...core.progress import Progress
from ..config import SearchConfig
from ..supernet.training import evaluate
from .export import Exporter
from .history import read_history, winners
from .rescored import FILE, Rescored, judged

KEPT = ("index", "candidate", "p", "n", "halo", "sram", "macs", "score")


def rescore(config: SearchConfig, out: Path, best: int = 10, draws: int = 5) -> Rescored:
    """Score the `best` networks of the search in `out` with `draws` draws each, none of them the search's own. Writes
    out/rescored.json, and out/chosen.json and .pth, the network to take. Raises UserError for fewer than two draws or
    one network, StateError for another super-network than the search's."""
    if draws < 2 or best < 1:
        raise UserError(f"{best} networks with {draws} draws: expected 1 and 2 at least")
    lines = winners(read_history(out))[:best]
    exporter, rows = Exporter(config, out), []
    with Progress(len(lines) * draws, "draw", "scored") as bar:
        for line in lines:
            scores = []
            for seed in range(1, draws + 1):  # 0 is the search's
                scores.append(evaluate(exporter.space, exporter.supernet, line["candidate"], exporter.data, seed=seed))
                bar.to(bar.done + 1)
            rows.append({key: line[key] for key in KEPT if key in line} | {"scores": scores, "mean": fmean(scores)})
    found = judged(rows)
    chosen = next(line for line in lines if line["index"] == found.chosen["index"])
    exporter.write(chosen, Path(out) / "chosen")
    write_json(Path(out) / FILE, found.to_dict())
    return found
