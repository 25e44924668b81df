"""State what a kernel needs besides its tensors: which input it may overwrite, scratch, constants.

Two tables read the same Graph. ANALYTIC is the paper's rule: a depth-wise convolution runs in place with one extra
channel, the projection writes onto the shortcut. CORTEX_M is what the C kernels in engine/kernels really use; the
generated code repeats each figure as a static assertion. When something is alive is liveness.py's to say.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass

import numpy as np

from ..errors import UnsupportedOp
from ..ir.graph import Graph, Op, once
from ..ir.kinds import FACTS
from ..types import Count


def kernel_of(graph: Graph, op: Op) -> str:
    """Return the name of the kernel that runs `op`, by which its facts and cycles are known. Raises UnsupportedOp."""
    return _kernel(op, graph.input_of(op).c)


def function_of(graph: Graph, op: Op, form: str = "") -> str:
    """Return the name of the C function that runs `op`: its kernel's, or of the two the one that rounds twice, or that
    has a table a channel. form: what the name has behind that, such as "_raw". Raises UnsupportedOp."""
    return f"mcu_{kernel_of(graph, op)}{'_twice' * op.twice}{'_channels' * has_tables(op)}{form}"


def has_tables(op: Op) -> bool:
    """Tell whether an activation has a table for each channel."""
    return op.kind == "act" and op.groups > 1


def _kernel(op: Op, cin: int) -> str:
    if op.baseline:
        raise UnsupportedOp(f"{op.name}: the C kernels have no {op.baseline}; published baselines are profiled only")
    if op.kind != "conv":
        return op.kind
    if op.is_pointwise:
        return "conv_pw"
    if op.is_depthwise(cin):
        return "conv_dw"
    return "conv_dense" if op.groups == 1 else "conv_group"


def calls(op: Op) -> int:
    """How often the kernel of `op` is called in a patch: a concat's once for each input."""
    return len(op.inputs) if FACTS[op.kind].inputs is None else 1


def overwrites(graph: Graph, op: Op) -> tuple[str, ...]:
    """Input tensors onto which the kernel of `op` may write its output: a depth-wise convolution onto its input, any
    convolution onto its residual, an element by element one onto any input of the output's shape. All but the first
    read what they need of a position at or after the one they write."""
    if op.residual is not None:  # but not where it is the input, too, of which every channel is read for each
        return (op.residual,) if op.residual not in op.inputs else ()
    if op.kind != "conv":
        if not FACTS[op.kind].elementwise:
            return ()
        size = graph.tensors[op.name].size
        return tuple(name for name in op.inputs if graph.tensors[name].size == size)
    if op.groups == 1 or not op.is_depthwise(graph.input_of(op).c):
        return ()
    shrinks = op.pad[0] + op.pad[2] < op.k[0] and op.pad[1] + op.pad[3] < op.k[1]
    return op.inputs if shrinks else ()


def in_place(graph: Graph) -> dict[int, str]:
    """Return index of op -> the tensor that it overwrites: the first that it may and that no later op reads."""
    last = graph.last_use()
    targets: dict[int, str] = {}
    for index, op in enumerate(graph.ops):
        for target in overwrites(graph, op):
            if last[target] == index:
                targets.setdefault(index, target)
    return targets


# Kernels that go through the output position by position, and read what a position needs before they write that one or
# a later one: their output may follow them into the bytes of the input that they are done with. So do all convolutions
# but the depth-wise.
IN_ORDER = ("maxpool", "avgpool", "upsample", "pad")


def consumes(graph: Graph, onto: Container[int]) -> dict[int, str]:
    """Return index of op -> its input, where the op is the last that reads it and its kernel goes in order: the output
    may lie over a part of it, see Kernels.shift. onto: the ops that overwrite a tensor at its place."""
    last = graph.last_use()
    return {
        index: op.inputs[0]
        for index, op in enumerate(graph.ops)
        if index not in onto
        and last[op.inputs[0]] == index
        and ((op.kind == "conv" and not op.is_depthwise(graph.input_of(op).c)) or op.kind in IN_ORDER)
        and op.second is None
        and not op.baseline
    }


def is_run(channels: tuple[int, ...]) -> bool:
    """Tell whether channels follow one another, so that the kernel needs no table of them."""
    return channels[0] >= 0 and channels == tuple(range(channels[0], channels[0] + len(channels)))


def padded_taps(graph: Graph, op: Op) -> int:
    """Return the most taps of any window that are padding. The first or the last window has the fewest in the map."""
    x, y, inside = graph.input_of(op), graph.tensors[op.name], 1
    for axis, (n_in, n_out) in enumerate(((x.h, y.h), (x.w, y.w))):
        starts = -op.pad[axis], (n_out - 1) * op.s[axis] - op.pad[axis]
        inside *= max(0, min(min(start + op.k[axis], n_in) - max(start, 0) for start in starts))
    return op.k[0] * op.k[1] - inside


@dataclass(frozen=True)
class Kernels:
    """Say what a set of kernels needs besides tensors.

    align    every buffer's size and offset is a multiple of it
    scratch  (op, input channels, output rows, output columns) -> bytes while the op runs. Rows and columns are integers
             or arrays; more of them never need less, so the largest patch's scratch serves all patches. Raises
             UnsupportedOp.
    shift    (graph, op, output rows, output columns) -> the bytes by which the output must begin before the input that
             the op consumes, or else behind it, so that nothing is overwritten that is still read; None: they share no
             byte. Rows and columns are those of the map, or of a 1x1 convolution's tile, see pointwise_shift
    """

    name: str
    align: int
    scratch: Callable[[Op, int, Count, Count], Count]
    shift: Callable[[Graph, Op, Count, Count], tuple[Count, Count]] | None = None

    def aligned(self, size: Count) -> Count:
        """Return `size` bytes rounded up to the alignment."""
        return _round_up(size, self.align)


def _round_up(size: Count, step: int) -> Count:
    return -(-size // step) * step


def _larger(a: Count, b: Count) -> Count:
    """Return the larger integer, or the larger of each pair where one is an array."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)


def _analytic_scratch(op: Op, cin: int, out_h: Count, out_w: Count) -> Count:
    return out_h * out_w if op.is_depthwise(cin) else 0


def _cortex_m_scratch(op: Op, cin: int, out_h: Count, out_w: Count) -> Count:
    kernel = _kernel(op, cin)
    if op.kind != "conv":
        return 0
    if kernel == "conv_pw":  # four positions as int16, or one at a time where there are fewer
        return (8 - 6 * (out_h * out_w < 4)) * _round_up(cin, 4)
    taps = op.k[0] * op.k[1] * (cin // op.groups)
    if kernel == "conv_group":  # one window of a group, gathered, and its values as int16
        return 3 * _round_up(taps, 4)
    if kernel == "conv_dense":  # four positions as int16, and where taps do not go in fours their windows
        return (8 + 4 * (cin % 4 > 0)) * _round_up(taps, 4)
    if kernel == "conv_dw":  # rows of two channels as int16, kh + 2 of them or as many as fit in 768 bytes
        return _larger((op.k[0] + 2) * 4 * ((out_w - 1) * op.s[1] + op.k[1] + 3), 768)
    return 0


def _cortex_m_shift(graph: Graph, op: Op, out_h: Count, out_w: Count) -> tuple[Count, Count]:
    x = graph.input_of(op)
    if op.is_pointwise:  # forwards or backwards; a position is written while it is read
        return pointwise_shift(x.c, op.cout, out_h * out_w)
    rows, line = np.arange(int(out_h)), int(out_w) * op.cout  # forwards; a row is written while
    first = rows // op.s[0] if FACTS[op.kind].enlarges else rows * op.s[0] - op.pad[0]  # this one is read
    return int(((rows + 1) * line - np.maximum(first, 0) * (x.w * x.c)).max()), x.size


def pointwise_shift(cin: Count, cout: Count, n: Count) -> tuple[Count, Count]:
    """Return Kernels.shift of a 1x1 convolution of n positions."""
    return _before(cout, cin, n), _before(cin, cout, n)


def _before(c: Count, d: Count, n: Count) -> Count:
    """Return by how many bytes n positions of c bytes must begin before n of d, so that none reaches into the same one
    of those."""
    return _larger(c, n * (c - d) + d)


ANALYTIC = Kernels("analytic", 1, _analytic_scratch)
CORTEX_M = Kernels("cortex-m", 4, _cortex_m_scratch, _cortex_m_shift)

# Two output channels of a convolution have, besides weights, each a bias, a multiplier (int32) and two shifts (uint8).
# A mean over fewer taps than a window has needs a multiplier and shifts, aligned.
PAIR_BYTES = 2 * (4 + 4 + 1 + 1)
FACTOR_BYTES = 8


def constant_bytes(graph: Graph, op: Op) -> int:
    """Return the bytes of flash for weights, requantisation and tables of one op. An activation has an int8 table of
    256 values, for all channels or for each, and so has each input of a concat (fewer where scales turn out to be
    equal), a softmax one of uint32, a take one of int16 unless its channels are a run."""
    if op.kind == "conv":
        taps = op.k[0] * op.k[1] * (graph.input_of(op).c // op.groups)
        if op.is_depthwise(graph.input_of(op).c):
            return _round_up(op.cout * taps, 4) + _round_up(op.cout, 2) // 2 * PAIR_BYTES
        pairs = op.groups * (_round_up(op.cout // op.groups, 2) // 2)
        return pairs * (2 * _round_up(taps, 4) + PAIR_BYTES)
    if op.kind == "take":
        return 0 if is_run(op.channels) else 2 * op.cout
    if op.kind == "avgpool":
        return FACTOR_BYTES * padded_taps(graph, op)
    return FACTS[op.kind].table * (op.groups if has_tables(op) else calls(op))


@once
def graph_constants(graph: Graph) -> int:
    """Return the bytes of flash for the constants of all ops."""
    return sum([constant_bytes(graph, op) for op in graph.ops])
