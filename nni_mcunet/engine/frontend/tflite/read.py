"""Read a .tflite file as Graph + weights (+ scales): one of one graph with int8 activations, or a float one.

One pass over the operators that an output depends on: operators.py (with convolutions.py) says what each is in our
graph, fuse.py then fuses what a kernel does at once. A quantised file keeps its integers, and the rounding of
TensorFlow Lite's reference kernels. Whatever is not known is refused by name.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ....core.errors import CutWarning, GraphError, UnsupportedOp
from ....core.types import FilePath
from ...model import Model, QuantModel
from ..feature import Feature
from ..moved import Moved, reshaped
from ..outputs import chosen, cut_text
from .constants import folded
from .decoding import maps_before
from .dilation import dilated_at_once
from .file import File, Operator, load
from .islands import computed
from .operators import OPERATORS
from .pool_pads import pools_with_pads
from .values import INT16, Values

ROUNDING = ("conv", "avgpool", "gap", "add", "mul", "softmax")  # kinds whose kernels round


def load_tflite(
    path: FilePath, size: tuple[int, int] | None = None, outputs: Sequence[str] | None = None
) -> Model | QuantModel:
    """Return the Model of a float file, the QuantModel of an int8 one.

    size: (h, w) of the image, where the file leaves them open; outputs: tensors at which the network ends.
    Where none are given and the file decodes boxes or names a class, it ends at the maps before (CutWarning). Raises
    FileNotFoundError, GraphError for another size, for none where one is needed, and for a file that is no valid
    .tflite or whose numbers are none to compute with, UserError for outputs that it lacks, UnsupportedOp naming the
    operator.
    """
    file = load(path)
    if outputs is not None:
        file = replace(file, outputs=tuple(chosen(str(path), outputs, _written(file))))
    file = pools_with_pads(dilated_at_once(_sized(file, str(path), size)))
    found = Reader(file, str(path)).read() if outputs is not None else _up_to_boxes(file, str(path))
    image = found.graph.inputs[0]
    if size and size != (image.h, image.w):
        raise GraphError(
            f"{path}: the input is fixed at {image.h}x{image.w}, expected {size[0]}x{size[1]}; convert again"
        )
    return found


def _sized(file: File, path: str, size: tuple[int, int] | None) -> File:
    """Return the file with this (h, w) where an input leaves them open. Raises GraphError where it leaves others open,
    or there is none."""
    tensors, read = list(file.tensors), {i for op in file.needed() for i in op.inputs}
    for index in read.intersection(file.inputs) - {-1}:
        given = tensors[index]
        open_sides = set(given.open) - {0}
        if open_sides and (size is None or len(given.shape) != 4 or open_sides - {1, 2}):
            shape = [-1 if i in given.open else n for i, n in enumerate(given.shape)]
            raise GraphError(
                f"{path}: input '{given.name}' leaves sides of {shape} open; give the picture's size (mcunet quantize "
                "--size H W, size= of mcu.load), or convert with a fixed one"
            )
        sides = dict(zip((1, 2), size or (), strict=False))
        tensors[index] = replace(
            given, shape=tuple(sides[i] if i in open_sides else n for i, n in enumerate(given.shape))
        )
    return replace(file, tensors=tensors)


def _up_to_boxes(file: File, path: str) -> Model | QuantModel:
    """Return the network up to the maps from which the file decodes boxes or names a class, the whole where it does
    neither."""
    first: UnsupportedOp | None = None
    refused: set[int] = set()  # outputs of operators
    cut, does = file, ""
    while True:
        reader = Reader(cut, path)
        try:
            found = reader.read()
        except UnsupportedOp as error:
            first, known = first or error, len(refused)
            refused.update(reader.at.outputs if reader.at else ())
            ends = maps_before(file, refused) if len(refused) > known else None
            if ends is None:
                raise first from None
            cut, does = replace(file, outputs=tuple(ends.values)), ends.does
        else:
            if first:
                warnings.warn(cut_text(path, found.graph.outputs, first, does), CutWarning, stacklevel=2)
            return found


def _written(file: File) -> Iterator[tuple[str, int]]:
    """Yield (name, index) of the tensors that operators write: as the file has them, then as errors call them."""
    for op in file.operators:
        for index in op.outputs:
            yield file.tensors[index].name, index
    for op in file.operators:
        yield op.name, op.outputs[0]


class Reader(Values):
    """Go through a file, operator by operator."""

    at: Operator | None = None  # the operator that is being read

    def read(self) -> Model | QuantModel:
        """Return what the file holds. Raises GraphError or UnsupportedOp."""
        operators = self.file.needed()
        read = {i for op in operators for i in op.inputs}
        for index in self.file.inputs:
            if index in read:
                self._input(index)
        for op in operators:
            self.at = op
            self._operator(op)
        self.at = None
        self.images()
        outputs = tuple(self._output(index) for index in self.file.outputs)
        if self.scales:
            twice = {n: o.kind in ROUNDING and n not in self.once for n, o in self.ops.items()}
            self.ops = {name: replace(found, twice=twice[name]) for name, found in self.ops.items()}
        return self.model(self.file.name, outputs, {})

    def _input(self, index: int) -> None:
        given = self.file.tensors[index] if index >= 0 else None
        shape = given.shape if given else ()
        if given is None or not 2 <= len(shape) <= 4 or shape[0] != 1 or min(shape) < 1:
            raise GraphError(
                f"{self.path}: input '{given.name if given else '?'}' has the shape {list(shape)}, expected one "
                "picture (1, height, width, channels); convert with a fixed batch of 1"
            )
        shape = self._unfolded(index) or shape
        order = "chw" if self._is_turned(index) else "hwc"[-(len(shape) - 1) :]
        lengths = dict(zip(order, shape[1:], strict=True))
        tensor = self.add_image(given.name, *(lengths.get(axis, 1) for axis in "hwc"))
        self.features[index] = replace(Feature.of(tensor, order), shape=given.shape)
        if given.kind in ("int8", "uint8"):
            self.scales[tensor.name] = self.scale_as_int8(given)
        elif given.kind != "float32":
            raise GraphError(
                f"{self.path}: input '{given.name}' holds {given.kind}, expected int8, uint8 or float32; convert the "
                "model with int8 activations"
            )

    def _is_turned(self, index: int) -> bool:
        """Tell whether an input has its channels first: whether all that read it put them last."""
        readers = [op for op in self.file.needed() if index in op.inputs]
        if readers and all(op.kind == "QUANTIZE" for op in readers):
            return all(self._is_turned(op.outputs[0]) for op in readers)
        perms = [
            self.file.tensors[op.inputs[1]].data if op.kind == "TRANSPOSE" and op.has(1) else None for op in readers
        ]
        return bool(perms) and all(p is not None and p.tolist() == [0, 2, 3, 1] for p in perms)

    def _unfolded(self, index: int) -> tuple[int, ...] | None:
        """Return the shape (1, h, w, c) or (1, positions, c) that all readers of an input of fewer dimensions give it
        at once, as micro_speech's and Edge Impulse's do."""
        given = self.file.tensors[index].shape
        readers = [op for op in self.file.needed() if index in op.inputs and op.kind != "SHAPE"]
        if len(given) > 3 or not readers:
            return None
        if all(op.kind == "QUANTIZE" for op in readers):
            found = {self._unfolded(op.outputs[0]) for op in readers}
        else:
            found = {self.file.tensors[op.outputs[0]].shape if op.kind == "RESHAPE" else () for op in readers}
        shape = found.pop() if len(found) == 1 else None
        if not shape or not len(given) < len(shape) <= 4 or shape[0] != 1 or min(shape) < 1:
            return None
        size = np.prod(given, dtype=object)
        return shape if shape[-1] != given[-1] and np.prod(shape, dtype=object) == size else None

    def _operator(self, op: Operator) -> None:
        if any(self.file.tensors[i].kind == "int16" for i in (*op.inputs, *op.outputs) if i >= 0):
            op.refuse(INT16)
        if folded(self, op):
            return
        handler = OPERATORS.get(op.kind)
        if not self.reals.keys().isdisjoint(op.inputs):
            handler = computed
        if handler is None:
            raise UnsupportedOp(
                f"{self.path}: {op.place} is not known; end the model before it (--outputs), or rewrite it with the "
                "operators in docs/tflite.md"
            )
        found = handler(self, op)
        results = found if isinstance(found, list) else [found]
        for index, feature in zip(op.outputs, results, strict=False):
            if feature is not None:
                self.features[index] = self._as_declared(op, feature, self.declared(index, feature.shape))

    def _as_declared(self, op: Operator, feature: Feature | Moved, shape: tuple[int, ...]) -> Feature | Moved:
        """Return the feature under the shape that the file declares, which must hold as many elements."""
        if feature.shape == shape:
            return feature
        squeezed = tuple(n for n in feature.shape if n > 1), tuple(n for n in shape if n > 1)
        found = reshaped(op, feature, shape) if squeezed[0] == squeezed[1] else None
        return found or op.wrong(f"writes {list(shape)}, its inputs give {list(feature.shape)}")

    def _output(self, index: int) -> str:
        name = self.file.tensors[index].name if index >= 0 else "?"
        return self.output(name, self.given(index) if index in self.features else None)
