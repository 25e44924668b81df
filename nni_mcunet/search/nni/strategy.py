"""Search through NNI's NAS API: EvolutionStrategy is our evolution as one of NNI's strategies, SupernetEvaluator the
super-network as an evaluator that never leaves the process. Both work on model_space.py's MCUNetSpace.

Our evolution sets p and n to the scheduler's answer for each network, as the paper does (section 3.3). Nothing is
decided here: see evolution.py.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import cast

import nni

from ...core.files import sha256
from ...core.types import FilePath, Plain, PlainDict
from ...core.validate import integer, short
from ..data import Data
from ..evolution import Evolution, Proposal
from ..objectives import COSTS, Boards, Objectives
from ..run.history import History
from ..run.result_folder import check_folder, check_free, holds_search, set_aside
from ..run.run_folder import claim, differs, finished
from ..space import Candidate
from ..supernet.training import evaluate, load_supernet, to_device
from .model_space import Fits, MCUNetSpace, StrategyError, fits_of, from_sample

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # of classes in torch that NNI does not know
    from nni.nas.evaluator import Evaluator
    from nni.nas.execution.engine import ExecutionEngine
    from nni.nas.execution.event import ModelEvent, ModelEventType
    from nni.nas.space import ExecutableModelSpace, ModelStatus
    from nni.nas.strategy import Strategy
    from nni.nas.strategy.base import StrategyStatus

__all__ = ["EvolutionStrategy", "MCUNetSpace", "SupernetEvaluator"]

CUT = {
    StrategyStatus.SUCCEEDED: "a limit of NNI's (max_trial_number, max_duration) is reached; raise it and run it again",
    StrategyStatus.INTERRUPTED: "Ctrl-C; run it again to go on",
}


class EvolutionStrategy(Strategy):
    """Run the paper's evolutionary search on an MCUNetSpace, see evolution.py. parents = 0: random search.

    sieve       rounds in which a generation is bred by predicted scores, see predictor.py
    objectives  what counts besides the score, in a search for a front: some of sram, flash, macs, ms; see objectives.py
    out  a folder. history.jsonl, a line a candidate, is brought up to date after every score, and a search of the same
         settings goes on from it, whatever ended the last process. best.json is the best network so far. done.json is
         written at the end, and only then: NNI ends a search at its own limits, too. Another search that has come to
         its end there moves to out/previous; one that has not is an error
    """

    def __init__(
        self,
        out: FilePath | None = None,
        seed: int = 0,
        population: int = 100,
        parents: int = 20,
        iterations: int = 30,
        mutation: float = 0.1,
        objectives: Sequence[str] = (),
        sieve: int = 1,
    ) -> None:
        super().__init__()
        self.objectives, self.sieve = _checked(objectives), integer(sieve, "sieve", 1, 1000, StrategyError)
        if self.objectives and sieve > 1:
            raise StrategyError("sieve keeps what has the highest score only: leave it or objectives out")
        if out is not None:
            check_folder(Path(out).resolve())
        self.history = None if out is None else History(out)
        self.settings: PlainDict = dict(
            seed=seed, population=population, parents=parents, iterations=iterations, mutation=mutation
        )
        self.evolution: Evolution | None = None
        self._running: dict[int, tuple[object, Proposal]] = {}  # by id(model): NNI keeps no model alive
        self._ended: SimpleQueue[tuple[int, Plain]] = (
            SimpleQueue()
        )  # what NNI's threads report, settled in the search's own

    def extra_repr(self) -> str:
        """Write the settings for NNI's log."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        fits = fits_of(model_space)
        order = None
        if self.objectives:
            if "ms" in self.objectives and fits.limits is None:
                raise StrategyError("objectives: ms is estimated for a board: give the MCUNetSpace its Limits")
            order = Objectives(self.objectives, fits.space, Boards((fits.limits,) if fits.limits else ())).order
        self.evolution = Evolution(fits.space, fits.check, **self.settings, order=order, sieve=self.sieve)
        if self.history is not None:
            self._open(fits, self.history, getattr(model_space.evaluator, "weights", None))
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        return model_space

    @property
    def _search(self) -> Evolution:
        """The search, which NNI's first call has begun."""
        return cast(Evolution, self.evolution)

    def _open(self, fits: Fits, history: History, weights: str | None) -> None:
        """Go on from the folder's history, or begin one. weights: what tells a super-network from itself trained again.
        Raises StateError when it is another search's."""
        limits = None if fits.limits is None else asdict(fits.limits)
        if limits and fits.halos == ("clip",):  # as searches were described before there was a choice
            del limits["halos"]
        settings = self.settings | {"limits": limits}
        if self.objectives:
            settings["objectives"] = list(self.objectives)
        if self.sieve > 1:
            settings["sieve"] = self.sieve
        described: PlainDict = {"settings": settings, "space": fits.space.to_dict()}
        if weights is not None:
            described["weights"] = weights
        out = history.out
        check_free(out)
        if finished(out) and holds_search(out) and differs(out, described):
            set_aside(out)
        self.load_state_dict({"proposals": claim(out, described)})
        if not self._search.done:
            (out / "done.json").unlink(missing_ok=True)  # it counts a history that was whole then

    def _run(self) -> None:
        while not self._search.done:
            if not self.wait_for_resource():
                break
            proposal = self._search.ask()
            if proposal is not None:
                model = self._model(proposal)
                self._running[id(model)] = model, proposal
                self.engine.submit_models(model)
            self._settle(wait=proposal is None)
        while self._running:  # the budget is used up, or a failure was the last to end
            self._settle(wait=True)
        if self._search.done and self.history is not None:
            self.history.close(self._search)

    def _model(self, proposal: Proposal) -> ExecutableModelSpace:
        sample = fits_of(self.model_space).sample(proposal.candidate, proposal.schedule)
        return self.model_space.freeze(sample)

    def _on_end(self, event: ModelEvent) -> None:
        if id(event.model) in self._running:
            self._ended.put((id(event.model), event.model.metric))

    def _settle(self, wait: bool) -> None:
        """Tell the evolution what has ended since, and write it down. A model that ends the search, by Ctrl-C or an
        error that NNI does not go on after, never comes here: it is evaluated again when the search goes on. Raises
        StrategyError when every evaluation has failed."""
        try:
            while True:
                key, metric = self._ended.get(timeout=1) if wait else self._ended.get_nowait()
                wait, (_, proposal) = False, self._running.pop(key)
                self._search.tell(proposal.index, metric)
                if self.history is not None:
                    self.history.write(self._search)
        except Empty:
            pass
        if self._search.proposals and all(p.told for p in self._search.proposals) and not self._search.ranked():
            raise StrategyError("every evaluation has failed so far: see the errors that NNI has logged")

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        if not self._search.done and self._status in CUT:  # said here, since NNI goes on as if the search were done
            told = sum(p.told for p in self._search.proposals)
            print(f"the search was cut short after {told} candidates: {CUT[self._status]}", file=sys.stderr)

    def list_models(self, sort: bool = True, limit: int | None = None) -> Iterator[ExecutableModelSpace]:
        """Yield models of the scored candidates, also of those before a restart; sorted: the best first."""
        found = self._search.winners()
        for proposal in (found if sort else sorted(found, key=lambda p: p.index))[:limit]:
            model = self._model(proposal)
            model.metrics.final, model.status = proposal.score, ModelStatus.Trained
            yield model

    def state_dict(self) -> PlainDict:
        """Return plain values: with anything else torch cannot load what NNI has saved."""
        return {"proposals": []} if self.evolution is None else self.evolution.state_dict()

    def load_state_dict(self, state_dict: PlainDict) -> None:
        """Go on from a state, unless `out` has brought more: NNI saves one before and one after a search."""
        scores = [sum(p["told"] for p in state["proposals"]) for state in (state_dict, self.state_dict())]
        if scores[0] > scores[1]:
            self._search.load_state_dict(state_dict)


def _checked(objectives: Sequence[str]) -> tuple[str, ...]:
    """Return the objectives of a search on one board. Raises StrategyError for any other word."""
    known = [name for name in COSTS if name != "board"]
    if isinstance(objectives, str) or any(name not in known for name in objectives):
        raise StrategyError(f"objectives is {short(objectives)}: expected a list of {', '.join(known)}")
    return tuple(dict.fromkeys(objectives))


class SupernetEvaluator(Evaluator):
    """Score a candidate by the accuracy of its slice of a trained super-network, see training.evaluate.

    supernet  its checkpoint, loaded once: meant for NNI's sequential engine, which evaluates in this process
    data      see data.open_data
    """

    def __init__(self, supernet: str | Path, data: Data, device: str = "auto") -> None:
        self.space, net = load_supernet(supernet, data)
        self.weights = sha256(supernet)  # the strategy notes whose scores these are
        self.supernet, self.data = to_device(net, device), data

    def _execute(self, model: ExecutableModelSpace) -> float:
        """Evaluate a sample before a Net is made of it, as NNI calls it. Raises StrategyError when the space is not the
        super-network's or a part of it."""
        searched, trained = (replace(space, only=()) for space in (fits_of(model).space, self.space))
        if searched != trained:
            raise StrategyError(f"the super-network is of another space {trained.name} than this {searched.name}")
        candidate, _ = from_sample(model.sample)
        score = self.score(candidate)
        nni.report_final_result(score)
        return score

    def _dump(self) -> PlainDict:
        """Refuse NNI's wish to send the evaluator to another process."""
        raise StrategyError(
            "SupernetEvaluator stays in its process: give NasExperiment NasExperimentConfig('sequential', 'simplified')"
        )

    def score(self, candidate: Candidate) -> float:
        """Return the score of a candidate's slice."""
        return evaluate(self.space, self.supernet, candidate, self.data)
