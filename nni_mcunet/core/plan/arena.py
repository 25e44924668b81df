"""Place buffers with lives in one arena, and check the result independently. A buffer is bytes here: what it holds is
plan.py's to say."""

import random
import sys
from collections.abc import Container, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ..types import Count, Ints

STEPS = 400  # tries for a better order from each simple one, where none of them reaches the lower bound
WORSE = 0.1  # the share of worse orders that a climb goes on from at its beginning; it falls to none
WORD = 4  # bytes above the lower bound that are not worth a try


Neighbours = list[list[tuple[int, int, int]]]  # buffer -> (other, own bytes, its bytes) for lives that meet


class Life(NamedTuple):
    """`size` bytes in use while ops start..end (inclusive) run.

    over   the index of the buffer whose bytes op `start` may overwrite, as it reads them for the last time; -1: none
    lead   the bytes by which this buffer must then begin before that one, or
    lag    behind it
    """

    start: int
    end: int
    size: int
    over: int = -1
    lead: int = 0
    lag: int = 0


class Buffer(NamedTuple):
    """Bytes at one `offset` of the arena through one or more lives, in order: a tensor, then the tensor written onto
    it. That one may be smaller in a patch, so the rest of the buffer is free again."""

    name: str
    lives: tuple[Life, ...]
    offset: int = -1

    @property
    def size(self) -> int:
        """Bytes of the largest life."""
        return self.lives[0].size if len(self.lives) == 1 else max([life.size for life in self.lives])

    def live_bytes(self, time: int) -> int:
        """Return the bytes in use while op `time` runs."""
        return max((life.size for life in self.lives if life.start <= time <= life.end), default=0)


class Part(NamedTuple):
    """The part of an arena in one region: the bytes at..at+size of its offsets. The parts follow one another."""

    region: str
    at: int
    size: int


def profile(buffers: Sequence[Buffer]) -> list[int]:
    """Return the bytes in use at each time, from 0 to the last."""
    last = max((life.end for b in buffers for life in b.lives), default=0)
    more = [0] * (last + 2)  # than at the time before
    for b in buffers:
        held: dict[int, int] = {}  # a tensor and what is written onto it meet in one op: the larger counts
        for start, end, size, over, lead, lag in b.lives:
            if len(b.lives) == 1:
                more[start] += size
                more[end + 1] -= size
            else:
                for time in range(start, end + 1):
                    held[time] = max(size, held[time]) if time in held else size
            if over >= 0:
                eaten = buffers[over].live_bytes(start)
                shared = eaten + size - union(eaten, size, lead, lag)
                more[start] -= shared
                more[start + 1] += shared
        for time, size in held.items():
            more[time] += size
            more[time + 1] -= size
    return list(accumulate(more[:-1]))


def union(eaten: Count, size: Count, lead: Count, lag: Count) -> Count:
    """Return the least bytes that an output of `size` and the `eaten` bytes of its input lie in, see Life."""
    if isinstance(eaten, int):
        return min(max(size, eaten + lead), max(eaten, size + lag), eaten + size)
    before, behind = np.maximum(size, eaten + lead), np.maximum(eaten, size + lag)
    return np.minimum(np.minimum(before, behind), eaten + size)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Return the most bytes alive at once: no arena can be smaller."""
    return max(profile(buffers))


def place(buffers: Sequence[Buffer], bound: int | None = None) -> tuple[tuple[Buffer, ...], int]:
    """Return the buffers with offsets, and the arena's bytes: first-fit in several orders, the smallest arena kept.
    bound: what lower_bound says, where that is known.

    Buffers that find room wherever the others lie are placed last. The others come in the order of what is in use
    beside them, the most first, then those that live long: that reaches the lower bound nearly always. Other orders are
    for what is left, and where none of them does, a search goes on from the best. Nothing is checked here: see `check`.
    """
    bound, near = lower_bound(buffers) if bound is None else bound, neighbours(buffers)
    spans = [(b.lives[0].start, b.lives[-1].end) for b in buffers]
    offsets, arena, rest = arranged(near, [b.size for b in buffers], spans, bound)
    _first_fit(rest, near, offsets)
    return tuple([Buffer(b.name, b.lives, offset) for b, offset in zip(buffers, offsets, strict=True)]), arena


def arranged(
    near: Neighbours, sizes: list[int], spans: list[tuple[int, int]], bound: int
) -> tuple[list[int], int, list[int]]:
    """Return the offsets of the buffers that can be in each other's way, -1 for the others; the arena; and those others
    in an order in which they find room in it. spans: first and last op of each buffer's lives."""
    core, rest = _apart(near, sizes, bound)
    beside = _most_beside(core, spans, sizes)
    keys = (
        lambda i: (-beside[i], spans[i][0] - spans[i][1], -sizes[i]),
        lambda i: (-sizes[i], spans[i][0]),
        lambda i: (spans[i][0] - spans[i][1], -sizes[i]),
        lambda i: (spans[i][0], -sizes[i]),
        lambda i: (-spans[i][1], -sizes[i]),
        lambda i: (-sizes[i] * (spans[i][1] - spans[i][0] + 1), spans[i][0]),
    )
    orders: list[list[int]] = []
    for key in keys:
        orders.append(sorted(core, key=key))
        offsets = _first_fit(orders[-1], near)
        arena = max([bound, *[offsets[i] + sizes[i] for i in core]])
        if arena <= bound + WORD:
            return offsets, arena, rest
    best: tuple[list[int], int] = [], sys.maxsize
    for seed, order in enumerate(orders):
        best = min(best, _climb(order, near, sizes, bound, seed), key=lambda found: found[1])
        if best[1] <= bound + WORD:
            break
    return *best, rest


def _most_beside(core: list[int], spans: list[tuple[int, int]], sizes: list[int]) -> dict[int, int]:
    """Return for each buffer of the core the most bytes of it in use at once while this one is."""
    more = [0] * (max([spans[i][1] for i in core], default=0) + 2)
    for i in core:
        start, end = spans[i]
        more[start] += sizes[i]
        more[end + 1] -= sizes[i]
    live = list(accumulate(more))
    return {i: max(live[spans[i][0] : spans[i][1] + 1]) for i in core}


class Rooms(NamedTuple):
    """The room that buffers ask of an arena.

    room       bytes of one in which all but the fixed find room, wherever these lie: one after another, each the one
               that asks for least, is put last
    met, bare  how many offsets others forbid each buffer at most: all others, or the fixed ones. In an arena of so many
               bytes and its own size it finds room wherever these lie.
    """

    room: int
    met: tuple[int, ...]
    bare: tuple[int, ...]


def rooms(near: Neighbours, sizes: Sequence[int], fixed: Container[int]) -> Rooms:
    """Return what the buffers ask for. fixed: the indices of some of them."""
    met = [sum([mine + theirs for _, mine, theirs in one]) for one in near]
    bare = [sum([mine + theirs for j, mine, theirs in one if j in fixed]) for one in near]
    needs, room = [size + need for size, need in zip(sizes, met, strict=True)], 0
    left = [i for i in range(len(sizes)) if i not in fixed]
    while left:
        least = min(left, key=needs.__getitem__)
        left.remove(least)
        room = max(room, needs[least])
        for j, mine, theirs in near[least]:
            needs[j] -= mine + theirs
    return Rooms(room, tuple(met), tuple(bare))


def _apart(near: Neighbours, sizes: list[int], bound: int) -> tuple[list[int], list[int]]:
    """Return the buffers that can be in each other's way, rising, and the others in an order in which each finds room
    below `bound` wherever those before it lie, see Rooms."""
    needs = [size + sum([mine + theirs for _, mine, theirs in met]) for size, met in zip(sizes, near, strict=True)]
    free = [i for i, need in enumerate(needs) if need <= bound]
    for i in free:
        needs[i] = 0
        for j, mine, theirs in near[i]:
            if needs[j] > bound:
                needs[j] -= mine + theirs
                if needs[j] <= bound:
                    free.append(j)
    return [i for i, need in enumerate(needs) if need > bound], free[::-1]


def neighbours(buffers: Sequence[Buffer]) -> Neighbours:
    """For each buffer (other buffer, own bytes, other's bytes) for every two of their lives that meet: the bytes behind
    the beginning of each in which the other must not begin. One sweep over time meets every pair."""
    near: Neighbours = [[] for _ in buffers]
    alive: list[tuple[int, Life]] = []
    for owner, life in sorted(((i, life) for i, b in enumerate(buffers) for life in b.lives), key=_begin):
        start, _, size, over, lead, lag = life
        alive = [(i, other) for i, other in alive if other.end >= start]
        for i, other in alive:
            if i == over:
                near[owner].append((i, lead, lag))
                near[i].append((owner, lag, lead))
            elif other.over == owner:
                near[owner].append((i, other.lag, other.lead))
                near[i].append((owner, other.lead, other.lag))
            elif i != owner:
                near[owner].append((i, size, other.size))
                near[i].append((owner, other.size, size))
        alive.append((owner, life))
    return near


def _begin(owned: tuple[int, Life]) -> int:
    return owned[1].start


def _climb(order: list[int], near: Neighbours, sizes: list[int], bound: int, seed: int) -> tuple[list[int], int]:
    """Offsets and arena of the best order found from `order` on. Each step moves a buffer that reaches the arena's end,
    or one that meets it in time, to another place in the order. Steps that change nothing are taken, worse ones
    seldom."""
    rng, trial, arena = random.Random(seed), order, sys.maxsize
    best: tuple[list[int], int] = [], sys.maxsize
    for step in range(STEPS):
        limit = sys.maxsize if rng.random() < WORSE * (1 - step / STEPS) else arena
        offsets = _first_fit(trial, near, sizes=sizes, limit=limit)
        if offsets:
            order, arena = trial, max([offsets[i] + sizes[i] for i in trial])
            best = min(best, (offsets, arena), key=lambda found: found[1])
            if arena <= bound + WORD:
                break
            highest = min(i for i in trial if offsets[i] + sizes[i] == arena)
            moved = [highest, *sorted({other for other, *_ in near[highest] if offsets[other] >= 0})]
        trial = order.copy()
        for buffer in {highest if rng.random() < 0.5 else rng.choice(moved), rng.choice(moved)}:
            trial.remove(buffer)
            trial.insert(rng.randrange(len(trial) + 1), buffer)
    return best


def _first_fit(
    order: list[int],
    near: Neighbours,
    offsets: list[int] | None = None,
    sizes: Sequence[int] = (),
    limit: int = sys.maxsize,
) -> list[int]:
    """Each buffer, in `order`, at the lowest offset that no placed buffer alive at the same time forbids. offsets:
    those of buffers that are placed already, to be filled. Where one would end above `limit`: none."""
    offsets = [-1] * len(near) if offsets is None else offsets
    for i in order:
        forbidden = [(at - mine, at + theirs) for j, mine, theirs in near[i] if (at := offsets[j]) >= 0]
        offset = 0
        if forbidden:
            forbidden.sort()  # by low: one sweep is enough; offsets strictly between overlap
            for low, high in forbidden:
                if low < offset < high:
                    offset = high
        if sizes and offset + sizes[i] > limit:
            return []
        offsets[i] = offset
    return offsets


def check(buffers: Sequence[Buffer], arena: int) -> None:
    """Compare every pair of buffers: those alive at the same time share no byte but as Life.over allows, and all lie in
    the arena of so many bytes. Raises AssertionError naming those that do not."""
    lives = np.array([(i, *life) for i, b in enumerate(buffers) for life in b.lives]).reshape(-1, 7)
    owner, start, end, *_ = lives.T
    meets = (start[:, None] <= end) & (start <= end[:, None]) & (owner[:, None] != owner)
    low = np.array([b.offset for b in buffers])[lives[:, 0]]
    outside = (low < 0) | (low + lives[:, 3] > arena)
    if outside.any():
        name = buffers[lives[outside.argmax(), 0]].name
        raise AssertionError(f"buffer {name} lies outside the arena of {arena} bytes")
    high = low[:, None] + _extent(lives[:, None], lives[None])  # of the row's life, to the column's
    clash = meets & (low[:, None] < high.T) & (low < high)
    if clash.any():
        a, b = (buffers[lives[row, 0]].name for row in np.argwhere(clash)[0])
        raise AssertionError(f"buffers {a} and {b} overlap")


def _extent(lives: Ints, others: Ints) -> Ints:
    """Return the bytes from the beginning of each life on in which the other, which meets it, must not begin: its size,
    but where one of both is written over the other its lead or lag. The last axis is that of check's rows."""
    owner, size, over, lead, lag = 0, 3, 4, 5, 6
    written = (lives[..., over] >= 0) & (lives[..., over] == others[..., owner])
    eaten = (others[..., over] >= 0) & (others[..., over] == lives[..., owner])
    return np.where(written, lives[..., lead], np.where(eaten, others[..., lag], lives[..., size]))


def check_parts(buffers: Sequence[Buffer], parts: Sequence[Part]) -> None:
    """Check the same where the arena lies in several regions: the parts follow one another, each begins at a multiple
    of 8, and each buffer lies in one of them. Raises AssertionError naming the one that does not."""
    end = 0
    for part in parts:
        if part.at != end or part.at % 8:
            raise AssertionError(f"the part in {part.region} begins at {part.at}, the one before ends at {end}")
        end += part.size
    check(buffers, end)
    for b in buffers:
        if not any(part.at <= b.offset and b.offset + b.size <= part.at + part.size for part in parts):
            raise AssertionError(f"buffer {b.name} lies across two regions")
