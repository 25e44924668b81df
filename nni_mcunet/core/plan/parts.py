"""Remember what the planner knows of the parts of networks: their constants, costs and buffers.

A search draws thousands of networks from few parts. A stem, a block or a head with maps of the same sizes has the same
bytes and multiply-accumulates in each of them. The figures are those of the planner for the graph of the part only.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from ..ir.arch import ArchSpec
from ..ir.build import Part, Size, Yolo, build_graph, part_graph, parts_of
from ..ir.graph import Graph, Op, out_length
from .arena import neighbours, profile, rooms
from .cut_points import ends_patches
from .kernel_facts import CORTEX_M, graph_constants
from .layout import Layout
from .liveness import Liveness, layer_by_layer


class Bytes(NamedTuple):
    """The buffers of a part that runs, with times from its first op on, and what they ask of a placement.

    sizes, spans     bytes of each, its first op and its last
    pairs            (buffer, another, and for both the bytes behind its beginning in which the other must not begin) of
                     those in use at once; maps: where both hold a map of `inputs` or `out`
    inputs, out      which buffers hold the maps that the part reads and the one that it hands on
    read             the last op that reads each of the inputs
    largest          bytes of the largest of the others
    room, met, bare  see arena.Rooms; the maps are fixed
    """

    ops: int
    sizes: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int, int, int], ...]
    maps: tuple[tuple[int, int, int, int], ...]
    inputs: tuple[int, ...]
    out: int
    read: tuple[int, ...]
    largest: int
    room: int
    met: tuple[int, ...]
    bare: tuple[int, ...]


class Window(NamedTuple):
    """The window of the part's only op that has one, along either axis: length, stride, padding before."""

    k: int
    s: int
    pad: int


class Facts(NamedTuple):
    """A part layer by layer.

    size           of the map that it hands on
    macs, peak     multiply-accumulates, and bytes alive at its worst op
    window         None where every position comes from one position
    before, after  multiply-accumulates of a position before the window and from it on
    patchable      whether it may run in patches
    """

    size: Size
    macs: int
    peak: int
    window: Window | None
    before: int
    after: int
    patchable: bool
    bytes: Bytes


class Tile(NamedTuple):
    """A part in a patch: rows, columns and channels of what it reads, rows and columns of what it makes. last: it
    writes into the map that all patches fill, whose bytes are left out of its own; kept: a later part reads its input
    again."""

    part: Part
    reads: Size
    makes: tuple[int, int]
    last: bool = False
    kept: bool = False


class _Structure(NamedTuple):
    """A part, whatever the size of its maps. plain: only 1x1 convolutions write over their inputs as they go,
    and the one op with a window tells all sizes; the facts are those of Facts."""

    graph: Graph
    lives: Liveness
    plain: bool
    window: Window | None
    before: int
    after: int
    patchable: bool


def spec_constants(spec: ArchSpec, head: Yolo | None = None) -> int:
    """Return the bytes of constants of build_graph(spec, head). Raises ArchError for a head's tap that is no stage."""
    parts = parts_of(spec, head)
    if parts is None:
        return graph_constants(build_graph(spec, head))
    channels, total = 3, 0
    for part in parts[:-1]:
        constants, channels = _constants(part, (channels,))
        total += constants
    taps = (channels,) if head is None else tuple([spec.stages[tap][-1].c for tap in head.taps])
    return total + _constants(parts[-1], taps)[0]


@lru_cache(maxsize=1 << 14)
def _constants(part: Part, channels: tuple[int, ...]) -> tuple[int, int]:
    """Bytes of a part's constants, and the channels of what it hands on. The size of a map says nothing about them."""
    graph = part_graph(part, *((64 >> i, 64 >> i, c) for i, c in enumerate(channels)))
    return graph_constants(graph), graph.tensors[graph.outputs[0]].c


@lru_cache(maxsize=1 << 14)
def facts(part: Part, reads: tuple[Size, ...], kept: bool = False) -> Facts:
    """Return the facts of a part that reads maps of these sizes. kept: a later part reads its input again. Raises
    ArchError and GraphError, see part_graph."""
    found = _structure(part, reads[0][2], kept) if len(reads) == 1 else None
    if found is None or not found.plain:
        return _facts_of_graph(_keeping(part_graph(part, *reads), kept))
    h, w, _ = reads[0]
    if found.window:
        k, s, pad = found.window
        out = out_length(h, k, s, pad, pad), out_length(w, k, s, pad, pad)
    else:
        out = h, w
    layout = _tile_layout(Tile(part, reads[0], out, kept=kept))
    return Facts(
        (*out, found.graph.ops[-1].cout),
        found.before * h * w + found.after * out[0] * out[1],
        max(profile(layout.buffers())),
        *found[3:],
        _bytes(found.graph, layout),
    )


def _facts_of_graph(graph: Graph) -> Facts:
    layout, lives, out = Layout(CORTEX_M), layer_by_layer(graph), graph.tensors[graph.outputs[0]]
    for read in graph.inputs:
        layout.hold(read, (read.h, read.w), lives)
    for index, op in enumerate(graph.ops):
        size = graph.tensors[op.name].h, graph.tensors[op.name].w
        layout.run(graph, index, lives, size, size, in_place=True, eats=True)
    peak = max(profile(layout.buffers()))
    return Facts((out.h, out.w, out.c), graph.macs, peak, *_windows(graph), _bytes(graph, layout))


@lru_cache(maxsize=1 << 15)
def tile_peak(tile: Tile) -> int:
    """Return the bytes alive at the worst op of a part in a patch."""
    return max(profile(_tile_layout(tile).buffers()))


@lru_cache(maxsize=1 << 13)
def tile_bytes(tile: Tile) -> Bytes:
    """Return the buffers of a part in a patch."""
    return _bytes(_structure(tile.part, tile.reads[2], tile.kept).graph, _tile_layout(tile))


def _tile_layout(tile: Tile) -> Layout:
    graph, lives, *_ = _structure(tile.part, tile.reads[2], tile.kept)
    end = len(graph.ops) - 1
    if tile.last:
        lives = lives.changed(lives.in_patches(-1, end, graph.outputs[0], ()))  # its input is of the same patch
    layout, positions = Layout(CORTEX_M), tile.reads[:2]
    layout.hold(graph.inputs[0], positions, lives)
    for index, op in enumerate(graph.ops):
        positions = tile.makes if _window(op) else positions
        held = (0, 0) if tile.last and index == end else positions
        # Only the stem's window could, and other patches read the image again.
        layout.run(graph, index, lives, held, positions, in_place=True, eats=op.is_pointwise)
    return layout


@lru_cache(maxsize=1 << 13)
def _structure(part: Part, channels: int, kept: bool) -> _Structure:
    graph = _keeping(part_graph(part, (64, 64, channels)), kept)
    lives = layer_by_layer(graph)
    plain = all(op.kind == "conv" and (op.is_pointwise or op.name not in lives.eats) for op in graph.ops)
    return _Structure(graph, lives, plain, *_windows(graph))


def _keeping(graph: Graph, kept: bool) -> Graph:
    """Return the graph with its first input as an output where that is `kept`."""
    return replace(graph, outputs=(*graph.outputs, graph.inputs[0].name)) if kept else graph


def _windows(graph: Graph) -> tuple[Window | None, int, int, bool]:
    """Return the last facts of a part, see Facts."""
    at = next((i for i, op in enumerate(graph.ops) if _window(op)), len(graph.ops))
    window = _window(graph.ops[at]) if at < len(graph.ops) else None
    patchable = not any(ends_patches(graph, op) for op in graph.ops)
    return window, sum(graph.weights[:at]), sum(graph.weights[at:]), patchable


def _window(op: Op) -> Window | None:
    return Window(op.k[0], op.s[0], op.pad[0]) if op.k != (1, 1) or op.s != (1, 1) else None


def _bytes(graph: Graph, layout: Layout) -> Bytes:
    buffers, out = layout.buffers(), layout.home[graph.outputs[0]]
    near, sizes = neighbours(buffers), tuple([b.size for b in buffers])
    inputs = tuple([layout.home[read.name] for read in graph.inputs])
    maps = {*inputs, out}
    pairs = [(i, j, mine, theirs) for i, met in enumerate(near) for j, mine, theirs in met if j > i]
    return Bytes(
        len(graph.ops),
        sizes,
        tuple([(b.lives[0].start, b.lives[-1].end) for b in buffers]),
        tuple([one for one in pairs if not maps.issuperset(one[:2])]),
        tuple([one for one in pairs if maps.issuperset(one[:2])]),
        inputs,
        out,
        tuple([buffers[local].lives[0].end for local in inputs]),
        max([size for i, size in enumerate(sizes) if i not in maps], default=0),
        *rooms(near, sizes, maps),
    )
