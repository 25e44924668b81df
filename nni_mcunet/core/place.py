"""Placement of buffers with live ranges in one arena, and an independent check of the result."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Buffer:
    """`size` bytes alive while ops start..end (inclusive) run, at `offset` in the arena."""

    name: str
    size: int
    start: int
    end: int
    offset: int = -1

    def meets(self, other: "Buffer") -> bool:
        return self.start <= other.end and other.start <= self.end


def lower_bound(buffers) -> int:
    """Most bytes alive at once: no arena can be smaller."""
    return max((sum(b.size for b in buffers if b.start <= t <= b.end) for t in {b.start for b in buffers}), default=0)


def place(buffers) -> tuple[tuple[Buffer, ...], int]:
    """Offsets for all buffers and the arena's size: best-fit in several orders, the smallest arena kept.

    Greedy by size is near optimal on these networks; the other orders close the gap where a long-lived small buffer
    splits the arena. Stops as soon as the lower bound is reached.
    """
    bound, best = lower_bound(buffers), None
    orders = (
        lambda i: (-buffers[i].size, buffers[i].start),
        lambda i: (-(buffers[i].end - buffers[i].start), -buffers[i].size),
        lambda i: (buffers[i].start, -buffers[i].size),
        lambda i: (-buffers[i].end, -buffers[i].size),
        lambda i: (-buffers[i].size * (buffers[i].end - buffers[i].start + 1), buffers[i].start),
    )
    for order in orders:
        placed = _best_fit(buffers, sorted(range(len(buffers)), key=order))
        arena = max((b.offset + b.size for b in placed), default=0)
        if best is None or arena < best[1]:
            best = placed, arena
        if arena == bound:
            break
    check(best[0], best[1])
    return best


def _best_fit(buffers, order) -> tuple[Buffer, ...]:
    placed: dict[int, Buffer] = {}
    for index in order:
        buffer, cursor, choice, choice_gap = buffers[index], 0, None, None
        for other in sorted((b for b in placed.values() if b.meets(buffer)), key=lambda b: b.offset):
            gap = other.offset - cursor
            if gap >= buffer.size and (choice is None or gap < choice_gap):
                choice, choice_gap = cursor, gap
            cursor = max(cursor, other.offset + other.size)
        placed[index] = replace(buffer, offset=cursor if choice is None else choice)
    return tuple(placed[i] for i in range(len(buffers)))


def check(buffers, arena: int) -> None:
    """No two buffers alive at the same time share a byte, all lie in the arena. Pairwise, independent of `place`."""
    for i, a in enumerate(buffers):
        if a.offset < 0 or a.offset + a.size > arena:
            raise AssertionError(f"buffer {a.name} lies outside the arena of {arena} bytes")
        for b in buffers[:i]:
            if a.meets(b) and a.offset < b.offset + b.size and b.offset < a.offset + a.size:
                raise AssertionError(f"buffers {a.name} and {b.name} overlap")
