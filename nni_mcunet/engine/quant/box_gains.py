"""Give groups of a detector's channels the gains with which they use their map's whole range."""

from dataclasses import replace

import numpy as np

from ...core.errors import UserError
from ...core.ir.box_channels import gain, of_channels
from ...core.types import Groups, Range
from ..detect import channel_groups, detector_params
from ..model import QuantModel
from .statistics import Statistics


def spans(model: QuantModel, found: dict[str, Statistics]) -> dict[str, list[Range]]:
    """Return output -> (low, high) of each group of its channels on calibration pictures; nothing for a model that is
    no detector. Raises UserError for a description that does not fit the network."""
    groups = _groups(model)
    return {
        name: [(float(found[name].lowest[list(g)].min()), float(found[name].highest[list(g)].max())) for g in own]
        for name, own in groups.items()
    }


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
