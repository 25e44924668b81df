"""Cut a model as its plan's graph is cut: a head before a global mean into slices of channels, see core's
head_slices.py."""

from dataclasses import replace

from ...core.plan.head_slices import sliced
from ..model import QuantModel


def with_slices(model: QuantModel, count: int) -> QuantModel:
    """Return the model with each of its heads in `count` slices of channels; the outputs are the same, bit for bit.
    Raises ScheduleError for a graph without a head."""
    if count == 1:
        return model
    graph, of = sliced(model.graph, count)
    scales, weights = dict(model.scales), dict(model.weights)
    for name, (whole, first, end) in of.items():
        scales[name] = model.scales[whole]
        if whole in model.weights:
            q = model.weights[whole]
            weights[name] = replace(q, weight=q.weight[first:end], scale=q.scale[first:end], bias=q.bias[first:end])
    return replace(model, graph=graph, scales=scales, weights=weights)
