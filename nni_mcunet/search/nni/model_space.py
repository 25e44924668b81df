"""Offer a search space to NNI's NAS API: MCUNetSpace, whose samples are a network's genes and how it is scheduled.

NNI's own strategies see seven knobs: the genes of space.py (k, e, d, w, r) and the schedule's p and n.
"""

import os
import warnings
from collections.abc import Callable, Iterator

import nni

from ...core.types import Plain, PlainDict

if "NNI_FRAMEWORK" not in os.environ:  # else NNI imports pytorch_lightning with the modules below
    os.environ["NNI_FRAMEWORK"] = "none"  # for the processes NNI starts
    nni.set_default_framework("none")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)  # of classes in torch that NNI does not know
    from nni.mutable import Categorical, Mutable
    from nni.mutable.annotation import Constraint
    from nni.mutable.exception import ConstraintViolation, SampleValidationError
    from nni.mutable.mutable import RandomState
    from nni.nas.nn.pytorch import ModelSpace

from ...core.errors import ScheduleError, UserError
from ...core.ir.arch import ArchSpec, Schedule
from ...core.ir.build import build_graph
from ...core.ir.graph import Graph
from ...core.nn.net import Net
from ...core.plan.cut_points import cuts
from ...core.plan.plan import plan
from ..constraint import Fit, Limits, Violation
from ..space import Candidate, Space
from ..space_file import resolution, spell


class StrategyError(UserError):
    """Report a search through NNI's NAS API that cannot be run as it was put together."""


def to_sample(candidate: Candidate, schedule: Schedule, halo: bool = False) -> PlainDict:
    """Return what NNI calls a sample: the genes, and the schedule as `p` (2, or "2x3" for two rows of three) and `n`,
    and, where there is a choice of it, the `halo`."""
    return candidate | {"p": spell(*schedule.p), "n": schedule.n} | ({"halo": schedule.halo} if halo else {})


def from_sample(sample: PlainDict) -> tuple[Candidate, Schedule]:
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

    def sample(self, candidate: Candidate, schedule: Schedule) -> PlainDict:
        """Return a sample of this space, see to_sample."""
        return to_sample(candidate, schedule, "halo" in self.schedule)

    @property
    def _yolo(self) -> Plain:
        return self.limits.yolo if self.limits else None

    def check(self, spec: ArchSpec) -> Fit | Violation:
        """Return how a network fits best. Without limits nothing is less computation than per layer."""
        return self.limits.check(spec) if self.limits else Fit.of(plan(build_graph(spec), Schedule()))

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Iterator[Mutable]:
        """Yield this annotation before p and n, so that `random` may set them."""
        yield from self.genes.values()
        yield self
        yield from self.schedule.values()

    def check_contains(self, sample: PlainDict) -> SampleValidationError | None:
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

    def grid(self, memo: PlainDict | None = None, granularity: int | None = None) -> Iterator[None]:
        """Yield once for a network that fits, with the scheduler's p and n put into `memo`, and never for one that does
        not. Without a network in `memo`, as NNI asks before it starts, yield once."""
        memo = {} if memo is None else memo
        if not set(self.genes) <= set(memo):
            yield None
            return
        best = self.check(self.space.spec({gene: memo[gene] for gene in self.genes}))
        if not isinstance(best, Violation):
            chosen = self.sample({}, best.schedule)
            memo.update(chosen)
            yield None
            for knob in chosen:
                del memo[knob]

    def as_legacy_dict(self) -> PlainDict:
        """Refuse NNI's tuners of hyper-parameters as strategies (TPE). Raises StrategyError."""
        raise StrategyError(
            "NNI's TPE draws every knob by itself and knows no constraint: take EvolutionStrategy, or NNI's Random, "
            "RegularizedEvolution or GridSearch"
        )

    def random(self, memo: PlainDict | None = None, random_state: RandomState | None = None) -> None:
        """Draw a network at random and take the scheduler's p and n for it."""
        self._complete(memo, lambda mutable, memo: mutable.random(memo, random_state))

    def default(self, memo: PlainDict | None = None) -> None:
        """Take the smallest network of the space."""
        self._complete(memo, lambda mutable, memo: mutable.default(memo))

    def _complete(self, memo: PlainDict | None, draw: Callable[[Mutable, PlainDict], object]) -> None:
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
    def create_fixed_module(cls, sample: PlainDict, space: Space, limits: Limits | None = None) -> Net:
        """Build the Net of a sample: NNI makes this of the class where a sample is given already."""
        candidate, schedule = from_sample(sample)
        spec = space.spec(candidate, schedule)
        net = Net(build_graph(spec, limits.yolo if limits else None))
        net.spec = spec  # type: ignore[assignment]  # torch lets a module have tensors and modules only
        return net

    def freeze(self, sample: PlainDict) -> Net:
        """Build the Net of a sample. Raises NNI's SampleValidationError for one that is not of the space or does not
        fit."""
        self.validate(sample)
        return self.create_fixed_module(sample, self.fits.space, self.fits.limits)
