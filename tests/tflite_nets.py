"""Small .tflite networks with random weights, which together have every operator that the engine reads."""

import numpy as np
from tflite_files import Layers


def classifier(rng) -> bytes:
    """All convolutions that have assembly of their own: RGB, 1x1, dense, depth-wise of 3, 5 and 7, odd channels."""
    n = Layers(rng)
    image = n.map((1, 21, 19, 3), 1 / 255, -128)
    x = n.conv(image, 16, (3, 3), (2, 2), act=3)
    x = n.conv(x, 16, (3, 3), act=1, depthwise=True)
    skip = n.conv(x, 9)
    x = n.conv(skip, 24, act=3)
    x = n.conv(x, 24, (5, 5), depthwise=True)
    x = n.new("ADD", skip, n.conv(x, 9), fusedActivationFunction=0)
    x = n.conv(x, 12, (3, 3))
    x = n.conv(x, 12, (7, 7), (2, 2), act=3, depthwise=True)
    x = n.conv(x, 13, (3, 3), (1, 2), same=False, act=1)
    x = n.conv(x, 13, (3, 3), (2, 2), depthwise=True)
    x = n.pool("AVERAGE_POOL_2D", x, x.shape[1:3], (1, 1), same=False)
    y = n.new("SOFTMAX", n.connected(x, 7), scale=1 / 256, zero=-128, beta=1.0)
    return n.write([image.index], [y.index])


def detector(rng) -> bytes:
    """Cover what is between the layers of a detector: parts, joins, pools, gates, functions, a second output."""
    n = Layers(rng)
    image = n.map((1, 16, 20, 3), 1 / 255, -128)
    x = n.same("PAD", image, (1, 18, 22, 3), n.constant([[0, 0], [1, 1], [1, 1], [0, 0]]))
    x = n.conv(x, 8, (3, 3), (2, 2), same=False)
    x = n.new("HARD_SWISH", x, scale=x.scale)
    x = n.conv(x, 16, (3, 3), depthwise=True)
    left, right = n.map((1, 8, 10, 8), x.scale, x.zero), n.map((1, 8, 10, 8), x.scale, x.zero)
    n.op("SPLIT", [n.constant([3]), x.index], [left.index, right.index], numSplits=2)
    left = n.conv(left, 8, (3, 3), groups=2, dilation=(2, 2), act=2)
    product = n.new("MUL", left, right, fusedActivationFunction=1)
    x = n.new("SUB", product, right, fusedActivationFunction=3)
    gate = n.new("MEAN", x, n.constant([1, 2]), shape=(1, 1, 1, 8), keepDims=True)
    gate = n.new("LOGISTIC", n.conv(gate, 8), scale=1 / 256, zero=-128)
    x = n.new("MUL", x, gate, fusedActivationFunction=0)
    small = n.pool("MAX_POOL_2D", x, (2, 2), (2, 2))
    small = n.pool("AVERAGE_POOL_2D", small, (3, 3), (1, 1), act=1)
    small = n.new("LEAKY_RELU", small, alpha=0.1)
    wide = n.same("RESIZE_NEAREST_NEIGHBOR", small, x.shape, n.constant([8, 10]), halfPixelCenters=True)
    x = n.new("QUANTIZE", x, scale=wide.scale, zero=wide.zero)
    x = n.same("CONCATENATION", x, (1, 8, 10, 16), wide.index, axis=3, fusedActivationFunction=0)
    x = n.new("TANH", n.conv(x, 12), scale=1 / 128, zero=0)
    odd = n.same("STRIDED_SLICE", x, (1, 4, 5, 6), n.constant([0, 1, 0, 0]), n.constant([1, 8, 10, 12]),
                 n.constant([1, 2, 2, 2]), beginMask=0, endMask=0)  # fmt: skip
    x = n.new("RELU6", n.new("MUL", x, n.constant(100, "int8", 0.02, 3), fusedActivationFunction=0))
    x = n.same("RESHAPE", x, (1, 80, 12), n.constant([1, 80, 12]))
    return n.write([image.index], [odd.index, x.index])


def fine(rng) -> bytes:
    """Factors of a half and more, which round once; a negative scale, a channel of dead weights and a bias of 2^30."""
    n = Layers(rng)
    image = n.map((1, 9, 9, 4), 1 / 255, -128)
    x = n.conv(image, 6, fine=4000.0)
    x = n.conv(x, 6, (3, 3), depthwise=True, fine=3000.0)
    weight = rng.integers(-127, 128, (6, 3, 3, 6))
    weight[2] = 0
    scale = np.float32([0.01, -0.02, 1e-9, 0.01, 0.03, 0.0])
    bias = np.array([100, -200, 2**30, 7, 0, 9])
    y = n.map((1, 9, 9, 6), x.scale * 10)
    inputs = [x.index, n.constant(weight, "int8", scale), n.constant(bias, "int32", x.scale * scale)]
    n.op("CONV_2D", inputs, [y.index], padding=0, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    return n.write([image.index], [y.index])


def floats() -> bytes:
    """A float network in half precision: weights behind a DEQUANTIZE, a factor and a slope a channel, functions."""
    rng = np.random.default_rng(0)
    n = Layers(rng)
    widths = zip("xyzpe", (3, 8, 8, 8, 8), strict=True)
    x, y, z, p, end = (n.tensor(name, (1, 6, 6, c), "float32") for name, c in widths)
    half = n.constant(rng.normal(size=(8, 3, 3, 3)), "float16")
    weight = n.tensor("weight", (8, 3, 3, 3), "float32")
    n.op("DEQUANTIZE", [half], [weight])
    n.op("CONV_2D", [x, weight, n.constant(rng.normal(size=8), "float32")], [y], padding=0, strideH=1, strideW=1,
         dilationHFactor=1, dilationWFactor=1, fusedActivationFunction=0)  # fmt: skip
    n.op("PRELU", [y, n.constant(rng.normal(size=(1, 1, 8)), "float32")], [p])
    n.op("MUL", [p, n.constant(rng.normal(size=8), "float32")], [z], fusedActivationFunction=3)
    n.op("HARD_SWISH", [z], [end])
    return n.write([x], [end])


def by_channel(rng) -> bytes:
    """A factor and a slope a channel, of maps that saturate, one over another's activation."""
    n = Layers(rng)
    image = n.map((1, 10, 9, 3), 1 / 255, -128)
    x = n.conv(image, 8, (3, 3), (2, 2))
    factors = n.constant(rng.integers(-60, 61, 8), "int8", 0.02, int(rng.integers(-60, 61)))
    x = n.new("MUL", x, factors, scale=x.scale * 0.5, fusedActivationFunction=int(rng.integers(4)))
    x = n.new("MUL", n.constant(rng.integers(-127, 128, (1, 1, 1, 8)), "int8", 0.01), x, shape=x.shape, zero=0,
              scale=x.scale, fusedActivationFunction=0)  # fmt: skip
    slopes = n.constant(rng.integers(-127, 128, (1, 1, 8)), "int8", 2.0**-7)
    x = n.new("PRELU", x, slopes, scale=x.scale * float(rng.choice([0.3, 1.0, 1.7])))
    return n.write([image.index], [n.conv(x, 5).index])


def moves(rng) -> bytes:
    """Cover what moves and spreads channels: transposed convolutions, blocks, shuffles, parts and pads of channels."""
    n = Layers(rng)
    image = n.map((1, 8, 12, 3), 1 / 255, -128)
    x = n.same("SPACE_TO_DEPTH", image, (1, 4, 6, 12), blockSize=2)
    x = n.conv(x, 8, (3, 3), act=int(rng.integers(4)))
    divided = n.same("RESHAPE", x, (1, 4, 6, 2, 4), n.constant([1, 4, 6, 2, 4]))
    divided = n.same("TRANSPOSE", divided, (1, 4, 6, 4, 2), n.constant([0, 1, 2, 4, 3]))
    x = n.same("RESHAPE", divided, (1, 4, 6, 8), n.constant([1, 4, 6, 8]))
    x = n.conv(n.conv(x, 8, (3, 3), depthwise=True), 8)
    x = n.transposed(x, 6, (4, 4), (2, 2), act=int(rng.integers(4)))
    left, right = n.map((1, 8, 12, 2), x.scale, x.zero), n.map((1, 8, 12, 4), x.scale, x.zero)
    n.op("SPLIT_V", [x.index, n.constant([2, 4]), n.constant([3])], [left.index, right.index], numSplits=2)
    wide = n.same("PAD", left, (1, 9, 12, 5), n.constant([[0, 0], [0, 1], [0, 0], [1, 2]]))
    odd = n.transposed(n.conv(right, 3), 4, (3, 2), (3, 1), same=False, act=1)
    big = n.same("DEPTH_TO_SPACE", right, (1, 16, 24, 1), blockSize=2)
    some = n.same("GATHER", wide, (1, 9, 12, 4), n.constant([4, 0, 2, 1]), axis=3)
    spread = n.transposed(n.conv(left, 5), 3, (2, 2), (2, 3), [15, 35])
    return n.write([image.index], [big.index, some.index, odd.index, spread.index])


def constants(rng) -> bytes:
    """Constants of one number and of one a channel, on both sides, beyond 8 bits, too; shapes that are computed."""
    n = Layers(rng)
    image = n.map((1, 8, 6, 3), 1 / 255, -128)
    mean = n.constant(rng.integers(-128, 128, 3), "int8", 0.005, int(rng.integers(-128, 128)))
    x = n.new("SUB", image, mean, scale=1 / 128, fusedActivationFunction=0)
    x = n.conv(x, 6, (3, 3), (2, 2))
    some = n.constant(rng.integers(-128, 128, (1, 1, 1, 6)), "int8", x.scale * 1.3, int(rng.integers(-128, 128)))
    x = n.new("ADD", some, x, shape=x.shape, scale=x.scale * 1.5, fusedActivationFunction=int(rng.integers(4)))
    far = n.constant(rng.integers(-128, 128, 6), "int8", 0.011, -128)
    x = n.new("MUL", x, far, scale=x.scale, fusedActivationFunction=0)
    x = n.new("PRELU", x, n.constant(rng.integers(-128, 128, (1, 1, 6)), "int8", 2.0**-7, -100), scale=x.scale)
    x = n.same("MAXIMUM", x, x.shape, n.constant(rng.integers(-90, 0, 6), "int8", x.scale, x.zero))
    x = n.same("MINIMUM", x, x.shape, n.constant([90], "int8", x.scale, x.zero))
    top = n.same("REDUCE_MAX", x, (1, 6), n.constant([1, 2]), keepDims=False)
    shape, two = n.tensor("shape", (4,), "int32"), n.tensor("two", (2,), "int32")
    n.op("SHAPE", [x.index], [shape], outType=2)
    first = n.tensor("first", (), "int32")
    ends = [n.constant([v]) for v in (0, 1, 1)]
    n.op("STRIDED_SLICE", [shape, *ends], [first], shrinkAxisMask=1, beginMask=0, endMask=0)
    n.op("PACK", [first, n.constant(np.int32(-1))], [two], axis=0, valuesCount=2)
    flat = n.same("RESHAPE", x, (1, 72), two)
    return n.write([image.index], [top.index, n.connected(flat, 5).index])


def functions(rng) -> bytes:
    """Functions of one value: int8 tables, and parts that compute in float."""
    n = Layers(rng)
    image = n.map((1, 6, 5, 3), 1 / 255, -128)
    x = n.new("ABS", n.conv(image, 4, (3, 3)))
    x = n.new("RELU_0_TO_1", x, scale=1 / 255, zero=-128)
    x = n.new("EXP", x, scale=2.72 / 255, zero=-128)
    x = n.new("GELU", n.new("LOG", x, scale=1 / 100, zero=-50), approximate=bool(rng.integers(2)))
    x = n.conv(x, 4, (3, 3), depthwise=True)
    gate = n.new("LOGISTIC", x, scale=1 / 256, zero=-128)
    x = n.new("MUL", x, gate, scale=x.scale, fusedActivationFunction=int(rng.integers(4)))
    x = n.conv(x, 4)
    x = n.new("SUB", n.new("RELU6", x), n.new("ABS", x), fusedActivationFunction=0)
    x = n.conv(x, 4)
    a, b, c, d = (n.tensor(f"float{i}", x.shape, "float32") for i in range(4))
    n.op("DEQUANTIZE", [x.index], [a])
    n.op("EXP", [a], [b])
    n.op("ADD", [b, n.constant(np.float32(1), "float32")], [c], fusedActivationFunction=0)
    n.op("LOG", [c], [d])  # softplus
    e = n.tensor("product", x.shape, "float32")
    n.op("MUL", [d, a], [e], fusedActivationFunction=0)
    y = n.map(x.shape, x.scale, 0)
    n.op("QUANTIZE", [e], [y.index])
    return n.write([image.index], [y.index])


def flat(rng) -> bytes:
    """A flat input, which becomes a map, as in micro_speech; rows repeated in place, as Keras does it."""
    n = Layers(rng)
    features = n.map((1, 60), 0.1, -7)
    x = n.same("RESHAPE", features, (1, 10, 6, 1), n.constant([-1, 10, 6, 1]))
    x = n.conv(x, 8, (5, 4), (2, 2), depthwise=True, act=1)
    x = n.same("RESHAPE", x, (1, 5, 1, 3, 8), n.constant([1, 5, 1, 3, 8]))
    x = n.same("TILE", x, (1, 5, 2, 3, 8), n.constant([1, 1, 2, 1, 1]))
    x = n.same("RESHAPE", x, (1, 10, 3, 1, 8), n.constant([1, 10, 3, 1, 8]))
    x = n.same("TILE", x, (1, 10, 3, 3, 8), n.constant([1, 1, 1, 3, 1]))
    x = n.conv(n.same("RESHAPE", x, (1, 10, 9, 8), n.constant([1, 10, 9, 8])), 3, (3, 3))
    one = n.new("MEAN", x, n.constant([1, 2]), shape=(1, 1, 1, 3), keepDims=True)
    x = n.new("ADD", one, x, shape=x.shape, fusedActivationFunction=0)
    x = n.new("SUB", x, n.conv(x, 1), fusedActivationFunction=1)
    wide = n.same("TILE", one, x.shape, n.constant([1, 10, 9, 1]))
    return n.write([features.index], [n.new("ADD", x, wide, fusedActivationFunction=0).index])


def sequence(rng) -> bytes:
    """Convolutions of a sequence, as Keras' Conv1D writes them, with causal padding."""
    n = Layers(rng)
    x = image = n.map((1, 40, 3), 0.05, 5)
    for channels, width, dilation in ((6, 40, 1), (5, 40, 2)):
        x = n.same("PAD", x, (1, width + 2 * dilation, x.shape[2]), n.constant([[0, 0], [2 * dilation, 0], [0, 0]]))
        x = n.same("EXPAND_DIMS", x, (1, 1, *x.shape[1:]), n.constant(np.int32(1)))
        x = n.conv(x, channels, (1, 3), same=False, act=1, dilation=(1, dilation))
        x = n.same("RESHAPE", x, (1, width, channels), n.constant([1, width, channels]))
    return n.write([image.index], [n.connected(x, 4).index])


def enlarged(rng) -> bytes:
    """A sequence that Keras' UpSampling1D enlarges, in both ways of its converters: tiled in a dimension between, and
    split into its positions."""
    n = Layers(rng)
    image = n.map((1, 12, 3), 0.05, 5)
    x = n.conv(n.same("EXPAND_DIMS", image, (1, 1, 12, 3), n.constant(np.int32(1))), 4, (1, 3), act=1)
    x = n.same("RESHAPE", x, (1, 12, 1, 4), n.constant([1, 12, 1, 4]))
    x = n.same("TILE", x, (1, 12, 2, 4), n.constant([1, 1, 2, 1]))
    x = n.same("RESHAPE", x, (1, 24, 4), n.constant([1, 24, 4]))
    x = n.conv(n.same("EXPAND_DIMS", x, (1, 1, 24, 4), n.constant(np.int32(1))), 5, (1, 3), act=1)
    x = n.same("RESHAPE", x, (1, 24, 5), n.constant([1, 24, 5]))
    parts = [n.map((1, 1, 5), x.scale, x.zero).index for _ in range(24)]
    n.op("SPLIT", [n.constant(np.int32(1)), x.index], parts, numSplits=24)
    x = n.map((1, 48, 5), x.scale, x.zero)
    n.op("CONCATENATION", [part for part in parts for _ in range(2)], [x.index], axis=1, fusedActivationFunction=0)
    x = n.conv(n.same("EXPAND_DIMS", x, (1, 1, 48, 5), n.constant(np.int32(1))), 2, (1, 3))
    return n.write([image.index], [x.index])


def opened(rng) -> bytes:
    """A sequence in a flat input, as Edge Impulse has it, of a Keras model whose batch is open: shapes are computed,
    a dilated convolution is written by batches, a pool reads positions as rows."""
    n = Layers(rng)
    features = n.leave_open(n.map((1, 60), 0.1, -7), 0)
    shape, batch, three = n.tensor("shape", (2,), "int32"), n.tensor("batch", (), "int32"), n.tensor("3", (3,), "int32")
    n.op("SHAPE", [features.index], [shape], outType=2)
    n.op("STRIDED_SLICE", [shape, *(n.constant([v]) for v in (0, 1, 1))], [batch], shrinkAxisMask=1)
    n.op("PACK", [batch, *(n.constant(np.int32(v)) for v in (20, 3))], [three], axis=0, valuesCount=3)
    x = n.same("RESHAPE", features, (1, 20, 3), three)
    x = n.same("EXPAND_DIMS", n.leave_open(x, 0), (1, 1, 20, 3), n.constant(np.int32(1)))
    x = n.conv(x, 4, (1, 3), act=1)
    x = n.same("RESHAPE", n.leave_open(x, 0), (1, 20, 4), n.constant([-1, 20, 4]))
    x = n.same("SPACE_TO_BATCH_ND", x, (1, 8, 4), n.constant([3]), n.constant([[2, 2]]))
    x = n.same("EXPAND_DIMS", n.leave_open(x, 0), (1, 1, 8, 4), n.constant(np.int32(1)))
    sides = []
    for _ in range(2):
        y = n.leave_open(n.conv(n.leave_open(x, 0), 6, (1, 2), same=False), 0)
        y = n.leave_open(n.same("RESHAPE", y, (1, 7, 6), n.constant([-1, 7, 6])), 0)
        y = n.same("BATCH_TO_SPACE_ND", y, (1, 19, 6), n.constant([3]), n.constant([[1, 1]]))
        sides.append(n.leave_open(y, 0))
    x = n.leave_open(n.new("MUL", *sides, fusedActivationFunction=0), 0)
    x = n.leave_open(n.same("EXPAND_DIMS", x, (1, 19, 1, 6), n.constant(np.int32(2))), 0)
    x = n.leave_open(n.pool("MAX_POOL_2D", x, (3, 1), (2, 1)), 0)
    x = n.conv(x, 5, (4, 1), (2, 1), act=3)
    left, right = (n.leave_open(n.map((1, 5, 1, c), x.scale, x.zero), 0, 1) for c in (2, 3))
    n.op("SPLIT_V", [x.index, n.constant([2, -1]), n.constant([3])], [left.index, right.index], numSplits=2)
    x = n.leave_open(n.same("RESHAPE", right, (1, 15), n.constant([-1, 15])), 0, 1)
    return n.write([features.index], [left.index, n.leave_open(n.connected(x, 4), 0).index])


def turned(rng) -> bytes:
    """Convolutions and a pool of a map whose rows became columns; a dilation of both written by batches, cropped."""
    n = Layers(rng)
    image = n.map((1, 13, 10, 3), 1 / 255, -128)
    x = n.same("TRANSPOSE", n.conv(image, 6, (3, 3)), (1, 10, 13, 6), n.constant([0, 2, 1, 3]))
    x = n.conv(x, 6, (3, 2), (2, 1), depthwise=True, act=1)
    x = n.conv(n.pool("AVERAGE_POOL_2D", x, (1, 3), (1, 1)), 5, (2, 4), same=False, dilation=(1, 2))
    x = n.same("TRANSPOSE", x, (1, 7, 4, 5), n.constant([0, 2, 1, 3]))
    y = n.same("SPACE_TO_BATCH_ND", x, (1, 6, 4, 5), n.constant([2, 3]), n.constant([[2, 3], [4, 4]]))
    y = n.conv(n.leave_open(y, 0), 5, (3, 2), same=False, depthwise=True, act=3)
    y = n.same("BATCH_TO_SPACE_ND", n.leave_open(y, 0), (1, 7, 5, 5), n.constant([2, 3]), n.constant([[1, 0], [2, 2]]))
    return n.write([image.index], [n.conv(y, 3, (3, 3)).index])


def indexed(rng) -> bytes:
    """Positions as numpy names them: parts by a short list, an ellipsis and a new axis, lengths in place of ends, each
    row, every n-th of an enlargement; padding in front of maximum pools, as files from ONNX have it."""
    n = Layers(rng)
    image = n.map((1, 18, 14, 3), 1 / 255, -128)
    x = n.conv(image, 6, (3, 3))
    pads = n.constant([[0, 0], [1, 2], [0, 1], [0, 0]])
    y = n.same("PADV2", x, (1, 21, 15, 6), pads, n.constant([-128], "int8", x.scale, x.zero))
    y = n.pool("MAX_POOL_2D", y, (3, 3), (2, 2), same=False, act=int(rng.integers(4)))
    relu = n.new("RELU", y, scale=y.scale, zero=-128)
    y = n.same("PAD", relu, (1, 11, 9, 6), n.constant([[0, 0], [0, 1], [1, 1], [0, 0]]))
    y = n.pool("MAX_POOL_2D", y, (2, 2), (1, 1), same=False)
    y = n.same("RESIZE_NEAREST_NEIGHBOR", y, (1, 20, 24, 6), n.constant([20, 24]), halfPixelCenters=True)
    half = {"halfPixelCenters": bool(rng.integers(2))}
    y = n.same("RESIZE_NEAREST_NEIGHBOR", n.conv(y, 6), (1, 5, 8, 6), n.constant([5, 8]), **half)
    at = ([0, 1, 0, 0], [1, 3, 8, 6], [1, 1, 1, 1])
    part = n.same("STRIDED_SLICE", y, (1, 3, 8, 6), *map(n.constant, at), beginMask=0, endMask=0, offset=True)
    few = n.same("STRIDED_SLICE", y, (1, 5, 8, 3), *(n.constant(v) for v in ([0, -4], [0, -1], [1, 1])), beginMask=0,
                 endMask=0, ellipsisMask=1)  # fmt: skip
    more = n.same("STRIDED_SLICE", y, (1, 1, 5, 8, 6), *(n.constant(v) for v in ([0, 0], [1, 0], [1, 1])), beginMask=3,
                  endMask=3, newAxisMask=2)  # fmt: skip
    row = n.same("STRIDED_SLICE", y, (1, 8, 6), *(n.constant(v) for v in ([0, -2], [1, 0], [1, 1])), beginMask=1,
                 endMask=1, shrinkAxisMask=2)  # fmt: skip
    rows = [n.map((1, 8, 3), part.scale, part.zero) for _ in range(5)]
    n.op("UNPACK", [few.index], [one.index for one in rows], num=5, axis=1)
    return n.write([image.index], [n.conv(part, 3, (3, 3)).index, more.index, row.index, rows[1].index, rows[4].index])


def latent(rng) -> bytes:
    """A vector that becomes a map, as in a decoder; a softmax over pairs of channels; the greatest of rows."""
    n = Layers(rng)
    image = n.map((1, 6, 5, 3), 1 / 255, -128)
    x = n.connected(n.conv(image, 4, (3, 3), (2, 2)), 60, act=1)
    x = n.transposed(n.same("RESHAPE", x, (1, 3, 4, 5), n.constant([1, 3, 4, 5])), 6, (4, 4), (2, 2))
    rows = n.same("REDUCE_MAX", x, (1, 8, 6), n.constant([1]), keepDims=False)
    columns = n.same("REDUCE_MAX", n.conv(x, 6), (1, 6, 1, 6), n.constant([-2]), keepDims=True)
    x = n.same("RESHAPE", x, (1, 144, 2), n.constant([1, -1, 2]))
    y = n.new("SOFTMAX", x, scale=1 / 256, zero=-128, beta=1.0)
    return n.write([image.index], [y.index, rows.index, n.conv(columns, 3, (3, 1)).index])


NETS = {
    "classifier": classifier,
    "detector": detector,
    "fine": fine,
    "by_channel": by_channel,
    "constants": constants,
    "functions": functions,
    "flat": flat,
    "indexed": indexed,
    "latent": latent,
    "moves": moves,
    "turned": turned,
}
