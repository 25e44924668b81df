"""Place buffers with lives in one arena, and check the result independently. A buffer is bytes here: what it holds is
plan.py's to say."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import Count, Ints

STEPS = 1000  # tries for a better order, where no simple one reaches the lower bound


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


@dataclass(frozen=True)
class Buffer:
    """Bytes at one `offset` of the arena through one or more lives: a tensor, then the tensor written onto it. That one
    may be smaller in a patch, so the rest of the buffer is free again."""

    name: str
    lives: tuple[Life, ...]
    offset: int = -1

    @property
    def size(self) -> int:
        """Bytes of the largest life."""
        return max(life.size for life in self.lives)

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
    total = [0] * (1 + max((life.end for b in buffers for life in b.lives), default=0))
    for b in buffers:
        held: dict[int, int] = {}  # a tensor and what is written onto it meet in one op: the larger counts
        for start, end, size, *_ in b.lives:
            for time in range(start, end + 1):
                held[time] = max(size, held[time]) if time in held else size
        for time, size in held.items():
            total[time] += size
        for start, _, size, over, lead, lag in b.lives:
            if over >= 0:
                eaten = buffers[over].live_bytes(start)
                total[start] -= eaten + size - int(union(eaten, size, lead, lag))
    return total


def union(eaten: Count, size: Count, lead: Count, lag: Count) -> Count:
    """Return the least bytes that an output of `size` and the `eaten` bytes of its input lie in, see Life."""
    before, behind = np.maximum(size, eaten + lead), np.maximum(eaten, size + lag)
    return np.minimum(np.minimum(before, behind), eaten + size)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Return the most bytes alive at once: no arena can be smaller."""
    return max(profile(buffers))


def place(buffers: Sequence[Buffer]) -> tuple[tuple[Buffer, ...], int]:
    """Return the buffers with offsets, and the arena's bytes: first-fit in several orders, the smallest arena kept.

    Largest first is near optimal layer by layer. The other orders close the gap where a small buffer that lives long
    splits the arena. Caches do so all along; there a search goes on from the best order. It stops as soon as the lower
    bound is reached. Raises AssertionError for a placement that check refuses, a fault of this module.
    """
    bound, near = lower_bound(buffers), _neighbours(buffers)
    best: tuple[list[int], int, list[int]] | None = None
    starts = [min([life.start for life in b.lives]) for b in buffers]
    ends = [max([life.end for life in b.lives]) for b in buffers]
    sizes = [max([life.size for life in b.lives]) for b in buffers]
    orders = (
        lambda i: (-sizes[i], starts[i]),
        lambda i: (starts[i] - ends[i], -sizes[i]),
        lambda i: (starts[i], -sizes[i]),
        lambda i: (-ends[i], -sizes[i]),
        lambda i: (-sizes[i] * (ends[i] - starts[i] + 1), starts[i]),
    )
    for key in orders:
        order = sorted(range(len(buffers)), key=key)
        offsets = _first_fit(order, near)
        arena = max(map(add, offsets, sizes), default=0)
        if best is None or arena < best[1]:
            best = offsets, arena, order
        if arena == bound:
            break
    assert best is not None  # there are orders
    offsets, arena, order = best
    if arena > bound:
        offsets, arena = _climb(order, near, sizes, bound)
    placed = tuple(Buffer(b.name, b.lives, offset) for b, offset in zip(buffers, offsets, strict=True))
    check(placed, arena)
    return placed, arena


def _meetings(buffers: Sequence[Buffer]) -> tuple[Ints, NDArray[np.bool_]]:
    """All lives as rows (owner, start, end, size, over, lead, lag), and the pairs of rows of different buffers that
    meet in time."""
    lives = np.array([(i, *life) for i, b in enumerate(buffers) for life in b.lives]).reshape(-1, 7)
    owner, start, end, *_ = lives.T
    return lives, (start[:, None] <= end) & (start <= end[:, None]) & (owner[:, None] != owner)


def _neighbours(buffers: Sequence[Buffer]) -> list[list[tuple[int, int, int]]]:
    """For each buffer (other buffer, own bytes, other's bytes) for every two of their lives that meet: the bytes behind
    the beginning of each in which the other must not begin."""
    near: list[list[tuple[int, int, int]]] = [[] for _ in buffers]
    lives, meets = _meetings(buffers)
    mine, theirs = np.nonzero(meets)
    own, others = _extent(lives[mine], lives[theirs]), _extent(lives[theirs], lives[mine])
    pairs = np.stack([lives[mine, 0], lives[theirs, 0], own, others], 1)
    for owner, other, own, others in pairs.tolist():
        near[owner].append((other, own, others))
    return near


def _extent(lives: Ints, others: Ints) -> Ints:
    """Return the bytes from the beginning of each life on in which the other, which meets it, must not begin: its size,
    but where one of both is written over the other its lead or lag. The last axis is that of _meetings's rows."""
    owner, size, over, lead, lag = 0, 3, 4, 5, 6
    written = (lives[..., over] >= 0) & (lives[..., over] == others[..., owner])
    eaten = (others[..., over] >= 0) & (others[..., over] == lives[..., owner])
    return np.where(written, lives[..., lead], np.where(eaten, others[..., lag], lives[..., size]))


def _climb(order: list[int], near: Neighbours, sizes: list[int], bound: int) -> tuple[list[int], int]:
    """Offsets and arena of the best order found from `order` on. Each step moves a buffer that reaches the arena's end,
    or one that meets it in time, to another place in the order. Steps that change nothing are taken, too."""
    rng, trial = random.Random(0), order
    best: tuple[list[int], int] = [], sys.maxsize
    for _ in range(STEPS):
        offsets = _first_fit(trial, near)
        ends = list(map(add, offsets, sizes))
        arena = max(ends)
        if arena <= best[1]:
            best, order = (offsets, arena), trial
            highest = ends.index(arena)
            moved = [highest, *{other for other, *_ in near[highest]}]
        if arena == bound:
            break
        trial = order.copy()
        for buffer in {highest if rng.random() < 0.5 else rng.choice(moved), rng.choice(moved)}:
            trial.remove(buffer)
            trial.insert(rng.randrange(len(trial) + 1), buffer)
    return best


def _first_fit(order: list[int], near: Neighbours) -> list[int]:
    """Each buffer, in `order`, at the lowest offset that no placed buffer alive at the same time forbids."""
    offsets = [-1] * len(near)
    for i in order:
        forbidden = [(offsets[j] - mine, offsets[j] + theirs) for j, mine, theirs in near[i] if offsets[j] >= 0]
        offset = 0
        for low, high in sorted(forbidden):  # offsets strictly between overlap; sorted by low, one sweep is enough
            if low < offset < high:
                offset = high
        offsets[i] = offset
    return offsets


def check(buffers: Sequence[Buffer], arena: int) -> None:
    """Compare every pair of buffers: those alive at the same time share no byte but as Life.over allows, and all lie in
    the arena of so many bytes. Raises AssertionError naming those that do not."""
    lives, meets = _meetings(buffers)
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
