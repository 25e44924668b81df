"""Take back by how much int8 shifts the numbers of a detector's boxes, in their means: empirical bias correction (Nagel
et al. 2019, section 4.2) of its last convolutions, over the boxes that count."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ...core.progress import each
from ...core.types import Picture
from ..detect import channel_groups, detector_params, likely
from ..model import Model, QuantModel
from .ort_session import session, to_input

NUMBERS = 4  # of a box; its logits, which come behind, are cut off where they are sure, and so are their means
ENOUGH = 30  # boxes of which a mean says something


def centred(quantized: QuantModel, model: Model, pictures: Iterable[Picture]) -> QuantModel:
    """Return the int8 detector whose boxes have the float ones' means on calibration pictures; any other model as it
    is. model: the float one that was quantised. Raises UserError for a description that does not fit the network."""
    if detector_params(quantized) is None:
        return quantized
    meta, names, image = model.meta["detector"], list(model.graph.outputs), model.graph.inputs[0].name
    numbered = [name for name, own in channel_groups(meta, model.graph).items() if own]
    sums = {name: np.zeros((2, model.graph.tensors[name].c)) for name in numbered}  # of errors, of boxes
    runs = session(model), session(quantized)
    for picture in each(pictures, "picture", "means of boxes"):
        floats, int8 = ([y[0].transpose(1, 2, 0) for y in run.run(names, {image: to_input(picture)})] for run in runs)
        for name, f, q, mask in zip(names, floats, int8, likely(meta, floats), strict=True):
            if name in sums:
                counts = np.where(mask[..., None], 1.0, np.zeros(f.size // mask.size))
                counts[..., NUMBERS:] = 0
                errors = (q - f).reshape(counts.shape) * counts  # (h, w, boxes a cell, channels of a box)
                sums[name] += [errors.sum((0, 1)).ravel(), counts.sum((0, 1)).ravel()]
    weights = dict(quantized.weights)
    for name, (error, count) in sums.items():
        own, step = weights[name], quantized.scales[quantized.graph.op(name).inputs[0]].scale
        shift = np.where(count >= ENOUGH, error / np.maximum(count, 1), 0) * quantized.gains.get(name, 1.0)
        bias = own.bias - np.round(shift / (step * own.scale.astype(np.float64)))
        weights[name] = replace(own, bias=bias.clip(-(2**31), 2**31 - 1).astype(np.int32))
    return replace(quantized, weights=weights)
