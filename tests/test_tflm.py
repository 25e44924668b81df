"""TensorFlow Lite's integers in numpy: every operator's twin equals LiteRT's reference kernels in every value."""

import numpy as np
import pytest
from tflite_files import Layers, Reference

from nni_mcunet.engine.model import Scale
from nni_mcunet.engine.ops import half_away, tflm
from nni_mcunet.engine.ops.requantise import multiplier, requant

ALL = np.arange(-128, 128).astype(np.int8)
ENDS = [(-np.inf, np.inf), (0, np.inf), (-1, 1), (0, 6)]  # of NONE, RELU, RELU_N1_TO_1, RELU6
ALPHA = float(np.float32(0.13))
TABLES = {  # operator -> (its table, from the scales of x and y; the only scale of y)
    "QUANTIZE": (tflm.rescaled, None),
    "RELU": (lambda x, y: tflm.rectified(x, y, *ENDS[1]), None),
    "RELU_N1_TO_1": (lambda x, y: tflm.rectified(x, y, *ENDS[2]), None),
    "RELU6": (lambda x, y: tflm.rectified(x, y, *ENDS[3]), None),
    "RELU_0_TO_1": (lambda x, y: tflm.rectified(x, y, 0, 1), None),
    "ABS": (tflm.absolute, None),
    "EXP": (tflm.exponential, None),
    "LOG": (tflm.logarithm, None),
    "GELU": (tflm.gelu, None),
    "LEAKY_RELU": (lambda x, y: tflm.leaky(x, y, ALPHA), None),
    "LOGISTIC": (tflm.logistic, (1 / 256, -128)),
    "TANH": (tflm.tanh, (1 / 128, 0)),
    "HARD_SWISH": (tflm.hard_swish, None),
}


def some_scale(rng) -> tuple[float, int]:
    """From 1/128 to 1, any zero point; sometimes a power of two, where sums tie."""
    exponent = rng.uniform(-7, 0)
    exponent = np.floor(exponent) if rng.integers(4) == 0 else exponent
    return float(np.float32(2.0**exponent)), int(rng.integers(-128, 128))


@pytest.mark.parametrize("kind", TABLES)
def test_every_value_of_a_function(kind):
    table, fixed = TABLES[kind]
    rng = np.random.default_rng(0)
    for _ in range(25):
        layers, given, made = Layers(rng), some_scale(rng), fixed or some_scale(rng)
        x = layers.map((1, 256), *given)
        y = layers.new(kind, x, scale=made[0], zero=made[1], **({"alpha": ALPHA} if kind == "LEAKY_RELU" else {}))
        (expected,) = Reference(layers.write([x.index], [y.index]))(ALL)
        assert np.array_equal(table(Scale(*given), Scale(*made)), expected[0]), (given, made)


def test_every_value_of_a_slope():
    rng = np.random.default_rng(1)
    for _ in range(25):
        layers, given, made = Layers(rng), some_scale(rng), some_scale(rng)
        slope, step = int(rng.integers(-127, 128)), 2.0**-8
        x = layers.map((1, 256), *given)
        y = layers.new("PRELU", x, layers.constant([slope], "int8", step), scale=made[0], zero=made[1])
        (expected,) = Reference(layers.write([x.index], [y.index]))(ALL)
        assert np.array_equal(tflm.prelu(Scale(*given), Scale(*made), slope, step), expected[0]), (given, made)


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_every_pair_of_values(kind):
    rng = np.random.default_rng(2)
    a, b = (grid.astype(np.int8) for grid in np.meshgrid(ALL, ALL))
    for act in (0, 1, 2, 3, 0, 0, 0, 0):
        layers, scales = Layers(rng), [some_scale(rng) for _ in range(3)]
        maps = [layers.map((256, 256), *scale) for scale in scales[:2]]
        y = layers.new(kind, *maps, scale=scales[2][0], zero=scales[2][1], fusedActivationFunction=act)
        (expected,) = Reference(layers.write([m.index for m in maps], [y.index]))(a, b)
        sign = {"sign": -1} if kind == "SUB" else {}
        function = (tflm.Product if kind == "MUL" else tflm.Sum).of(*(Scale(*s) for s in scales), *ENDS[act], **sign)
        assert np.array_equal(function(a, b), expected), (scales, act)


def test_softmax():
    rng = np.random.default_rng(3)
    for channels in (1, 2, 3, 12, 100, 511):
        layers = Layers(rng)
        given, data = some_scale(rng), rng.integers(-128, 128, (100, channels)).astype(np.int8)
        data[::3] //= 8  # values near each other
        x = layers.map(data.shape, *given)
        y = layers.new("SOFTMAX", x, scale=1 / 256, zero=-128, beta=1.0)
        (expected,) = Reference(layers.write([x.index], [y.index]))(data)
        assert np.array_equal(tflm.softmax(tflm.exp_table(Scale(*given), 1.0), data), expected), given


def test_a_product_rounded_half_away_from_zero():
    """By the kernels' own rule, half up, with a multiplier that is a little off; ties too."""
    rng = np.random.default_rng(4)
    plain = 0
    for case in range(60):
        real = 2.0 ** rng.uniform(-12, -2) if case % 3 else (1, 0.75, 0.625)[case % 9 // 3] * 2.0 ** -(2 + case % 11)
        found = half_away.away_from_zero(real)
        assert half_away.value(multiplier(found)) == found
        sums = np.arange(-int(300 / real), int(300 / real) + 1)
        product = sums * real
        expected = np.clip(np.copysign(np.floor(np.abs(product) + 0.5), product), -254, 254)
        assert np.array_equal(np.clip(requant(sums, *multiplier(found)), -254, 254), expected), real
        plain += not np.array_equal(np.clip(requant(sums, *multiplier(real)), -254, 254), expected)
    assert plain >= 10  # the nearest multiplier is not enough
