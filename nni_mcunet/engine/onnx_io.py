"""ONNX in and out: Graph + weights (+ scales) <-> an ONNX file, float or QDQ int8. With onnx_boxes.py, which adds a
detector's post-processing, the only file that imports onnx.

Written: opset 13, NCHW, batch 1, one node per op under the op's name, so that names survive the way to the C symbol.
Int8 tensors are QuantizeLinear / DequantizeLinear pairs; between them the operators stay float, which is the format's
own definition of the integer network. What travels beside the graph (blocks, detector) is JSON in metadata_props.
Read: what is written (of a file with boxes the network), and the same operators from other exporters; anything else is
refused by name.
"""

import json
import re
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..core.errors import GraphError, UnsupportedOp, UserError
from ..core.files import write_atomic
from ..core.graph import Graph, Op, Tensor
from .onnx_boxes import with_boxes, without_boxes
from .quant import Model, QuantModel, QuantWeights, Scale

META_KEY = "mcunet"
# Names that an op cannot have in C: keywords, and what the generated mcu_run calls its own.
C_WORDS = """auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
a i j read ctx main"""
RESERVED = frozenset(C_WORDS.split())


def save_onnx(model: Model | QuantModel, path, boxes: bool = False) -> Path:
    """Write the model; QuantModel as QDQ int8; boxes: a detector with its post-processing (onnx_boxes.py). The file is
    checked by onnx before it replaces `path`. Raises UserError for boxes of a network that is no detector."""
    proto = to_onnx(model)
    if boxes and "detector" not in model.meta:
        raise UserError(f"{model.graph.name} is no detector: it has no boxes to write")
    if boxes:
        proto = with_boxes(proto, model.meta["detector"])
    onnx.checker.check_model(proto, full_check=True)
    return write_atomic(path, proto.SerializeToString())


def to_onnx(model: Model | QuantModel) -> onnx.ModelProto:
    graph, writer = model.graph, _Writer(model)
    for op in graph.ops:
        writer.add(op)
    inputs = [_value(t.name, t) for t in graph.inputs]
    outputs = [_value(name, graph.tensors[name]) for name in graph.outputs]
    proto = helper.make_model(
        helper.make_graph(writer.nodes, graph.name, inputs, outputs, writer.initializers),
        opset_imports=[helper.make_opsetid("", 13)],
        producer_name="nni-mcunet",
        ir_version=8,
    )
    blocks = {op.name: op.block for op in graph.ops}
    helper.set_model_props(proto, {META_KEY: json.dumps({**model.meta, "blocks": blocks})})
    return proto


def _value(name: str, t: Tensor):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, t.c, t.h, t.w])


class _Writer:
    def __init__(self, model):
        self.model, self.quantized = model, isinstance(model, QuantModel)
        self.nodes, self.initializers, self.float_name = [], [], {}
        for t in model.graph.inputs:
            self.float_name[t.name] = self._qdq(t.name, t.name, f"{t.name}_dq") if self.quantized else t.name

    def node(self, kind, inputs, output, name=None, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name or output, **attributes))
        return output

    def constant(self, name, value):
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _scale(self, tensor):
        s = self.model.scales[tensor]
        return [
            self.constant(f"{tensor}_scale", np.float32(s.scale)),
            self.constant(f"{tensor}_zero_point", np.int8(s.zero_point)),
        ]

    def _qdq(self, tensor, source, target):
        """source (float) -> int8 -> target (float)."""
        scale = self._scale(tensor)
        self.node("QuantizeLinear", [source, *scale], f"{tensor}_q")
        return self.node("DequantizeLinear", [f"{tensor}_q", *scale], target, name=f"{tensor}_dequantize")

    def add(self, op: Op) -> None:
        x = self.float_name[op.inputs[0]]
        steps = self._steps(op)
        for at, (kind, inputs, attributes) in enumerate(steps):
            last = at == len(steps) - 1
            name = f"{op.name}_f" if last and self.quantized else op.name if last else f"{op.name}_{kind.lower()}"
            x = self.node(kind, [x, *inputs], name, name=op.name if at == 0 else f"{op.name}_{kind}", **attributes)
        self.float_name[op.name] = self._qdq(op.name, x, op.name) if self.quantized else x

    def _steps(self, op: Op):
        """(ONNX operator, inputs behind the first, attributes) for one op, in order."""
        if op.kind == "mul" or op.act not in (None, "relu", "relu6"):
            raise UnsupportedOp(f"{op.name}: squeeze-excite is not written to ONNX; use blocks with se = 0")
        if op.baseline:
            raise UnsupportedOp(f"{op.name}: no {op.baseline} in our ONNX; published baselines are profiled only")
        if op.kind == "gap":
            return [("GlobalAveragePool", [], {})]
        if op.kind == "maxpool":
            return [("MaxPool", [], dict(kernel_shape=list(op.k), strides=list(op.s), pads=list(op.pad)))]
        if op.kind == "upsample":
            scales = self.constant(f"{op.name}_scales", np.array([1, 1, *op.s], np.float32))
            return [("Resize", ["", scales], dict(mode="nearest", coordinate_transformation_mode="asymmetric",
                                                  nearest_mode="floor"))]  # fmt: skip
        if min(op.pad) < 0:
            raise UnsupportedOp(f"{op.name}: ONNX has no negative pads {op.pad}")
        attributes = dict(kernel_shape=list(op.k), strides=list(op.s), pads=list(op.pad), group=op.groups)
        steps = [("Conv", self._weights(op), attributes)]
        if op.residual is not None:
            steps.append(("Add", [self.float_name[op.residual]], {}))
        if op.act == "relu":
            steps.append(("Relu", [], {}))
        elif op.act == "relu6":
            steps.append(("Clip", [self.constant(f"{op.name}_min", np.float32(0)),
                                   self.constant(f"{op.name}_max", np.float32(6))], {}))  # fmt: skip
        return steps

    def _weights(self, op: Op):
        weights = self.model.weights[op.name]
        if not self.quantized:
            return [self.constant(f"{op.name}_{n}", v) for n, v in zip(("weight", "bias"), weights, strict=True)]
        input_scale = np.float32(self.model.scales[op.inputs[0]].scale)
        names = []
        for part, value, scale in (
            ("weight", weights.weight, weights.scale),
            ("bias", weights.bias, weights.scale * input_scale),
        ):
            name = f"{op.name}_{part}"
            inputs = [
                self.constant(f"{name}_q", value),
                self.constant(f"{name}_scale", scale.astype(np.float32)),
                self.constant(f"{name}_zero_point", np.zeros(len(scale), value.dtype)),
            ]
            names.append(self.node("DequantizeLinear", inputs, name, axis=0))
        return names


def load_onnx(path) -> Model | QuantModel:
    """Model of a float file, QuantModel of a QDQ one. Raises FileNotFoundError, GraphError for a file that is no valid
    ONNX, UnsupportedOp naming the node."""
    data = Path(path).read_bytes()
    try:
        proto = onnx.load_model_from_string(data)
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # protobuf and the checker raise types of their own
        reason = " ".join(str(error).split()) or "empty file"  # one line; the node's name comes last
        raise GraphError(f"{path}: not a valid ONNX file ({reason}); export it again") from None
    return _Reader(without_boxes(proto), str(path)).read()


class _Reader:
    """Walks the nodes once; a conv op stays open until its Add and activation have been seen."""

    def __init__(self, proto: onnx.ModelProto, path: str):
        self.graph, self.path = proto.graph, path
        self.meta = self._metadata(proto)
        self.blocks = self.meta.pop("blocks", {})
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.readers: dict[str, list] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.tensor: dict[str, str] = {}  # ONNX value -> tensor of our graph
        self.dequantized: dict[str, tuple] = {}  # ONNX value -> (int8 constant, scale)
        self.scales, self.weights = {}, {}
        self.ops: dict[str, Op] = {}
        self.channels: dict[str, int] = {}

    def _metadata(self, proto) -> dict:
        for entry in proto.metadata_props:
            if entry.key == META_KEY:
                try:
                    return json.loads(entry.value)
                except json.JSONDecodeError as error:
                    raise GraphError(f"{self.path}: metadata '{META_KEY}' is no JSON ({error}); export again") from None
        return {}

    def read(self) -> Model | QuantModel:
        inputs = []
        for value in self.graph.input:
            if value.name in self.constants:
                continue
            shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
            if len(shape) != 4 or min(shape[1:]) < 1:
                raise GraphError(f"{self.path}: input '{value.name}' has the shape {shape}; export it as fixed NCHW")
            inputs.append(Tensor(value.name, shape[2], shape[3], shape[1]))
            self.tensor[value.name], self.channels[value.name] = value.name, shape[1]
        for node in self.graph.node:
            handler = getattr(self, f"_{node.op_type.lower()}", None)
            if handler is None:
                raise UnsupportedOp(f"{self.path}: {node.op_type} at '{node.name or node.output[0]}' is not known; "
                                    "supported are Conv, Add, Relu, Clip, MaxPool, GlobalAveragePool, Resize and "
                                    "QuantizeLinear / DequantizeLinear")  # fmt: skip
            handler(node, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        outputs = tuple(self.tensor[v.name] for v in self.graph.output)
        graph = Graph(self.graph.name or "onnx", tuple(inputs), tuple(self.ops.values()), outputs).verify()
        for value, name in zip(self.graph.output, outputs, strict=True):
            declared, t = [d.dim_value for d in value.type.tensor_type.shape.dim], graph.tensors[name]
            if len(declared) == 4 and all(declared[1:]) and declared[1:] != [t.c, t.h, t.w]:
                raise GraphError(f"{self.path}: output '{value.name}' is {declared}, its nodes give {t.c}x{t.h}x{t.w}")
        if not self.scales:
            return Model(graph, self.weights, self.meta)
        missing = [n for n in graph.tensors if n not in self.scales]
        if missing:
            raise GraphError(f"{self.path}: '{missing[0]}' has no QuantizeLinear while others have; quantize it whole")
        return QuantModel(graph, self.scales, self.weights, self.meta)

    def _source(self, node, at=0) -> str:
        name = node.input[at]
        if name not in self.tensor:
            raise UnsupportedOp(f"{self.path}: {node.op_type} at '{node.name}' reads the constant '{name}'")
        return self.tensor[name]

    def _op(self, node, op: Op, channels: int) -> None:
        self.ops[op.name], self.channels[op.name] = op, channels
        self.tensor[node.output[0]] = op.name

    def _name(self, node) -> str:
        """A C identifier that no other op has."""
        name = re.sub(r"\W", "_", node.name or node.output[0]).strip("_")
        if not re.match(r"[A-Za-z]", name) or name in RESERVED:
            name = f"op_{name}"
        while name in self.channels:
            name += "_"
        return name

    def _new(self, node, kind, cout, **attributes) -> Op:
        name = self._name(node)
        return Op(name, kind, (self._source(node),), cout, block=self.blocks.get(name, len(self.ops)), **attributes)

    def _pads(self, node, attributes) -> tuple[int, int, int, int]:
        auto = attributes.get("auto_pad", b"NOTSET").decode()
        if auto not in ("NOTSET", "VALID"):
            raise UnsupportedOp(f"{self.path}: auto_pad {auto} at '{node.name}': export explicit pads")
        return tuple(attributes.get("pads", (0, 0, 0, 0)))

    def _conv(self, node, attributes):
        if any(d != 1 for d in attributes.get("dilations", ())):
            raise UnsupportedOp(f"{self.path}: dilated Conv at '{node.name}': use dilation 1")
        weight, scale = self._parameter(node, node.input[1])
        bias, bias_scale = np.zeros(len(weight), np.float32), None
        if len(node.input) > 2 and node.input[2]:
            bias, bias_scale = self._parameter(node, node.input[2])
        op = self._new(
            node, "conv", weight.shape[0], k=tuple(weight.shape[2:]), s=tuple(attributes.get("strides", (1, 1))),
            pad=self._pads(node, attributes), groups=attributes.get("group", 1),
        )  # fmt: skip
        if scale is None and bias_scale is None:
            self.weights[op.name] = (weight.astype(np.float32), bias.astype(np.float32))
        else:
            self.weights[op.name] = self._quantized(node, op, weight, scale, bias, bias_scale)
        self._op(node, op, op.cout)

    def _quantized(self, node, op: Op, weight, scale, bias, bias_scale) -> QuantWeights:
        """Integers of a conv; a float bias is rounded to steps of input * weight scale, an integer one has them."""
        if scale is None or weight.dtype != np.int8 or op.inputs[0] not in self.scales:
            raise UnsupportedOp(f"{self.path}: Conv at '{node.name}': input and weights must both be int8 (QDQ)")
        scale = np.broadcast_to(scale, (op.cout,)).astype(np.float32)
        steps = self.scales[op.inputs[0]].scale * scale.astype(np.float64)
        if bias_scale is None:
            bias = np.round(bias / steps)
        elif not np.allclose(bias_scale, steps, rtol=1e-4):
            raise UnsupportedOp(f"{self.path}: Conv at '{node.name}': the bias has another scale than input * weights")
        return QuantWeights(weight, scale, bias.astype(np.int32))

    def _parameter(self, node, name):
        """(values, scale or None) of a weight or bias, dequantised ones as their integers."""
        if name in self.dequantized:
            return self.dequantized[name]
        if name not in self.constants:
            raise UnsupportedOp(f"{self.path}: {node.op_type} at '{node.name}': '{name}' is not a constant")
        return self.constants[name], None

    def _open_conv(self, node, value) -> Op:
        """The conv op that wrote `value`, if nothing else reads that value and it is not yet rounded to int8."""
        op = self.ops.get(self.tensor.get(value, ""))
        if op is None or op.kind != "conv" or not self._alone(value) or op.act or op.name in self.scales:
            raise UnsupportedOp(
                f"{self.path}: {node.op_type} at '{node.name}' does not follow a convolution alone; "
                "put it right behind the one convolution it belongs to"
            )
        return op

    def _alone(self, value: str) -> bool:
        """One node reads this value, and the user does not."""
        return len(self.readers[value]) == 1 and value not in {v.name for v in self.graph.output}

    def _replace(self, node, op: Op, **changes) -> None:
        fields = {**op.__dict__, **changes}
        del self.ops[op.name]  # an op moves to the place where it is complete
        self._op(node, Op(**fields), op.cout)

    def _add(self, node, attributes):
        for conv, other in (tuple(node.input), tuple(node.input)[::-1]):
            op = self.ops.get(self.tensor.get(conv, ""))
            bare = op is not None and op.kind == "conv" and not op.residual and not op.act
            alone = bare and self._alone(conv) and op.name not in self.scales
            if alone and other in self.tensor:
                self._replace(node, op, residual=self.tensor[other])
                return
        raise UnsupportedOp(
            f"{self.path}: Add at '{node.name}' does not follow a convolution alone; "
            "put it right behind the one convolution it belongs to"
        )

    def _relu(self, node, attributes):
        self._replace(node, self._open_conv(node, node.input[0]), act="relu")

    def _clip(self, node, attributes):
        limits = [float(self.constants[n]) if n in self.constants else None for n in node.input[1:]]
        if limits != [0.0, 6.0]:
            raise UnsupportedOp(f"{self.path}: Clip to {limits} at '{node.name}': only 0..6 (ReLU6) is supported")
        self._replace(node, self._open_conv(node, node.input[0]), act="relu6")

    def _maxpool(self, node, attributes):
        if attributes.get("ceil_mode", 0) or any(d != 1 for d in attributes.get("dilations", ())):
            raise UnsupportedOp(f"{self.path}: MaxPool at '{node.name}': ceil_mode and dilation are not supported")
        source = self._source(node)
        self._op(node, self._new(node, "maxpool", self.channels[source], k=tuple(attributes["kernel_shape"]),
                                 s=tuple(attributes.get("strides", (1, 1))), pad=self._pads(node, attributes)),
                 self.channels[source])  # fmt: skip

    def _globalaveragepool(self, node, attributes):
        channels = self.channels[self._source(node)]
        self._op(node, self._new(node, "gap", channels), channels)

    def _resize(self, node, attributes):
        scales = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        whole = scales is not None and len(scales) == 4 and all(float(s).is_integer() and s >= 1 for s in scales)
        mode = attributes.get("mode", b"nearest").decode()
        exact = attributes.get("nearest_mode", b"round_prefer_floor") == b"floor"
        exact &= attributes.get("coordinate_transformation_mode", b"half_pixel") == b"asymmetric"
        if mode != "nearest" or not whole or not exact:
            raise UnsupportedOp(f"{self.path}: Resize '{mode}' at '{node.name}': use nearest (asymmetric, floor) by a "
                                "constant whole factor")  # fmt: skip
        channels = self.channels[self._source(node)]
        self._op(node, self._new(node, "upsample", channels, s=(int(scales[2]), int(scales[3]))), channels)

    def _quantizelinear(self, node, attributes):
        tensor = self._source(node)
        scale, zero_point = (self.constants.get(n) for n in node.input[1:3])
        if scale is None or zero_point is None or scale.size != 1 or zero_point.dtype != np.int8:
            raise UnsupportedOp(f"{self.path}: QuantizeLinear at '{node.name}': one constant scale and an int8 zero "
                                "point per tensor are wanted")  # fmt: skip
        self.scales[tensor] = Scale(float(scale.reshape(())), int(zero_point.reshape(())))
        self.tensor[node.output[0]] = tensor

    def _dequantizelinear(self, node, attributes):
        name = node.input[0]
        if name in self.constants:
            if len(node.input) > 2 and np.any(self.constants[node.input[2]]):
                raise UnsupportedOp(f"{self.path}: weights '{name}' have a zero point; quantize them symmetrically")
            scale = self.constants[node.input[1]]
            if scale.size > 1 and attributes.get("axis", 1) % self.constants[name].ndim:
                raise UnsupportedOp(f"{self.path}: weights '{name}' have scales along another axis than the outputs'")
            self.dequantized[node.output[0]] = self.constants[name], scale
        else:
            self.tensor[node.output[0]] = self._source(node)
