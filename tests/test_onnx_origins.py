"""Files quantised by others, node by node as each tool writes them: read with their integers, and within one step of
what onnxruntime computes."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from test_onnx_exporters import NCHW
from test_onnx_import import constant
from theirs import run

from nni_mcunet.core.errors import GraphError, UnsupportedOp
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.model import QuantModel


class File:
    """Nodes and constants of a quantised file, one behind the other from the input `x`."""

    def __init__(self, shape, kind=TensorProto.FLOAT, zero=np.int8):
        self.rng, self.at, self.zero = np.random.default_rng(0), "x", zero
        self.nodes, self.constants, self.shape, self.kind = [], {}, shape, kind

    def add(self, kind, *inputs, **attributes):
        """Append a node on what is computed so far, or on `inputs` where the first is a name; return its output."""
        values = [v if isinstance(v, str) else self.constant(v) for v in inputs]
        domain = "com.microsoft" if kind in ("QLinearConcat", "QLinearAdd") else ""
        self.at = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, values, [self.at], name=self.at, domain=domain, **attributes))
        return self.at

    def constant(self, value):
        """Add a constant; return its name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def scale(self, step, zero):
        return [np.float32(step), self.zero(zero)]

    def quantize(self, step, zero=0):
        return self.add("QuantizeLinear", self.at, *self.scale(step, zero))

    def dequantize(self, step, zero=0):
        return self.add("DequantizeLinear", self.at, *self.scale(step, zero))

    def rounded(self, step, zero=0):
        """Append both."""
        self.quantize(step, zero)
        return self.dequantize(step, zero)

    def integers(self, *shape, kind=np.int8, most=127):
        return self.rng.integers(-most, most + 1, shape).astype(kind)

    def weights(self, *shape, axis=0, input_step=None):
        """Return the name of dequantised weights of a scale a channel and, where input_step is given, of a bias."""
        steps, count = self.rng.uniform(0.002, 0.01, shape[axis]).astype(np.float32), shape[axis]
        before = self.at
        zeros = np.zeros(count, np.int8)
        names = [self.add("DequantizeLinear", self.integers(*shape), steps, zeros, axis=axis)]
        if input_step:
            values = self.integers(count, kind=np.int32, most=4000)
            names.append(self.add("DequantizeLinear", values, steps * np.float32(input_step),
                                  np.zeros(count, np.int32), axis=0))  # fmt: skip
        self.at = before
        return names

    def save(self, path, kind=TensorProto.FLOAT):
        """Write the file; its output is what was computed last."""
        ends = (
            helper.make_tensor_value_info("x", self.kind, self.shape),
            helper.make_tensor_value_info(self.at, kind, None),
        )
        sets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
        constants = [constant(name, value) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "g", [ends[0]], [ends[1]], constants)
        onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), path)
        return path


def tf2onnx_keyword(path):
    """A keyword spotter of .tflite by tf2onnx: int8 in and out, one channel by Reshape, int32 biases dequantised, the
    fully connected one behind its MatMul."""
    f = File([1, 9, 8, 1], TensorProto.INT8)
    f.add("Reshape", "x", np.array([1, 1, 9, 8]))
    x = f.dequantize(0.02, -5)
    f.add("Conv", x, *f.weights(6, 1, 3, 3, input_step=0.02), pads=[1, 1, 1, 1])
    f.add("Relu", f.at)
    x = f.rounded(0.015, -128)
    f.quantize(0.015, -128) if f.add("AveragePool", x, kernel_shape=[9, 8]) else None
    f.add("Reshape", f.at, np.array([-1, 6]))
    x = f.dequantize(0.015, -128)
    weight, bias = f.weights(6, 4, axis=1, input_step=0.015)
    f.add("MatMul", x, weight)
    f.add("Add", f.at, bias)
    f.rounded(0.03, 4)
    f.add("Softmax", f.at)
    f.quantize(1 / 256, -128)
    return f.save(path, TensorProto.INT8)


def tf2onnx_padded(path):
    """A MobileNet of .tflite by tf2onnx: padded before the transposition to NCHW, transposed back, and a Squeeze."""
    f = File([1, 9, 8, 3], TensorProto.INT8)
    f.at = "x"
    f.dequantize(0.02, -128)
    f.add("Pad", f.at, np.array([0, 0, 0, 0, 0, 1, 1, 0]))
    f.quantize(0.02, -128)
    f.add("Transpose", f.at, perm=NCHW)
    f.dequantize(0.02, -128)
    f.add("Conv", f.at, *f.weights(6, 3, 3, 3, input_step=0.02), strides=[2, 2])
    f.add("Clip", f.at, np.float32(0), np.float32(6))
    f.quantize(6 / 255, -128)
    f.add("Transpose", f.at, perm=[0, 2, 3, 1])
    f.dequantize(6 / 255, -128)
    f.add("ReduceMean", f.at, axes=[1, 2], keepdims=1)
    f.quantize(0.02, -128)
    f.add("Squeeze", f.at, np.array([1, 2]))
    x = f.dequantize(0.02, -128)
    f.add("Gemm", x, *f.weights(6, 4, axis=1, input_step=0.02))
    f.quantize(0.05, 3)
    return f.save(path, TensorProto.INT8)


def tf2onnx_sequence(path):
    """Keras' Conv1D layers of a .tflite by tf2onnx: padded as a sequence, then a map of one row, of one column, and of
    one row by turns; enlarged as UpSampling1D does."""
    f = File([1, 12, 3], TensorProto.INT8)
    x = f.dequantize(0.02, -5)
    f.add("Pad", x, np.array([0, 2, 0, 0, 0, 0]))
    f.quantize(0.02, -5)
    f.add("Unsqueeze", f.at, np.array([-3]))
    f.add("Transpose", f.at, perm=NCHW)
    f.add("Conv", f.dequantize(0.02, -5), *f.weights(6, 3, 1, 3, input_step=0.02))
    f.add("Relu", f.at)
    f.quantize(0.015, -128)
    f.add("Transpose", f.at, perm=[0, 2, 3, 1])
    f.add("Reshape", f.at, np.array([-1, 12, 6]))
    f.add("Unsqueeze", f.at, np.array([2]))
    f.add("Transpose", f.at, perm=NCHW)
    f.add("MaxPool", f.dequantize(0.015, -128), kernel_shape=[2, 1], strides=[2, 1])
    f.add("Conv", f.rounded(0.015, -128), *f.weights(4, 6, 3, 1, input_step=0.015), pads=[1, 0, 1, 0])
    f.quantize(0.03, 3)
    f.add("Transpose", f.at, perm=[0, 2, 3, 1])
    f.add("Reshape", f.at, np.array([-1, 6, 1, 4]))
    f.add("Tile", f.at, np.array([1, 1, 2, 1]))
    f.add("Reshape", f.at, np.array([1, 12, 4]))
    f.add("Unsqueeze", f.at, np.array([1]))
    f.add("Transpose", f.at, perm=NCHW)
    f.add("Conv", f.dequantize(0.03, 3), *f.weights(5, 4, 1, 3, input_step=0.03), pads=[0, 1, 0, 1])
    f.quantize(0.04, 3)
    return f.save(path, TensorProto.INT8)


def tf2onnx_phases(path, order=None, **attributes):
    """A dilated convolution of a Keras .tflite by tf2onnx: one of the map's phases, cropped behind, and its bias as a
    sum in integers of its own. order: another of the phases; attributes: others of the convolution."""
    f = File([1, 9, 8, 3], TensorProto.INT8)
    f.add("Pad", f.dequantize(0.02, -128), np.array([0, 2, 2, 0, 0, 3, 2, 0]))
    f.add("Transpose", f.at, perm=[3, 0, 1, 2])
    f.add("SpaceToDepth", f.at, blocksize=2)
    f.quantize(0.02, -128)
    f.add("Transpose", f.at, perm=[1, 0, 2, 3])
    if order:
        f.add("Gather", f.at, np.array(order))
    f.add("Conv", f.dequantize(0.02, -128), *f.weights(6, 3, 3, 3, input_step=0.02), **attributes)
    f.quantize(0.03, 3)
    f.add("Transpose", f.at, perm=[1, 0, 2, 3])
    f.add("DepthToSpace", f.at, blocksize=2)
    x = f.add("Slice", f.at, np.array([0, 0]), np.array([-1, 2**31 - 1]), np.array([2, 3]))
    bias = f.add("DequantizeLinear", f.integers(6, 1, 1, 1), *f.scale(0.005, -20))
    f.at = x
    f.add("Add", f.dequantize(0.03, 3), bias)
    f.add("Relu", f.at)
    f.quantize(0.02, -128)
    f.add("Transpose", f.at, perm=[1, 0, 2, 3])
    return f.save(path, TensorProto.INT8)


def tf2onnx_cropped(path):
    """A transposed convolution of a Keras .tflite by tf2onnx: cropped by a Slice, and clamped behind."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.004, -128)
    (weight,) = f.weights(3, 5, 3, 3, axis=1)
    f.add("ConvTranspose", x, weight, f.rng.normal(size=5).astype(np.float32), strides=[2, 2])
    f.add("Slice", f.at, np.array([1, 0]), np.array([18, 16]), np.array([2, 3]))
    f.add("Pad", f.at, np.array([0] * 8))
    f.add("Relu", f.at)
    f.rounded(0.01, -128)
    return f.save(path)


def pt2e(path):
    """torchao's pt2e by torch's exporter: a scale a channel, biases in floats, a mean with its axes as an input."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.004, -128)
    f.add("Conv", x, *f.weights(6, 3, 3, 3), pads=[1, 1, 1, 1])
    a = f.rounded(0.02, 7)
    (weight,) = f.weights(6, 6, 1, 1)
    f.add("Conv", a, weight, f.rng.normal(size=6).astype(np.float32))
    b = f.rounded(0.03, -2)
    f.add("Add", a, b)
    f.rounded(0.04, 5)
    f.add("ReduceMean", f.at, axes=[-1, -2], keepdims=1)
    f.rounded(0.02)
    f.add("Reshape", f.at, np.array([1, 6]))
    x = f.rounded(0.02)
    f.add("Gemm", x, *f.weights(4, 6), f.rng.normal(size=4).astype(np.float32), transB=1)
    f.rounded(0.05)
    return f.save(path)


def qat(path):
    """TensorFlow's training with quantisation by tf2onnx: weights in floats that are whole multiples of a step, of
    uint8 activations; the batch normalisation is in them."""
    f = File([1, 3, 9, 8], zero=np.uint8)
    x = f.rounded(0.004, 0)
    for out, into, groups, step in ((6, 3, 1, 0.015), (6, 1, 6, 0.06)):
        steps = f.rng.uniform(0.002, 0.01, (out, 1, 1, 1)).astype(np.float32)
        weight = f.integers(out, into, 3, 3).astype(np.float32) * steps
        f.add("Conv", x, weight, f.rng.normal(size=out).astype(np.float32), pads=[1, 1, 1, 1], group=groups)
        f.add("Relu", f.at)
        x = f.rounded(step, 0)
    return f.save(path)


def torch_qat(path):
    """torch's training with quantisation by its exporter: weights in floats, rounded in the file."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.004, -128)
    steps, zeros = f.rng.uniform(0.004, 0.01, 6).astype(np.float32), np.zeros(6, np.int8)
    f.add("QuantizeLinear", f.rng.normal(size=(6, 3, 3, 3), scale=0.3).astype(np.float32), steps, zeros, axis=0)
    weight = f.add("DequantizeLinear", f.at, steps, zeros, axis=0)
    f.add("Conv", x, weight, f.rng.normal(size=6).astype(np.float32))
    f.rounded(0.02, 7)
    return f.save(path)


def norm_left(path):
    """onnxruntime's QLinear operators with a batch normalisation that it left in floats, and a Relu."""
    f = File([1, 3, 9, 8], TensorProto.INT8)
    steps = f.rng.uniform(0.002, 0.01, 6).astype(np.float32)
    f.add("QLinearConv", "x", *f.scale(0.02, -3), f.integers(6, 3, 3, 3), steps, np.zeros(6, np.int8),
          *f.scale(0.02, 4), f.integers(6, kind=np.int32, most=4000))  # fmt: skip
    x = f.dequantize(0.02, 4)
    norm = [f.rng.uniform(-2, 2, 6), f.rng.normal(size=6), f.rng.normal(size=6), f.rng.uniform(0.5, 2, 6)]
    f.add("BatchNormalization", x, *(v.astype(np.float32) for v in norm))
    return f.save(path)


def norm_first(path):
    """A normalisation of the picture in floats, behind which onnxruntime begins to round."""
    f = File([1, 3, 9, 8])
    f.add("Sub", "x", np.float32([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1))
    f.add("Div", f.at, np.float32([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1))
    x = f.rounded(0.0187, -15)
    f.add("Conv", x, *f.weights(6, 3, 3, 3, input_step=0.0187))
    f.rounded(0.05, 7)
    return f.save(path)


def norm_behind_integers(path):
    """A factor a channel behind a quantised convolution whose sums are not rounded: it goes into the scales."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.004, -128)
    f.add("Conv", x, *f.weights(6, 3, 3, 3, input_step=0.004))
    f.add("Mul", f.at, f.rng.uniform(0.5, 2, (6, 1, 1)).astype(np.float32))
    f.add("Add", f.at, f.rng.normal(size=(6, 1, 1)).astype(np.float32))
    f.rounded(0.02, 7)
    return f.save(path)


def hard_swish_unrounded(path):
    """A swish whose gate the quantiser left in floats."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.03, 5)
    gate = f.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)
    f.add("Mul", x, gate)
    f.rounded(0.02, -100)
    return f.save(path)


def tf2onnx_halves(path):
    """Two parts of an int8 picture's channels of .tflite by tf2onnx, each dequantised behind its Slice."""
    f, sides = File([1, 9, 8, 6], TensorProto.INT8), []
    weights = f.weights(5, 3, 3, 3, input_step=0.02)
    for first in (0, 3):
        f.add("Slice", "x", np.array([first]), np.array([first + 3]), np.array([3]))
        f.add("Transpose", f.at, perm=NCHW)
        f.add("Conv", f.dequantize(0.02, -9), *weights, pads=[1, 1, 1, 1])
        sides.append(f.rounded(0.05, 4))
    f.add("Sub", *sides)
    f.quantize(0.07, -3)
    return f.save(path, TensorProto.INT8)


FILES = [tf2onnx_keyword, tf2onnx_padded, tf2onnx_sequence, tf2onnx_phases, tf2onnx_cropped, tf2onnx_halves, pt2e, qat,
         torch_qat, norm_left, norm_first, norm_behind_integers, hard_swish_unrounded]  # fmt: skip


def steps_apart(path):
    """The differences to onnxruntime in steps of the output, for some inputs."""
    model, proto = load_onnx(path), onnx.load(path)
    assert isinstance(model, QuantModel)
    image, kind = model.graph.inputs[0], proto.graph.input[0].type.tensor_type
    scale, (name,), found = model.scales[image.name], model.graph.outputs, []
    shape = [d.dim_value for d in kind.shape.dim]
    for seed in range(5):
        bytes_ = np.random.default_rng(seed).integers(-128, 128, (image.h, image.w, image.c)).astype(np.int8)
        given = scale.dequantize(bytes_) if kind.elem_type == TensorProto.FLOAT else bytes_
        (theirs,) = run(proto, given.reshape(shape) if shape[-1] == image.c else given.transpose(2, 0, 1)[None])
        ours = reference.run(plan(model.graph), model, bytes_)[name]
        theirs = theirs[0].transpose(1, 2, 0) if theirs.ndim == 4 else theirs
        real = theirs if theirs.dtype == np.float32 else model.scales[name].dequantize(theirs)
        found.append(np.abs(model.scales[name].dequantize(ours).ravel() - real.ravel()) / model.scales[name].scale)
    return np.concatenate(found)


@pytest.mark.parametrize("file", FILES, ids=[f.__name__ for f in FILES])
def test_within_one_step(file, tmp_path):
    """Within a step of the output, and nearly everywhere less: its integers are the file's."""
    steps = steps_apart(file(tmp_path / "m.onnx"))
    assert steps.max() <= 1.01 and (steps > 0.51).mean() < 0.1


def test_padding_and_bias_cost_no_op(tmp_path):
    model = load_onnx(tf2onnx_padded(tmp_path / "p.onnx"))
    assert [op.kind for op in model.graph.ops] == ["conv", "gap", "conv"]
    model = load_onnx(tf2onnx_keyword(tmp_path / "k.onnx"))
    assert [op.kind for op in model.graph.ops] == ["conv", "gap", "conv", "softmax"]


def test_sequences_and_phases_cost_no_op(tmp_path):
    model = load_onnx(tf2onnx_sequence(tmp_path / "s.onnx"))
    assert [op.kind for op in model.graph.ops] == ["conv", "maxpool", "conv", "upsample", "conv"]
    assert {t.h for t in model.graph.tensors.values()} == {1}
    model = load_onnx(tf2onnx_phases(tmp_path / "p.onnx"))
    assert [(op.kind, op.k) for op in model.graph.ops] == [("conv", (5, 5)), ("conv", (1, 1))]


@pytest.mark.parametrize(
    "changes", [{"order": [1, 0, 2, 3]}, {"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER"}]
)
def test_a_batch_that_is_no_dilation_is_refused(changes, tmp_path):
    """The phases in another order, or a convolution of them that is none of the map."""
    with pytest.raises(UnsupportedOp, match=r"no NCHW map|in the order of no slice"):
        load_onnx(tf2onnx_phases(tmp_path / "m.onnx", **changes))


def test_the_scale_of_a_picture_that_is_normalised_in_floats(tmp_path):
    """It is the finest that holds what no channel's first rounding cuts off: here 0 to 1."""
    low, high = load_onnx(norm_first(tmp_path / "m.onnx")).scales["x"].span
    assert low == 0 and 1 <= high < 1.01


def test_a_bias_that_finer_steps_do_not_hold(tmp_path):
    """Weights of -1, 0 and 1 steps become larger integers of finer steps, but not where the bias leaves 32 bits."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.004, -128)
    weight = f.integers(6, 3, 3, 3, most=1).astype(np.float32) * np.float32(0.005)
    f.add("Conv", x, weight, np.float32([-2e4, 2e4, 1e4, 5e3, -7e3, 0]))
    f.rounded(200, 3)
    model = load_onnx(f.save(tmp_path / "m.onnx"))
    (found,) = reference.run(plan(model.graph), model, np.full((9, 8, 3), -128, np.int8)).values()
    assert found[0, 0].tolist() == [-97, 103, 53, 28, -32, 3]


def test_weights_of_no_step_are_refused(tmp_path):
    """Floats that are no multiples of anything were not trained for int8, and are not rounded in silence."""
    f = File([1, 3, 9, 8])
    x = f.rounded(0.004, -128)
    f.add("Conv", x, f.rng.normal(size=(6, 3, 3, 3)).astype(np.float32))
    f.rounded(0.02, 7)
    with pytest.raises(GraphError, match="has float weights while others are quantised; quantize it whole"):
        load_onnx(f.save(tmp_path / "m.onnx"))
