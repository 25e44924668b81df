"""Collect the nodes and constants of an ONNX file that is written, by their names. It knows no operator of ours but the
convolution, whose weights it writes.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ....core.ir.graph import Op
from ....core.types import PlainDict
from ...model import Model, QuantModel

Step: TypeAlias = tuple[str, list[str], PlainDict]  # ONNX operator, inputs behind the first, attributes
Steps: TypeAlias = "Callable[[Writer, Op], list[Step]]"


class Writer:
    """Collect nodes and constants, op by op. float_name: of each tensor, the ONNX value that holds its real numbers."""

    def __init__(self, model: Model | QuantModel) -> None:
        self.model, self.quantized = model, isinstance(model, QuantModel)
        self.scales, self.gains = (model.scales, model.gains) if isinstance(model, QuantModel) else ({}, {})
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.float_name: dict[str, str] = {}
        for t in model.graph.inputs:
            self.float_name[t.name] = self.qdq(t.name, t.name, f"{t.name}.dq") if self.quantized else t.name

    def node(self, kind: str, inputs: Sequence[str], output: str, name: str | None = None, **attributes: Any) -> str:
        """Append a node, called as its output unless named; return the output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name or output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | np.generic) -> str:
        """Append a constant; return its name."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _scale(self, tensor: str) -> list[str]:
        s = self.scales[tensor]
        return [
            self.constant(f"{tensor}.scale", np.float32(s.scale)),
            self.constant(f"{tensor}.zero_point", np.int8(s.zero_point)),
        ]

    def qdq(self, tensor: str, source: str, target: str) -> str:
        """Append source (float) -> int8 -> target (float); return the target."""
        scale = self._scale(tensor)
        self.node("QuantizeLinear", [source, *scale], f"{tensor}.q")
        return self.node("DequantizeLinear", [f"{tensor}.q", *scale], target, name=f"{tensor}.dequantize")

    def weights(self, op: Op) -> list[str]:
        """Write the weights and bias of a convolution and return their names."""
        if isinstance(self.model, Model):
            pair = zip(("weight", "bias"), self.model.weights[op.name], strict=True)
            return [self.constant(f"{op.name}.{n}", v) for n, v in pair]
        weights, input_scale = self.model.weights[op.name], np.float32(self.scales[op.inputs[0]].scale)
        names = []
        for part, value, scale in (
            ("weight", weights.weight, weights.scale),
            ("bias", weights.bias, weights.scale * input_scale),
        ):
            name = f"{op.name}.{part}"
            inputs = [
                self.constant(f"{name}.q", value),
                self.constant(f"{name}.scale", scale.astype(np.float32)),
                self.constant(f"{name}.zero_point", np.zeros(len(scale), value.dtype)),
            ]
            names.append(self.node("DequantizeLinear", inputs, name, axis=0))
        return names
