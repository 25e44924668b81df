"""Compute what operators of a .tflite file make of constants and of the shapes of maps, such as the SHAPE,
STRIDED_SLICE and PACK of Keras' Flatten and Reshape. The result is a constant; no operator of ours is left.
"""

from collections.abc import Callable

import numpy as np

from .file import ARRAYS, Operator
from .values import Values

MOST = 1 << 22  # elements of a constant that is computed
Fold = Callable[[Values, Operator, list[np.ndarray]], np.ndarray]


def folded(reader: Values, op: Operator) -> bool:
    """Compute the outputs of an operator that depends on constants only, as constants. Return False where it does not,
    or is not known here. Raises GraphError for numbers that do not fit together."""
    if op.kind == "SHAPE":
        declared, index = reader.tensor(op, 0), op.inputs[0]
        shape = reader.features[index].shape if index in reader.features else declared.shape
        reader.constants[op.outputs[0]] = np.array(shape, _type(reader, op))
        return True
    known = op.kind in FOLDS or op.kind == "UNPACK"
    if not known or not all(reader.is_constant(op, i) for i in range(len(op.inputs))) or not op.inputs:
        return False
    values = [reader.constant(op, i) for i in range(len(op.inputs))]
    rounded = any(reader.tensor(op, i).scale.size for i in range(len(op.inputs)))
    if rounded and op.kind not in LAYOUT:
        return False
    try:
        with np.errstate(all="ignore"):
            found = _unpacked(op, values[0]) if op.kind == "UNPACK" else [FOLDS[op.kind](reader, op, values)]
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError, MemoryError) as error:
        op.wrong(" ".join(str(error).split())[:100])
    for index, value in zip(op.outputs, found, strict=False):
        if value.size > MOST:
            op.wrong(f"makes a constant of {value.size} elements")
        reader.constants[index] = value
    return True


def _type(reader: Values, op: Operator) -> np.dtype:
    kind = reader.file.tensors[op.outputs[0]].kind
    return np.dtype(ARRAYS[kind]) if kind in ARRAYS else op.refuse(f"writes a constant of {kind}")


def _unpacked(op: Operator, value: np.ndarray) -> list[np.ndarray]:
    return [np.take(value, i, axis=op.option("Axis")) for i in range(len(op.outputs))]


def _declared(reader: Values, op: Operator, values: list[np.ndarray]) -> np.ndarray:
    return values[0].reshape(reader.file.tensors[op.outputs[0]].shape)


def _cast(reader: Values, op: Operator, values: list[np.ndarray]) -> np.ndarray:
    return values[0].astype(_type(reader, op))


def _sliced(reader: Values, op: Operator, values: list[np.ndarray]) -> np.ndarray:
    """Compute STRIDED_SLICE of (value, begin, end, step)."""
    if op.option("EllipsisMask") or op.option("NewAxisMask"):
        op.refuse("has an ellipsis or a new axis; write the slice out")
    value, begin, end, step = values
    places: list[int | slice] = []
    for i, (first, last, by) in enumerate(zip(begin.tolist(), end.tolist(), step.tolist(), strict=True)):
        low = None if op.option("BeginMask") >> i & 1 else first
        high = None if op.option("EndMask") >> i & 1 else last
        places.append(first if op.option("ShrinkAxisMask") >> i & 1 else slice(low, high, by))
    return np.asarray(value[tuple(places)])


def _filled(reader: Values, op: Operator, values: list[np.ndarray]) -> np.ndarray:
    """Compute FILL of (shape, value)."""
    shape = values[0].tolist()
    if min(shape, default=1) < 0 or np.prod(shape, dtype=object) > MOST:
        op.wrong(f"fills {shape}")
    return np.full(shape, values[1].reshape(()))


def _of_two(function: np.ufunc) -> Fold:
    """Return the fold of a function of two arrays that keeps their type."""
    return lambda reader, op, values: function(values[0], values[1]).astype(values[0].dtype)


def _axes(values: list[np.ndarray]) -> tuple[int, ...]:
    return tuple(values[1].reshape(-1).tolist())


LAYOUT = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE")
FOLDS: dict[str, Fold] = {
    "RESHAPE": _declared,
    "SQUEEZE": _declared,
    "EXPAND_DIMS": _declared,
    "TRANSPOSE": lambda reader, op, values: values[0].transpose(values[1].tolist()),
    "CAST": _cast,
    "STRIDED_SLICE": _sliced,
    "PACK": lambda reader, op, values: np.stack(values, op.option("Axis")),
    "CONCATENATION": lambda reader, op, values: np.concatenate(values, op.option("Axis")),
    "GATHER": lambda reader, op, values: np.take(values[0], values[1], op.option("Axis")),
    "FILL": _filled,
    "REDUCE_PROD": lambda reader, op, values: np.prod(
        values[0], _axes(values), values[0].dtype, keepdims=op.option("KeepDims")
    ),
    "ADD": _of_two(np.add),
    "SUB": _of_two(np.subtract),
    "MUL": _of_two(np.multiply),
    "MAXIMUM": _of_two(np.maximum),
    "MINIMUM": _of_two(np.minimum),
    "FLOOR_DIV": _of_two(np.floor_divide),
}
