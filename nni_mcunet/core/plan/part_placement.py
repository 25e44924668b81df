"""Place the buffers of a row of parts: what arena.place gives for its plan, from what is known of each part.

Most parts of a network are small beside its worst one, and find room wherever other buffers lie. Their buffers are left
out from the beginning, as arena.place leaves them out of what it tries.
"""

from typing import NamedTuple

from .arena import Neighbours, arranged
from .parts import Bytes

ALWAYS = 1 << 62  # bytes that no arena has


class Run(NamedTuple):
    """A part as it runs, and which parts wrote what it reads; -1 is the image."""

    bytes: Bytes
    reads: tuple[int, ...]


class _Asked(NamedTuple):
    """The room that the buffers of a row ask of a placement.

    parts   bytes of an arena in which a part's own buffers find room, wherever its maps lie
    home    the map in whose buffer what each part hands on lies, that of the image at last
    maps    bytes of an arena in which each of these buffers finds room, wherever the others lie
    beside  the maps that are in use while a part runs, and are none of its own
    """

    parts: list[int]
    home: list[int]
    maps: list[int]
    beside: list[list[int]]


class _Made(NamedTuple):
    """The buffers that are placed, see arena.arranged."""

    near: Neighbours
    sizes: list[int]
    spans: list[tuple[int, int]]

    def add(self, size: int, start: int, end: int) -> int:
        self.near.append([])
        self.sizes.append(size)
        self.spans.append((start, end))
        return len(self.sizes) - 1

    def meet(self, one: int, other: int, mine: int, theirs: int) -> None:
        self.near[one].append((other, mine, theirs))
        self.near[other].append((one, theirs, mine))

    def meet_apart(self, one: int, other: int) -> None:
        """Let two buffers share no byte, if they do not meet yet."""
        if one != other and all([j != other for j, *_ in self.near[one]]):
            self.meet(one, other, self.sizes[one], self.sizes[other])


def placed(runs: list[Run], bound: int, patched: int, whole: int) -> int:
    """Return the bytes of the arena. bound: those alive at the worst op; patched: how many parts run in patches, whole:
    the bytes of the map that they fill."""
    asked = _asked(runs, bound, patched, whole)
    kept, made = [one > bound for one in asked.maps], _Made([], [], [])
    at: dict[int, int] = {}  # map -> its buffer here
    begin = 0
    for index, (own, reads) in enumerate(runs):
        out, left = asked.home[index], asked.parts[index] > bound
        if left or kept[out] or any([kept[asked.home[source]] for source in reads]):
            here: dict[int, int] = {}  # buffer of the part -> the one here
            for local, source, end in zip(own.inputs, reads, own.read, strict=True):
                home = asked.home[source]
                if kept[home]:
                    if source < 0:
                        at[home] = made.add(own.sizes[local], 0, 0)
                    here[local] = at[home]
                    made.spans[at[home]] = made.spans[at[home]][0], begin + end
            for local, (start, end) in enumerate(own.spans):
                if local == own.out:
                    if kept[out] and local not in own.inputs:
                        fills = index == patched - 1  # a map that is in use from the first op of all on
                        size, start = (whole, 0) if fills else (own.sizes[local], begin + start)
                        at[out] = here[local] = made.add(size, start, begin + end)
                elif left and local not in own.inputs:
                    here[local] = made.add(own.sizes[local], begin + start, begin + end)
            for pairs in (own.maps, own.pairs):
                for i, j, mine, theirs in pairs if left or pairs is own.maps else ():
                    if i in here and j in here:
                        made.meet(here[i], here[j], mine, theirs)
            for other in asked.beside[index]:
                for one in here.values():
                    made.meet_apart(one, at[other])
        if index == patched - 1:
            for one in range(len(made.sizes)):
                made.near[one] = [met for met in made.near[one] if at[index] not in (one, met[0])]
            for one in range(len(made.sizes)):
                made.meet_apart(one, at[index])
        begin += own.ops
    return arranged(*made, bound)[1]


def _asked(runs: list[Run], bound: int, patched: int, whole: int) -> _Asked:
    taps, parts, beside = runs[-1].reads, [], []
    home = [*range(len(runs)), len(runs)]
    sizes = [own.sizes[own.out] for own, _ in runs] + [runs[0].bytes.sizes[0]]
    maps = [*sizes]
    for index, (own, reads) in enumerate(runs):
        # A head reads maps of earlier parts.
        others = [home[tap] for tap in taps if tap < index and tap not in reads] if len(taps) > 1 else []
        more = [*[sizes[other] for other in others], *[whole] * (index < patched)]
        room = own.room + len(more) * own.largest + sum(more) if more else own.room
        forbidden = own.bare if room <= bound else own.met
        parts.append(room)
        beside.append(others)
        for local, source in zip(own.inputs, reads, strict=True):
            maps[home[source]] += forbidden[local]
            if local == own.out:
                home[index] = home[source]
        if home[index] == index:
            maps[index] += forbidden[own.out]
        for other in more:
            for one in {home[index], *[home[source] for source in reads]}:
                maps[one] += other + sizes[one]
    for one in [*taps[:-1], *[patched - 1] * (patched > 0)]:
        maps[home[one]] = ALWAYS  # it is in use while parts run that know nothing of it
    return _Asked(parts, home, maps, beside)
