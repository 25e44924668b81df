"""The paper's evolutionary search (appendix B), ask and tell. Pure and seeded: it trains nothing and knows no NNI.

The first generation is random; each later one is bred from the best `parents` of all seen so far, half by crossover,
half by mutation. Every proposal satisfies the constraint, and no network is proposed twice: two candidates are the
same when their specs are (see space.py). A generation's randomness depends on the seed and its number alone, so the
order in which scores arrive changes nothing, and a search restored from its proposals goes on as if never stopped.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from ..core.arch import ArchSpec
from ..core.errors import Infeasible
from ..core.plan import Plan
from .constraint import Violation
from .space import Candidate, Space

TRIES = 1000  # candidates drawn for one proposal before the search gives up on it


@dataclass
class Proposal:
    """A candidate to evaluate, and its score once told. Plain values only: a line of the history.

    sram, flash in bytes, macs with the halo's under the schedule p, n. score None: not told yet, or its trial failed
    """

    index: int
    generation: int
    candidate: Candidate
    p: list[int]
    n: int
    sram: int
    flash: int
    macs: int
    score: float | None = None
    told: bool = False


class Evolution:
    """check(spec) -> Plan or Violation. population, parents, iterations, mutation as in the paper (100, 20, 30, 0.1):
    population * (1 + iterations) networks in all, fewer when the space has no more new ones to offer."""

    def __init__(
        self,
        space: Space,
        check: Callable[[ArchSpec], Plan | Violation],
        seed: int = 0,
        population: int = 100,
        parents: int = 20,
        iterations: int = 30,
        mutation: float = 0.1,
    ):
        self.space, self.check, self.seed = space, check, seed
        self.population, self.parents, self.iterations, self.mutation = population, parents, iterations, mutation
        self.proposals: list[Proposal] = []
        self._queue: list[Proposal] = []
        self._seen: set[ArchSpec] = set()  # proposed or refused: either way not to be looked at again
        self._refused: list[Violation] = []
        self._exhausted = False

    def ask(self) -> Proposal | None:
        """The next proposal; None while the generation's scores are incomplete, and when the search is over."""
        if not self._queue and not self.done and all(p.told for p in self.proposals):
            self._breed()
        return self._queue.pop(0) if self._queue else None

    def tell(self, index: int, score: float | None) -> None:
        """The score (higher is better) of proposal `index`; None when its evaluation failed."""
        self.proposals[index].score, self.proposals[index].told = score, True

    @property
    def done(self) -> bool:
        """Every score is told and no generation is left to breed."""
        told = bool(self.proposals) and all(p.told for p in self.proposals)
        return told and (self._exhausted or self.proposals[-1].generation >= self.iterations)

    def ranked(self) -> list[Proposal]:
        """Proposals with a score, best first; of equals the earlier."""
        scored = [p for p in self.proposals if p.score is not None]
        return sorted(scored, key=lambda p: (-p.score, p.index))

    def state_dict(self) -> dict:
        return {"proposals": [asdict(p) for p in self.proposals]}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state: what was asked but never told will be asked again."""
        self.proposals = [Proposal(**p) for p in state["proposals"]]
        self._queue = [p for p in self.proposals if not p.told]
        self._seen = {self.space.spec(p.candidate) for p in self.proposals}

    def _breed(self) -> None:
        generation = self.proposals[-1].generation + 1 if self.proposals else 0
        rng = np.random.default_rng([self.seed, generation])
        best = [p.candidate for p in self.ranked()[: self.parents]]
        for at in range(self.population):
            proposal = self._find(lambda at=at: self._draw(rng, best, at), generation)
            if proposal is not None:
                self.proposals.append(proposal)
                self._queue.append(proposal)
            elif not best:  # random draws are all alike: one that finds nothing speaks for the rest
                break
        self._exhausted = not self._queue
        if not self.proposals:
            raise self._infeasible()

    def _draw(self, rng: np.random.Generator, best: list[Candidate], at: int) -> Candidate:
        """Member `at` of a generation: random without parents, else the first half by crossover, the rest mutants."""
        if not best:
            return self.space.random(rng)
        a, b = (best[int(rng.integers(len(best)))] for _ in range(2))
        if at < self.population // 2:
            return self.space.crossover(a, b, rng)
        return self.space.mutate(a, rng, self.mutation)

    def _find(self, draw: Callable[[], Candidate], generation: int) -> Proposal | None:
        """Draw until a new network satisfies the constraint, TRIES times at most."""
        for _ in range(TRIES):
            candidate = draw()
            spec = self.space.spec(candidate)
            if spec in self._seen:
                continue
            self._seen.add(spec)
            plan = self.check(spec)
            if isinstance(plan, Plan):
                p, n = list(plan.schedule.p), plan.schedule.n
                index = len(self.proposals)
                return Proposal(index, generation, candidate, p, n, plan.arena, plan.flash, plan.macs)
            self._refused.append(plan)
        return None

    def _infeasible(self) -> Infeasible:
        """The limit that refused most, and how near the nearest network came to it."""
        smallest = self.check(self.space.spec(self.space.smallest()))
        refused = self._refused + [smallest] * isinstance(smallest, Violation)
        what = Counter(v.what for v in refused).most_common(1)[0][0]
        nearest = min((v for v in refused if v.what == what), key=lambda v: v.needed)
        tail = "" if isinstance(smallest, Violation) else "; the smallest network of the space would fit"
        error = Infeasible(
            f"none of {len(self._refused)} random networks of space {self.space.name} meets the limit of {what}: "
            f"the nearest has {nearest}{tail}; raise the limit or take a smaller space"
        )
        error.what, error.needed, error.limit = nearest.what, nearest.needed, nearest.limit
        return error
