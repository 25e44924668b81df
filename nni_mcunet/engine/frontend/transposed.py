"""Append a transposed convolution as plain ones: a phase of the output, every s-th row and column, sees every s-th tap.

Each phase is a convolution of stride 1 with its own taps and pads, so that no zero is multiplied. Phases in a row that
have one window are one convolution. A depth_to_space puts them together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, product

import numpy as np

from ...core.ir.graph import Tensor
from .builder import Builder, Layer
from .feature import Integers
from .imported import MOST_SIDE
from .layers import MOST_WEIGHTS, convolve

MOST_PHASES = 256


@dataclass(frozen=True)
class Side:
    """One axis of a transposed convolution: positions of the input and the output, taps, stride, how many positions of
    the output are cut off before the first, and the dilation."""

    n_in: int
    n_out: int
    k: int
    s: int
    cut: int = 0
    dilation: int = 1

    @property
    def blocks(self) -> int:
        """Positions of each phase."""
        return -(-self.n_out // self.s)


@dataclass(frozen=True)
class Phase:
    """Every s-th position along an axis: the window's length and pads (before, behind), and where each of its taps
    lies in the window: ((tap, place), ...)."""

    length: int
    pads: tuple[int, int]
    taps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, side: Side, first: int) -> "Phase":
        """Return the phase that begins at position `first`."""
        # Position q * s + first of the output has input q + at times tap t where s * at = first + cut - dilation * t.
        ats = {t: first + side.cut - side.dilation * t for t in range(side.k)}
        found = {t: at // side.s for t, at in ats.items() if at % side.s == 0}
        begin, end = min(found.values(), default=0), max(found.values(), default=0)
        length = end - begin + 1
        behind = side.blocks - 1 + length - side.n_in + begin
        return cls(length, (-begin, behind), tuple((t, at - begin) for t, at in found.items()))


def convolve_transposed(
    builder: Builder,
    layer: Layer,
    x: Tensor,
    weight: np.ndarray,
    given: np.ndarray | Integers | None,
    bias: np.ndarray | Integers | None,
    sides: tuple[Side, Side],
    groups: int = 1,
) -> Tensor:
    """Append a transposed convolution of weights (cin, cout / groups, kh, kw) and return what it writes. given and
    bias, (cout,): as of layers.convolve. Raises UnsupportedOp beyond the limits, GraphError for shapes that do not
    fit."""
    s = sides[0].s, sides[1].s
    if weight.shape[0] != x.c or groups < 1 or x.c % groups:
        layer.wrong(f"weights of {list(weight.shape)} in {groups} groups on {x.c} channels")
    if s[0] * s[1] > MOST_PHASES:
        layer.refuse(f"stride {list(s)} makes {s[0] * s[1]} phases of the output, and up to {MOST_PHASES} are known; "
                     "use a smaller stride")  # fmt: skip
    if bias is not None and (bias.values if isinstance(bias, Integers) else bias).size != weight.shape[1] * groups:
        layer.wrong(f"not one bias for each of {weight.shape[1] * groups} channels")
    cout, (rows, cols) = weight.shape[1] * groups, [[Phase.of(side, i) for i in range(side.s)] for side in sides]
    windows = [(row.length, col.length) for row, col in product(rows, cols)]
    taps = sum(a * b for a, b in windows) * weight[..., 0, 0].size
    if max(map(max, windows)) > MOST_SIDE or taps > MOST_WEIGHTS:
        layer.refuse(f"its phases have windows up to {list(max(windows))}: sides go to {MOST_SIDE}, weights to "
                     f"{MOST_WEIGHTS:,}; use a smaller kernel or dilation")  # fmt: skip
    plain = weight.reshape(groups, x.c // groups, -1, *weight.shape[2:]).transpose(0, 2, 1, 3, 4)
    plain = plain.reshape(cout, x.c // groups, *weight.shape[2:])
    parts = []
    for run in _runs(rows, cols, groups):
        kernel = np.concatenate([_taps(plain, *pair) for pair in run])
        (top, bottom), (left, right) = (phase.pads for phase in run[0])
        own = _repeated(given, len(kernel)) if isinstance(given, Integers) else given
        added = _repeated(bias, len(kernel)) if isinstance(bias, Integers) else bias
        added = np.tile(added.reshape(-1), len(run)) if isinstance(added, np.ndarray) else added
        pad = top, left, bottom, right
        parts.append(convolve(builder, layer, x, kernel, own, added, groups=groups, pad=pad))
    y = parts[0] if len(parts) == 1 else builder.add(layer, "concat", tuple(parts), sum(p.c for p in parts))
    if s == (1, 1):
        return y
    down, right = (side.n_out - side.blocks * side.s for side in sides)
    return builder.add(layer, "depth_to_space", (y,), cout, s=s, pad=(0, 0, down, right))


def _runs(rows: list[Phase], cols: list[Phase], groups: int) -> Iterator[list[tuple[Phase, Phase]]]:
    """Yield the phases that one convolution computes: without groups those that follow one another with one window."""
    pairs = enumerate(product(rows, cols))
    window = [(at if groups > 1 else 0, *((p.length, p.pads) for p in pair)) for at, pair in pairs]
    for _, run in groupby(zip(window, product(rows, cols), strict=True), lambda one: one[0]):
        yield [pair for _, pair in run]


def _taps(weight: np.ndarray, row: Phase, col: Phase) -> np.ndarray:
    """Return the weights (cout, cin / groups, row.length, col.length) of one phase."""
    found = np.zeros((*weight.shape[:2], row.length, col.length), weight.dtype)
    for (r, i), (q, j) in product(row.taps, col.taps):
        found[:, :, i, j] = weight[:, :, r, q]
    return found


def _repeated(given: Integers, outputs: int) -> Integers:
    """Return integers whose scales, and values where they are a bias, are given for fewer outputs, one after another
    for all."""
    values = np.tile(given.values, outputs // given.values.size) if given.values.ndim == 1 else given.values
    scale = given.scale if given.scale.size == 1 else np.tile(given.scale, outputs // given.scale.size)
    return replace(given, scale=scale, values=values)
