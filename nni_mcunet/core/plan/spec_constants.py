"""Count the constants of a network from its description, block by block, before a graph of it is built.

A search draws thousands of networks from few blocks, and most do not fit a small board's flash. So the parts that were
counted are remembered. The figures are those of kernel_facts for small graphs of the same ops; the size of a map says
nothing about constants.
"""

from dataclasses import replace
from functools import lru_cache

from ..ir.arch import ArchSpec, Block
from ..ir.build import Yolo, build_graph
from .kernel_facts import constant_bytes, graph_constants

_SIDE = 64  # of the image of a small graph


def spec_constants(spec: ArchSpec, head: Yolo | None = None) -> int:
    """Return the bytes of constants of build_graph(spec, head). Raises ArchError for a head's tap that is no stage."""
    if spec.pool or (head is not None and head.taps[-1] >= len(spec.stages)):
        return graph_constants(build_graph(spec, head))
    stages = spec.stages if head is None else spec.stages[: head.taps[-1] + 1]
    total, cin = _stem(spec.stem), spec.stem
    for stage in stages:
        for block in stage:
            total += _block(block, cin)
            cin = block.c
    if head is None:
        return total + _classifier(cin, spec.head, spec.classes)
    return total + _detector(head, tuple(spec.stages[tap][-1].c for tap in head.taps))


@lru_cache(maxsize=1 << 12)
def _stem(channels: int) -> int:
    return _of(_spec(channels, (Block(0, 1, 0, 1),)), ("stem",))


@lru_cache(maxsize=1 << 16)
def _block(block: Block, cin: int) -> int:
    return _of(_spec(cin, (block,)), ("s0_b0",))


@lru_cache(maxsize=1 << 12)
def _classifier(cin: int, head: int | None, classes: int | None) -> int:
    return _of(replace(_spec(1, (Block(0, 1, 0, cin),)), head=head, classes=classes), ("head", "pool", "fc"))


@lru_cache(maxsize=1 << 12)
def _detector(head: Yolo, channels: tuple[int, ...]) -> int:
    spec = _spec(1, *((Block(3, 2, 1, c),) for c in channels))
    return _of(spec, ("neck", "yolo"), replace(head, taps=tuple(range(len(channels)))))


def _spec(stem: int, *stages: tuple[Block, ...]) -> ArchSpec:
    return ArchSpec("part", (_SIDE << len(stages),) * 2, stem, stages)


def _of(spec: ArchSpec, prefixes: tuple[str, ...], head: Yolo | None = None) -> int:
    graph = build_graph(spec, head)
    return sum(constant_bytes(graph, op) for op in graph.ops if op.name.startswith(prefixes))
