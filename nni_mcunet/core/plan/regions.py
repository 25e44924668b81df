"""Place a plan's buffers in several memories of a board, none across two: scratch and the buffers that are touched most
in the fast ones, the others where they fit.

A network that one array holds needs none of this. A plan keeps its numbering of bytes: the regions' parts of the arena
follow one another in it, see arena.Part, and arena.check_parts holds every result against that.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ..boards import Board
from ..boards.parts import Room
from ..types import Ints
from .arena import Buffer, Part, check_parts, place, union
from .plan import Beside, Plan

STEP = 8  # bytes: a part is a multiple of it, as its array is aligned
SCRATCH = 64  # touches of a byte of scratch in a patch: it is written anew for every few outputs
LINE = 32  # bytes of a line of the cache, for which a region's `wait` is
TRIES = 40  # random orders, where no simple one finds a place for all


class Spread(NamedTuple):
    """A placement: `cost` is the cycles that touching every byte once a time would wait; room[buffer], offsets within
    it, bytes of each room."""

    cost: float
    room: list[int]
    offsets: list[int]
    sizes: list[int]


def first_spread(plans: Iterable[Plan], board: Board, beside: Beside | None = None, fewest: bool = True) -> Plan | None:
    """Return the first of the plans that the board's regions hold, placed by `spread` beside the bytes of `beside`, see
    plan.best_schedule; or None."""
    for one in plans:
        more = beside(one.graph, one.schedule, one.halo) if beside else 0
        if found := spread(one, board, fewest, more):
            return found
    return None


def rooms_beside(board: Board, source: int) -> tuple[Room, ...]:
    """Return the board's rooms with so many bytes of the picture's source kept free in the first that DMA writes and
    that holds them; () where none does."""
    rooms = list(board.rooms)
    for at, room in enumerate(rooms):
        if room.dma and room.bytes >= source:
            rooms[at] = room._replace(bytes=room.bytes - source)
            return tuple(rooms)
    return ()


def spread(found: Plan, board: Board, fewest: bool = True, source: int = 0) -> Plan | None:
    """Return the plan placed in the board's regions, or None where they do not hold it. fewest: in as few as can be,
    two or more; else in those of the least cost, or in one array where that costs no more. Ties go to fewer bytes.
    source: bytes that the picture's source takes besides, see rooms_beside."""
    rooms, most = rooms_beside(board, source), board.usable - source
    if not rooms or found.peak > most or max(b.size for b in found.unplaced) > max(room.bytes for room in rooms):
        return None
    work, best = _Work(found), None
    one_array = not fewest and found.arena + source <= board.arena_limit
    for count in range(1 if one_array else 2, len(rooms) + 1):
        for chosen in combinations(rooms, count):
            one = work.placed(chosen)
            if one is not None and sum(one.sizes) <= most:
                key = one.cost, len(chosen), sum(one.sizes)
                if best is None or key < best[0]:
                    best = key, chosen, one
        if fewest and best is not None:
            break
    if best is None:
        return None
    _, chosen, one = best
    return found if len(chosen) == 1 else _with_parts(found, chosen, one)


def _with_parts(found: Plan, rooms: Sequence[Room], placed: Spread) -> Plan:
    starts = np.cumsum([0, *placed.sizes]).tolist()
    parts = tuple(Part(*one) for one in zip([r.name for r in rooms], starts, placed.sizes, strict=False))
    buffers = tuple(
        Buffer(b.name, b.lives, starts[room] + offset)
        for b, room, offset in zip(found.unplaced, placed.room, placed.offsets, strict=True)
    )
    check_parts(buffers, parts)
    return replace(found, parts=parts, spread=buffers)


def touches(found: Plan) -> list[int]:
    """Return how often an inference touches a byte of each buffer: once for each patch and each op that reads or writes
    it, SCRATCH times for scratch. A map that patches fill together is written once."""
    times = [0] * len(found.unplaced)
    for segment in found.segments:
        patches = segment.grid[0] * segment.grid[1]
        for op in segment.ops:
            for name in (op.name, *op.reads):
                times[found.home[name]] += 1 if name in segment.whole else patches
            if op.name in found.scratch:
                times[found.scratch[op.name]] += SCRATCH * patches
            for kind in ("rows", "cols"):
                if (cache := found.cache.get(f"{op.name}:{kind}")) is not None:
                    times[cache] += 2 * patches
    return times


class _Work:
    """The buffers of a plan as arrays, to be tried in rooms."""

    def __init__(self, found: Plan):
        self.buffers, self.hot = found.unplaced, touches(found)
        self.sizes = [b.size for b in self.buffers]
        scratch = {*found.scratch.values()}
        times = 1 + max(life.end for b in self.buffers for life in b.lives)
        self.live = np.zeros((len(self.buffers), times), np.int64)
        for row, b in zip(self.live, self.buffers, strict=True):
            for life in b.lives:
                row[life.start : life.end + 1] = np.maximum(row[life.start : life.end + 1], life.size)
        # (buffer, the one that it may lie over, op, bytes that this saves where both are in one room)
        self.saved: list[tuple[int, int, int, int]] = []
        for i, b in enumerate(self.buffers):
            for life in (life for life in b.lives if life.over >= 0):
                eaten = self.buffers[life.over].live_bytes(life.start)
                saved = eaten + life.size - int(union(eaten, life.size, life.lead, life.lag))
                self.saved.append((i, life.over, life.start, saved))
        spans = [np.count_nonzero(row) for row in self.live]
        every = range(len(self.buffers))
        self.hottest = sorted(every, key=lambda i: (i not in scratch, -self.hot[i], -self.sizes[i]))
        self.orders = (
            self.hottest,
            sorted(every, key=lambda i: -self.sizes[i]),
            sorted(every, key=lambda i: (-self.sizes[i] * spans[i], -self.sizes[i])),
        )

    def placed(self, rooms: Sequence[Room]) -> Spread | None:
        """Return the placement of the least cost that was found, ties to fewer bytes; None for none."""
        if sum(room.bytes for room in rooms) < self.live.sum(0).max() - sum(saved for *_, saved in self.saved):
            return None
        found: list[Spread] = []
        for order, prefer in self._ways(rooms):
            if (room := self._assigned(rooms, order, prefer)) is not None:
                for one in (room, self._promoted(rooms, room)):
                    if (whole := self._whole(rooms, one)) is not None:
                        found.append(whole)
            if found and order not in self.orders:
                break  # a random order is for what fits hardly
        return min(found, key=lambda one: (one.cost, sum(one.sizes)), default=None)

    def _ways(self, rooms: Sequence[Room]) -> Iterator[tuple[list[int], list[int]]]:
        """Yield (order of the buffers, order of the rooms): simple ones, then random ones."""
        fast, large = _fast_first(rooms), sorted(range(len(rooms)), key=lambda i: -rooms[i].bytes)
        for order in self.orders:
            yield from ((order, fast), (order, large))
        rng = random.Random(0)
        for _ in range(TRIES):
            weights = {i: self.sizes[i] * rng.uniform(0.3, 1) for i in range(len(self.buffers))}
            yield sorted(weights, key=lambda i: -weights[i]), rng.choice((fast, large))

    def _assigned(self, rooms: Sequence[Room], order: Iterable[int], prefer: Sequence[int]) -> list[int] | None:
        """Give each buffer in turn the first room in which no more bytes than it has are alive at once."""
        chosen, held = [-1] * len(self.buffers), np.zeros((len(rooms), self.live.shape[1]), np.int64)
        for i in order:
            for room in prefer:
                now = self._with(held[room], chosen, i, room)
                if now.max() <= rooms[room].bytes // STEP * STEP:
                    chosen[i], held[room] = room, now
                    break
            else:
                return None
        return chosen

    def _with(self, held: Ints, chosen: Sequence[int], i: int, room: int, sign: int = 1) -> Ints:
        """Return the bytes alive in a room at each time with buffer i in it, too; without it for sign -1."""
        now: Ints = held + sign * self.live[i]
        for one, other, time, saved in self.saved:
            if i in (one, other) and chosen[other if i == one else one] == room:
                now[time] -= sign * saved
        return now

    def _promoted(self, rooms: Sequence[Room], room: Sequence[int]) -> list[int]:
        """Return the rooms with buffers moved to faster ones as far as there is room, the hottest first."""
        chosen, held = list(room), np.zeros((len(rooms), self.live.shape[1]), np.int64)
        for at in range(len(rooms)):
            taken = [-1] * len(chosen)
            for i in (i for i, own in enumerate(chosen) if own == at):
                held[at], taken[i] = self._with(held[at], taken, i, at), at
        for i in self.hottest:
            for faster in _fast_first(rooms):
                if rooms[faster].wait >= rooms[chosen[i]].wait:
                    break
                now = self._with(held[faster], chosen, i, faster)
                if now.max() <= rooms[faster].bytes // STEP * STEP:
                    old, chosen[i] = chosen[i], -1
                    held[old] = self._with(held[old], chosen, i, old, -1)
                    chosen[i], held[faster] = faster, now
                    break
        return chosen

    def _whole(self, rooms: Sequence[Room], chosen: list[int]) -> Spread | None:
        """Place the buffers of each room; None where one of them has too little, or nothing to hold."""
        offsets, sizes, cost = [0] * len(chosen), [], 0.0
        for at, room in enumerate(rooms):
            own = [i for i, one in enumerate(chosen) if one == at]
            if not own:
                return None
            placed, size = place([self._apart(i, own) for i in own])
            sizes.append(-(-size // STEP) * STEP)
            if sizes[-1] > room.bytes:
                return None
            for i, buffer in zip(own, placed, strict=True):
                offsets[i] = buffer.offset
            cost += room.wait / LINE * sum(self.hot[i] * self.sizes[i] for i in own)
        return Spread(cost, chosen, offsets, sizes)

    def _apart(self, i: int, own: list[int]) -> Buffer:
        """Return a buffer for the placement of those of its room: `over` counts among them."""
        there = {other: at for at, other in enumerate(own)}
        lives = (
            life if life.over < 0 else life._replace(over=there[life.over]) if life.over in there
            else life._replace(over=-1, lead=0, lag=0)
            for life in self.buffers[i].lives
        )  # fmt: skip
        return Buffer(self.buffers[i].name, tuple(lives))


def _fast_first(rooms: Sequence[Room]) -> list[int]:
    return sorted(range(len(rooms)), key=lambda i: (rooms[i].wait, -rooms[i].bytes))
