"""Placement of buffers with live ranges in one arena, and an independent check of the result."""

import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

STEPS = 1000  # of the search for a better order, where no simple one reaches the lower bound


class Life(NamedTuple):
    """`size` bytes in use while ops start..end (inclusive) run."""

    start: int
    end: int
    size: int


@dataclass(frozen=True)
class Buffer:
    """Bytes at one `offset` of the arena through one or more lives: a tensor, then the tensor written onto it, which in
    a patch may be smaller, so that the rest of the buffer is free again."""

    name: str
    lives: tuple[Life, ...]
    offset: int = -1

    @property
    def size(self) -> int:
        return max(life.size for life in self.lives)

    def live_bytes(self, time: int) -> int:
        return max((life.size for life in self.lives if life.start <= time <= life.end), default=0)


def profile(buffers) -> list[int]:
    """Bytes in use at each time, from 0 to the last."""
    total = [0] * (1 + max((life.end for b in buffers for life in b.lives), default=0))
    for b in buffers:
        held: dict[int, int] = {}  # of lives that meet, the tensor and what is written onto it, the larger counts
        for start, end, size in b.lives:
            for time in range(start, end + 1):
                held[time] = max(size, held[time]) if time in held else size
        for time, size in held.items():
            total[time] += size
    return total


def lower_bound(buffers) -> int:
    """Most bytes alive at once: no arena can be smaller."""
    return max(profile(buffers))


def place(buffers) -> tuple[tuple[Buffer, ...], int]:
    """Offsets for all buffers and the arena's size: first-fit in several orders, the smallest arena kept.

    Largest first is near optimal layer by layer; the other orders close the gap where a small buffer that lives long
    splits the arena, and where caches do so all along, a search from the best of them. Stops as soon as the lower bound
    is reached.
    """
    bound, best, near = lower_bound(buffers), None, _neighbours(buffers)
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
        arena = max(map(sum, zip(offsets, sizes, strict=True)), default=0)
        if best is None or arena < best[1]:
            best = offsets, arena, order
        if arena == bound:
            break
    offsets, arena, order = best
    if arena > bound:
        offsets, arena = _climb(order, near, sizes, bound)
    placed = tuple(Buffer(b.name, b.lives, offset) for b, offset in zip(buffers, offsets, strict=True))
    check(placed, arena)
    return placed, arena


def _meetings(buffers):
    """All lives as rows (owner, start, end, size), and the pairs of rows of different buffers that meet in time."""
    lives = np.array([(i, *life) for i, b in enumerate(buffers) for life in b.lives]).reshape(-1, 4)
    owner, start, end, _ = lives.T
    return lives, (start[:, None] <= end) & (start <= end[:, None]) & (owner[:, None] != owner)


def _neighbours(buffers) -> list[list[tuple[int, int, int]]]:
    """For each buffer (other buffer, own size, other's size) for every two of their lives that meet."""
    near: list[list[tuple[int, int, int]]] = [[] for _ in buffers]
    lives, meets = _meetings(buffers)
    mine, theirs = np.nonzero(meets)
    pairs = np.stack([lives[mine, 0], lives[theirs, 0], lives[mine, 3], lives[theirs, 3]], 1)
    for owner, other, own, others in pairs.tolist():
        near[owner].append((other, own, others))
    return near


def _climb(order: list[int], near, sizes: list[int], bound: int) -> tuple[list[int], int]:
    """Offsets and arena of the best order found from `order` on, a step at a time: a buffer that reaches the arena's
    end, or one that meets it in time, is placed earlier. Steps that change nothing are taken, too."""
    rng, best = random.Random(0), None
    trial = order
    for _ in range(STEPS):
        offsets = _first_fit(trial, near)
        ends = list(map(sum, zip(offsets, sizes, strict=True)))
        arena = max(ends)
        if best is None or arena <= best[1]:
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


def _first_fit(order, near) -> list[int]:
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


def check(buffers, arena: int) -> None:
    """No two buffers alive at the same time share a byte, all lie in the arena: every pair is compared."""
    lives, meets = _meetings(buffers)
    low = np.array([b.offset for b in buffers])[lives[:, 0]]
    high = low + lives[:, 3]
    outside = (low < 0) | (high > arena)
    if outside.any():
        name = buffers[lives[outside.argmax(), 0]].name
        raise AssertionError(f"buffer {name} lies outside the arena of {arena} bytes")
    clash = meets & (low[:, None] < high) & (low < high[:, None])
    if clash.any():
        a, b = (buffers[lives[row, 0]].name for row in np.argwhere(clash)[0])
        raise AssertionError(f"buffers {a} and {b} overlap")
