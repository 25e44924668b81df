"""Say what a search's winner gained from patches: what it needs layer by layer, what would fit without them, and how
many MACs they cost."""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from ...core.ir.build import build_graph
from ...core.plan.plan import Plan, plan
from ...core.types import PlainDict
from ..constraint import Fit, Limits, Violation
from ..space import Candidate, Space
from .history import best_of, schedule_of, winners

HEAD = ("network", "score", "image", "SRAM, kB", "MACs, M")


class Without(NamedTuple):
    """Hold a network that fits without patches. line: its line of the history; None: it was not judged."""

    candidate: Candidate
    fit: Fit
    line: PlainDict | None


class PatchGain(NamedTuple):
    """Hold the winner and what there is without patches.

    best      its line of the history
    whole     its plan layer by layer, and what keeps that from the board; None: it fits so
    judged    the best network of the history that fits without patches, None: none does
    scaled    the winner with a smaller image or narrower stages, the most MACs of those that fit without patches; None:
              none does
    """

    best: PlainDict
    whole: Plan
    obstacle: Violation | None
    judged: Without | None
    scaled: Without | None

    @property
    def macs_paid(self) -> float:
        """Return what patches compute twice, as a share of the MACs layer by layer."""
        return float(self.best["macs"] / self.whole.macs - 1)


def patch_gain(space: Space, limits: Limits, history: list[PlainDict]) -> PatchGain | None:
    """Compare the best of a history with what fits within the limits without patches. None where it has none itself.
    Raises UserError for a history without a score."""
    best = best_of(history)
    if not best["n"]:
        return None
    bare = replace(limits, patches=(1,))

    def fits(candidate: Candidate) -> Fit | None:
        found = bare.check(space.spec(candidate))
        return found if isinstance(found, Fit) else None

    without = ((line, fits(line["candidate"])) for line in winners(history))
    judged = next((Without(line["candidate"], found, line) for line, found in without if found), None)
    smaller = [(candidate, fits(candidate)) for candidate in _smaller(space, best["candidate"])]
    scaled = max((Without(c, found, None) for c, found in smaller if found), key=lambda one: one.fit.macs, default=None)
    obstacle, whole = (
        bare.check(space.spec(best["candidate"])),
        plan(build_graph(space.spec(best["candidate"]), limits.yolo)),
    )
    return PatchGain(best, whole, obstacle if isinstance(obstacle, Violation) else None, judged, scaled)


def _smaller(space: Space, candidate: Candidate) -> Iterator[Candidate]:
    """Yield a candidate with each smaller image, and with all its widths each number of choices narrower."""
    widths = {gene: space.genes[gene].index(candidate[gene]) for gene in space.genes if gene.split("_")[-1] == "w"}
    for r in space.genes["r"][: space.genes["r"].index(candidate["r"]) + 1]:
        for less in range(max(widths.values(), default=0) + 1):
            narrow = {gene: space.genes[gene][max(0, at - less)] for gene, at in widths.items()}
            yield candidate | narrow | {"r": r}


def rows(space: Space, gain: PatchGain) -> list[tuple[str, ...]]:
    """Return the cells of a table, one row a network, under HEAD."""
    best = gain.best

    def row(name: str, candidate: Candidate, score: float | None, sram: int, macs: int) -> tuple[str, ...]:
        image = "x".join(map(str, space.resolution(candidate)))
        return name, "not judged" if score is None else f"{score:.4f}", image, f"{sram / 1024:.1f}", f"{macs / 1e6:.2f}"

    found = [
        row(f"the best, candidate {best['index']}: {schedule_of(best)}", best["candidate"], best["score"], best["sram"],
            best["macs"]),
        row("the same, layer by layer", best["candidate"], best["score"], gain.whole.arena, gain.whole.macs),
    ]  # fmt: skip
    if gain.judged and gain.judged.line:
        line, name = gain.judged.line, "the best judged that fits without patches, candidate"
        found.append(row(f"{name} {line['index']}", line["candidate"], line["score"], gain.judged.fit.arena,
                         gain.judged.fit.macs))  # fmt: skip
    if gain.scaled:
        name = "the best made smaller until it fits without patches"
        found.append(row(name, gain.scaled.candidate, None, gain.scaled.fit.arena, gain.scaled.fit.macs))
    return found


def sentence(gain: PatchGain | None) -> str:
    """Say in words what patches gained and cost."""
    if gain is None:
        return "The best network runs layer by layer: within these limits patches gained nothing."
    if gain.obstacle is None:
        first = "The best network would fit layer by layer, too"
    else:
        first = f"Layer by layer the best network does not fit: {gain.obstacle}"
    paid = f"Patches cost {gain.macs_paid:.1%} more MACs"
    if gain.judged is None or gain.judged.line is None:
        return f"{first}. {paid}. No network that was judged fits without them."
    lost = gain.best["score"] - gain.judged.line["score"]
    return (
        f"{first}. {paid}. The best that was judged and fits without them scores {lost:.4f} less; a search with "
        "`patches: [1]` may find a better one."
    )
