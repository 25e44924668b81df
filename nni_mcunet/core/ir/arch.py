"""Describe a network as data: ArchSpec. Searched architectures are JSON files that this module reads and writes.

It names the paper's knobs: kernel k, expanded channels mid (= expansion e times the input channels), width as output
channels c, depth as the number of blocks in a stage, resolution r, and the schedule p, n. It computes no shape.
"""

import json
import re
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import repeat
from pathlib import Path

from ..errors import ArchError, UserError
from ..files import write_atomic
from ..types import FilePath, Plain, PlainDict
from ..validate import check_fields, integer, read_json, short
from ..view import View

SIDES = (8, 8192)  # least and largest side of an image


def natural(value: Plain, what: str, low: int = 1, high: int = 1 << 16) -> int:
    """Return a number of channels, positions or the like. Raises ArchError unless it is an integer in low..high."""
    return integer(value, what, low, high, ArchError)


def pair(value: Plain, what: str, low: int = 1, high: int = 1 << 16) -> tuple[int, int]:
    """Return an integer or [vertical, horizontal] as a pair."""
    value = [value, value] if isinstance(value, int) else value
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ArchError(f"{what} is {short(value)}: expected an integer or a pair [vertical, horizontal]")
    return natural(value[0], what, low, high), natural(value[1], what, low, high)


@dataclass(frozen=True)
class Schedule:
    """Run the first n blocks (the first convolution counts as one) patch by patch on a grid p = (p_h, p_w); `then`:
    further segments ((p, n), ...), each from where the one before ended up to block n. A grid of (1, 1) runs its blocks
    layer by layer, as all blocks behind the last segment are run.

    halo: what patches share is computed again ("clip"), kept ("cache"), or kept where that is narrow ("narrow"), see
    plan(). "cache/clip" is one word for rows and one for columns, "cache,narrow/clip" one halo for each segment in
    patches. slices: a convolution that only a global mean reads is computed in so many slices of channels.
    """

    p: tuple[int, int] = (1, 1)
    n: int = 0
    then: tuple[tuple[tuple[int, int], int], ...] = ()
    halo: str = "clip"
    slices: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.then, (list, tuple)) or not all(
            isinstance(segment, (list, tuple)) and len(segment) == 2 for segment in self.then
        ):
            raise ArchError(f"schedule.then is {short(self.then)}: expected a list of further segments [p, n]")
        found: list[tuple[tuple[int, int], int]] = []
        for p, n in ((self.p, self.n), *self.then):
            p, n = pair(p, "schedule.p", high=64), natural(n, "schedule.n", low=0, high=1000)
            if self.then and n <= (found[-1][1] if found else 0):
                raise ArchError(
                    f"schedule.then: a segment up to block {n} is empty; each n must be above the one before"
                )
            if found and found[-1][0] == p == (1, 1):
                found.pop()
            found.append((p, n))
        if found[-1][0] == (1, 1) or found[-1][1] == 0:  # one spelling of "per layer"
            found.pop()
        p, n = found[0] if found else ((1, 1), 0)
        natural(self.slices, "schedule.slices", high=64)
        halo = _spelled(self.halo, sum(p != (1, 1) for p, _ in found))
        for name, value in (("p", p), ("n", n), ("then", tuple(found[1:])), ("halo", halo)):
            object.__setattr__(self, name, value)

    @property
    def segments(self) -> tuple[tuple[tuple[int, int], int], ...]:
        """(grid, block at which it ends) of each segment but the layer by layer rest."""
        return ((self.p, self.n), *self.then) if self.n else ()

    @property
    def halos(self) -> tuple[tuple[str, str], ...]:
        """The halo of rows and of columns of each of `segments`; of one layer by layer "clip"."""
        words = iter(self.halo.split(",")) if "," in self.halo else repeat(self.halo)
        return tuple(("clip", "clip") if p == (1, 1) else axes_of(next(words)) for p, _ in self.segments)

    def __str__(self) -> str:
        head = f", the head in {self.slices} slices" if self.slices > 1 else ""
        if not self.n:
            return f"layer by layer{head}"
        how = ["layer by layer" if p == (1, 1) else f"{p[0]}x{p[1]} patches" for p, _ in self.segments]
        first = f"{how[0]} over {self.n} block{'s' * (self.n > 1)}"
        then = (f"{h} up to block {n}" for h, (_, n) in zip(how[1:], self.then, strict=True))
        return ", then ".join([first, *then]) + head


HALO_WORDS = ("clip", "cache", "narrow")


def axes_of(halo: str) -> tuple[str, str]:
    """Return the words of rows and columns of one segment's halo."""
    rows, _, cols = halo.partition("/")
    return rows, cols or rows


def _spelled(halo: Plain, patched: int) -> str:
    """Return the one spelling of a halo of so many segments in patches. Raises ArchError."""
    found = []
    for one in halo.split(",") if isinstance(halo, str) else [""]:
        rows, cols = axes_of(one)
        if rows not in HALO_WORDS or cols not in HALO_WORDS or one.endswith("/"):
            raise ArchError(
                f"schedule.halo is {short(halo)}: expected one of {', '.join(HALO_WORDS)}, two of them for rows and "
                "columns, such as cache/clip, or one of these for each segment in patches, with commas between"
            )
        found.append(rows if rows == cols else f"{rows}/{cols}")
    if patched and len(found) not in (1, patched):
        raise ArchError(f"schedule.halo is {short(halo)}: {len(found)} halos for {patched} segments in patches")
    if not patched:
        return "clip"
    return found[0] if len(set(found)) == 1 else ",".join(found)


def parse_schedule(patches: str | None, blocks: str | None) -> Schedule | None:
    """Parse a command line's --patches 3x3 --blocks 5, or 4x4,2x2 and 5,9 for two segments; None without either. Raises
    ArchError."""
    if patches is None and blocks is None:
        return None
    if patches is None or blocks is None:
        given = f"--patches {short(patches)}" if blocks is None else f"--blocks {short(blocks)}"
        raise ArchError(f"{given}: give both, a grid such as --patches 2x2 and how many blocks run in it, --blocks 4")
    grids, ends = patches.split(","), blocks.split(",")
    found = [re.fullmatch(r"(\d{1,9})x(\d{1,9})", grid) for grid in grids]
    if not all(found) or not all(re.fullmatch(r"[1-9]\d{0,8}", end) for end in ends) or len(grids) != len(ends):
        raise ArchError(
            f"--patches {short(patches)} --blocks {short(blocks)}: expected a grid such as 2x2 and a number of "
            "blocks, or as many of both with commas between"
        )
    segments = [((int(grid[1]), int(grid[2])), int(end)) for grid, end in zip(found, ends, strict=True) if grid]
    return Schedule(*segments[0], tuple(segments[1:]))


@dataclass(frozen=True)
class Block:
    """An inverted residual: 1x1 to mid (left out when mid equals the input channels), depth-wise k x k stride s, 1x1 to
    c; with the shortcut where s = 1 and the channels agree. k = 0 is a single 1x1 convolution to c, no depth-wise.

    groups  of the 1x1 convolutions (FBNet; its channel shuffle costs nothing here and is not modelled)
    expand  keep the first 1x1 even where mid equals the input channels (FBNet's e = 1)
    se      channels to which squeeze-excite reduces mid behind the depth-wise convolution, 0 for none
    plain   MobileNetV1's separable convolution: the last 1x1 has an activation and there is no shortcut
    """

    k: int
    s: int
    mid: int
    c: int
    groups: int = 1
    expand: bool = False
    se: int = 0
    plain: bool = False

    def __post_init__(self) -> None:
        natural(self.k, "block.k", low=0, high=15)
        if self.k and self.k % 2 == 0:
            raise ArchError(f"block.k is {self.k}: expected an odd kernel, or 0 for a single 1x1 convolution")
        natural(self.s, "block.s", high=4)
        natural(self.mid, "block.mid", low=0)
        natural(self.c, "block.c")
        natural(self.groups, "block.groups")
        natural(self.se, "block.se", low=0)
        for name in ("expand", "plain"):
            if not isinstance(getattr(self, name), bool):
                raise ArchError(f"block.{name} is {short(getattr(self, name))}: expected true or false")
        if self.k == 0 and (self.s != 1 or self.mid != 0):
            raise ArchError(
                f"a block with k = 0 is a single 1x1 convolution: s must be 1 and mid 0, not {self.s}, {self.mid}"
            )
        if self.k and not self.mid:
            raise ArchError("block.mid is 0: a block with a depth-wise convolution needs its channels")


@dataclass(frozen=True)
class Pool:
    """Recurrent pooling (rnnpool.py) of k x k windows moved by s, with so many hidden units in either RNN; the map
    shrinks by s, and four times `hidden` channels go on."""

    k: int
    s: int
    hidden: int

    def __post_init__(self) -> None:
        for name in ("k", "s", "hidden"):
            natural(getattr(self, name), f"pool.{name}")
        if self.k < self.s:
            raise ArchError(f"pool.k is {self.k}: expected windows of {self.s} at least, so that all is read")


@dataclass(frozen=True)
class ArchSpec:
    """A backbone and, when `classes` is set, its classifier.

    resolution  (h, w) of the input image, 3 channels
    stem        channels of the first 3x3 convolution, stride 2
    stages      stages of blocks; names count by stage and block, so a shallower network is a subset of a deeper one
    head        channels of the last 1x1 convolution, or None
    classes     outputs of the classifier, or None for a bare backbone
    schedule    how it is run
    act         activation of every layer but the projections
    gate        activation of the squeeze-excite gates
    pool        recurrent pooling behind the stem, or None; a block of its own
    expected    published figures as printed, {"macs_M": "300.8", "params_M": "3.5", "peak_kB": "1372"}; data that tests
                compare with, no part of what the network is (two specs that differ in nothing else are equal)
    view        how pictures were seen when it was trained and judged, or None where that is not known; no part of what
                the network is, either
    """

    name: str
    resolution: tuple[int, int]
    stem: int
    stages: tuple[tuple[Block, ...], ...]
    head: int | None = None
    classes: int | None = None
    schedule: Schedule = Schedule()
    act: str = "relu6"
    gate: str = "sigmoid"
    pool: Pool | None = None
    expected: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    view: View | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ArchError(f"name is {short(self.name)}: expected a non-empty string")
        object.__setattr__(self, "resolution", pair(self.resolution, "resolution", *SIDES))
        natural(self.stem, "stem")
        if not self.stages or not all(self.stages):
            raise ArchError("stages is empty or has an empty stage: expected one stage or more, of one block or more")
        for value, what in ((self.head, "head"), (self.classes, "classes")):
            if value is not None:
                natural(value, what)
        if self.act not in ("relu", "relu6"):
            raise ArchError(f"act is {short(self.act)}: expected 'relu' or 'relu6'")
        if self.gate not in ("sigmoid", "hsigmoid"):
            raise ArchError(f"gate is {short(self.gate)}: expected 'sigmoid' or 'hsigmoid'")

    @property
    def depth(self) -> int:
        """Blocks, the first convolution counted: the largest n."""
        return 1 + (self.pool is not None) + sum(len(stage) for stage in self.stages)

    def to_dict(self) -> PlainDict:
        """Return the spec as JSON has it; a field with its default value is left out."""
        data: PlainDict = _plain(self)
        data |= {"expected": dict(self.expected)} if self.expected else {}
        return data | ({"view": str(self.view)} if self.view else {})

    @classmethod
    def from_dict(cls, data: Plain) -> "ArchSpec":
        """Invert to_dict, from parsed JSON. Raises ArchError naming the key."""
        check_fields(data, cls, "the architecture", ArchError)
        data = dict(data)
        data["schedule"] = _schedule(data.get("schedule", {}))
        data["pool"] = _pool(data.get("pool"))
        if not isinstance(data["stages"], (list, tuple)):
            raise ArchError(f"stages is {short(data['stages'])}: expected a list of lists of blocks")
        data["stages"] = tuple(_stage(i, stage) for i, stage in enumerate(data["stages"]))
        data["expected"] = _expected(data.get("expected", {}))
        data["view"] = _view(data.get("view"))
        return cls(**data)

    @classmethod
    def load(cls, path: FilePath) -> "ArchSpec":
        """Read a JSON file. Raises FileNotFoundError, or ArchError that names the file."""
        data = read_json(path, ArchError)
        try:
            return cls.from_dict(data)
        except ArchError as error:
            raise ArchError(f"{path}: {error}") from None

    def save(self, path: FilePath) -> Path:
        """Write JSON with one block a line."""
        text = json.dumps(self.to_dict(), indent=1)
        return write_atomic(path, re.sub(r"[\[{][^\[\]{}]*[\]}]", _one_line, text) + "\n")


def _one_line(innermost: re.Match[str]) -> str:
    text = " ".join(innermost[0].split())
    return text[0] + text[1:-1].strip() + text[-1]


def _plain(value: Plain) -> Plain:
    """Turn dataclasses into dicts without the fields that have their default, tuples into lists."""
    if is_dataclass(value):
        return {f.name: _plain(v) for f in fields(value) if (v := getattr(value, f.name)) != f.default}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _schedule(data: Plain) -> Schedule:
    check_fields(data, Schedule, "schedule", ArchError)
    return Schedule(**data)


def _pool(data: Plain) -> Pool | None:
    if data is None:
        return None
    check_fields(data, Pool, "pool", ArchError)
    return Pool(**data)


def _expected(data: Plain) -> tuple[tuple[str, str], ...]:
    if not isinstance(data, dict) or not all(isinstance(v, str) for v in data.values()):
        raise ArchError(f"expected is {short(data)}: expected an object of figures as printed, in quotes")
    return tuple(data.items())


def _view(text: Plain) -> View | None:
    try:
        return None if text is None else View.parse(text)
    except UserError as error:
        raise ArchError(str(error)) from None


def _stage(index: int, stage: Plain) -> tuple[Block, ...]:
    if not isinstance(stage, (list, tuple)):
        raise ArchError(f"stages[{index}] is {short(stage)}: expected a list of blocks")
    blocks = []
    for at, block in enumerate(stage):
        check_fields(block, Block, f"stages[{index}][{at}]", ArchError)
        blocks.append(Block(**block))
    return tuple(blocks)
