"""Divide the maps of an int8 detector by their channels' gains (core/ir/box_channels.py) at a file's end, so that
whoever runs the file gets real values, and take that off again."""

from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from ....core.errors import GraphError
from ...model import Model, QuantModel
from .writer import Writer

GAINED, NODE, VALUES = ".gained", ".gain", ".gain_values"  # behind an output's name


def divided(writer: Writer, name: str, source: str, gains: list[float]) -> str:
    """Append source (float) -> int8 -> float / gains: the output `name`, which is returned."""
    values = writer.constant(f"{name}{VALUES}", np.array(gains, np.float32).reshape(1, -1, 1, 1))
    gained = writer.qdq(name, source, f"{name}{GAINED}")
    return writer.node("Div", [gained, values], name, name=f"{name}{NODE}")


def without_gains(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, list[float]]]:
    """Return the model up to those divisions, and each output's gains; one without as it is. Raises GraphError for
    gains that are no positive numbers."""
    divisions = [n for n in proto.graph.node if n.op_type == "Div" and n.name == f"{n.output[0]}{NODE}"]
    constants = {c.name: c for c in proto.graph.initializer}
    found: dict[str, list[float]] = {}
    for node in divisions:
        name = node.output[0]
        if list(node.input) == [f"{name}{GAINED}", f"{name}{VALUES}"] and node.input[1] in constants:
            values = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64).reshape(-1)
            if not (np.isfinite(values) & (values > 0)).all():
                raise GraphError(f"'{node.name}' divides by gains that are no positive numbers; export again")
            found[name] = values.tolist()
    if not found:
        return proto, found
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    real = {f"{name}{GAINED}": name for name in found}
    del result.graph.node[:], result.graph.initializer[:]
    for node in proto.graph.node:
        if node.name.removesuffix(NODE) not in found or node.op_type != "Div":
            outputs = [real.get(name, name) for name in node.output]
            result.graph.node.add().CopyFrom(node)
            result.graph.node[-1].output[:] = outputs
    result.graph.initializer.extend(c for c in proto.graph.initializer if c.name.removesuffix(VALUES) not in found)
    return result, found


def with_gains(model: Model | QuantModel, gains: dict[str, list[float]]) -> Model | QuantModel:
    """Return the model with the gains of those of its maps that are outputs. Raises GraphError for gains of another
    number than a map has channels."""
    own = {name: values for name, values in gains.items() if name in model.graph.outputs}
    if not isinstance(model, QuantModel) or not own:
        return model
    for name, values in own.items():
        if len(values) != model.graph.tensors[name].c:
            raise GraphError(f"'{name}{NODE}' has {len(values)} gains of another number of channels; export again")
    return replace(model, gains=own)
