"""Offer the evolution as an NNI tuner: `className: nni_mcunet.search.tuner.EvolutionTuner` in an experiment's YAML, or
`name: MCUNetEvolution` once register.yml is registered.

One trial evaluates a batch of candidates: a trial costs seconds before its first. A generation is cut into as many
batches as trials may run at once, so that no slot waits while others have several candidates to go. Everything is keyed
on parameter_id, the one identity that NNI keeps right when trials run concurrently (microsoft/nni#5726).

The scores that a lost trial had reported count. Its other candidates are spread over the free slots: at once where
manager.cjs is loaded, else, since NNI's word for the end may be about another trial, when none runs any more.

Nothing is kept that a kill could lose. history.jsonl, written at every result, is the evolution's whole state, and a
resumed experiment's tuner asks again for the candidates that have no score there. NNI brings back results of old trials
and runs trials once more: they are not needed and not listened to.
"""

import base64
import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from nni import ClassArgsValidator
from nni.tuner import Tuner

from ...core.errors import UserError, exit_on_user_error
from ...core.types import Plain, PlainDict
from ..commands import check_trained
from ..config import SearchConfig, check_trials, search_config
from ..evolution import Evolution, Proposal
from ..run.history import History
from ..run.run_folder import begin, restore
from .nnictl import MANAGER, request
from .processes import exit_with_parent, hold

ENDED = ("SUCCEEDED", "FAILED", "USER_CANCELED", "SYS_CANCELED", "EARLY_STOPPED")


class EvolutionTuner(Tuner):
    """Propose candidates to NNI's trials and learn their scores. class_args: see SearchConfig; a wrong one ends the
    process with code 2, and NNI's experiment as ERROR. NNI calls from two threads, hence the lock."""

    def __init__(self, **class_args: Any) -> None:
        self._manager = _manager()
        with exit_on_user_error():
            self.config = search_config(_experiment() | {"tuner": {"classArgs": class_args}})
            if os.environ.get("NNI_MODE") != "resume":
                check_trials(_experiment(), self.config)
            self.config.evolution()  # so that wrong values are said now
            check_trained(self.config)
            if self._manager:
                exit_with_parent()
                hold(Path(self.config.out) / ".tuner.lock", "search", patience=5)
        self._supernet = self.config.supernet  # as trials name it, on a copy of their folder when they run elsewhere
        if Path(self._supernet).is_relative_to(folder := _experiment().get("trialCodeDirectory", "/nowhere")):
            self._supernet = str(Path(self._supernet).relative_to(folder))
        self.evolution: Evolution | None = None
        self._history = History(self.config.out)
        self._lock = threading.RLock()
        self._handed: dict[int, list[Proposal]] = {}  # parameter_id -> the batch its trial evaluates
        self._running: set[int] = set()  # parameter_ids whose trials have not ended
        self._pending: dict[int, Proposal] = {}  # index -> handed out, no score yet
        self._again: list[Proposal] = []  # to be handed out once more
        self._tries: dict[int, int] = {}  # index -> evaluations that failed
        self._waiting: list[tuple[int, Callable[..., None]]] = []  # (parameter_id, callback) asked for in vain so far
        self._requested = self._ended = 0  # parameter_ids asked for; trials that have ended
        self._paired = MANAGER.name in os.environ.get("NODE_OPTIONS", "")  # the id of an ended trial is its own
        self._slots: int | None = None  # how many of them by the first request
        self._failed, self._closed = False, False

    def update_search_space(self, search_space: PlainDict) -> None:
        """Begin or restore the search at NNI's first call. A later one, the web page's wish for another space, is
        refused."""
        with _said_aloud(), self._lock:
            if self.evolution is not None:
                raise UserError("the search space cannot change during a search: start another experiment")
            evolution = self.config.evolution(search_space)
            if os.environ.get("NNI_MODE") == "resume":
                restore(self.config, evolution, begun=bool(self._manager and request(self._manager, "/trial-jobs")))
            else:
                begin(self.config, evolution)
            self.evolution = evolution
            self._limit_trials(None)

    @property
    def _search(self) -> Evolution:
        """The search, which NNI's first call has begun."""
        return cast(Evolution, self.evolution)

    def generate_multiple_parameters(
        self, parameter_id_list: list[int], st_callback: Callable[..., None] | None = None, **kwargs: Any
    ) -> list[PlainDict]:
        """Return parameters for as many ids as the generation still has. The others get theirs through the callback
        when the next generation is bred: a barrier, for NNI has no other word for "later" than "no more trials"."""
        with _said_aloud(), self._lock:
            self._requested += len(parameter_id_list)
            self._slots = self._slots or len(parameter_id_list)
            self._settle()
            self._serve()
            found = []
            for parameter_id in parameter_id_list:
                parameters = self._next(parameter_id)
                if parameters is None:
                    self._waiting.append((parameter_id, cast(Callable[..., None], st_callback)))
                else:
                    found.append(parameters)
            self._close()
            return found

    def receive_trial_result(self, parameter_id: int, parameters: PlainDict, value: PlainDict, **kwargs: Any) -> None:
        """Take a trial's scores. value: {"c0": score of the batch's first candidate, "c1": ...} and figures for show. A
        candidate has the same score in whichever trial: a second one says nothing new, and one for an unknown id
        nothing at all."""
        with _said_aloud(), self._lock:
            for at, proposal in enumerate(self._handed.get(parameter_id, [])):
                if not proposal.told:
                    self._tell(proposal, value[f"c{at}"])
            self._history.write(self._search)
            self._serve()

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """Note the end of a trial. Each id's trial ends once; the id does not say which batch it has evaluated
        (nni#5726)."""
        with _said_aloud(), self._lock:
            if parameter_id in self._running:
                self._running.remove(parameter_id)
                self._ended += 1
                self._failed |= not success
                if self._paired and not success:
                    self._hand_again(self._handed[parameter_id])
                self._settle()
                self._serve()

    def import_data(self, data: Plain) -> None:
        """Ignore old trials' results, which NNI brings when an experiment is resumed. They are in the history, and NNI
        may have them beside other trials' parameters."""

    def _settle(self) -> None:
        """Hand out again, `retries` times, what has no score when no trial runs any more: its trial has failed. A
        result can be overtaken by its trial's end, in the other thread, but not by the request for the trial's
        successor."""
        heard = self._failed or self._requested - (self._slots or 0) >= len(self._handed) - len(self._running)
        if self._running or not heard or not self._pending:
            return
        self._hand_again(list(self._pending.values()))
        self._failed = False

    def _hand_again(self, lost: list[Proposal]) -> None:
        """Note the candidates of a trial that has gone: those it had scored before, those that are tried again and
        those that have been tried often enough."""
        self._hear()
        lost = [proposal for proposal in lost if not proposal.told]
        if not lost:
            return
        for proposal in lost:
            del self._pending[proposal.index]
            self._tries[proposal.index] = self._tries.get(proposal.index, 0) + 1
            if self._tries[proposal.index] <= self.config.retries:
                self._again.append(proposal)
            else:
                self._search.tell(proposal.index, None)
        what = f"again, at most {self.config.retries} times" if self._again else "given up"
        print(f"a trial has ended without a result: {len(lost)} candidates {what}", file=sys.stderr, flush=True)
        if not self._pending and not self._again and not self._search.ranked():
            raise UserError("every trial has failed so far: see trial.stderr in the experiment's environments/ folder")
        self._history.write(self._search)

    def _hear(self) -> None:
        """Take the intermediate results of candidates without a score."""
        if self._manager is None or not self._pending:
            return
        for metric in request(self._manager, "/metric-data") or []:
            value = json.loads(metric["data"])
            value = json.loads(value) if isinstance(value, str) else value
            index = value.get("index") if isinstance(value, dict) and metric["type"] == "PERIODICAL" else None
            if index in self._pending:
                self._tell(self._pending[index], value["default"])

    def _tell(self, proposal: Proposal, score: float) -> None:
        self._search.tell(proposal.index, score)
        self._pending.pop(proposal.index, None)

    def _serve(self) -> None:
        """Hand out what has become possible to those who wait."""
        while self._waiting:
            parameter_id, callback = self._waiting[0]
            parameters = self._next(parameter_id)
            if parameters is None:
                break
            self._waiting.pop(0)
            callback(parameter_id, parameters)
        self._close()

    def _next(self, parameter_id: int) -> PlainDict | None:
        """Return the next batch as a trial's parameters; None when there is none yet."""
        batch: list[Proposal] = []
        most = self.config.batch
        while len(batch) < most:
            proposal = self._again.pop(0) if self._again else self._search.ask()
            if proposal is None:
                break
            if not proposal.told:
                batch.append(proposal)
                if len(batch) == 1:
                    most = min(most, self._share())
        if not batch:
            return None
        self._handed[parameter_id] = batch
        self._running.add(parameter_id)
        self._pending |= {proposal.index: proposal for proposal in batch}
        shown = ("index", "candidate", "p", "n", "halo", "sram", "macs")
        return {
            "supernet": self._supernet,
            "data": self.config.data,
            "candidates": [{key: getattr(proposal, key) for key in shown} for proposal in batch],
        }

    def _share(self) -> int:
        """Return how many candidates the next trial takes, the first of them taken already: as many as each other slot
        that has nothing to do will get."""
        busy = sum(any(not proposal.told for proposal in self._handed[id]) for id in self._running)
        # NNI may ask for a trial's successor before it says that the trial has ended
        most = _experiment().get("trialConcurrency") or self._slots or 1
        free = max(1, min(self._requested - self._ended, most) - busy)
        return -(-(1 + len(self._again) + self._search.queued) // free)

    def _close(self) -> None:
        """Say that the search is over. NNI only counts trials: it is told now that these were all, and says DONE."""
        if self._closed or self._running or not self._search.done:
            return
        self._closed = True
        self._history.close(self._search)
        if self._manager:
            trials = request(self._manager, "/trial-jobs")
            self._limit_trials(sum(trial["status"] in ENDED for trial in trials))

    def _limit_trials(self, most: int | None) -> None:
        """Set NNI's trial limit, as `nnictl update trialnum` does. None: no limit, so that trials that failed or were
        killed don't count."""
        if self._manager:
            params = {} if most is None else {"maxTrialNumber": most}
            request(self._manager, "/experiment?update_type=MAX_TRIAL_NUM", "PUT", {"params": params})


class ArgsValidator(ClassArgsValidator):
    """Check class_args for `nnictl algo register`, as SearchConfig does."""

    def validate_class_args(self, **class_args: Any) -> None:
        """Check the settings and the limits. Raises UserError."""
        SearchConfig.from_dict(class_args).evolution()


def _experiment() -> PlainDict:
    """Return NNI's configuration of the experiment; {} outside NNI. NNI runs a tuner in its log folder and names the
    folder where relative paths begin only on the command line."""
    if "--exp_params" not in sys.argv:
        return {}
    return json.loads(base64.b64decode(sys.argv[sys.argv.index("--exp_params") + 1]))


def _manager() -> str | None:
    """Return the address of NNI's manager; None outside NNI."""
    channel = os.environ.get("NNI_TUNER_COMMAND_CHANNEL")
    return channel and channel.replace("ws://", "http://", 1).removesuffix("/tuner")


@contextlib.contextmanager
def _said_aloud() -> Iterator[None]:
    """Print a UserError to stderr in one line before it takes NNI's long way and sets the experiment's state to
    ERROR."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise
