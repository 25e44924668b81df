"""Count the positions that patches need of every tensor, in closed form, where ops follow one another in a chain.

Position x of a tensor of the chain comes from the input's positions x * stride - before to (x + 1) * stride + behind,
this one left out, not clipped. A shortcut reads no position that the chain does not read, so it changes nothing. Where
each op's windows begin and end in its input, or one padding beyond, it does not matter whether positions are clipped at
the border of every map on the way or of the last. So one expression says what a patch of any cut needs of any tensor: a
search asks thousands of times. tiles.patch_spans says the same of any graph, op by op.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from ..ir.graph import Graph, Op
from ..ir.kinds import FACTS
from ..types import Ints

Place = tuple[int, int, int, int]  # of a tensor of the chain along one axis: stride, before, behind, its length


class Chain(NamedTuple):
    """The places of the chain's tensors along one axis, and for each tensor which of them is its own."""

    places: list[Place]
    at: dict[str, int]


def chain(graph: Graph, ops: int, axis: int) -> Chain | None:
    """Return the chain of the graph's first `ops` ops, None where they are none."""
    if len(graph.inputs) != 1:
        return None
    (image,) = graph.inputs
    last, place = image.name, (1, 0, 0, image.w if axis else image.h)
    places, at = [place], {last: 0}
    for op in graph.ops[:ops]:
        if not op.is_pointwise:
            tensor = graph.tensors[op.name]
            found = _behind(op, place, axis, tensor.w if axis else tensor.h)
            if found is None:
                return None
            if found != place:
                place = found
                places.append(place)
        if last not in op.inputs or not all(
            name == last or (name in at and _dominated(places[at[name]], place)) for name in op.reads
        ):
            return None
        last = op.name
        at[last] = len(places) - 1
    return Chain(places, at)


def _behind(op: Op, place: Place, axis: int, length: int) -> Place | None:
    """Return the place of the op's output of `length`, behind its input at `place`. None for windows that leave out an
    end of their input or begin in the padding behind it, and for what is no window."""
    stride, before, behind, reads = place
    k, s, lo = op.k[axis], op.s[axis], op.pad[axis]
    facts = FACTS[op.kind]
    over = k - s - lo  # positions behind the last one's own
    if facts.enlarges or facts.whole_map or lo < 0 or k <= lo:
        return None
    if length * s + over < reads or (length - 1) * s - lo >= reads:
        return None
    return stride * s, before + lo * stride, behind + over * stride, length


def _dominated(read: Place, place: Place) -> bool:
    """Whether the chain reads of an earlier tensor all that an op at `place` reads of it at its own positions."""
    return read[0] == place[0] and read[1] <= place[1] and read[2] <= place[2] and read[3] == place[3]


def lengths(found: Chain, cuts: list[tuple[str, int]]) -> tuple[Ints, Ints]:
    """Return the positions [place, cut] of the largest patch, and of all patches together; a cut is the tensor that the
    patches hand on, and their number. Places behind a cut have figures without a meaning."""
    most = max(p for _, p in cuts)
    ends = np.array([found.places[found.at[name]] for name, _ in cuts]).T
    bounds = np.array([_bounds(length, p, most) for length, (_, p) in zip(ends[3].tolist(), cuts, strict=True)])
    low, high = bounds.transpose(1, 2, 0)[:, :, None]  # [patch, 1, cut]
    stride, before, behind, length = np.array(found.places).T[:, :, None]
    first = np.maximum(low * ends[0] - ends[1] + before, 0)
    end = np.minimum(high * ends[0] + ends[2] - behind, length * stride)
    need = np.maximum(end - first, 0)
    return need.max(0) // stride, need.sum(0) // stride


@cache
def _bounds(length: int, p: int, most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """First positions and ends of p patches of a length; further ones up to `most` end before they begin."""
    bounds, none = [length * i // p for i in range(p + 1)], most - p
    return (*bounds[:-1], *[1 << 32] * none), (*bounds[1:], *[-1 << 32] * none)
