"""onnxruntime as a second opinion."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime


def exact_session(model: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a file so that its integers come out the same on every processor. A CPU without VNNI adds products of uint8
    and int8 in 16 bits, which saturate. Unfused, a QDQ file computes in float instead. QLinear operators have a
    switch, which is for uint8 activations only and rewrites each weight as often as it is read."""
    proto, options = onnx.load(model) if isinstance(model, Path) else deepcopy(model), onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    operators = {node.op_type for node in proto.graph.node}
    points = {node.input[2] for node in proto.graph.node if node.op_type == "QuantizeLinear" and len(node.input) > 2}
    constants = {t.name: t for t in proto.graph.initializer}
    if any(name.startswith("QLinear") for name in operators):
        unsigned = any(t.data_type == onnx.TensorProto.UINT8 for name, t in constants.items() if name in points)
        options.add_session_config_entry("session.x64quantprecision", str(int(unsigned)))
        for number, node in enumerate(proto.graph.node):
            for i, name in enumerate(node.input):
                if name in constants:
                    own = proto.graph.initializer.add()
                    own.CopyFrom(constants[name])
                    own.name = node.input[i] = f"{name} of node {number}"
    elif "DequantizeLinear" in operators:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: Path | onnx.ModelProto, image: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a file of one input."""
    session = exact_session(model)
    return session.run(None, {session.get_inputs()[0].name: image})
