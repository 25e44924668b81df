"""Find dilated convolutions that a file writes as SPACE_TO_BATCH_ND, a convolution and BATCH_TO_SPACE_ND. TensorFlow
does so, and its converter leaves it where the batch is open, as that of a Keras model is.

A position of the batch is a phase of the map, so that a step in it is `block` positions of the map: the same
convolution with that dilation, behind the padding less what is cropped off. In int8 both moves round nothing.
"""

from dataclasses import replace

import numpy as np

from .file import File, FileTensor, Operator

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
VALID = 1
MOST = 5  # operators of one


def dilated_at_once(file: File) -> File:
    """Return the file with one dilated convolution, and a PAD before it, in place of each such three operators. Others
    stay, and are refused where they are read."""
    tensors = list(file.tensors)
    changed: dict[int, tuple[Operator, ...]] = {}
    for first in file.operators:
        chains = _chains(file, [first]) if first.kind == "SPACE_TO_BATCH_ND" and first.has(0) else []
        found = [_rewritten(tensors, chain) for chain in chains]
        pads = {str(tensors[ops[0].inputs[1]].data) for ops in found if ops}
        if len(pads) == 1 and None not in found:
            changed |= {op.index: () for chain in chains for op in chain}
            changed |= {op.index: (op,) for ops in found for op in ops or ()}
    operators = [new for op in file.operators for new in changed.get(op.index, (op,))]
    return replace(file, tensors=tensors, operators=operators)


def _chains(file: File, chain: list[Operator]) -> list[list[Operator]]:
    """Return the ways from a SPACE_TO_BATCH_ND to each BATCH_TO_SPACE_ND that needs it: one convolution and what adds
    and takes off a dimension of 1. None at all where anything else reads a tensor on the way."""
    index, convolved = chain[-1].outputs[0], any(op.kind in CONVOLUTIONS for op in chain)
    if chain[-1].kind == "BATCH_TO_SPACE_ND":
        return [chain] if convolved else []
    known = ("RESHAPE", "SQUEEZE", "BATCH_TO_SPACE_ND") if convolved else ("EXPAND_DIMS", *CONVOLUTIONS)
    readers = [op for op in file.operators if index in op.inputs]
    others = [op for op in readers if op.kind not in known or op.inputs[0] != index]
    if index in file.outputs or len(chain) == MOST or others:
        return []
    found = [_chains(file, [*chain, op]) for op in readers]
    return [one for some in found for one in some] if all(found) else []


def _rewritten(tensors: list[FileTensor], chain: list[Operator]) -> list[Operator] | None:
    """Return the operators in place of a chain, the new constants appended to the tensors; None for one that is more
    than a dilated convolution."""
    first, last, (at,) = chain[0], chain[-1], [i for i, op in enumerate(chain) if op.kind in CONVOLUTIONS]
    conv, written, rank = chain[at], tensors[last.outputs[0]], len(tensors[first.inputs[0]].shape)
    (block, pads), (again, crops) = (_constants(tensors, op) for op in (first, last))
    axes = _dilated_axes(tensors, chain[1:at], rank, len(block))
    plain = (conv.options.get(name) for name in ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor"))
    ends = pads - crops if pads.shape == crops.shape == (len(block), 2) else np.full((1, 2), -1)
    if not axes or [*plain] != [VALID, 1, 1, 1, 1] or block.tolist() != again.tolist() or ends.min() < 0:
        return None
    before, flat = tensors[chain[-2].outputs[0]], chain[at + 1 : -1]
    if [*before.scale, *before.zero] != [*written.scale, *written.zero]:
        return None
    if flat and not (len(flat) == 1 and _keeps_channels(tensors, conv, flat[0], written)):
        return None
    dilation = dict(zip(axes, block.tolist(), strict=True))
    steps = {f"Dilation{axis}Factor": dilation.get(axis, 1) for axis in "HW"}
    padding = np.zeros((rank, 2), np.int32)
    padding[1 : 1 + len(block)] = ends
    pad = replace(first, kind="PAD", inputs=(first.inputs[0], _appended(tensors, first, padding)))
    found = [pad, *chain[1:at], replace(conv, options=conv.options | steps)]
    if flat:
        shape = _appended(tensors, last, np.array([1, *written.shape[1:]], np.int32))
        found.append(replace(chain[-2], kind="RESHAPE", inputs=(conv.outputs[0], shape)))
    for op in found[:-1]:
        tensor = tensors[op.outputs[0]]
        tensors[op.outputs[0]] = replace(tensor, open=tuple(range(len(tensor.shape))))
    return [*found[:-1], replace(found[-1], outputs=last.outputs)]


def _keeps_channels(tensors: list[FileTensor], conv: Operator, flat: Operator, written: FileTensor) -> bool:
    """Tell whether an operator behind the convolution takes off a dimension of 1 and no more, and the shape that is
    written behind it is known."""
    weight = tensors[conv.inputs[1]].shape if conv.has(1) else ()
    shape = tensors[flat.inputs[1]].data if flat.has(1) else np.array(tensors[flat.outputs[0]].shape)
    known = shape is not None and shape.shape == (3,) and len(weight) == 4 and not set(written.open) - {0}
    channels = weight[0 if conv.kind == "CONV_2D" else 3] if known else 0
    return shape is not None and known and shape[-1] == written.shape[-1] == channels


def _constants(tensors: list[FileTensor], op: Operator) -> tuple[np.ndarray, np.ndarray]:
    """Return the block and the pads or crops of an operator; empty ones where they are no constants."""
    given = [tensors[i].data if i >= 0 else None for i in op.inputs[1:3]]
    known = len(given) == 2 and all(v is not None and v.dtype == np.int32 for v in given)
    block, ends = (np.asarray(v) for v in given) if known else (np.zeros(0, np.int32), np.zeros((0, 2), np.int32))
    return block.reshape(-1), ends


def _dilated_axes(tensors: list[FileTensor], between: list[Operator], rank: int, blocks: int) -> str:
    """Return the convolution's axes that a block of so many sides divides: "HW", or of a sequence the one that is not
    added between. Empty for others."""
    if not between:
        return "HW" if (rank, blocks) == (4, 2) else ""
    axis = tensors[between[0].inputs[1]].data if len(between[0].inputs) == 2 else None
    if len(between) > 1 or rank != 3 or blocks != 1 or axis is None or axis.size != 1:
        return ""
    return {1: "W", 2: "H"}.get(int(axis.reshape(-1)[0]) % 4, "")


def _appended(tensors: list[FileTensor], op: Operator, value: np.ndarray) -> int:
    """Append a constant and return its index."""
    none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    tensors.append(FileTensor(f"{op.name}_{len(tensors)}", value.shape, (), "int32", value, *none))
    return len(tensors) - 1
