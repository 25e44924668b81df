"""Give every tensor, scratch and halo cache of a plan its buffer, with the times at which it holds what."""

from ..ir.graph import Graph, Tensor
from .arena import Buffer, Life
from .kernel_facts import Kernels
from .liveness import Liveness, layer_by_layer
from .segments import Segment, largest

Over = tuple[int, ...]  # nothing, or the last three fields of Life


def buffers_of(
    graph: Graph, segments: tuple[Segment, ...], kernels: Kernels
) -> tuple[tuple[Buffer, ...], dict[str, int], dict[str, int], dict[str, int]]:
    """Return the buffers, not placed, and the indices home, scratch and cache of Plan. segments: all of the graph's
    ops, in order."""
    lives, layout, begin = _lives(graph, segments), Layout(kernels), 0
    for segment in segments:
        end = begin + len(segment.ops) - 1
        if segment.patched:
            held = largest(segment.lengths)
            made = held if segment.computed is segment.lengths else largest(segment.computed)
        else:
            held = made = {name: (graph.tensors[name].h, graph.tensors[name].w) for name in segment.spans[0][0]}
        for name, size in segment.caches():
            layout.cache[name] = layout.add(name, size, begin, end)
        for image in graph.inputs:
            if image.name in held and image.name not in layout.home:
                layout.hold(image, held[image.name], lives)
        for index, op in enumerate(segment.ops, begin):
            tensor, source = graph.tensors[op.name], lives.eats.get(op.name)
            whole = op.name == segment.out and segment.patched
            layout.run(
                graph,
                index,
                lives,
                (tensor.h, tensor.w) if whole else held[op.name],
                made[op.name],
                # A tile that begins with cached positions would shift what is written past what is still read.
                in_place=segment.computes_all(op.name),
                eats=source is not None and segment.in_step(op, source),
            )
        begin = end + 1
    return layout.buffers(), layout.home, layout.scratch, layout.cache


def _lives(graph: Graph, segments: tuple[Segment, ...]) -> Liveness:
    """Return the lives of all tensors under a row of segments."""
    lives, begin = layer_by_layer(graph), 0
    for segment in segments:
        if segment.patched:
            end = begin + len(segment.ops) - 1
            lives = lives.changed(lives.in_patches(begin, end, segment.out, segment.former))
        begin += len(segment.ops)
    return lives


class Layout:
    """Buffers in the making; tensors that share one by aliasing share an entry of `home`."""

    def __init__(self, kernels: Kernels):
        self.kernels = kernels
        self.home: dict[str, int] = {}
        self.scratch: dict[str, int] = {}
        self.cache: dict[str, int] = {}
        self._table: list[tuple[str, list[Life]]] = []

    def add(self, name: str, size: int, start: int, end: int, at: int | None = None, over: Over = ()) -> int:
        """Add a life of `size` bytes to buffer `at`, or to a new one; return the buffer's index. over: the last three
        of Life."""
        if at is None:
            self._table.append((name, []))
            at = len(self._table) - 1
        self._table[at][1].append(Life(start, end, self.kernels.aligned(size), *over))
        return at

    def hold(
        self, tensor: Tensor, size: tuple[int, int], lives: Liveness, at: int | None = None, over: Over = ()
    ) -> None:
        """Give `size` positions of a tensor their home for its life, in buffer `at` or in a new one."""
        bytes_ = size[0] * size[1] * tensor.c
        born, dies = max(lives.born[tensor.name], 0), lives.dies[tensor.name]
        self.home[tensor.name] = self.add(tensor.name, bytes_, born, dies, at, over)

    def run(
        self,
        graph: Graph,
        index: int,
        lives: Liveness,
        held: tuple[int, int],
        made: tuple[int, int],
        in_place: bool,
        eats: bool,
    ) -> None:
        """Give the output of op `index` and its scratch their homes. held: the positions of the output's buffer, made:
        those that the op computes at once; in_place, eats: whether it may write as `lives` says."""
        op = graph.ops[index]
        target, source = lives.onto.get(op.name), lives.eats.get(op.name)
        over: Over = ()
        if self.kernels.shift and source and eats:
            over = self.home[source], *map(self.kernels.aligned, self.kernels.shift(graph, op, *held))
        at = self.home[target] if target and in_place else None
        self.hold(graph.tensors[op.name], held, lives, at, over)
        if scratch := self.kernels.scratch(op, graph.input_of(op).c, *made):
            self.scratch[op.name] = self.add(f"{op.name}:scratch", scratch, index, index)

    def buffers(self) -> tuple[Buffer, ...]:
        """Return the buffers, not placed."""
        return tuple(Buffer(name, tuple(lives)) for name, lives in self._table)
