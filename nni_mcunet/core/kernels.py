"""What a kernel needs beside its tensors: the authority on aliasing, scratch and constants.

Two tables over the same Graph. ANALYTIC is the paper's rule (in-place depth-wise with one extra output channel, the
projection writes onto the skip tensor); CORTEX_M states what the C kernels in engine/kernels really use, where the
generated code repeats each figure as a static assertion.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .errors import UnsupportedOp
from .graph import Graph, Op


def kernel_of(graph: Graph, op: Op) -> str:
    """Name of the C kernel (mcu_ + name) that runs `op`. Raises UnsupportedOp."""
    if op.baseline:
        raise UnsupportedOp(f"{op.name}: the C kernels have no {op.baseline}; published baselines are profiled only")
    if op.kind != "conv":
        return op.kind
    if op.is_pointwise:
        return "conv_pw"
    if op.is_depthwise(graph.input_of(op).c):
        return "conv_dw"
    if op.groups == 1:
        return "conv_dense"
    raise UnsupportedOp(
        f"{op.name}: {op.groups} groups over {graph.input_of(op).c} channels; use 1 group or depth-wise"
    )


def overwrites(graph: Graph, op: Op) -> str | None:
    """Input tensor onto which the kernel of `op` may write its output, or None: a depth-wise convolution its input, any
    convolution its residual (read at or after the position it writes), a product its first factor."""
    if op.residual is not None:  # but not where it is the input, too: of that all channels are read for each of them
        return op.residual if op.residual not in op.inputs else None
    shrinks = op.pad[0] + op.pad[2] < op.k[0] and op.pad[1] + op.pad[3] < op.k[1]
    if op.kind == "mul" or (shrinks and op.is_depthwise(graph.input_of(op).c)):
        return op.inputs[0]
    return None


def in_place(graph: Graph) -> dict[int, str]:
    """Index of op -> tensor it overwrites, where no later op reads that tensor."""
    last, targets = graph.last_use(), {}
    for index, op in enumerate(graph.ops):
        target = overwrites(graph, op)
        if target is not None and last[target] == index:
            targets[index] = target
    return targets


@dataclass(frozen=True)
class Kernels:
    """scratch(kernel, op, cin, out_h, out_w) -> bytes, out_h and out_w integers or arrays; align: multiple of every
    buffer's size and offset."""

    name: str
    align: int
    scratch: Callable[[str, Op, int, int, int], int]

    def aligned(self, size):
        """`size` bytes rounded up to the alignment."""
        return -(-size // self.align) * self.align


def _analytic_scratch(kernel: str, op: Op, cin: int, out_h: int, out_w: int) -> int:
    return out_h * out_w if kernel == "conv_dw" else 0


def _cortex_m_scratch(kernel: str, op: Op, cin: int, out_h: int, out_w: int) -> int:
    if kernel == "conv_dense":  # one window, gathered
        return op.k[0] * op.k[1] * cin
    if kernel == "conv_dw":  # a ring of kh rows of one channel, read in words
        return op.k[0] * ((out_w - 1) * op.s[1] + op.k[1]) + 3
    return 0


ANALYTIC = Kernels("analytic", 1, _analytic_scratch)
CORTEX_M = Kernels("cortex-m", 4, _cortex_m_scratch)

# Constants per output channel beside the weights: bias and multiplier (int32), two shifts (uint8).
CHANNEL_BYTES = 4 + 4 + 1 + 1


def constant_bytes(graph: Graph, op: Op) -> int:
    """Flash for weights and requantisation of one op."""
    return graph.op_weights(op) + (op.cout * CHANNEL_BYTES if op.kind == "conv" else 0)
