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
    value, *numbers = values
    return np.asarray(value[places(op, value.ndim, *(n.reshape(-1).tolist() for n in numbers))])


def places(
    op: Operator, dims: int, begin: list[int], end: list[int], step: list[int]
) -> tuple[int | slice | None, ...]:
    """Return the places that STRIDED_SLICE takes of an array of so many dimensions, as numpy names them. Raises
    GraphError for numbers that fit none."""
    masks = ("Ellipsis", "NewAxis", "ShrinkAxis", "Begin", "End")
    rest, added, single, no_begin, no_end = (op.option(f"{name}Mask") for name in masks)
    axes = range(len(begin))
    named = [i for i in axes if not (rest >> i & 1 or (added >> i & 1))]
    whole = dims - len(named)  # dimensions that an ellipsis stands for, or the end of the list
    if not len(begin) == len(end) == len(step) or whole < 0 or rest & (rest - 1) or 0 in step:
        op.wrong(f"from {begin} to {end} by {step} of {dims} dimensions")
    found: list[int | slice | None] = []
    for i in axes:
        if rest >> i & 1:
            found += [slice(None)] * whole
        elif added >> i & 1:
            found.append(None)
        elif single >> i & 1:
            found.append(begin[i])
        else:
            last = end[i] + (begin[i] if op.option("Offset") else 0)
            found.append(slice(None if no_begin >> i & 1 else begin[i], None if no_end >> i & 1 else last, step[i]))
    return tuple(found)


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
