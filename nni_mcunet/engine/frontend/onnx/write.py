"""Write Graph + weights (+ scales) as an ONNX file, float or QDQ int8. read.py reads it back, and other people's.

Opset 14, NCHW, batch 1, one node per op under the op's name, so that names survive the way to the C symbol. Int8
tensors are QuantizeLinear / DequantizeLinear pairs; between them the operators stay float, which is the format's own
definition of the integer network. Names of constants and of what is between two ops have a point, which no op's name
has. The blocks, the detector and the view travel as JSON in metadata_props.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ....core.errors import UnsupportedOp, UserError
from ....core.files import write_atomic
from ....core.ir.graph import Op, Tensor
from ....core.types import FilePath
from ...model import Model, QuantModel
from .boxes import with_boxes
from .gains import divided
from .operators import STEPS
from .writer import Step, Writer

META_KEY = "mcunet"
ACTIVATIONS = {
    "relu": "Relu",
    "leaky": "LeakyRelu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "hswish": "HardSwish",
    "abs": "Abs",
    "elu": "Elu",
    "selu": "Selu",
    "softplus": "Softplus",
}


def save_onnx(model: Model | QuantModel, path: FilePath, boxes: bool = False) -> Path:
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
    """Return the model as save_onnx writes it, not yet checked. Raises UnsupportedOp for an op that ONNX has not, or a
    model with another rounding than ONNX's."""
    _check_rounding(model)
    graph, writer = model.graph, Writer(model)
    for op in graph.ops:
        _add(writer, op)
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
    """Raise UnsupportedOp for a model whose integers ONNX would compute otherwise."""
    tables = model.tables if isinstance(model, QuantModel) else {}
    own = [op.name for op in model.graph.ops if op.twice or op.name in tables]
    if own:
        raise UnsupportedOp(
            f"{model.graph.name}: '{own[0]}' rounds as TensorFlow Lite does, which an ONNX file and onnxruntime cannot "
            "do; keep the .tflite file, whose C gives its values (mcunet accuracy: --backend c)"
        )


def _value(name: str, t: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, t.c, t.h, t.w])


def _add(writer: Writer, op: Op) -> None:
    """Append the nodes of an op. Raises UnsupportedOp for one that ONNX has not."""
    x = writer.float_name[op.inputs[0]]
    steps = _steps(writer, op)
    main = next((at for at, (kind, *_) in enumerate(steps) if kind == "MatMul"), 0)  # the one that is read as the op
    for at, (kind, inputs, attributes) in enumerate(steps):
        last = at == len(steps) - 1
        again = f"{at}" if kind in [before for before, *_ in steps[:at]] else ""  # a second Reshape
        own = f"{op.name}.{kind.lower()}{again}"
        name = f"{op.name}.f" if last and writer.quantized else op.name if last else own
        node = op.name if at == main else f"{op.name}.{kind}{again}"
        x = writer.node(kind, [x, *inputs], name, name=node, **attributes)
    if gains := writer.gains.get(op.name):
        writer.float_name[op.name] = divided(writer, op.name, x, gains)
    else:
        writer.float_name[op.name] = writer.qdq(op.name, x, op.name) if writer.quantized else x


def _steps(writer: Writer, op: Op) -> list[Step]:
    """Return the nodes of an op in order."""
    if op.baseline:
        raise UnsupportedOp(f"{op.name}: no {op.baseline} in our ONNX; published baselines are profiled only")
    steps = STEPS[op.kind](writer, op)
    if op.residual is not None:
        steps.append(("Add", [writer.float_name[op.residual]], {}))
    if op.act is not None:
        steps += _activation(writer, op, op.act)
    return steps or [("Identity", [], {})]


def _activation(writer: Writer, op: Op, act: str) -> list[Step]:
    """Return the nodes of an activation: one, or two of what the standard has not before opset 24."""
    if act in ("relu6", "clip"):
        limits = np.array(op.args or (0, 6), np.float32)
        names = [writer.constant(f"{op.name}.{n}", v) for n, v in zip(("min", "max"), limits, strict=True)]
        return [("Clip", names, {})]
    if act == "hsigmoid":
        slope, offset = op.args or (1 / 6, 0.5)
        return [("HardSigmoid", [], {"alpha": slope, "beta": offset})]
    if act == "silu":
        return [("Sigmoid", [], {}), ("Mul", [writer.float_name[op.inputs[0]]], {})]
    return [(ACTIVATIONS[act], [], dict(zip(("alpha", "gamma"), op.args, strict=False)))]
