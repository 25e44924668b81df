"""The evolution as an NNI tuner: `className: nni_mcunet.search.tuner.EvolutionTuner` in an experiment's YAML.

One trial evaluates a batch of candidates. Everything is keyed on parameter_id, the one identity that NNI keeps right
when trials run concurrently (microsoft/nni#5726); its own table of results is not relied on: `history.jsonl` is ours.
"""

import base64
import contextlib
import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from nni.tuner import Tuner

from ..core.arch import Schedule
from ..core.errors import UserError, exit_on_user_error
from ..core.files import write_atomic, write_json
from .config import SearchConfig
from .evolution import Evolution, Proposal


class EvolutionTuner(Tuner):
    """class_args: see SearchConfig; a wrong one ends the process with code 2, and NNI's experiment as ERROR.
    NNI calls from two threads, hence the lock."""

    def __init__(self, **class_args):
        with exit_on_user_error():
            self.config = SearchConfig.from_dict(class_args).at(_code_directory())
            self.config.evolution()  # wrong values are said now
            if not Path(self.config.supernet).exists():
                raise UserError(
                    f"no super-network at {self.config.supernet}: train it first with "
                    f"`python tools/train_supernet.py --out {self.config.supernet}`"
                )
        self.evolution: Evolution | None = None
        self._lock = threading.RLock()
        self._running: dict[int, list[Proposal]] = {}  # parameter_id -> the batch its trial evaluates
        self._waiting: list[tuple[int, object]] = []  # (parameter_id, callback) asked for in vain so far
        self._failed = 0  # trials that ended without success and are still in _running

    def update_search_space(self, search_space: dict) -> None:
        with _said_aloud(), self._lock:
            if self.evolution is not None:
                raise UserError("the search space cannot change during a search: start another experiment")
            self.evolution = self.config.evolution(search_space)

    def generate_multiple_parameters(self, parameter_id_list, st_callback=None, **kwargs) -> list[dict]:
        """Parameters for as many ids as the generation still has; the others get theirs through the callback when the
        next generation is bred (a barrier: NNI has no other word for "later" than "no more trials")."""
        with _said_aloud(), self._lock:
            found = []
            for parameter_id in parameter_id_list:
                parameters = self._next(parameter_id)
                if parameters is None:
                    self._waiting.append((parameter_id, st_callback))
                else:
                    found.append(parameters)
            self._close()
            return found

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs) -> None:
        """value: {"c0": score of the batch's first candidate, "c1": ...} beside what is for show."""
        with _said_aloud(), self._lock:
            for at, proposal in enumerate(self._running.pop(parameter_id)):
                self.evolution.tell(proposal.index, value[f"c{at}"])
            self._proceed()

    def trial_end(self, parameter_id, success, **kwargs) -> None:
        """Which trial failed is not to be believed, that one failed is: once as many have failed as are running, it was
        these."""
        with _said_aloud(), self._lock:
            if not success:
                self._failed += 1
                self._proceed()

    def _proceed(self) -> None:
        """After news: settle failures, write the results down, hand out what has become possible."""
        if self._failed and self._failed >= len(self._running):
            for batch in self._running.values():
                for proposal in batch:
                    self.evolution.tell(proposal.index, None)
            self._running, self._failed = {}, 0
            if not self.evolution.ranked():
                raise UserError("every trial has failed so far: see stderr in the experiment's trials/ folder")
        write_results(self.evolution, Path(self.config.out))
        while self._waiting:
            parameter_id, callback = self._waiting[0]
            parameters = self._next(parameter_id)
            if parameters is None:
                break
            self._waiting.pop(0)
            callback(parameter_id, parameters)
        self._close()

    def _close(self) -> None:
        """Say that the search is over: NNI itself only counts trials, and a small space can run out before."""
        if self.evolution.done:
            best = [asdict(p) for p in self.evolution.ranked()[:1]]
            write_json(Path(self.config.out) / "done.json", {"candidates": len(self.evolution.proposals), "best": best})

    def _next(self, parameter_id: int) -> dict | None:
        """The next batch as a trial's parameters."""
        batch = []
        while len(batch) < self.config.batch and (proposal := self.evolution.ask()) is not None:
            batch.append(proposal)
        if not batch:
            return None
        self._running[parameter_id] = batch
        shown = ("candidate", "p", "n", "sram", "macs")
        return {
            "supernet": self.config.supernet,
            "candidates": [{key: getattr(proposal, key) for key in shown} for proposal in batch],
        }


def _code_directory() -> Path:
    """Where relative paths begin, as for the trials. NNI runs a tuner in its log folder and names another on its
    command line only; outside NNI it is the current folder."""
    if "--exp_params" not in sys.argv:
        return Path()
    encoded = sys.argv[sys.argv.index("--exp_params") + 1]
    return Path(json.loads(base64.b64decode(encoded))["trialCodeDirectory"])


def write_results(evolution: Evolution, out: Path) -> None:
    """history.jsonl, a line a proposal, which is also the evolution's whole state; best.json, an ArchSpec."""
    lines = [json.dumps(asdict(p)) for p in evolution.proposals]
    write_atomic(out / "history.jsonl", "\n".join(lines) + "\n")
    best = evolution.ranked()
    if best:
        schedule = Schedule(best[0].p, best[0].n)
        evolution.space.spec(best[0].candidate, schedule).save(out / "best.json")


@contextlib.contextmanager
def _said_aloud():
    """A UserError goes to stderr in one line before it takes NNI's long way, and the experiment's state to ERROR."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise
