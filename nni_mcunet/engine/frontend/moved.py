"""Follow the elements of a map through slices, transpositions and reshapes that divide its axes, and say which ops give
the result: channel shuffles, slices, SpaceToDepth and DepthToSpace, however a file writes them.

A Moved holds the index of every element, so that numpy does what the file says. `settled` looks at what came out: it
divides the index into factors, each a run along one axis of the map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, NoReturn

import numpy as np

from ...core.ir.graph import Tensor
from ...core.types import Ints
from .builder import Builder, Layer
from .feature import Feature, kept
from .imported import MOST_SIDE
from .repeats import without_repeats

MOST = 1 << 23  # elements of a map that is followed; each has an index of 8 bytes


@dataclass(frozen=True)
class Moved:
    """Elements of a map in another order, or some of them: `index` has the file's shape and holds the places in the
    map, counted by row, column, channel. layer: the last that moved them."""

    tensor: Tensor
    index: Ints
    layer: Layer

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""
        return self.index.shape


def moved(layer: Layer, x: Feature | Moved, change: Callable[[Ints], Ints]) -> Moved:
    """Return the map whose index is changed as numpy changes it. Raises UnsupportedOp for a map too large to follow,
    GraphError where nothing is left."""
    if isinstance(x, Feature):
        t = x.tensor
        if t.size > MOST:
            layer.refuse(f"moves {t.size:,} elements, and up to {MOST:,} are followed; export it for a smaller picture")
        order = x.order + "".join(axis for axis in "hwc" if axis not in x.order)
        places = np.arange(t.size).reshape(t.h, t.w, t.c).transpose(["hwc".index(axis) for axis in order])
        x = Moved(t, places.reshape(x.shape), layer)
    index = change(x.index)
    if not index.size or index.size > MOST:
        layer.wrong(f"makes {list(index.shape)} of {list(x.shape)}")
    return Moved(x.tensor, index, layer)


def reshaped(layer: Layer, x: Feature | Moved, shape: Sequence[int]) -> "Feature | Moved | None":
    """Return the map under another shape, None where the number of elements would be another."""
    if isinstance(x, Feature):
        return x.reshaped(shape)
    same = np.prod([float(n) for n in shape]) == x.index.size and min(shape, default=1) > 0
    return moved(layer, x, lambda index: index.reshape(shape)) if same else None


def transposed(layer: Layer, x: Feature | Moved, perm: Sequence[int]) -> Feature | Moved:
    """Return the map with its dimensions in another order. Raises GraphError for what is no order."""
    if sorted(perm) != list(range(len(x.shape))):
        layer.wrong(f"perm {list(perm)} of {list(x.shape)}")
    plain = x.transposed(perm) if isinstance(x, Feature) else None
    return plain or moved(layer, x, lambda index: index.transpose(perm))


def tiled(layer: Layer, x: Feature | Moved, times: Sequence[int]) -> Feature | Moved:
    """Return the map repeated so many times along its last dimensions, or along all behind new ones of 1. Raises
    GraphError for what is none, UnsupportedOp for too many elements."""
    if min(times, default=1) < 1:
        layer.wrong(f"repeats {list(x.shape)} {list(times)} times")
    if float(np.prod([float(n) for n in times])) * float(np.prod(x.shape)) > MOST:
        layer.refuse(f"makes {list(times)} times {list(x.shape)}, and up to {MOST:,} elements are followed")
    return x if set(times) <= {1} and len(times) <= len(x.shape) else moved(layer, x, lambda i: np.tile(i, times))


def phases(layer: Layer, x: Feature, block: tuple[int, int]) -> Moved:
    """Return a map (1, c, h, w) as its phases (down * right, c, h / down, w / right): every down-th row and right-th
    column, from each of the first ones."""
    (down, right), (_, c, h, w) = block, x.shape

    def change(index: Ints) -> Ints:
        parts = index.reshape(c, h // down, down, w // right, right)
        return parts.transpose(2, 4, 0, 1, 3).reshape(-1, c, h // down, w // right)

    return moved(layer, x, change)


def block_of(layer: Layer, x: Feature | Moved) -> tuple[int, int] | None:
    """Return the block whose phases are the batch of maps (n, c, h, w); None where it is none."""
    if not isinstance(x, Moved) or len(x.shape) != 4 or x.shape[0] == 1:
        return None
    t, (n, c, h, w) = x.tensor, x.shape
    block = t.h // h, t.w // w
    if (c, h * block[0], w * block[1], block[0] * block[1]) != (t.c, t.h, t.w, n):
        return None
    return block if np.array_equal(phases(layer, Feature.of(t), block).index, x.index) else None


def spread(layer: Layer, x: Feature | Moved, shape: Sequence[int]) -> Feature | Moved:
    """Return the map under the shape that it broadcasts to with this one. Raises what tiled raises, and GraphError
    where it does not."""
    ours = [1] * (len(shape) - len(x.shape)) + list(x.shape)
    theirs = [1] * (len(x.shape) - len(shape)) + list(shape)
    if not all(a == b or 1 in (a, b) for a, b in zip(ours, theirs, strict=True)):
        layer.wrong(f"spreads {list(x.shape)} to {list(shape)}")
    return tiled(layer, x, [b if a == 1 else 1 for a, b in zip(ours, theirs, strict=True)])


def joined(layer: Layer, parts: Sequence[Feature | Moved], axis: int) -> Moved | None:
    """Return parts of one map joined along an axis, as Keras' UpSampling1D is written; None where they are no such
    parts."""
    whole = parts[0].tensor
    if any(x.tensor != whole for x in parts) or not any(isinstance(x, Moved) for x in parts):
        return None
    indices = [moved(layer, x, lambda index: index).index for x in parts]
    dims = len(parts[0].shape)
    alike = {(*i.shape[: axis % dims], *i.shape[axis % dims + 1 :]) for i in indices if i.ndim == dims}
    if len(alike) != 1 or any(i.ndim != dims for i in indices) or not -dims <= axis < dims:
        return None
    return Moved(whole, np.concatenate(indices, axis), layer)


class Factor(NamedTuple):
    """A run along `axis` of the map: `steps` (n,) from its first position. dim: the dimension of the file's shape that
    it is a part of."""

    dim: int
    axis: str
    steps: Ints


def refuse_order(x: Moved) -> NoReturn:
    """Raise UnsupportedOp for an order of elements that no ops give."""
    x.layer.refuse(
        f"gives {list(x.shape)} of rows, columns and channels in the order of no slice, channel shuffle, SpaceToDepth, "
        f"DepthToSpace or enlargement; end the model before it, at '{x.tensor.name}'"
    )


class Layout(NamedTuple):
    """A map's sides, the first position (h, w, c) and the factors of what was moved, in the order of counting."""

    sides: dict[str, int]
    first: dict[str, int]
    factors: list[Factor]


def settled(builder: Builder, x: Moved) -> Feature | None:
    """Append the ops that give what was moved, none where it is the map itself; None where no ops do."""
    for way in _as_maps(x.index):
        index, order, times = without_repeats(x.tensor, way)
        if times != (1, 1):
            break
    else:
        return _settled(builder, x)
    if max(times) > MOST_SIDE:
        x.layer.refuse(f"repeats rows and columns {list(times)} times, and up to {MOST_SIDE} are known")
    found = _settled(builder, replace(x, index=index))
    if not found:
        return None
    y = Feature.of(builder.add(x.layer, "upsample", (found.tensor,), found.tensor.c, s=times), order)
    return replace(y, shape=x.shape)


def _as_maps(index: Ints) -> list[Ints]:
    """Return an index as one of maps: of a sequence, with each dimension that a map has besides."""
    if index.ndim == 3 and index.shape[0] == 1:
        return [np.expand_dims(index, at) for at in (1, 2, 3)]
    return [index]


def _settled(builder: Builder, x: Moved) -> Feature | None:
    """Do the same for elements none of which repeat."""
    found = _layout(x)
    blocks = found and _blocks(found)
    if not found or not blocks:
        return None
    packed = _packed(found, blocks)
    parts, takes = _parts(packed.factors), [_steps(packed, axis) for axis in "hw"]
    rest = [i for i, f in enumerate(packed.factors) if f.axis == "c" and i not in parts.values()]
    if None in takes or rest != list(range(rest[0], rest[0] + len(rest)) if rest else []):
        return None  # the other channels follow one another
    runs = {axis: packed.factors[i].steps for axis, i in sorted(parts.items())}
    t, layer, down, right = x.tensor, x.layer, blocks["h"], blocks["w"]
    if down * right > 1:
        t = builder.add(layer, "space_to_depth", (t,), t.c * down * right, k=(down, right), s=(down, right))
    numbers = _sums([*runs.values(), *(packed.factors[i].steps for i in rest)])
    t = _taken(builder, layer, t, [take for take in takes if take], numbers + packed.first["c"])
    spread = tuple(len(runs.get(axis, [0])) for axis in "hw")
    if spread != (1, 1):
        t = builder.add(layer, "depth_to_space", (t,), t.c // (spread[0] * spread[1]), s=spread)
    order = dict.fromkeys(f.axis for i, f in enumerate(packed.factors) if i not in parts.values())
    return Feature(t, kept("".join(order), t), x.shape)


def _sums(runs: list[Ints]) -> Ints:
    """Return every sum of one step of each run, the last run's the fastest."""
    found = np.zeros(1, np.int64)
    for steps in runs:
        found = (found[:, None] + steps).ravel()
    return found


def _layout(x: Moved) -> Layout | None:
    """Divide an index into factors; None where it is no sum of its dimensions' steps."""
    sides = {"h": x.tensor.h, "w": x.tensor.w, "c": x.tensor.c}
    places = np.unravel_index(x.index, tuple(sides.values()))
    first = {axis: int(place.flat[0]) for axis, place in zip(sides, places, strict=True)}
    total = {axis: np.full((1,) * x.index.ndim, at) for axis, at in first.items()}
    factors: list[Factor] = []
    for dim, n in enumerate(x.index.shape):
        line = tuple(slice(None) if d == dim else 0 for d in range(x.index.ndim))
        steps = {axis: place[line] - first[axis] for axis, place in zip(sides, places, strict=True)}
        for axis, run in steps.items():
            total[axis] = total[axis] + run.reshape([n if d == dim else 1 for d in range(x.index.ndim)])
        parts = _factors(dim, steps) if n > 1 else []
        if parts is None:
            return None
        factors += parts
    same = all(np.array_equal(total[axis], place) for axis, place in zip(sides, places, strict=True))
    return Layout(sides, first, factors) if same else None


def _factors(dim: int, steps: dict[str, Ints]) -> list[Factor] | None:
    """Divide a dimension into runs along one axis each, the slowest first."""
    n = len(steps["c"])
    changes = {axis: int(np.argmax(run != 0)) for axis, run in steps.items() if run.any()}
    if len(changes) <= 1:
        axis = next(iter(changes), "c")  # one element again and again is one channel
        return [Factor(dim, axis, steps[axis])]
    inner = min(changes, key=lambda axis: changes[axis])
    m = min(at for axis, at in changes.items() if axis != inner)
    if n % m or changes[inner] >= m:
        return None
    run, outer = steps[inner][:m], {axis: s[::m] for axis, s in steps.items()}
    for axis, s in steps.items():
        if not np.array_equal(s.reshape(-1, m), outer[axis][:, None] + (run if axis == inner else 0 * run)):
            return None
    rest = _factors(dim, outer)
    return None if rest is None else [*rest, Factor(dim, inner, run)]


def _blocks(x: Layout) -> dict[str, int] | None:
    """Return the sides of the blocks of positions that become channels: of an axis with two factors the length of the
    fine one, which steps through a block. None for more factors."""
    found = {}
    for axis in "hw":
        lengths = [len(f.steps) for f in x.factors if f.axis == axis]
        fine = [f for f in x.factors if _is_fine(x, f)]
        found[axis] = next((len(f.steps) for f in fine if f.axis == axis), 1)
        if len(lengths) > 2 or (len(lengths) == 2 and found[axis] == 1) or x.sides[axis] % found[axis]:
            return None
    return found


def _is_fine(x: Layout, f: Factor) -> bool:
    """Tell whether a factor steps through blocks, between which the other factor of its axis steps."""
    n, others = len(f.steps), [o for o in x.factors if o.axis == f.axis and o is not f]
    if not np.array_equal(f.steps, np.arange(n)):
        return False
    if not others:  # one block as high as the map, or as wide, next to the steps through blocks of the other axis
        return n == x.sides[f.axis] and any(
            o.axis not in (f.axis, "c") and o.dim == f.dim and _divided(x, o) for o in x.factors
        )
    return len(others) == 1 and x.first[f.axis] % n == 0 and not (others[0].steps % n).any()


def _divided(x: Layout, f: Factor) -> bool:
    """Tell whether a factor steps through blocks and another of its axis between them."""
    return any(o.axis == f.axis and o is not f for o in x.factors) and _is_fine(x, f)


def _packed(x: Layout, blocks: dict[str, int]) -> Layout:
    """Return the same elements as they lie behind a space_to_depth of these blocks."""
    c = x.sides["c"]
    inside = {"h": blocks["w"] * c, "w": c}  # channels from one row and one column of a block to the next
    factors = [
        f if f.axis == "c" else Factor(f.dim, "c", f.steps * inside[f.axis])
        if blocks[f.axis] > 1 and _is_fine(x, f) else f._replace(steps=f.steps // blocks[f.axis])
        for f in x.factors
    ]  # fmt: skip
    sides = {"h": x.sides["h"] // blocks["h"], "w": x.sides["w"] // blocks["w"], "c": c * blocks["h"] * blocks["w"]}
    return Layout(sides, {**x.first, **{axis: x.first[axis] // blocks[axis] for axis in "hw"}}, factors)


def _parts(factors: list[Factor]) -> dict[str, int]:
    """Return the places of the channels that a depth_to_space makes rows ("h") and columns ("w") of: those that go on
    where the positions in a dimension of the file end."""
    pairs = enumerate(pairwise(factors), 1)
    return {f.axis: at for at, (f, part) in pairs if f.axis != "c" == part.axis and f.dim == part.dim}


def _steps(x: Layout, axis: str) -> tuple[int, int, int] | None:
    """Return the first position, the step and what is left behind the last of an axis; None for uneven steps."""
    runs = [f.steps for f in x.factors if f.axis == axis]
    run = runs[0] if runs else np.zeros(1, np.int64)
    step = int(run[1]) if len(run) > 1 else 1
    if len(runs) > 1 or step < 1 or not np.array_equal(run, np.arange(len(run)) * step):
        return None
    return x.first[axis], step, x.sides[axis] - 1 - x.first[axis] - int(run[-1])


def _taken(builder: Builder, layer: Layer, t: Tensor, takes: list[tuple[int, int, int]], channels: Ints) -> Tensor:
    """Append a take of rows, columns and channels, unless it is all of them."""
    (top, down, bottom), (left, right, after) = takes
    pad, s, numbers = (-top, -left, -bottom, -after), (down, right), tuple(channels.tolist())
    if not any(pad) and s == (1, 1) and numbers == tuple(range(t.c)):
        return t
    return builder.add(layer, "take", (t,), len(numbers), pad=pad, s=s, channels=numbers)
