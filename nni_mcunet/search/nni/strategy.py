"""Search through NNI's NAS API. MCUNetSpace is a space for any of NNI's strategies, EvolutionStrategy our evolution as
one of them, SupernetEvaluator the super-network as an evaluator that never leaves the process.

NNI's own strategies see seven knobs: the genes of space.py (k, e, d, w, r) and the schedule's p and n. Our evolution
sets p and n to the scheduler's answer for each network, as the paper does (section 3.3). Nothing is decided here: see
evolution.py.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import cast

import nni

from ...core.types import FilePath, Plain, PlainDict

if "NNI_FRAMEWORK" not in os.environ:  # else NNI imports pytorch_lightning with the modules below
    os.environ["NNI_FRAMEWORK"] = "none"  # for the processes NNI starts
    nni.set_default_framework("none")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # of classes in torch that NNI does not know
    from nni.mutable import Categorical, Mutable
    from nni.mutable.annotation import Constraint
    from nni.mutable.exception import ConstraintViolation, SampleValidationError
    from nni.mutable.mutable import RandomState
    from nni.nas.evaluator import Evaluator
    from nni.nas.execution.engine import ExecutionEngine
    from nni.nas.execution.event import ModelEvent, ModelEventType
    from nni.nas.nn.pytorch import ModelSpace
    from nni.nas.space import ExecutableModelSpace, ModelStatus
    from nni.nas.strategy import Strategy
    from nni.nas.strategy.base import StrategyStatus

from ...core.errors import ScheduleError, UserError
from ...core.ir.arch import ArchSpec, Schedule
from ...core.ir.build import build_graph
from ...core.ir.graph import Graph
from ...core.nn.net import Net
from ...core.plan.cut_points import cuts
from ...core.plan.plan import Plan, plan
from ..constraint import Limits, Violation
from ..data import Data
from ..evolution import Evolution, Proposal
from ..run.history import History
from ..run.result_folder import check_folder, check_free, holds_search, set_aside
from ..run.run_folder import claim, differs, finished
from ..space import Candidate, Space
from ..space_file import resolution, spell
from ..supernet.training import evaluate, load_supernet, to_device

CUT = {
    StrategyStatus.SUCCEEDED: "a limit of NNI's (max_trial_number, max_duration) is reached; raise it and run it again",
    StrategyStatus.INTERRUPTED: "Ctrl-C; run it again to go on",
}


class StrategyError(UserError):
    """Report a search through NNI's NAS API that cannot be run as it was put together."""


def to_sample(candidate: Candidate, schedule: Schedule, halo: bool = False) -> dict:
    """Return what NNI calls a sample: the genes, and the schedule as `p` (2, or "2x3" for two rows of three) and `n`,
    and, where there is a choice of it, the `halo`."""
    return candidate | {"p": spell(*schedule.p), "n": schedule.n} | ({"halo": schedule.halo} if halo else {})


def from_sample(sample: dict) -> tuple[Candidate, Schedule]:
    """Return the candidate and the schedule of a sample, the inverse of to_sample."""
    candidate = {gene: value for gene, value in sample.items() if gene not in ("p", "n", "halo")}
    return candidate, Schedule(resolution(sample["p"]), sample["n"], halo=sample.get("halo", "clip"))


class Fits(Constraint):
    """Veto samples, as an annotation of NNI's: every network, run as its p and n say, must keep to the limits.

    Per layer is p = 1 with n = 0 and has no other spelling, so that a sample is one network with one schedule. Drawn at
    random, p and n are the scheduler's: chosen freely they would hardly ever belong to the network.
    """

    def __init__(self, space: Space, limits: Limits | None) -> None:
        self.label, self.space, self.limits = "fits", space, limits
        most = max(cuts(build_graph(space.spec(space.largest()), self._yolo)))
        self.genes = {gene: Categorical(choices, label=gene) for gene, choices in space.genes.items()}
        patches = sorted({1, *(limits.patches if limits else (2, 3, 4))})
        self.schedule = {"p": Categorical(patches, label="p"), "n": Categorical(range(most + 1), label="n")}
        self.halos = limits.halos if limits else ("clip",)
        if self.halos != ("clip",):  # per layer, which has none, is clip
            self.schedule["halo"] = Categorical(sorted({"clip", *self.halos}), label="halo")

    def sample(self, candidate: Candidate, schedule: Schedule) -> dict:
        """Return a sample of this space, see to_sample."""
        return to_sample(candidate, schedule, "halo" in self.schedule)

    @property
    def _yolo(self) -> Plain:
        return self.limits.yolo if self.limits else None

    def check(self, spec: ArchSpec) -> Plan | Violation:
        """Return the best plan of a network. Without limits nothing is less computation than per layer."""
        return self.limits.check(spec) if self.limits else plan(build_graph(spec), Schedule())

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[Mutable]:
        """Yield this annotation before p and n, so that `random` may set them."""
        yield from self.genes.values()
        yield self
        yield from self.schedule.values()

    def check_contains(self, sample: dict) -> SampleValidationError | None:
        """Return NNI's ConstraintViolation for a sample that is not of the space or does not fit; None for the
        others."""
        for mutable in [*self.genes.values(), *self.schedule.values()]:
            error = mutable.check_contains(sample)
            if error is not None:
                return error
        candidate, schedule = from_sample(sample)
        if schedule.n and schedule.halo not in self.halos:
            return ConstraintViolation(f"halo = {schedule.halo}: allowed are {', '.join(self.halos)}")
        if self.sample(candidate, schedule) != sample:
            return ConstraintViolation(f"p = {sample['p']}, n = {sample['n']}: per layer is p = 1 and n = 0")
        return self._verdict(build_graph(self.space.spec(candidate), self._yolo), schedule)

    def _verdict(self, graph: Graph, schedule: Schedule) -> ConstraintViolation | None:
        try:
            found = plan(graph, schedule)
        except ScheduleError as error:
            return ConstraintViolation(str(error))
        violation = self.limits.judge(found) if self.limits else None
        return ConstraintViolation(str(violation)) if violation else None

    def random(self, memo: dict | None = None, random_state: RandomState | None = None) -> None:
        """Draw a network at random and take the scheduler's p and n for it."""
        self._complete(memo, lambda mutable, memo: mutable.random(memo, random_state))

    def default(self, memo: dict | None = None) -> None:
        """Take the smallest network of the space."""
        self._complete(memo, lambda mutable, memo: mutable.default(memo))

    def _complete(self, memo: dict | None, draw: Callable[[Mutable, dict], object]) -> None:
        """Fill what `memo` lacks of a sample."""
        memo = {} if memo is None else memo
        for mutable in self.genes.values():
            draw(mutable, memo)
        if not set(self.schedule) & set(memo):
            best = self.check(self.space.spec({gene: memo[gene] for gene in self.genes}))
            if isinstance(best, Violation):
                raise ConstraintViolation(str(best))
            memo.update(self.sample({}, best.schedule))
        self.freeze(memo)


def fits_of(model_space: ModelSpace) -> Fits:
    """Find the annotation of an MCUNetSpace in whatever form NNI has it. Raises StrategyError for another space."""
    for mutable in model_space.simplify().values():
        if isinstance(mutable, Fits):
            return mutable
    raise StrategyError("this is no MCUNetSpace, and only that can be searched here")


class MCUNetSpace(ModelSpace):
    """Offer a search space as NNI's ModelSpace, with mutables for k, e, d, w, r, p and n. freeze(sample) is core's Net
    of the sample's network, untrained, with the detection head of `limits`; its `spec` is the ArchSpec with the
    schedule.

    limits  what each sample must satisfy, the choices of p among it; None: anything that can be scheduled, p up to 4
    """

    def __init__(self, space: Space, limits: Limits | None = None) -> None:
        super().__init__()
        self.fits = Fits(space, limits)
        smallest = self.fits.check(space.spec(space.smallest()))
        if isinstance(smallest, Violation):
            raise StrategyError(f"not even the smallest network of space {space.name} keeps to the limits: {smallest}")
        self.add_mutable(self.fits)

    @classmethod
    def create_fixed_module(cls, sample: dict, space: Space, limits: Limits | None = None) -> Net:
        """Build the Net of a sample: NNI makes this of the class where a sample is given already."""
        candidate, schedule = from_sample(sample)
        spec = space.spec(candidate, schedule)
        net = Net(build_graph(spec, limits.yolo if limits else None))
        net.spec = spec  # type: ignore[assignment]  # torch lets a module have tensors and modules only
        return net

    def freeze(self, sample: dict) -> Net:
        """Build the Net of a sample. Raises NNI's SampleValidationError for one that is not of the space or does not
        fit."""
        self.validate(sample)
        return self.create_fixed_module(sample, self.fits.space, self.fits.limits)


class EvolutionStrategy(Strategy):
    """Run the paper's evolutionary search on an MCUNetSpace, see evolution.py. parents = 0: random search.

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
    ) -> None:
        super().__init__()
        if out is not None:
            check_folder(Path(out).resolve())
        self.history = None if out is None else History(out)
        self.settings: PlainDict = dict(
            seed=seed, population=population, parents=parents, iterations=iterations, mutation=mutation
        )
        self.evolution: Evolution | None = None
        self._running: dict[int, tuple[object, Proposal]] = {}  # by id(model): NNI keeps no model alive
        self._ended: SimpleQueue = SimpleQueue()  # what NNI's threads report, settled in the search's own

    def extra_repr(self) -> str:
        """Write the settings for NNI's log."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())

    def _initialize(self, model_space: ExecutableModelSpace, engine: ExecutionEngine) -> ExecutableModelSpace:
        fits = fits_of(model_space)
        self.evolution = Evolution(fits.space, fits.check, **self.settings)
        if self.history is not None:
            self._open(fits, self.history)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._on_end)
        return model_space

    @property
    def _search(self) -> Evolution:
        """The search, which NNI's first call has begun."""
        return cast(Evolution, self.evolution)

    def _open(self, fits: Fits, history: History) -> None:
        """Go on from the folder's history, or begin one. Raises StateError when it is another search's."""
        limits = None if fits.limits is None else asdict(fits.limits)
        if limits and fits.halos == ("clip",):  # as searches were described before there was a choice
            del limits["halos"]
        described, out = (
            {"settings": self.settings | {"limits": limits}, "space": fits.space.to_dict()},
            history.out,
        )
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
        ranked = self._search.ranked()
        for proposal in (ranked if sort else sorted(ranked, key=lambda p: p.index))[:limit]:
            model = self._model(proposal)
            model.metrics.final, model.status = proposal.score, ModelStatus.Trained
            yield model

    def state_dict(self) -> dict:
        """Return plain values: with anything else torch cannot load what NNI has saved."""
        return {"proposals": []} if self.evolution is None else self.evolution.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        """Go on from a state, unless `out` has brought more: NNI saves one before and one after a search."""
        scores = [sum(p["told"] for p in state["proposals"]) for state in (state_dict, self.state_dict())]
        if scores[0] > scores[1]:
            self._search.load_state_dict(state_dict)


class SupernetEvaluator(Evaluator):
    """Score a candidate by the accuracy of its slice of a trained super-network, see training.evaluate.

    supernet  its checkpoint, loaded once: meant for NNI's sequential engine, which evaluates in this process
    data      see data.open_data
    """

    def __init__(self, supernet: str | Path, data: Data, device: str = "auto") -> None:
        self.space, net = load_supernet(supernet, data)
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
