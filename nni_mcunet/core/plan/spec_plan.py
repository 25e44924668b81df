"""Find the best schedule of a network from its description, part by part, thousands a second.

It answers what plan.best_schedule answers for one patched segment that computes its overlap again, without a graph: a
network of a search space is a row of parts (parts.py), so the bytes at its worst op are the most of any part, and what
a patch needs of any map is one expression. Where it does not know, it says so, and the graph is planned.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..errors import ArchError
from ..ir.arch import ArchSpec, Schedule
from ..ir.build import Part, Size, Yolo, parts_of
from ..types import Ints
from .kernel_facts import CORTEX_M
from .part_placement import Run, placed
from .parts import Facts, Tile, facts, tile_bytes, tile_peak


class Choice(NamedTuple):
    """The schedule of the least computation that fits, ties to the smaller arena; where none fits, the one of the
    smallest arena."""

    schedule: Schedule
    macs: int
    arena: int


class Row(NamedTuple):
    """A network as a row of parts.

    runs    its parts layer by layer
    facts   of them; peaks: bytes alive at the worst op of each, what a detector's head reads later among them
    behind  [n]: the peak of all parts from n on
    cuts    the most parts that may run in patches
    """

    parts: list[Part]
    runs: list[Run]
    facts: list[Facts]
    reads: list[Size]
    behind: list[int]
    cuts: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates layer by layer."""
        return sum([one.macs for one in self.facts])


def best_of_row(row: Row, limit: int, p_choices: Sequence[int] = (1, 2, 3, 4)) -> Choice | None:
    """Return the best schedule for an arena of `limit` bytes: layer by layer, or one patched segment with a grid p x p.
    None where only plans of the graph tell."""
    grids, best = [p for p in p_choices if p != 1], None
    if row.behind[0] <= limit:
        best = _placed(row, _Ranked(row.macs, row.behind[0]))
        if best.arena > limit:
            return None
    # Where layer by layer fits, nothing computes less, but what computes as little may need less.
    ranked = _least_computation(row, grids, best.arena - 1 if best else limit, once=best is not None)
    if not best and not ranked:
        ranked = [_smallest(row, grids)]
        limit = ranked[0].peak
    for one in ranked:
        if best and one.peak >= best.arena:
            break
        found = _placed(row, one)
        if found.arena > limit:
            return None
        best = found if best is None or found.arena < best.arena else best
    return best


class _Ranked(NamedTuple):
    """A schedule that is not placed: p x p patches over n parts, which are `tiles` in a patch, or layer by layer."""

    macs: int
    peak: int
    n: int = 0
    p: int = 1
    tiles: tuple[Tile, ...] = ()


@lru_cache(maxsize=1 << 12)
def _schedule(p: int, n: int) -> Schedule:
    return Schedule((p, p), n)


def _least_computation(row: Row, grids: list[int], limit: int, once: bool) -> list[_Ranked]:
    """Return the schedules in patches of the least computation with up to `limit` bytes alive, those with the fewest
    first, of as many the first of cut_points.schedules. once: only those that compute nothing twice."""
    most = _computed_once(row) if once else row.cuts
    columns = _columns(row, grids, [n for n in range(1, most + 1) if row.behind[n] <= limit])
    found: list[_Ranked] = []
    if columns:
        patches = _Patches(row, columns)
        macs = patches.macs()
        for column in np.argsort(macs, kind="stable").tolist():
            if found and macs[column] > found[0].macs:
                break
            if one := patches.ranked(column, macs[column], limit):
                found.append(one)
    return sorted(found, key=lambda one: one.peak)


def _smallest(row: Row, grids: list[int]) -> _Ranked:
    """Return the schedule of the fewest bytes alive."""
    best, columns = _Ranked(row.macs, row.behind[0]), _columns(row, grids, range(1, row.cuts + 1))
    if columns:
        patches = _Patches(row, columns)
        for column in sorted(range(len(columns)), key=lambda at: row.behind[columns[at][0]]):
            best = patches.ranked(column, 0, best.peak - 1) or best
    return best


def _placed(row: Row, one: _Ranked) -> Choice:
    runs = [Run(tile_bytes(tile), run.reads) for tile, run in zip(one.tiles, row.runs, strict=False)]
    whole = _bytes(row.facts[one.n - 1].size) if one.n else 0
    return Choice(_schedule(one.p, one.n), one.macs, placed(runs + row.runs[one.n :], one.peak, one.n, whole))


def row_of(spec: ArchSpec, head: Yolo | None = None) -> Row | None:
    """Return the parts of build_graph(spec, head) with their facts, None for a network that is no such row. Raises
    ArchError and GraphError, see build_graph."""
    parts = parts_of(spec, head)
    if parts is None or not (head or spec.classes) or (head and len(head.taps) == 1):
        return None
    last = len(parts) - 1
    # A head's taps: the parts whose maps it reads.
    ends = list(accumulate([len(stage) for stage in spec.stages]))
    taps = [ends[tap] for tap in head.taps] if head else [last - 1]
    size: Size = (*spec.resolution, 3)
    found: list[Facts] = []
    reads, runs, peaks, cuts = [], [], [], taps[0] + 1
    for at, part in enumerate(parts[:last]):
        kept = at - 1 in taps
        one = facts(part, (size,), kept)
        if not one.patchable:
            cuts = min(cuts, at)
        if at < cuts and one.window and one.window.pad < one.window.s - 1:
            return None  # windows that leave out an end of their input
        beside = [found[tap].size for tap in taps if tap < at - 1]
        found.append(one)
        reads.append(size)
        runs.append(Run(one.bytes, (at - 1,)))
        peaks.append(one.peak + sum(map(_bytes, beside)))
        size = one.size
    try:
        one = facts(parts[last], tuple([found[tap].size for tap in taps]))
    except ArchError:
        return None  # whose error names the resolution
    found.append(one)
    runs.append(Run(one.bytes, tuple(taps)))
    behind = list(accumulate([*reversed([*peaks, one.peak])], max))[::-1]
    return Row(parts, runs, found, reads, behind, cuts)


def _computed_once(row: Row) -> int:
    """Return the most parts that patches run without computing anything twice: what they read twice is the image."""
    return next((n for n in range(1, row.cuts) if row.facts[n].window), row.cuts)


def _columns(row: Row, grids: list[int], every: Sequence[int]) -> list[tuple[int, int]]:
    """Return (parts in patches, p) of the schedules."""
    return [(n, p) for n in every for p in grids if p <= min(row.facts[n - 1].size[:2])]


def _bytes(size: Size) -> int:
    return CORTEX_M.aligned(size[0] * size[1] * size[2])


class _Patches:
    """Schedules of patches, a column each: what they need of every map.

    Along an axis, position x of a map comes from the image's positions x * stride - before to (x + 1) * stride +
    behind, this one left out, not clipped. Every window begins and ends in its input or one padding beyond. So it does
    not matter whether positions are clipped at the border of every map on the way or of the last.
    """

    def __init__(self, row: Row, columns: list[tuple[int, int]]):
        self.row, self.columns = row, columns
        deepest = columns[-1][0]
        self.place, weights, found = [], [0], [(1, 0, 0)]  # of each part's output among the maps of different positions
        sizes = [row.reads[0]]
        for one in row.facts[:deepest]:
            weights[-1] += one.before
            if one.window:
                (stride, before, behind), (k, s, pad) = found[-1], one.window
                found.append((stride * s, before + pad * stride, behind + (k - s - pad) * stride))
                weights.append(one.after)
                sizes.append(one.size)
            self.place.append(len(found) - 1)
        self.weights = np.array(weights)[:, None]
        places = np.array([(*place, *size) for place, size in zip(found, sizes, strict=True)]).T
        self.rows = _Axis(places[[0, 1, 2, 3]], columns, self.place)
        alike = all(size[0] == size[1] for size in sizes)
        self.cols = self.rows if alike else _Axis(places[[0, 1, 2, 4]], columns, self.place)

    def macs(self) -> list[int]:
        """Return the multiply-accumulates of each column."""
        more = self.rows.total * self.cols.total - self.rows.whole * self.cols.whole
        inside = np.arange(len(self.weights))[:, None] < self.rows.end
        found: list[int] = (self.row.macs + (more * self.weights * inside).sum(0)).tolist()
        return found

    def ranked(self, column: int, macs: int, limit: int) -> _Ranked | None:
        """Return a column with the bytes alive at its worst op, None where they exceed a limit."""
        n, p = self.columns[column]
        worst, whole, tiles = self.row.behind[n], _bytes(self.row.facts[n - 1].size), self.tiles(column)
        for tile in tiles:
            if worst > limit:
                return None
            worst = max(worst, tile_peak(tile) + whole)
        return None if worst > limit else _Ranked(macs, worst, n, p, tiles)

    def tiles(self, column: int) -> tuple[Tile, ...]:
        """Return the parts in patches of a column, each with the largest of its tiles."""
        rows, cols, n = self.rows.most[:, column].tolist(), self.cols.most[:, column].tolist(), self.columns[column][0]
        found, read = [], 0
        for at in range(n):
            made = self.place[at]
            reads = rows[read], cols[read], self.row.reads[at][2]
            found.append(Tile(self.row.parts[at], reads, (rows[made], cols[made]), at == n - 1))
            read = made
        return tuple(found)


class _Axis:
    """The need of each column's patches along one axis: positions of the largest one, and of all, [place, column];
    the length of the whole maps, [place, 1]; the place of the map that a column's patches hand on."""

    def __init__(self, places: Ints, columns: list[tuple[int, int]], place: list[int]):
        self.end = np.array([place[n - 1] for n, _ in columns])
        stride, before, behind, self.whole = places[:, :, None]
        of, b, e, _ = places[:, self.end]
        finest, lengths = max([p for _, p in columns]), places[3].tolist()
        low, high = np.array([_bounds(lengths[place[n - 1]], p, finest) for n, p in columns]).T.reshape(
            2, finest, 1, -1
        )
        first = np.maximum(low * of - (b - before), 0)
        need = np.maximum(np.minimum(high * of + (e - behind), self.whole * stride) - first, 0)
        self.most, self.total = need.max(0) // stride, need.sum(0) // stride


@lru_cache(maxsize=1 << 12)
def _bounds(length: int, p: int, most: int) -> tuple[int, ...]:
    """First positions of p patches of a length, then their ends; further ones up to `most` end before they begin."""
    bounds, none = [length * i // p for i in range(p + 1)], most - p
    return (*bounds[:-1], *[1 << 32] * none, *bounds[1:], *[-1 << 32] * none)
