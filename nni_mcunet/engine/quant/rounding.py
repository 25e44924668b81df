"""Round a convolution's weights together, so that their errors cancel in its sums: later weights of a sum make up for
the rounding of earlier ones, as far as their inputs are correlated (GPTQ, Frantar et al. 2023, after Hassibi and Stork
1993). The integers change by a few steps; neither their scales nor the kernels do.
"""

import zlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ...core.ir.graph import Op
from ...core.progress import each
from ...core.types import Doubles, Floats, Picture
from ..model import Model, QuantModel
from .ort_session import session, to_input

MOST = 2048  # inputs of a sum: the covariance of more takes too long to invert, and their errors average out
POSITIONS = 128  # of each map on a picture: with 32 pictures 4,096, of which a covariance says enough
PICTURES = 32
DAMPING = 0.01  # of the inputs' mean variance: as if each had so much noise of its own


def compensated(quantized: QuantModel, model: Model, pictures: list[Picture]) -> QuantModel:
    """Return the int8 model with its weights rounded together. model: the float one that was quantised; pictures: uint8
    (h, w, c) to calibrate on; their order does not matter."""
    weights = dict(quantized.weights)
    for name, covariance in covariances(model, sorted(pictures, key=_seed)[:PICTURES]).items():
        own, groups = weights[name], len(covariance)
        steps = own.scale.astype(np.float64).reshape(groups, -1)
        exact = model.weights[name][0].astype(np.float64).reshape(*steps.shape, -1)
        weights[name] = replace(own, weight=rounded(exact, steps, covariance).reshape(own.weight.shape))
    return replace(quantized, weights=weights)


def covariances(model: Model, pictures: Iterable[Picture]) -> dict[str, Doubles]:
    """Return convolution -> (groups, d, d), the covariance of the d inputs of a sum, padding included, at some
    positions of each picture. Convolutions of more than MOST inputs are left out."""
    graph, run, source = model.graph, session(model, every_tensor=True), model.graph.inputs[0].name
    names = [v.name for v in run.get_outputs()]
    convolutions = [op for op in graph.ops if op.kind == "conv" and model.weights[op.name][0][0].size <= MOST]
    sums = {op.name: (0, np.zeros(1), np.zeros(1)) for op in convolutions}  # positions, of inputs, of their products
    for picture in each(pictures, "picture", "rounding weights"):
        x, rng = to_input(picture), np.random.default_rng(_seed(picture))
        maps = {source: x, **dict(zip(names, run.run(names, {source: x}), strict=True))}
        for op in convolutions:
            out = graph.tensors[op.name]
            at = rng.choice(out.h * out.w, min(out.h * out.w, POSITIONS), replace=False)
            inputs = windows(op, maps[op.inputs[0]][0], at // out.w, at % out.w)
            count, total, products = sums[op.name]
            sums[op.name] = count + len(at), total + inputs.sum(2), products + inputs @ inputs.transpose(0, 2, 1)
    means = {name: total / count for name, (count, total, _) in sums.items()}
    return {
        name: products / count - means[name][:, :, None] * means[name][:, None, :]
        for name, (count, _, products) in sums.items()
    }


def _seed(picture: Picture) -> int:
    """Return a number that is the picture's own, wherever it stands among others."""
    return zlib.crc32(picture.tobytes())


def windows(op: Op, x: Floats, rows: np.ndarray, columns: np.ndarray) -> Doubles:
    """Return what a convolution reads of `x` (c, h, w) for n positions of its output: (groups, d, n), d as a channel's
    weights lie."""
    top, left, bottom, right = op.pad
    x = x[:, max(-top, 0) :, max(-left, 0) :]
    x = np.pad(x, ((0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    seen = np.lib.stride_tricks.sliding_window_view(x, op.k, (1, 2))[:, rows * op.s[0], columns * op.s[1]]
    return seen.transpose(0, 2, 3, 1).reshape(op.groups, -1, len(rows)).astype(np.float64)


def rounded(exact: Doubles, steps: Doubles, covariance: Doubles) -> np.ndarray:
    """Return integers int8 (groups, outputs, d) of weights `exact` of that shape, in `steps` (groups, outputs) each,
    whose inputs have a `covariance` (groups, d, d). A zero stays one: it may be a channel that is not there."""
    size = exact.shape[2]
    noise = DAMPING * np.einsum("gdd->g", covariance) / size + 1e-12
    inverse = np.linalg.inv(covariance + noise[:, None, None] * np.eye(size))
    factor = np.linalg.cholesky(inverse).transpose(0, 2, 1)  # upper: its row j weighs the inputs from j on, given those
    left, found = exact.copy(), np.zeros(exact.shape, np.int8)
    for j in range(size):
        integers = np.clip(np.round(left[:, :, j] / steps), -127, 127) * (exact[:, :, j] != 0)
        found[:, :, j] = integers
        error = (left[:, :, j] - integers * steps) / factor[:, j, j, None]
        left[:, :, j + 1 :] -= error[:, :, None] * factor[:, None, j, j + 1 :]
    return found
