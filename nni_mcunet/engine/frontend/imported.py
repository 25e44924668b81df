"""Hold a network while it is read and fused, and what every pass asks of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ...core.ir.graph import Graph, Op
from ...core.types import FloatWeights, Int8Map
from ..model import QuantWeights, Scale

MOST_SIDE = 2**8 - 1  # of a window and of a stride, as the C has room for


@dataclass(frozen=True)
class Imported:
    """A network while it is read: weights[conv] = (weight, bias) float32 or QuantWeights; scales of the tensors that
    the file rounds, none for a float file; tables of the ops that the file defines value by value."""

    graph: Graph
    weights: Mapping[str, FloatWeights | QuantWeights]
    scales: dict[str, Scale]
    tables: dict[str, Int8Map] = field(default_factory=dict)

    @cached_property
    def floats(self) -> dict[str, FloatWeights]:
        """The weights that are not integers."""
        return {name: pair for name, pair in self.weights.items() if isinstance(pair, tuple)}

    @cached_property
    def integers(self) -> dict[str, QuantWeights]:
        """The weights that are integers."""
        return {name: found for name, found in self.weights.items() if isinstance(found, QuantWeights)}

    def lone_reader(self, name: str) -> Op | None:
        """Return the one op that reads a tensor which the user does not and which is not rounded."""
        readers = [op for op in self.graph.ops for read in op.reads if read == name]
        hidden = name not in self.graph.outputs and name not in self.scales
        return readers[0] if len(readers) == 1 and hidden else None

    def ops(self, *kinds: str) -> list[str]:
        """Name the ops of these kinds: a pass makes new ops while it goes through them."""
        return [op.name for op in self.graph.ops if op.kind in kinds]

    def writer(self, name: str, *kinds: str) -> Op | None:
        """Return the op that writes a tensor, if it is of one of these kinds."""
        return next((op for op in self.graph.ops if op.name == name and op.kind in kinds), None)


def factors(net: Imported, op: Op) -> FloatWeights | None:
    """Return the factors (c, 1, 1, 1) and summands (c,) of a float op that has one of each a channel: a 1x1 convolution
    that mixes no channels, whatever is behind it. None for any other op."""
    lone = op.kind == "conv" and op.groups == op.cout == net.graph.input_of(op).c and op.k == op.s == (1, 1)
    return net.floats.get(op.name) if lone and not any(op.pad) else None


def renamed(graph: Graph, old: str, new: str) -> Graph:
    """Rename a tensor in every op that reads it, and in the outputs."""
    outputs = tuple(new if name == old else name for name in graph.outputs)
    return replace(graph, ops=tuple(reading(op, old, new) for op in graph.ops), outputs=outputs)


def reading(op: Op, old: str, new: str) -> Op:
    """Return the op, reading `new` where it read `old`."""
    inputs = tuple(new if name == old else name for name in op.inputs)
    return replace(op, inputs=inputs, residual=new if op.residual == old else op.residual)
