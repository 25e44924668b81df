"""Placement of buffers with live ranges in one arena, and an independent check of the result."""

from dataclasses import dataclass, replace
from typing import NamedTuple


class Life(NamedTuple):
    """`size` bytes in use while ops start..end (inclusive) run."""

    start: int
    end: int
    size: int

    def meets(self, other: "Life") -> bool:
        return self.start <= other.end and other.start <= self.end


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

    @property
    def start(self) -> int:
        return min(life.start for life in self.lives)

    @property
    def end(self) -> int:
        return max(life.end for life in self.lives)

    def live_bytes(self, time: int) -> int:
        return max((life.size for life in self.lives if life.start <= time <= life.end), default=0)


def lower_bound(buffers) -> int:
    """Most bytes alive at once: no arena can be smaller."""
    times = {life.start for b in buffers for life in b.lives}
    return max((sum(b.live_bytes(t) for b in buffers) for t in times), default=0)


def place(buffers) -> tuple[tuple[Buffer, ...], int]:
    """Offsets for all buffers and the arena's size: first-fit in several orders, the smallest arena kept.

    Largest first is near optimal on these networks; the other orders close the gap where a small buffer that lives long
    splits the arena. Stops as soon as the lower bound is reached.
    """
    bound, best = lower_bound(buffers), None
    orders = (
        lambda b: (-b.size, b.start),
        lambda b: (b.start - b.end, -b.size),
        lambda b: (b.start, -b.size),
        lambda b: (-b.end, -b.size),
        lambda b: (-b.size * (b.end - b.start + 1), b.start),
    )
    for order in orders:
        placed = _first_fit(buffers, order)
        arena = max((b.offset + b.size for b in placed), default=0)
        if best is None or arena < best[1]:
            best = placed, arena
        if arena == bound:
            break
    check(*best)
    return best


def _first_fit(buffers, order) -> tuple[Buffer, ...]:
    """Each buffer, in `order`, at the lowest offset that no placed buffer alive at the same time forbids."""
    placed: dict[str, Buffer] = {}
    for buffer in sorted(buffers, key=order):
        forbidden = sorted(
            (other.offset - mine.size, other.offset + theirs.size)
            for other in placed.values()
            for theirs in other.lives
            for mine in buffer.lives
            if mine.meets(theirs)
        )
        offset = 0
        for low, high in forbidden:  # offsets strictly between low and high overlap; sorted by low, one sweep is enough
            if low < offset < high:
                offset = high
        placed[buffer.name] = replace(buffer, offset=offset)
    return tuple(placed[b.name] for b in buffers)


def check(buffers, arena: int) -> None:
    """No two buffers alive at the same time share a byte, all lie in the arena. Pairwise, independent of `place`."""
    for i, a in enumerate(buffers):
        if a.offset < 0 or a.offset + a.size > arena:
            raise AssertionError(f"buffer {a.name} lies outside the arena of {arena} bytes")
        for b in buffers[:i]:
            for x in a.lives:
                for y in b.lives:
                    if x.meets(y) and a.offset < b.offset + y.size and b.offset < a.offset + x.size:
                        raise AssertionError(f"buffers {a.name} and {b.name} overlap")
