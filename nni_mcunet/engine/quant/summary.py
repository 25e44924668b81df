"""Tell what an int8 network is made of, tensor by tensor: range, scale and the spread of the weights' scales."""

from dataclasses import dataclass

import numpy as np

from ..model import QuantModel
from .sqnr import Row

DEAD = 1e-6  # of a layer's largest scale: weight decay leaves channels behind that say nothing


@dataclass(frozen=True)
class Entry:
    """One tensor: int8 spans [low, high]; weights: (smallest, largest) scale of the convolution that writes it, over
    the channels whose weights are not as good as zero."""

    name: str
    kind: str
    low: float
    high: float
    scale: float
    zero_point: int
    weights: tuple[float, float] | None


def entries(model: QuantModel) -> list[Entry]:
    """List the input first, then every op in the graph's order."""
    kinds = {t.name: "input" for t in model.graph.inputs} | {op.name: op.kind for op in model.graph.ops}
    found = []
    for name, kind in kinds.items():
        s, q = model.scales[name], model.weights.get(name)
        used = q.scale[q.weight.any((1, 2, 3))] if q else np.zeros(0)
        used = used[used > used.max(initial=0) * DEAD]
        spread = (float(used.min()), float(used.max())) if used.size else None
        found.append(Entry(name, kind, *s.span, s.scale, s.zero_point, spread))
    return found


def table(found: list[Entry], rows: list[Row] | None = None) -> str:
    """Print a line a tensor, with its SQNR where `rows` of sqnr.py are given."""
    ratio = {row.name: f"{row.total:9.1f}{row.own:11.1f}" for row in rows or ()}
    width = max(len(e.name) for e in found)
    head = f"{'tensor':{width}}  kind        lowest   highest      scale  zero  weight scales      max/min"
    lines = [head + "  SQNR dB  by itself" * bool(rows)]
    for e in found:
        line = f"{e.name:{width}}  {e.kind:8} {e.low:9.4g} {e.high:9.4g} {e.scale:10.4g}  {e.zero_point:4d}"
        spread = f"{e.weights[0]:.1e}..{e.weights[1]:.1e} {e.weights[1] / e.weights[0]:7.1f}" if e.weights else ""
        lines.append(f"{line}  {spread:26}{ratio.get(e.name, '')}".rstrip())
    return "\n".join(lines)
