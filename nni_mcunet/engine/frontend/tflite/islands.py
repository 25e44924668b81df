"""Read the parts of an int8 file that compute in float: DEQUANTIZE, functions of one value, QUANTIZE. The converter
writes them for what has no int8 kernel, such as Keras' elu or softplus.

A value in such a part depends on one int8 value (and its channel): it is a table of float32 numbers, and what QUANTIZE
makes of it a table of integers. Each step is rounded to float32, as TFLite does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import erf, inf, sqrt

import numpy as np

from ....core.types import Floats
from ...model import Scale
from ...ops import tflm
from ..feature import Feature
from .convolutions import limits
from .file import Operator
from .values import Values

ERF = np.vectorize(erf, otypes=[np.float64])


@dataclass(frozen=True)
class Real:
    """Hold what a float tensor is: table float32 (256,), or (c, 256), of the int8 values -128 .. 127 of a map."""

    of: Feature
    table: Floats


def dequantized(reader: Values, op: Operator) -> Feature | None:
    """Read DEQUANTIZE of a map. Where it is an output of the network, its int8 map is that output, too."""
    x = reader.feature(op)
    scale = reader.scale_of(x.tensor.name)
    reader.reals[op.outputs[0]] = Real(x, ((tflm.VALUES - scale.zero_point) * scale.scale).astype(np.float32))
    return x if op.outputs[0] in reader.file.outputs else None


def computed(reader: Values, op: Operator) -> Feature | None:
    """Read an operator with a float input: a QUANTIZE ends the part, others compute on. Raises UnsupportedOp naming
    what has no table."""
    real: Real = next(reader.reals[i] for i in op.inputs if i in reader.reals)
    if op.kind in ("QUANTIZE", *LAYOUT, *OF_ONE) and op.inputs[0] not in reader.reals:
        op.wrong("reads a float tensor behind its first input")
    if op.kind == "QUANTIZE":
        return _quantized(reader, op, real)
    if op.outputs[0] in reader.file.outputs:
        op.refuse("its output is float, and the C's are int8; end the model before it")
    if op.kind in LAYOUT:
        shape = reader.file.tensors[op.outputs[0]].shape
        found = real.of.reshaped(shape) or op.wrong(f"{list(real.of.shape)} has not the elements of {list(shape)}")
        reader.reals[op.outputs[0]] = replace(real, of=found)
    elif op.kind in OF_ONE:
        with np.errstate(all="ignore"):
            table = OF_ONE[op.kind](op, real.table.astype(np.float64)).astype(np.float32)
        reader.reals[op.outputs[0]] = replace(real, table=table)
    elif op.kind in OF_TWO:
        reader.reals[op.outputs[0]] = _of_two(reader, op, real)
    else:
        op.refuse("computes in float and is no function of one value; quantize the model to int8, or end it before")
    return None


def _of_two(reader: Values, op: Operator, real: Real) -> Real:
    """Return a function of a real and a constant, or of two reals of one map."""
    values = []
    for i in (0, 1):
        if reader.tensor(op, i) and op.inputs[i] in reader.reals:
            other = reader.reals[op.inputs[i]]
            if other.of != real.of:
                op.refuse("computes in float of two maps; quantize the whole model to int8, or end it before")
            values.append(other.table)
        else:
            values.append(_constant(reader, op, i, real.of))
    with np.errstate(all="ignore"):
        found = OF_TWO[op.kind](*(v.astype(np.float64) for v in values)).astype(np.float32)
    found = np.broadcast_to(found, real.table.shape)
    return Real(real.of, np.clip(found, *limits(op)) if op.kind in FUSED else found)


def _constant(reader: Values, op: Operator, i: int, x: Feature) -> Floats:
    """Return a constant of one number, (1,). Raises UnsupportedOp for others."""
    value = reader.numbers(op, i)
    if value.size != 1:
        op.refuse(f"a constant of {list(value.shape)} on {list(x.shape)} in float: one number is known")
    return value.reshape(1)


def _quantized(reader: Values, op: Operator, real: Real) -> Feature:
    """Append the table that a float part is. Raises UnsupportedOp where it is not finite."""
    given: Scale = reader.scale(op, op.outputs[0])
    steps = real.table / np.float32(given.scale)
    if not (np.abs(steps) < 2.0**31).all():
        op.refuse("its input is not finite for each int8 value; clamp before the function that is not")
    return reader.put_table(op, real.of, tflm.int8(tflm.fp_round(steps).astype(np.int64) + given.zero_point), given)


def _gelu(op: Operator, x: np.ndarray) -> np.ndarray:
    if op.option("Approximate"):
        return 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + ERF(x * sqrt(0.5)))


def _logistic(op: Operator, x: np.ndarray) -> np.ndarray:
    """Compute LOGISTIC with TFLite's shortcuts where it is all but exp(x), or all but 1."""
    return np.where(x > 16.619047164916992, 1, np.where(x < -9, np.exp(np.minimum(x, 0)), 1 / (1 + np.exp(-x))))


def _clamp(low: float, high: float) -> Callable[[Operator, np.ndarray], np.ndarray]:
    return lambda op, x: np.clip(x, low, high)


LAYOUT = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
FUSED = ("ADD", "SUB", "MUL", "DIV")  # these may have an activation
# Operator -> its function of float64 values, rounded to float32 by the caller.
OF_ONE: dict[str, Callable[[Operator, np.ndarray], np.ndarray]] = {
    "ABS": lambda op, x: np.abs(x),
    "NEG": lambda op, x: -x,
    "SQUARE": lambda op, x: x * x,
    "SQRT": lambda op, x: np.sqrt(x),
    "RSQRT": lambda op, x: 1 / np.sqrt(x),
    "EXP": lambda op, x: np.exp(x),
    "LOG": lambda op, x: np.log(x),
    "SIN": lambda op, x: np.sin(x),
    "COS": lambda op, x: np.cos(x),
    "FLOOR": lambda op, x: np.floor(x),
    "CEIL": lambda op, x: np.ceil(x),
    "ROUND": lambda op, x: np.round(x),
    "ELU": lambda op, x: np.where(x < 0, np.expm1(x), x),
    "GELU": _gelu,
    "LOGISTIC": _logistic,
    "TANH": lambda op, x: np.tanh(x),
    "LEAKY_RELU": lambda op, x: np.where(x < 0, x * float(op.option("Alpha")), x),
    "HARD_SWISH": lambda op, x: x * np.clip(x + 3, 0, 6) / 6,
    "RELU": _clamp(0, inf),
    "RELU6": _clamp(0, 6),
    "RELU_N1_TO_1": _clamp(-1, 1),
    "RELU_0_TO_1": _clamp(0, 1),
}
OF_TWO: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "POW": np.power,
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
}
