"""Give groups of a detector's channels the gains with which they use their map's whole range."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ...core.errors import UserError
from ...core.ir.box_channels import gain, of_channels
from ...core.progress import each
from ...core.types import Groups, Picture, Range
from ..detect import channel_groups, detector_params, likely
from ..model import Model, QuantModel
from .ort_session import session, to_input


def spans(quantized: QuantModel, model: Model, pictures: Iterable[Picture]) -> dict[str, list[Range]]:
    """Return output -> (low, high) of each group of its channels over calibration pictures, of the boxes that count: a
    cell without an object has any numbers. (0, 0) for a map without a box; nothing for a model that is no detector.
    model: the float one that was quantised. Raises UserError for a description that does not fit the network."""
    groups, graph = _groups(quantized), model.graph
    seen: dict[str, list[Range]] = {name: [(0.0, 0.0)] * len(own) for name, own in groups.items() if own}
    if not seen:
        return seen
    meta, run, source = model.meta["detector"], session(model), graph.inputs[0].name
    for picture in each(pictures, "picture", "ranges of boxes"):
        maps = [y[0].transpose(1, 2, 0) for y in run.run(list(graph.outputs), {source: to_input(picture)})]
        for name, values, mask in zip(graph.outputs, maps, likely(meta, maps), strict=True):
            boxes = values.reshape(*mask.shape, -1)[mask]  # (n, channels of a box)
            if name in seen and len(boxes):
                seen[name] = [_wider(*pair, boxes) for pair in zip(seen[name], groups[name], strict=True)]
    return seen


def _wider(span: Range, group: tuple[int, ...], boxes: np.ndarray) -> Range:
    """Return the span of a group, wide enough for these boxes, too."""
    own = boxes[:, sorted({channel % boxes.shape[1] for channel in group})]
    return min(span[0], float(own.min())), max(span[1], float(own.max()))


def gained(model: QuantModel, ranges: dict[str, Range], seen: dict[str, list[Range]]) -> QuantModel:
    """Return an int8 detector whose maps hold gain times the values of those groups. The integers of weights and biases
    stay: what grows is the scale of these channels' weights.

    ranges  tensor -> (low, high) that its int8 values span
    seen    output -> (low, high) of each group of its channels; gains are those of `core.ir.box_channels.gain`

    Raises UserError for a description that does not fit the network, or another number of groups."""
    weights, gains, groups = dict(model.weights), {}, _groups(model)
    for name, own in seen.items():
        if len(own) != len(groups.get(name, ())):
            raise UserError(f"the checkpoint has {len(own)} groups of channels of '{name}': it is of another network")
        factors = [gain(ranges[name], span) for span in own]
        if any(factor > 1 for factor in factors):
            gains[name] = of_channels(model.graph.tensors[name].c, groups[name], factors)
            scale = weights[name].scale * np.array(gains[name], weights[name].scale.dtype)
            weights[name] = replace(weights[name], scale=scale)
    return replace(model, weights=weights, gains=gains)


def _groups(model: QuantModel) -> dict[str, Groups]:
    return channel_groups(model.meta["detector"], model.graph) if detector_params(model) else {}
