"""Which tensors are alive while an op runs, and which op writes onto which tensor: said here once.

plan.py walks these facts for one schedule and adds sizes, which gives buffers. schedule_costs.py walks them for all
schedules at once, as arrays. Nothing here knows a size: time is the index of an op in its graph.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..ir.graph import Graph, once
from ..types import Count
from .kernel_facts import consumes, in_place


@dataclass(frozen=True)
class Liveness:
    """Lives of tensors, or those of them that change.

    born  tensor -> the first op while which it is alive; -1 for an image, which is there before the first op
    dies  tensor -> the last op while which it is alive; the number of ops for an output of the graph
    onto  op -> the tensor that it overwrites, so that both share a buffer; "" where a change forbids it
    eats  op -> the input that it reads for the last time and may write over as it goes; "" where a change forbids it
    """

    born: dict[str, int]
    dies: dict[str, int]
    onto: dict[str, str]
    eats: dict[str, str]

    def handed_on(self, begin: int) -> set[str]:
        """Return the tensors that the ops before index `begin` hand on to those from there on."""
        return {name for name, born in self.born.items() if born < begin <= self.dies[name]}

    def in_patches(self, begin: int, end: int, out: str, former: Iterable[str]) -> "Liveness":
        """Return the entries that change where the ops begin..end (inclusive) run patch by patch.

        They run again for each patch. So `out`, the tensor they hand on, is alive from the first of them on, and the
        maps of former segments, `former`, at least to the last. An op does not overwrite what later patches read
        again (the image, a former segment's map), and the last one writes into a map of its own.
        """

        def forbidden(targets: dict[str, str]) -> dict[str, str]:
            return {
                name: ""
                for name, target in targets.items()
                if read_again(self.born[name], self.born[target], name == out, begin, end)
            }

        dies = {name: max(self.dies[name], end) for name in former}
        return Liveness({out: begin}, dies, forbidden(self.onto), forbidden(self.eats))

    def changed(self, changes: "Liveness") -> "Liveness":
        """Return these lives with the `changes` of in_patches."""
        onto = {op: target for op, target in (self.onto | changes.onto).items() if target}
        eats = {op: target for op, target in (self.eats | changes.eats).items() if target}
        return Liveness(self.born | changes.born, self.dies | changes.dies, onto, eats)


def read_again(op: Count, target: Count, hands_on: Count, begin: Count, end: Count) -> Count:
    """Tell whether patches read again what op number `op` would overwrite: see Liveness.in_patches. target: the op that
    wrote it; hands_on: whether this op writes the map that the patches hand on. Numbers, or arrays of them."""
    return (hands_on | (target < begin)) & (begin <= op) & (op <= end)


@once
def layer_by_layer(graph: Graph) -> Liveness:
    """Return the lives where every op runs once, in order."""
    links, targets = graph.links, in_place(graph)
    onto = {graph.ops[index].name: target for index, target in targets.items()}
    eats = {graph.ops[index].name: source for index, source in consumes(graph, targets).items()}
    return Liveness(links.born, links.last, onto, eats)


def former_maps(lives: Liveness, begin: int, tiled: Iterable[str]) -> set[str]:
    """Return the tensors that stand in full maps as long as a patched segment from op `begin` on runs: what former
    segments hand on, to it or to later ones, but not the images `tiled`, of which each patch reads its tile anew."""
    return lives.handed_on(begin).difference(tiled)
