"""Find a PAD or PADV2 with the least value before a MAX_POOL_2D, as files made of ONNX and torch networks have it. It
is that pool's padding, which never wins.
"""

from dataclasses import replace

from .convolutions import PADS, VALID
from .file import File, FileTensor, Operator

LEAST = -1e30  # float values at most this are the least; PyTorch's is -inf, TensorFlow's float32.min


def pools_with_pads(file: File) -> File:
    """Return the file with the padding in its pools where all that reads it are such."""
    operators = list(file.operators)
    for op in [op for op in operators if op.kind in ("PAD", "PADV2")]:
        readers = [other for other in operators if op.outputs[0] in other.inputs]
        ends = _ends(file.tensors, op)
        if ends is None or op.outputs[0] in file.outputs or not all(_is_plain(pool, ends) for pool in readers):
            continue
        for pool in readers:
            operators[operators.index(pool)] = replace(
                pool, inputs=op.inputs[:1], options=pool.options | {"Padding": PADS, "Pads": ends}
            )
    return replace(file, operators=operators)


def _ends(tensors: list[FileTensor], op: Operator) -> list[tuple[int, int]] | None:
    """Return how far an operator pads rows and columns with the least value; None where it does anything else."""
    if len(op.inputs) < 2 or min(op.inputs) < 0:
        return None
    x, y, numbers = tensors[op.inputs[0]], tensors[op.outputs[0]], tensors[op.inputs[1]].data
    same = [*x.scale, *x.zero, x.kind] == [*y.scale, *y.zero, y.kind]
    if numbers is None or numbers.dtype.kind != "i" or numbers.shape != (4, 2) or not same:
        return None
    value = y.zero if op.kind == "PAD" else tensors[op.inputs[2]].data if len(op.inputs) == 3 else None
    if value is None or value.size != 1 or numbers.min() < 0 or numbers[[0, 3]].any():
        return None
    least = -128 if y.kind == "int8" else LEAST
    return [(int(a), int(b)) for a, b in numbers[1:3]] if float(value.reshape(-1)[0]) <= least else None


def _is_plain(pool: Operator, ends: list[tuple[int, int]]) -> bool:
    """Tell whether a reader is a pool that pads nothing itself, none of whose windows would be padding only."""
    sides = [pool.options.get(f"Filter{side}", 0) for side in ("Height", "Width")]
    plain = pool.kind == "MAX_POOL_2D" and pool.options.get("Padding") == VALID
    return plain and all(max(pads) < side for pads, side in zip(ends, sides, strict=True))
