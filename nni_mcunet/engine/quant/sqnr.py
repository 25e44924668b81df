"""Measure how far an int8 network is from its float one, tensor by tensor: signal to quantisation noise ratio in dB,
10 log10(sum f^2 / sum (f - q)^2), over all pictures and values."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import onnxruntime

from ...core.errors import UserError
from ...core.progress import each
from ...core.types import Picture, PlainDict
from ..model import Model, QuantModel, checked_picture, input_shape
from .equalize import equalized_like
from .ort_session import session, to_input


@dataclass(frozen=True)
class Row:
    """The ratio at one op's output, dB, inf where nothing differs. total: all layers up to it are in int8; own: only
    this layer is, on the float network's tensors."""

    name: str
    kind: str
    total: float
    own: float


LOST = 6.0  # dB below which an output says more of rounding than of the picture


def lost(rows: list[Row], outputs: Sequence[str]) -> list[Row]:
    """Return the rows of outputs of which int8 leaves next to nothing."""
    return [row for row in rows if row.name in outputs and row.total < LOST]


def db(signal: float, noise: float) -> float:
    """Return the ratio in dB, nan for neither signal nor noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(np.float64(signal) / noise))


def report(model: Model, quantized: QuantModel, images: Iterable[Picture]) -> list[Row]:
    """Return a row an op in the graph's order, over `images`, uint8 (h, w, c) of the model's size. The float tensors
    are those of `model` equalised as `quantized` was. Raises UserError where the two have other tensors, or there is no
    picture."""
    ops, source, shape = model.graph.ops, model.graph.inputs[0].name, input_shape(model)
    if model.graph.tensors != quantized.graph.tensors:
        raise UserError(f"'{quantized.graph.name}' is not '{model.graph.name}' in int8: give the file it was made from")
    model = equalized_like(quantized, model)
    whole, alone = session(quantized, every_tensor=True), session(single(quantized), every_tensor=True)
    floats, names = session(model, every_tensor=True), [op.name for op in ops]
    signal, total, own = (np.zeros(len(names)) for _ in range(3))
    for image in each(images, "picture", "int8 against float, layer by layer"):
        x = {source: to_input(checked_picture(image, shape))}
        f = dict(zip(names, floats.run(names, x), strict=True))
        signal += [_power(v) for v in f.values()]
        total += [_power(f[n] - q) for n, q in zip(names, whole.run(names, x), strict=True)]
        own += [_power(f[n] - q) for n, q in zip(names, alone.run(names, fed(alone, {**x, **f})), strict=True)]
    if not signal.any():
        raise UserError("there is no picture to measure on")
    return [Row(op.name, op.kind, db(s, t), db(s, o)) for op, s, t, o in zip(ops, signal, total, own, strict=True)]


def single(model: QuantModel) -> QuantModel:
    """Put every op by itself: each tensor it reads is an input of the graph, named by `_read`, and all ops are
    outputs."""
    graph = model.graph
    ops = [
        replace(op, inputs=tuple(map(_read, op.inputs)), residual=op.residual and _read(op.residual))
        for op in graph.ops
    ]
    read = [name for name in graph.tensors if any(name in op.reads for op in graph.ops)]
    inputs = tuple(replace(graph.tensors[name], name=_read(name)) for name in read)
    scales = {**model.scales, **{_read(name): model.scales[name] for name in read}}
    outputs = tuple(op.name for op in ops)
    return replace(model, graph=replace(graph, inputs=inputs, ops=tuple(ops), outputs=outputs), scales=scales)


def fed(run: onnxruntime.InferenceSession, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pick the tensors that a session on `single` reads, under the names it has for them."""
    names = {v.name for v in run.get_inputs()}
    return {_read(name): value for name, value in tensors.items() if _read(name) in names}


def worst(rows: list[Row], most: int) -> list[Row]:
    """Return the `most` layers that lose most by themselves."""
    return sorted(rows, key=lambda r: r.own)[:most]


def to_json(rows: list[Row]) -> list[PlainDict]:
    """Return the rows as plain data."""
    return [asdict(row) for row in rows]


def table(rows: list[Row]) -> str:
    """Print the rows as text, a line each."""
    width = max(len(r.name) for r in rows)
    lines = [f"{'layer':{width}}  kind      SQNR dB  by itself"]
    lines += [f"{r.name:{width}}  {r.kind:8} {r.total:8.1f}  {r.own:9.1f}" for r in rows]
    return "\n".join(lines)


def _read(name: str) -> str:
    """Return a name that no op has (see write.py)."""
    return f"{name}.read"


def _power(values: np.ndarray) -> float:
    return float((values.astype(np.float64) ** 2).sum())
