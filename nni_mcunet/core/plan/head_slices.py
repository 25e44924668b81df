"""Cut the wide convolution before a global mean into slices of channels, so that no more than one of them is in memory.

A head of 1,280 channels on 5x5 positions holds 32,000 bytes, of which the mean leaves 1,280. Each channel's mean is of
that channel only: so a slice of the convolution runs, then its mean, then the next slice. Every channel is computed
once, by the same integers. This is a change of the graph, made where a plan is: plan.py asks for it by
Schedule.slices, and the engine cuts a model's weights alike (engine/lower/slices.py).
"""

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from ..errors import ScheduleError
from ..ir.graph import Graph, Op

LEAST_POSITIONS = 4  # of a map that is worth it: its slices' means are joined by a copy, which needs room for two


class Slices(NamedTuple):
    """A graph with its heads in slices, and for each new op (the op of which it is a slice, first channel, end)."""

    graph: Graph
    of: dict[str, tuple[str, int, int]]


def heads(graph: Graph) -> dict[str, str]:
    """Return convolution -> the global mean behind it, where slices are worth it: nothing else reads the map, and it
    has several positions. Its channels are made independently: no groups, no residual, no weights of another op."""
    shared, last = {op.shares for op in graph.ops}, graph.last_use()
    found = {}
    for index, (op, mean) in enumerate(pairwise(graph.ops), 1):
        tensor = graph.tensors[op.name]
        alone = op.groups == 1 and op.residual is None and op.shares is None and op.name not in shared
        read = mean.kind == "gap" and mean.inputs == (op.name,) and last[op.name] == index
        if op.kind == "conv" and alone and read and tensor.h * tensor.w >= LEAST_POSITIONS:
            found[op.name] = mean.name
    return found


def sliced(graph: Graph, count: int) -> Slices:
    """Return the graph with each of its heads in `count` slices, or as many as it has fours of channels. Raises
    ScheduleError for a graph without a head."""
    means = heads(graph)
    if not means:
        raise ScheduleError(
            f"slices = {count}: {graph.name} has no convolution that a global mean, and nothing else, reads"
        )
    means = {name: mean for name, mean in means.items() if len(_bounds(graph.tensors[name].c, count)) > 1}
    taken, of = set(graph.tensors), {}
    ops: list[Op] = []
    for op, following in zip(graph.ops, (*graph.ops[1:], None), strict=True):
        if op.name in means.values():
            continue
        if op.name not in means or following is None:
            ops.append(op)
            continue
        parts = []
        for first, end in _bounds(op.cout, count):
            names = [_free(f"{one.name}_{first}", taken) for one in (op, following)]
            of.update({name: (one.name, first, end) for name, one in zip(names, (op, following), strict=True)})
            ops.append(replace(op, name=names[0], cout=end - first))
            ops.append(replace(following, name=names[1], inputs=(names[0],), cout=end - first, block=op.block))
            parts.append(names[1])
        joined = Op(following.name, "concat", tuple(parts), op.cout, block=following.block)
        ops.append(joined)
    return Slices(Graph(graph.name, graph.inputs, tuple(ops), graph.outputs).verify(), of)


def counts(graph: Graph, most: int) -> list[int]:
    """Return the numbers of slices that are tried up to `most`, the fewest first: powers of two, 1 where there is no
    head."""
    return [1] if most == 1 or not heads(graph) else [1 << i for i in range(most.bit_length())]


def _bounds(cout: int, count: int) -> list[tuple[int, int]]:
    """Return (first, end) of the channels of each slice: kernels compute outputs by two and read inputs by four. A head
    of few channels may be one slice."""
    ends = sorted({0, cout, *(cout * i // count // 4 * 4 for i in range(1, count))})
    return list(pairwise(ends))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
