"""Say what a kind of op is to the engine: four functions and the order of its kernel's arguments.

Each other file of this folder holds all four for one kind, or for a few kinds that share a C struct. Nothing here knows
plans, patches or memory: those are lower/program.py's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...core.ir.graph import Graph, Op
from ...core.plan.segments import Axis
from ..model import QuantModel

Interval = tuple[np.ndarray, np.ndarray]  # lowest and highest value of each channel, int64 (c,)
Integers = TypeVar("Integers")  # what the function `integers` of a kind returns


class Operator(NamedTuple):
    """Hold the functions of a kind. `p` is what `integers` returned. A kind with one call for each input (concat) has a
    tuple with one for each input, and `run` is given its own.

    integers   (model, op) -> p: the integers of the kernel. Raises GraphError where 32 bits do not suffice
    run        (op, p, reads, y, x) -> int8 (y.n_out, x.n_out, channels): the kernel in numpy, for one patch. reads: the
               tiles (h, w, c) int8 of its input and of the map read where it writes; y, x: what the kernel is told
    interval   (graph, op, p, reads) -> the bounds of each output channel, whatever the picture, from those of the maps
               in op.reads. They hold at every position, also of windows that reach into the padding
    constants  (graph, op, p, name) -> C text that defines the struct `name`; its arrays begin with that name
    arguments  pointers that the kernel takes behind its struct and the axes: "source", "second" (0 where the op has
               none), "out", "scratch" (0 where the plan gives none)
    """

    integers: Callable[[QuantModel, Op], Any]
    run: Callable[[Op, Any, list[np.ndarray], Axis, Axis], np.ndarray]
    interval: Callable[[Graph, Op, Any, list[Interval]], Interval]
    constants: Callable[[Graph, Op, Any, str], str]
    arguments: tuple[str, ...] = ("source", "out")
