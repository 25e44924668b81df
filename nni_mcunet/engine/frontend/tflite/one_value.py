"""Find operators of two int8 maps that are functions of one map's value, as x * sigmoid(x) is: one table."""

from ....core.types import Int8Map
from ...ops import tflm
from ..feature import Feature
from .values import Values


def of_one_value(reader: Values, a: Feature, b: Feature) -> tuple[Feature, Int8Map, Int8Map] | None:
    """Return the map that both are tables of, and what they make of its 256 values; None for any other two."""
    if (a.shape, a.order) != (b.shape, b.order) or not reader.quantized:
        return None
    firsts, seconds = _sources(reader, a), _sources(reader, b)
    common = next((name for name in firsts if name in seconds), None)
    if common is None or common == a.tensor.name == b.tensor.name:
        return None
    return Feature(reader.tensors[common], a.order, a.shape), firsts[common], seconds[common]


def _sources(reader: Values, x: Feature) -> dict[str, Int8Map]:
    """Return the tensors that a map is a table of, itself first, with what it makes of their values."""
    name, made = x.tensor.name, tflm.int8(tflm.VALUES)
    found = {name: made}
    while (table := reader.tables.get(name)) is not None and table.ndim == 1:
        name, made = reader.ops[name].inputs[0], made[table.astype(int) + 128]
        found[name] = made
    return found
