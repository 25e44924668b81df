"""Write a graph as plain data for JSON, and read it back."""

from dataclasses import MISSING, fields
from typing import Any

from ..errors import GraphError
from ..types import Plain, PlainDict
from .graph import Graph, Op, Tensor

NAMES = [field.name for field in fields(Op)]
DEFAULTS = {field.name: field.default for field in fields(Op) if field.default is not MISSING}


def graph_data(graph: Graph) -> PlainDict:
    """Return {"name", "inputs": [[name, h, w, c]], "outputs": [name], "ops": [the fields of an Op that are not their
    defaults]}."""
    ops = [{name: value for name in NAMES if (value := getattr(op, name)) != DEFAULTS.get(name)} for op in graph.ops]
    inputs = [[image.name, image.h, image.w, image.c] for image in graph.inputs]
    return {"name": graph.name, "inputs": inputs, "outputs": list(graph.outputs), "ops": ops}


def graph_of(data: Plain) -> Graph:
    """Invert graph_data. Raises GraphError for data that describe no graph."""
    try:
        return _graph(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GraphError(f"no graph is described: {error}") from None


def _graph(data: Plain) -> Graph:
    inputs, ops = (Tensor(*image) for image in data["inputs"]), (Op(**_tuples(op)) for op in data["ops"])
    return Graph(data["name"], tuple(inputs), tuple(ops), tuple(data["outputs"])).verify()


def _tuples(op: PlainDict) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in op.items()}
