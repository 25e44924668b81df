"""Read TensorFlow Lite's functions of one value. Handlers as in operators.py.

In an int8 file such a function is a table of 256, made of TFLite's own integers.
"""

from collections.abc import Callable

import numpy as np

from ....core.types import Int8Map
from ...model import PROBABILITY, Scale
from ...ops import tflm
from ..divided import parts_as_channels
from ..feature import Feature, same_layout
from ..layers import affine, clamp
from .convolutions import ends
from .file import Operator
from .values import Values

OneMap = Callable[[Values, Operator], Feature]


def function(act: str, table: Callable[..., np.ndarray], fixed: Scale | None = None, **option: str) -> OneMap:
    """Return the handler of a function of one value: `act` of a float file, table(x, y, *args) of an int8 one. fixed:
    the only scale that its kernel writes; option: the argument and the name it has in the file."""

    def handler(reader: Values, op: Operator) -> Feature:
        x, args = reader.feature(op), tuple(float(op.option(name)) for name in option.values())
        if not np.isfinite(args).all():
            op.wrong(f"arguments {args}")
        if not reader.quantized:
            return same_layout(x, reader.add(op, "act", (x.tensor,), x.tensor.c, act=act, args=args))
        given = reader.scale(op, op.outputs[0])
        if fixed is not None and given != fixed:
            op.refuse(f"writes the scale {given.scale:g} and zero point {given.zero_point}, which TFLite refuses, too")
        made = table(reader.scale_of(x.tensor.name), given, *args)
        return reader.put_table(op, x, made, given, act=act, args=args)

    return handler


def rectifier(lo: float, hi: float) -> OneMap:
    """Return the handler of RELU and its kind as operators of their own. In the scale of its input it is a clamp."""

    def handler(reader: Values, op: Operator) -> Feature:
        x = reader.feature(op)
        if not reader.quantized:
            return clamp(reader, op, x, lo, hi)
        before, given = reader.scale_of(x.tensor.name), reader.scale(op, op.outputs[0])
        if before == given:
            y = clamp(reader, op, x, *ends((lo, hi), given))
            reader.scales[y.tensor.name] = given
            return y
        return reader.put_table(op, x, tflm.rectified(before, given, lo, hi), given)

    return handler


def int8_function(table: Callable[[Scale, Scale], Int8Map]) -> OneMap:
    """Return the handler of a function that only int8 files may have: table(x, y)."""

    def handler(reader: Values, op: Operator) -> Feature:
        if not reader.quantized:
            op.refuse("of a float file is not known; convert with int8 activations, or end the model before it")
        x, given = reader.feature(op), reader.scale(op, op.outputs[0])
        return reader.put_table(op, x, table(reader.scale_of(x.tensor.name), given), given)

    return handler


def gelu(reader: Values, op: Operator) -> Feature:
    """Read GELU, exact or by its approximation with tanh."""
    return int8_function(tflm.gelu_by_tanh if op.option("Approximate") else tflm.gelu)(reader, op)


def hard_swish(reader: Values, op: Operator) -> Feature:
    """Read HARD_SWISH. Raises UnsupportedOp for scales that TFLite does not compute either."""
    x = reader.feature(op)
    if reader.quantized and reader.scale_of(x.tensor.name).scale / 128 > reader.scale(op, op.outputs[0]).scale:
        op.refuse("its output's scale is below 1/128 of its input's, which TFLite does not compute either")
    return function("hswish", tflm.hard_swish)(reader, op)


def softmax(reader: Values, op: Operator) -> Feature:
    """Read SOFTMAX over the channels of each position or over equal parts of them. Raises UnsupportedOp for others."""
    x, beta = reader.feature(op), float(op.option("Beta"))
    if not x.has_channels_at(len(x.shape) - 1):
        x = parts_as_channels(reader, op, x) or op.refuse(
            f"over the last of {list(x.shape)}: softmax over the channels of each position, or over equal parts of "
            "them, is known; end the model before it (--outputs)"
        )
    if not reader.quantized:
        if beta != 1:
            x = affine(reader, op, x, beta, 0)
    elif beta != 1 or reader.scale(op, op.outputs[0]) != PROBABILITY:
        op.refuse(
            f"beta {beta:g} and the scale {reader.scale(op, op.outputs[0]).scale:g}, expected 1 and 1/256; end the "
            "model before it"
        )
    return same_layout(x, reader.put(op, "softmax", (x.tensor,), x.tensor.c))
