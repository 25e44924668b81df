"""Collect what the reader of a file builds: ops and tensors by free names, weights and scales, and from them a Model or
a QuantModel. It knows no format: a reader derives from Builder, its layers from Layer.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from ...core.errors import GraphError, UnsupportedOp
from ...core.ir.graph import Graph, Op, Tensor, out_tensor
from ...core.types import FloatWeights, Int8Map, PlainDict
from ..lower.c_limits import BYTES, SIDE
from ..model import Model, QuantModel, QuantWeights, Scale
from .feature import Feature
from .fuse import fused
from .imported import Imported
from .scales import check_narrowed, implied_scale, whole

# Names that torch's exporters, tf2onnx and TensorFlow Lite's converter give to every network.
NAMELESS = ("", "main_graph", "torch_jit", "torch-jit-export", "tf2onnx", "main")


def plain_name(wanted: str) -> str:
    """Return a name with underscores for whatever is no letter, digit or underscore; it begins with a letter."""
    name = re.sub(r"\W", "_", wanted).lstrip("_")
    return name if re.match(r"[^\W\d]", name) else f"op_{name}"


class Layer:
    """An operator of a file, as errors name it. A format's own class gives `path`, `kind` and `name`."""

    path: str
    kind: str
    name: str

    @property
    def place(self) -> str:
        """Return what it is and where it stands, as errors say it."""
        return f"{self.kind} at '{self.name}'"

    def refuse(self, why: str) -> NoReturn:
        """Raise UnsupportedOp; `why` ends with the way out."""
        raise UnsupportedOp(f"{self.path}: {self.place}: {why}")

    def wrong(self, why: str) -> NoReturn:
        """Raise GraphError for what no exporter would write."""
        raise GraphError(f"{self.path}: {self.place}: {why}; export it again")


class Builder:
    """Hold ops, tensors, weights and scales by the names of our graph. tables: of ops that the file defines value by
    value; narrowed: tensors with the scale of their maxima or of some channels; finest: scales for tensors
    to which the file gives none."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.ops: dict[str, Op] = {}
        self.tensors: dict[str, Tensor] = {}
        self.weights: dict[str, FloatWeights | QuantWeights] = {}
        self.scales: dict[str, Scale] = {}
        self.tables: dict[str, Int8Map] = {}
        self.narrowed: set[str] = set()
        self.finest: dict[str, Scale] = {}

    def free_name(self, wanted: str) -> str:
        """Return a name that no other tensor has: letters, digits and underscores of any language. One that is
        no name in C gets one in the generated code, see codegen/names.py."""
        name = plain_name(wanted)
        while name in self.tensors:
            name += "_"
        return name

    def add_image(self, wanted: str, h: int, w: int, c: int) -> Tensor:
        """Append an input of the network of h x w positions and c channels. Raises GraphError for one too large."""
        name = self.free_name(wanted)
        self.tensors[name] = self._small(Tensor(name, h, w, c))
        return self.tensors[name]

    def add(self, layer: Layer, kind: str, inputs: tuple[Tensor, ...], cout: int, **fields: Any) -> Tensor:
        """Append an op under the layer's name; return what it writes. fields: those of Op. Raises GraphError."""
        name = self.free_name(layer.name)
        op = Op(name, kind, tuple(t.name for t in inputs), cout, **fields)
        if min(op.k) < 1 or min(op.s) < 1 or op.groups < 1 or cout < 1:
            layer.wrong(f"kernel {op.k}, stride {op.s}, {op.groups} groups, {cout} channels")
        self.ops[name] = op
        self.tensors[name] = self._small(out_tensor(op, *inputs))
        return self.tensors[name]

    def _small(self, tensor: Tensor) -> Tensor:
        if max(tensor.h, tensor.w, tensor.c) > SIDE or tensor.size > BYTES:
            raise GraphError(
                f"{self.path}: '{tensor.name}' of {tensor.h}x{tensor.w}x{tensor.c} is larger than any microcontroller "
                f"(at most {SIDE} a side); export it for a smaller picture"
            )
        return tensor

    def scale_of(self, name: str) -> Scale:
        """Return the scale of a tensor of a quantised file; where the file gives none, what its op implies. Raises
        GraphError."""
        if name not in self.scales:
            op = self.ops.get(name)
            scale = self.finest.get(name) or (op and implied_scale(op, self.scale_of))
            if not scale:
                raise GraphError(f"{self.path}: '{name}' has no scale while others have one; quantize it whole")
            self.scales[name] = scale
        return self.scales[name]

    def images(self) -> tuple[Tensor, ...]:
        """Return the one input. Raises GraphError where there are others, or no op behind it."""
        found = tuple(t for t in self.tensors.values() if t.name not in self.ops)
        if not self.ops:
            raise GraphError(f"{self.path}: no layer stands between the input and the outputs; export it again")
        if len(found) != 1:
            raise GraphError(f"{self.path}: {len(found)} inputs; export a model that reads one picture")
        return found

    def output(self, name: str, feature: Feature | None) -> str:
        """Return our graph's name of the output that the file calls `name`. Raises GraphError where no op writes it,
        UnsupportedOp where its elements are counted in an order that the engine does not have."""
        if feature is None or feature.tensor.name not in self.ops:
            raise GraphError(
                f"{self.path}: output '{name}' is written by no layer; give --outputs without it, or export it again"
            )
        if not feature.is_ours:
            raise UnsupportedOp(
                f"{self.path}: output '{name}' has the rows, columns and channels of '{feature.tensor.name}' in "
                "another order than the engine: end the model at the map itself, which comes as height, width, channels"
            )
        return feature.tensor.name

    def model(
        self, wanted: str, outputs: tuple[str, ...], meta: PlainDict, blocks: object = None
    ) -> Model | QuantModel:
        """Return what was built, fused: a QuantModel where there are scales. wanted: the network's name; blocks:
        {op: block}, see `_numbered`. A name that an exporter gives to all is the file's. Raises GraphError."""
        called = Path(self.path).stem if wanted in NAMELESS else wanted
        name = re.sub(r"[^\w.+-]", "_", called) or "network"
        unfused = Graph(name, self.images(), tuple(self.ops.values()), outputs).verify()
        scales = {**self.finest, **self.scales} if self.scales else {}
        found = fused(Imported(unfused, self.weights, scales, self.tables))
        found = replace(found, graph=_numbered(found.graph, blocks, self.path))
        if not self.scales:
            return Model(found.graph, found.floats, meta)
        check_narrowed(self.path, unfused, self.narrowed)
        found = whole(self.path, found)
        return QuantModel(found.graph, found.scales, found.integers, meta, tables=found.tables)


def _numbered(graph: Graph, blocks: object, path: str) -> Graph:
    """Give the blocks the numbers in the file's metadata; each op is a block of its own where they do not name every
    op. Raises GraphError for numbers that fall."""
    names = [op.name for op in graph.ops]
    given = [blocks[n] for n in names] if isinstance(blocks, dict) and all(n in blocks for n in names) else None
    numbers = given or list(range(len(names)))
    if not all(type(n) is int for n in numbers) or numbers != sorted(numbers) or numbers[0] < 0:
        raise GraphError(f"{path}: its metadata number blocks that do not rise; export it again")
    ops = tuple(replace(op, block=n) for op, n in zip(graph.ops, numbers, strict=True))
    return Graph(graph.name, graph.inputs, ops, graph.outputs).verify()
