"""Run the paper's evolutionary search (appendix B) by ask and tell. It is pure and seeded, trains nothing, knows no
NNI.

The first generation is random. Each later one is bred from the best `parents` of all seen so far, half by crossover,
half by mutation. The best are those of the highest score, or the first in the order of a search for a front. Without
parents every generation is random: the baseline of random search. Every proposal satisfies the constraint, and no
network is proposed twice: two candidates are the same when their specs are (see space.py).

A generation's randomness depends only on the seed and its number. So the order in which scores arrive changes nothing,
and a search restored from its proposals, or from the first so many of them, goes on as if never stopped.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from itertools import islice
from math import isfinite
from operator import itemgetter

import numpy as np

from ..core.errors import Infeasible, UserError
from ..core.ir.arch import ArchSpec, Schedule
from ..core.types import PlainDict
from .constraint import Fit, Violation
from .predictor import Predictor
from .space import Candidate, Space

Check = Callable[[ArchSpec], Fit | Violation]
FEWEST = 20  # scores from which the others are predicted
FEW = 10  # tries of a member that is bred by predicted scores
TRIES = 1000  # candidates drawn for one proposal before the search gives up on it


class HistoryError(UserError):
    """Report a history that is damaged, or that these settings would not have given."""


@dataclass
class Proposal:
    """Hold a candidate to evaluate, and its score once told. Values are plain: a proposal is a line of the history.

    sram, flash  in bytes
    macs         with the halo's, under the schedule p, n, halo
    score        None: not told yet, or its trial failed
    """

    index: int
    generation: int
    candidate: Candidate
    p: list[int]
    n: int
    sram: int
    flash: int
    macs: int
    halo: str = "clip"
    score: float | None = None
    told: bool = False

    @property
    def schedule(self) -> Schedule:
        """Return the schedule that the network was planned with."""
        return Schedule((self.p[0], self.p[1]), self.n, halo=self.halo)


class Evolution:
    """Propose networks and learn their scores.

    check        spec -> Fit or Violation
    order        scored proposals, best score first -> the same, those first that are to breed, see objectives.py; None:
                 by score, as in the paper
    sieve        a generation is bred in so many rounds, the first from the best scores, the others from the best
                 predicted ones, and half of it is the best predicted of all rounds, see predictor.py; 1: nothing is
                 predicted, as in the paper
    shares       of a search for several boards their checks: member i of a generation must also pass the one at
                 i % len(shares), and so do its parents: each board gets as many networks
    population   networks of a generation, parents: the best that breed it, iterations: generations after the first,
                 mutation: probability of a new gene; as in the paper 100, 20, 30, 0.1

    A whole search has population * (1 + iterations) networks. A generation for which too few new networks are found is
    smaller, and one for which none is found ends the search.
    """

    def __init__(
        self,
        space: Space,
        check: Check,
        seed: int = 0,
        population: int = 100,
        parents: int = 20,
        iterations: int = 30,
        mutation: float = 0.1,
        order: Callable[[list[Proposal]], list[Proposal]] | None = None,
        shares: Sequence[Check] = (),
        sieve: int = 1,
    ):
        self.space, self.check, self.seed, self.order = space, check, seed, order
        self.population, self.parents, self.iterations, self.mutation = population, parents, iterations, mutation
        self.shares, self.sieve = shares, sieve
        self.load_state_dict({"proposals": []})

    def ask(self) -> Proposal | None:
        """Return the next proposal; None while the generation's scores are incomplete, and when the search is over.
        Raises Infeasible when no network of the space fits."""
        self._mend()
        if not self._queue and not self.done and _all_told(self.proposals):
            generation = self.proposals[-1].generation + 1 if self.proposals else 0
            self._append(self._breed(generation, self.proposals))
            self._exhausted = not self._queue
            if not self.proposals:
                raise self._infeasible()
        return self._queue.pop(0) if self._queue else None

    @property
    def queued(self) -> int:
        """Count the generation's proposals that ask() has not returned yet."""
        return len(self._queue)

    def tell(self, index: int, score: float | None) -> None:
        """Take the score (higher is better) of proposal `index`; None when its evaluation failed. So does one whose
        score is no finite number: nothing can be ranked by it."""
        real = score is not None and isfinite(score)
        self.proposals[index].score, self.proposals[index].told = score if real else None, True

    @property
    def done(self) -> bool:
        """Tell whether every score is told and no generation is left to breed."""
        if not self.proposals or self._cut or not _all_told(self.proposals):
            return False
        return self._exhausted or self.proposals[-1].generation >= self.iterations

    def ranked(self) -> list[Proposal]:
        """Return the proposals with a score, best first; between equals the earlier is first."""
        return _ranked(self.proposals)

    def winners(self) -> list[Proposal]:
        """Return the proposals with a score, the winner first; between equals the cheaper is first."""
        scored = [(first_of_equals(p.score, p.macs, p.sram, p.index), p) for p in self.ranked() if p.score is not None]
        return [p for _, p in sorted(scored, key=itemgetter(0))]

    def state_dict(self) -> PlainDict:
        """Return the whole state as plain values."""
        return {"proposals": [asdict(p) for p in self.proposals]}

    def load_state_dict(self, state: PlainDict) -> None:
        """Go on from a state or from its first proposals: proposals that were not told will be asked again. Raises
        HistoryError when the last generation is not what these settings give."""
        self.proposals = [Proposal(**p) for p in state["proposals"]]
        self._queue = [p for p in self.proposals if not p.told]
        self._passed: dict[tuple[int, ArchSpec], bool] = {}  # share, network -> whether it passes the share's check
        self._seen: set[ArchSpec] = set()  # proposed or refused: neither is looked at again
        self._drawn: Counter[str] = Counter()  # new networks judged: which limit refused them, or "none"
        self._nearest: dict[str, Violation] = {}  # limit -> the refused network that came nearest to it
        self._exhausted, self._cut = False, bool(self.proposals)
        self._mend()

    def _mend(self) -> None:
        """Breed the last generation of a restored history again, once all before it are told: it may have been cut
        short."""
        last = self.proposals[-1].generation if self.proposals else 0
        before = [p for p in self.proposals if p.generation < last]
        if not self._cut or not _all_told(before):
            return
        self._seen = {self.space.spec(p.candidate) for p in before}
        bred, known = self._breed(last, before), self.proposals[len(before) :]
        for at, proposal in enumerate(known):
            if at >= len(bred) or astuple(proposal)[:-2] != astuple(bred[at])[:-2]:  # all but score, told
                if at < len(bred) and proposal.candidate == bred[at].candidate:
                    raise HistoryError(
                        f"the history's candidate {proposal.index} needs {bred[at].sram:,} bytes of SRAM and "
                        f"{bred[at].macs:,} MACs by these limits and this version's planner, not {proposal.sram:,} and "
                        f"{proposal.macs:,}: restore the settings, finish the search with the version that began it, "
                        "or begin one anew in another folder"
                    )
                raise HistoryError(
                    f"the history's candidate {proposal.index} is not what this seed, space and limits give: it is of "
                    "another search; give another folder for the results, or restore the settings"
                )
        self._append(bred[len(known) :])
        self._cut = False

    def _append(self, proposals: list[Proposal]) -> None:
        self.proposals += proposals
        self._queue += proposals

    def _breed(self, generation: int, before: list[Proposal]) -> list[Proposal]:
        """Return the proposals of a generation that follows `before`, all of which are told."""
        rng = np.random.default_rng([self.seed, generation])
        ranked = _ranked(before)
        shared = [self._random_tries(not before) for _ in self.shares or (None,)]
        fittest = self.order(ranked) if self.order and self.parents else ranked
        found = self._members(rng, fittest, len(before), generation, shared)
        return self._sifted(rng, ranked, found, generation) if self.sieve > 1 and len(ranked) >= FEWEST else found

    def _members(
        self,
        rng: np.random.Generator,
        fittest: list[Proposal],
        first: int,
        generation: int,
        random: list[Iterator[int]],
        tries: int = TRIES,
    ) -> list[Proposal]:
        """Return a generation's members, numbered from `first` and bred from the fittest; random: each share's tries
        where it has no parents, tries: of a member that has."""
        best = [self._parents(fittest, at) for at in range(len(random))]
        found: list[Proposal] = []
        for at in range(self.population):
            share = at % len(random)
            draws = range(tries) if best[share] else random[share]
            draw, index = partial(self._draw, rng, best[share], at), first + len(found)
            proposal = self._find(draw, draws, index, generation, self.shares[share] if self.shares else None)
            if proposal is not None:
                found.append(proposal)
        return found

    def _parents(self, fittest: list[Proposal], share: int) -> list[Candidate]:
        """Return the candidates from which a share of the next generation is bred: the first that pass its check."""
        passing = (p.candidate for p in fittest if not self.shares or self._passes(share, p))
        return list(islice(passing, self.parents))

    def _passes(self, share: int, proposal: Proposal) -> bool:
        key = share, self.space.spec(proposal.candidate)
        if key not in self._passed:
            self._passed[key] = isinstance(self.shares[share](key[1]), Fit)
        return self._passed[key]

    def _sifted(
        self, rng: np.random.Generator, scored: list[Proposal], found: list[Proposal], generation: int
    ) -> list[Proposal]:
        """Breed on from a generation's members `found` and what is known, in rounds by predicted scores. Return the
        first half of `found` and of all others those of the highest prediction: it errs where it has led itself. The
        rest may be drawn again: a search that goes on does not know them."""
        half = self.population // 2
        known, first = sorted(scored, key=lambda p: p.index), found[0].index if found else 0
        predictor = Predictor(self.space, [p.candidate for p in known], [p.score for p in known if p.score is not None])

        def ordered(proposals: list[Proposal]) -> list[Proposal]:
            expected = predictor.predict([p.candidate for p in proposals])
            return [proposals[at] for at in np.argsort(-expected, kind="stable")]

        for _ in range(self.sieve - 1):
            fittest = ordered(known + found) if self.parents else []
            found += self._members(rng, fittest, first + len(found), generation, [self._random_tries(False)], FEW)
        best = found[:half] + ordered(found[half:])
        self._seen -= {self.space.spec(p.candidate) for p in best[self.population :]}
        kept = sorted(best[: self.population], key=lambda p: p.index)
        return [replace(proposal, index=first + at) for at, proposal in enumerate(kept)]

    def _random_tries(self, first: bool) -> Iterator[int]:
        """Yield the tries of a random generation. Random draws are all alike, so one proposal may take what others
        leave. But a search whose first TRIES are in vain ends where not even the smallest network of the space fits,
        and after ten times as many it ends anyway."""
        for at in range(TRIES * self.population // max(1, len(self.shares))):
            vain = first and not self._drawn["none"]
            if vain and (at == 10 * TRIES or (at == TRIES and isinstance(self._smallest(), Violation))):
                return
            yield at

    def _draw(self, rng: np.random.Generator, best: list[Candidate], at: int) -> Candidate:
        """Draw member `at` of a generation: at random without parents, else the first half by crossover, the rest by
        mutation."""
        if not best:
            return self.space.random(rng)
        a, b = (best[int(rng.integers(len(best)))] for _ in range(2))
        if at < self.population // 2:
            return self.space.crossover(a, b, rng)
        return self.space.mutate(a, rng, self.mutation)

    def _find(
        self, draw: Callable[[], Candidate], tries: Iterable[int], index: int, generation: int, share: Check | None
    ) -> Proposal | None:
        """Draw until a new network satisfies the constraint, and that of its share, or the tries are used up."""
        for _ in tries:
            candidate = draw()
            spec = self.space.spec(candidate)
            if spec in self._seen:
                continue
            if share is not None and isinstance(refused := share(spec), Violation):
                self._refuse(refused)  # not seen: it may be another share's
                continue
            self._seen.add(spec)
            found = self.check(spec)
            if isinstance(found, Fit):
                self._drawn["none"] += 1
                p, n, halo = list(found.schedule.p), found.schedule.n, found.schedule.halo
                return Proposal(index, generation, candidate, p, n, found.arena, found.flash, found.macs, halo)
            self._refuse(found)
        return None

    def _refuse(self, violation: Violation) -> None:
        """Count a network that does not fit, for the message where none does."""
        nearest = self._nearest.get(violation.what, violation)
        self._drawn[violation.what] += 1
        self._nearest[violation.what] = min(violation, nearest, key=lambda v: v.needed)

    def _smallest(self) -> Fit | Violation:
        return self.check(self.space.spec(self.space.smallest()))

    def _infeasible(self) -> Infeasible:
        """Say which limit stands in the way, what the smallest network needs, and how many networks were tried."""
        smallest, tried = self._smallest(), f"{self._drawn.total():,} random networks of space {self.space.name}"
        over = ", ".join(f"{count:,} over {what}" for what, count in self._drawn.most_common())
        if isinstance(smallest, Violation):
            worst, advice = smallest, "raise the limit or take a smaller space"
            reason = f"the smallest network of the space has {smallest}"
        else:
            worst, advice = self._nearest[self._drawn.most_common(1)[0][0]], "take a smaller space or raise the limit"
            reason = (
                f"the nearest has {worst}; only the smallest network of the space is known to fit, with "
                f"{smallest.arena:,} bytes of sram, {smallest.flash:,} of flash and {smallest.macs:,} MACs"
            )
        error = Infeasible(f"none of {tried} meets the limit of {worst.what} ({over}): {reason}; {advice}")
        error.what, error.needed, error.limit = worst.what, worst.needed, worst.limit
        return error


def first_of_equals(score: float, macs: int, sram: int, index: int) -> tuple[float, int, int, int]:
    """Return what sorts networks, the winner first: the highest score, then the fewest MACs, the least SRAM, the
    earliest. A score of some hundred pictures is often another's as well."""
    return -score, macs, sram, index


def _all_told(proposals: list[Proposal]) -> bool:
    return all(p.told for p in proposals)


def _ranked(proposals: list[Proposal]) -> list[Proposal]:
    scored = [(-p.score, p.index, p) for p in proposals if p.score is not None]
    return [p for _, _, p in sorted(scored, key=itemgetter(0, 1))]
