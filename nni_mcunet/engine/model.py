"""Hold float and int8 models, and the step between them. Format of Jacob et al. 2018: activations int8 with a scale and
zero point per tensor, weights int8 symmetric per output channel, bias int32. The formulas are core/int8.py's; the
integers that a kernel computes with are engine/ops'."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core import int8
from ..core.errors import GraphError, UserError
from ..core.ir.graph import Graph
from ..core.ir.kinds import OWN_SCALE, SAME_SCALE
from ..core.types import Doubles, Floats, FloatWeights, Int8Map, Int32s, PlainDict, Range
from ..core.view import STRETCH, View


@dataclass(frozen=True)
class Model:
    """Hold a float network: weights[conv] = (weight (cout, cin/groups, kh, kw), bias (cout,)) float32; meta: plain data
    that travels with it ("detector": its post-processing, "view": how its pictures are seen, "classes": a
    classifier's names)."""

    graph: Graph
    weights: dict[str, FloatWeights]
    meta: PlainDict = field(default_factory=dict)


@dataclass(frozen=True)
class Scale:
    """Say what int8 values stand for: real = scale * (q - zero_point), q in -128..127."""

    scale: float
    zero_point: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """Return the finest scale that represents [low, high] and zero exactly. Raises GraphError for what is not
        finite."""
        least, most = np.float64(low), np.float64(high)
        if not np.isfinite([least, most]).all():
            raise GraphError(f"a range is {least}..{most}, no finite values; look at --mean, --std and the weights")
        scale = float(np.float32(int8.range_step(least, most)))
        return cls(scale, int(int8.zero_point(least, scale)))

    @property
    def span(self) -> Range:
        """Return the lowest and the highest value that int8 holds."""
        return (-128 - self.zero_point) * self.scale, (127 - self.zero_point) * self.scale

    def quantize(self, x: NDArray[np.floating]) -> Int8Map:
        """Round real values to int8, of the same shape."""
        return np.clip(np.round(x / self.scale) + self.zero_point, -128, 127).astype(np.int8)

    def dequantize(self, q: Int8Map) -> Floats:
        """Return the real values of int8 ones, of the same shape."""
        return (q.astype(np.float32) - self.zero_point) * np.float32(self.scale)


PROBABILITY = Scale(int8.PROBABILITY_STEP, int8.LOWEST)
PIXELS = Scale(float(np.float32(int8.PIXEL_STEP)), int8.LOWEST)


@dataclass(frozen=True)
class QuantWeights:
    """Hold the integers of a convolution: weight int8 (cout, cin/groups, kh, kw), scale (cout,), in float64 where the
    multiplier of a .tflite file's sum needs it, bias int32 (cout,) in steps of input * scale."""

    weight: Int8Map
    scale: Floats | Doubles
    bias: Int32s


@dataclass(frozen=True)
class Pixels:
    """Say what a picture's byte is to a network: real = (byte - mean) / std, one number for all channels or one a
    channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        means, stds = (", ".join(f"{v:.6g}" for v in values) for values in (self.mean, self.std))
        several = len(self.mean) > 1
        return f"(byte - [{means}]) / [{stds}]" if several else f"(byte - {means}) / {stds}"


@dataclass(frozen=True)
class QuantModel:
    """Hold an int8 network: scales[tensor] for every tensor of the graph, weights[conv]; residual_bits[conv]: the most
    fraction bits of its sum with the residual, where not as many as fit (set by dead_channels.py, kept in no file).
    tables[act], int8 (256,) of the values -128 .. 127 or (c, 256), one a channel, instead of its function, of a file
    whose users count on another engine's integers. pixels: what the user says of bytes, see ops/pixels.py.
    gains[output], (c,): its maps hold so many times each channel's values, see core/ir/box_channels.py."""

    graph: Graph
    scales: dict[str, Scale]
    weights: dict[str, QuantWeights]
    meta: PlainDict = field(default_factory=dict)
    residual_bits: dict[str, int] = field(default_factory=dict)
    tables: dict[str, np.ndarray] = field(default_factory=dict)
    pixels: Pixels | None = None
    gains: dict[str, list[float]] = field(default_factory=dict)


def input_shape(model: Model | QuantModel) -> tuple[int, int, int]:
    """Return (h, w, c) of the image that a model reads."""
    image = model.graph.inputs[0]
    return image.h, image.w, image.c


def checked_picture(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the picture, contiguous. Raises UserError where it is not uint8 of `shape` (h, w, c)."""
    if picture.shape != shape or picture.dtype != np.uint8:
        raise UserError(f"a picture of {picture.shape} {picture.dtype}; the model reads {shape} uint8")
    return np.ascontiguousarray(picture)


def view_of(model: Model | QuantModel) -> View:
    """Return the view in the metadata of a model's file, mmdet's stretch where it has none. Raises UserError."""
    return View.parse(model.meta.get("view", str(STRETCH)))


def class_names(model: Model | QuantModel) -> list[str]:
    """Return the names of the classes in a model's metadata: of a detector, or of a classifier, a name for each value
    of its one output. [] where it has none."""
    if "detector" in model.meta:
        found: list[str] = model.meta["detector"]["classes"]
        return found
    ends = [model.graph.tensors[name] for name in model.graph.outputs]
    names = model.meta.get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return []
    return names if [(t.h, t.w, t.c) for t in ends] == [(1, 1, len(names))] else []


def quantize(model: Model, ranges: dict[str, Range]) -> QuantModel:
    """Make an int8 model from a float one and the (low, high) of every tensor on calibration pictures. The image's own
    range is fixed: real = uint8 / 255, q = uint8 - 128. Raises GraphError for a range that is not finite."""
    graph, joins = model.graph, _joins(model.graph)
    scales: dict[str, Scale] = {}
    weights: dict[str, QuantWeights] = {}
    for tensor in graph.inputs:
        scales[tensor.name] = PIXELS
    for op in graph.ops:
        if op.kind in SAME_SCALE:
            scales[op.name] = scales[op.inputs[0]]
        elif op.kind in OWN_SCALE:
            scales[op.name] = Scale.of_range(*ranges[joins.get(op.name, op.name)])
        else:
            scales[op.name] = PROBABILITY
        if op.kind == "conv":
            weights[op.name] = quantize_weights(*model.weights[op.name], scales[op.inputs[0]].scale)
    return QuantModel(graph, scales, weights, model.meta)


def _joins(graph: Graph) -> dict[str, str]:
    """Return tensor -> the concat whose scale it takes: of the phases of a transposed convolution, which are joined to
    become rows and columns, and which nothing else reads."""
    readers = {name: [op for op in graph.ops for read in op.reads if read == name] for name in graph.tensors}
    found = {}
    for op in graph.ops:
        if op.kind == "concat" and [reader.kind for reader in readers[op.name]] == ["depth_to_space"]:
            own = [n for n in op.inputs if len(readers[n]) == 1 and n not in (*graph.outputs, graph.inputs[0].name)]
            found.update(dict.fromkeys(own, op.name))
    return found


def quantize_weights(weight: Floats, bias: Floats, input_scale: float) -> QuantWeights:
    """Return the integers of a convolution: weight (cout, cin/groups, kh, kw) symmetric per output channel, bias
    (cout,)."""
    largest, bias = np.abs(weight).max((1, 2, 3)).astype(np.float64), bias.astype(np.float64)
    scale = int8.weight_steps(largest, bias, input_scale).astype(np.float32)
    steps = int8.bias_integers(bias, input_scale, scale.astype(np.float64))
    integers = int8.weight_integers(weight, scale).astype(np.int8)
    return QuantWeights(integers, scale, steps.astype(np.int64).astype(np.int32))
