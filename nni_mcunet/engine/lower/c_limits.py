"""Refuse a model with sizes beyond the C structs, or with scales that mean nothing, before anything is computed from
it. A file from elsewhere may say what it likes."""

import numpy as np

from ...core.errors import GraphError
from ...core.ir.graph import Graph, Op
from ...core.ir.kinds import FACTS
from ..model import PROBABILITY, QuantModel, Scale

SIDE = 2**15 - 1  # an int16 of mcu_axis or of a kernel's struct: positions of an axis, channels, padding
WINDOW = 2**8 - 1  # a uint8: kernel and stride
BYTES = 2**31 - 1  # an int32: offsets into a map, the weights or the arena
SCALES = 2.0**-40, 2.0**40
BEYOND = (f"and the engine computes with {SCALES[0]:.2g} to {SCALES[1]:.2g}: the values of this layer are all but 0 or "
          "huge; look at its float weights, then quantise again")  # fmt: skip


def check(model: QuantModel) -> None:
    """Raise GraphError for sizes that the C structs cannot hold, and for scales and zero points that are none."""
    check_sizes(model.graph)
    for tensor in model.graph.tensors:
        _check_scale(tensor, model.scales[tensor])
    for op in model.graph.ops:
        if op.kind == "conv":
            _check_weights(model, op)
        elif FACTS[op.kind].scale == "input" and model.scales[op.name] != model.scales[op.inputs[0]]:
            raise GraphError(f"{op.name}: {op.kind} keeps its input's scale; change it by an 'act' without function")
        elif FACTS[op.kind].scale == "probability" and model.scales[op.name] != PROBABILITY:
            raise GraphError(f"{op.name}: a {op.kind} has the scale 1/256 and zero point -128; change it by an 'act'")


def check_sizes(graph: Graph) -> None:
    """Raise GraphError for maps, kernels, paddings and numbers of weights that the C structs cannot hold."""
    for t in graph.tensors.values():
        if max(t.h, t.w, t.c) > SIDE or t.size > BYTES:
            raise GraphError(f"{t.name}: {t.h}x{t.w}x{t.c} is too large; sides and channels go to {SIDE}, maps to 2 GB")
    for op in graph.ops:
        if max(*op.k, *op.s) > WINDOW or max(map(abs, op.pad)) > SIDE:
            raise GraphError(f"{op.name}: kernel {op.k}, stride {op.s} above {WINDOW} or pad {op.pad} above {SIDE}")
        if graph.op_weights(op) > BYTES:
            raise GraphError(f"{op.name}: {graph.op_weights(op):,} weights; the C kernels take up to {BYTES:,}")


def _check_scale(name: str, scale: Scale) -> None:
    if not SCALES[0] <= scale.scale <= SCALES[1]:
        raise GraphError(f"{name} has the scale {scale.scale:g}, {BEYOND}")
    if scale.zero_point not in range(-128, 128):
        raise GraphError(f"{name} has the zero point {scale.zero_point}, which is no int8")


def _check_weights(model: QuantModel, op: Op) -> None:
    q, shape = model.weights[op.name], (op.cout, model.graph.input_of(op).c // op.groups, *op.k)
    if q.weight.shape != shape or q.bias.shape != (op.cout,):
        raise GraphError(f"{op.name}: weights {q.weight.shape} and bias {q.bias.shape} for a convolution of {shape}")
    scale = q.scale.astype(np.float64)
    wrong = ~((scale >= SCALES[0]) & (scale <= SCALES[1]))
    if wrong.any():
        channel = int(np.argmax(wrong))
        raise GraphError(f"{op.name}: the weights of channel {channel} have the scale {scale[channel]:g}, {BEYOND}")
