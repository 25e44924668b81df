"""Graph + weights (+ scales) -> an ONNX file, float or QDQ int8. read.py reads it back, and other people's.

Opset 14, NCHW, batch 1, one node per op under the op's name, so that names survive the way to the C symbol. Int8
tensors are QuantizeLinear / DequantizeLinear pairs; between them the operators stay float, which is the format's own
definition of the integer network. Names of constants and of what is between two ops have a point, which no op's name
has. What travels beside the graph (blocks, detector, view) is JSON in metadata_props.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ....core.errors import UnsupportedOp, UserError
from ....core.files import write_atomic
from ....core.ir.graph import Op, Tensor
from ...model import Model, QuantModel
from .boxes import with_boxes
from .operators import STEPS

META_KEY = "mcunet"
ACTIVATIONS = {"relu": "Relu", "leaky": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh", "hswish": "HardSwish"}


def save_onnx(model: Model | QuantModel, path, boxes: bool = False) -> Path:
    """Write the model; QuantModel as QDQ int8; boxes: a detector with its post-processing (boxes.py). The file is
    checked by onnx before it replaces `path`. Raises UserError for boxes of a network that is no detector."""
    proto = to_onnx(model)
    if boxes and "detector" not in model.meta:
        raise UserError(f"{model.graph.name} is no detector: it has no boxes to write")
    if boxes:
        proto = with_boxes(proto, model.meta["detector"])
    onnx.checker.check_model(proto, full_check=True)
    return write_atomic(path, proto.SerializeToString())


def to_onnx(model: Model | QuantModel) -> onnx.ModelProto:
    graph = model.graph
    _check_rounding(model)
    writer = _Writer(model)
    for op in graph.ops:
        writer.add(op)
    inputs = [_value(t.name, t) for t in graph.inputs]
    outputs = [_value(name, graph.tensors[name]) for name in graph.outputs]
    proto = helper.make_model(
        helper.make_graph(writer.nodes, graph.name, inputs, outputs, writer.initializers),
        opset_imports=[helper.make_opsetid("", 14)],
        producer_name="nni-mcunet",
        ir_version=8,
    )
    blocks = {op.name: op.block for op in graph.ops}
    helper.set_model_props(proto, {META_KEY: json.dumps({**model.meta, "blocks": blocks})})
    return proto


def _check_rounding(model: Model | QuantModel) -> None:
    """Raises UnsupportedOp for a model whose integers ONNX would compute otherwise."""
    tables = model.tables if isinstance(model, QuantModel) else {}
    own = [op.name for op in model.graph.ops if op.twice or op.name in tables]
    if own:
        raise UnsupportedOp(
            f"{model.graph.name}: '{own[0]}' rounds as TensorFlow Lite does, which an ONNX file and onnxruntime cannot "
            "do; keep the .tflite file, whose C gives its values (mcunet accuracy: --backend c)"
        )


def _value(name: str, t: Tensor):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, t.c, t.h, t.w])


class _Writer:
    def __init__(self, model):
        self.model, self.quantized = model, isinstance(model, QuantModel)
        self.nodes, self.initializers, self.float_name = [], [], {}
        for t in model.graph.inputs:
            self.float_name[t.name] = self._qdq(t.name, t.name, f"{t.name}.dq") if self.quantized else t.name

    def node(self, kind, inputs, output, name=None, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name or output, **attributes))
        return output

    def constant(self, name, value):
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _scale(self, tensor):
        s = self.model.scales[tensor]
        return [
            self.constant(f"{tensor}.scale", np.float32(s.scale)),
            self.constant(f"{tensor}.zero_point", np.int8(s.zero_point)),
        ]

    def _qdq(self, tensor, source, target):
        """source (float) -> int8 -> target (float)."""
        scale = self._scale(tensor)
        self.node("QuantizeLinear", [source, *scale], f"{tensor}.q")
        return self.node("DequantizeLinear", [f"{tensor}.q", *scale], target, name=f"{tensor}.dequantize")

    def add(self, op: Op) -> None:
        x = self.float_name[op.inputs[0]]
        steps = self._steps(op)
        for at, (kind, inputs, attributes) in enumerate(steps):
            last = at == len(steps) - 1
            name = f"{op.name}.f" if last and self.quantized else op.name if last else f"{op.name}.{kind.lower()}"
            x = self.node(kind, [x, *inputs], name, name=op.name if at == 0 else f"{op.name}.{kind}", **attributes)
        self.float_name[op.name] = self._qdq(op.name, x, op.name) if self.quantized else x

    def _steps(self, op: Op):
        """(ONNX operator, inputs behind the first, attributes) for one op, in order."""
        if op.baseline:
            raise UnsupportedOp(f"{op.name}: no {op.baseline} in our ONNX; published baselines are profiled only")
        if min(op.pad) < 0:
            raise UnsupportedOp(f"{op.name}: ONNX has no negative pads {op.pad}")
        steps = STEPS[op.kind](self, op)
        if op.residual is not None:
            steps.append(("Add", [self.float_name[op.residual]], {}))
        if op.act is not None:
            steps.append(self._activation(op))
        return steps or [("Identity", [], {})]

    def _activation(self, op: Op):
        if op.act in ("relu6", "clip"):
            limits = np.float32(op.args or (0, 6))
            return "Clip", [self.constant(f"{op.name}.{n}", v) for n, v in zip(("min", "max"), limits, strict=True)], {}
        if op.act == "hsigmoid":
            slope, offset = op.args or (1 / 6, 0.5)
            return "HardSigmoid", [], {"alpha": slope, "beta": offset}
        return ACTIVATIONS[op.act], [], {"alpha": op.args[0]} if op.act == "leaky" else {}

    def weights(self, op: Op):
        """Write the weights and bias of a convolution and return their names."""
        weights = self.model.weights[op.name]
        if not self.quantized:
            return [self.constant(f"{op.name}.{n}", v) for n, v in zip(("weight", "bias"), weights, strict=True)]
        input_scale = np.float32(self.model.scales[op.inputs[0]].scale)
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
