"""How a search fills the slots of its machines: the tuner itself, with NNI's manager and the trials' time simulated.

    python benchmarks/slots.py [--slots 8] [--startup 15] [--candidate 4] [--population 100] [--iterations 3]

Before: batches of 50 whatever the slots, and a lost trial evaluated again as a whole once no other runs. Now: a
generation is spread over the slots, the scores that a lost trial had reported count, and its rest is spread at once. A
trial takes `startup` seconds and `candidate` seconds for each network, more or less by a third. Writes
docs/results/slots.json.
"""

import argparse
import heapq
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from nni_mcunet.core.files import write_json
from nni_mcunet.search.nni import tuner
from nni_mcunet.search.space import load_space

ROOT = Path(__file__).parents[1]


class Simulation:
    """NNI with `slots` trials at once: a trial that ends is followed by a request for the next. A slot works while its
    trial starts, too."""

    def __init__(self, folder: str, args: argparse.Namespace, lose: int | None):
        (Path(folder) / "x.pth").touch()
        settings = dict(space="demo", board="f412", supernet=f"{folder}/x.pth", out=f"{folder}/out", max_mmacs=12)
        self.search = tuner.EvolutionTuner(**settings, population=args.population, iterations=args.iterations)
        self.search._manager = "simulated"  # so that the tuner asks for a lost trial's results
        self.args, self.lose, self.rng = args, lose, np.random.default_rng(0)
        self.now, self.next, self.events, self.busy, self.metrics = 0.0, 0, [], [0.0] * args.slots, []
        self.slot_of: dict[int, int] = {}
        tuner.request = self.request
        self.search.update_search_space(load_space("demo").to_nni())
        self.ask(range(args.slots))

    def request(self, root: str, path: str, *_: object) -> list:
        return self.metrics if path == "/metric-data" else []

    def ask(self, slots) -> None:
        ids = [self.next + i for i in range(len(slots))]
        self.next += len(ids)
        self.slot_of |= dict(zip(ids, slots, strict=True))
        found = self.search.generate_multiple_parameters(ids, st_callback=self.begin)
        for id, parameters in zip(ids, found, strict=False):
            self.begin(id, parameters)

    def begin(self, id: int, parameters: dict) -> None:
        """A trial starts: its results, one after the other, then its end."""
        lost, at = id == self.lose, self.now + self.args.startup
        count = len(parameters["candidates"]) * 3 // 4 if lost else len(parameters["candidates"])
        for entry in parameters["candidates"][:count]:
            at += self.args.candidate * self.rng.uniform(2 / 3, 4 / 3)
            heapq.heappush(self.events, (at, 0, id, entry["index"], parameters))
        heapq.heappush(self.events, (at, 1, id, -lost, parameters))
        self.busy[self.slot_of[id]] += at - self.now

    def run(self) -> tuple[float, list[float]]:
        """Return the seconds of the search and the share of them that each slot works."""
        while self.events:
            self.now, kind, id, index, parameters = heapq.heappop(self.events)
            if kind == 0:
                data = json.dumps(json.dumps({"default": self.score(index), "index": index}))
                self.metrics.append({"type": "PERIODICAL", "data": data})
                continue
            if not index:
                value = {f"c{i}": self.score(entry["index"]) for i, entry in enumerate(parameters["candidates"])}
                self.search.receive_trial_result(id, parameters, value)
            self.search.trial_end(id, not index)
            self.ask([self.slot_of[id]])
        return self.now, [busy / self.now for busy in self.busy]

    @staticmethod
    def score(index: int) -> float:
        return float(np.random.default_rng(index).random())


def simulate(args: argparse.Namespace, before: bool, lose: int | None) -> tuple[float, list[float]]:
    os.environ["NODE_OPTIONS"] = "" if before else str(tuner.MANAGER)
    share, hear = tuner.EvolutionTuner._share, tuner.EvolutionTuner._hear
    if before:
        tuner.EvolutionTuner._share = lambda self: self.config.batch
        tuner.EvolutionTuner._hear = lambda self: None
    try:
        with tempfile.TemporaryDirectory() as folder:
            return Simulation(folder, args, lose).run()
    finally:
        tuner.EvolutionTuner._share, tuner.EvolutionTuner._hear = share, hear


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in dict(slots=8, startup=15, candidate=4, population=100, iterations=3).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args, rows = parser.parse_args(), []
    for before in (True, False):
        seconds, shares = simulate(args, before, None)
        lost = simulate(args, before, 1)[0] - seconds
        rows.append(dict(version="before" if before else "now", minutes=seconds / 60, shares=shares, lost=lost))
    print("| | minutes | a slot works, least to most | a trial lost at three quarters costs, s |\n|---|---:|---|---:|")
    for row in rows:
        shares = f"{min(row['shares']):.0%} to {max(row['shares']):.0%}"
        print(f"| {row['version']} | {row['minutes']:.1f} | {shares} | {row['lost']:.0f} |")
    write_json(ROOT / "docs/results/slots.json", {"settings": vars(args), "rows": rows})


if __name__ == "__main__":
    main()
