"""Define what each activation computes, in numpy. torch's twins stand in nn/net.py; a test holds them equal.

CLAMPS cost nothing in int8: they clamp the result, so they are fields of the convolution or addition before them. Any
other is an op of its own (kind "act"), one look into a table of 256 bytes an element.
"""

from collections.abc import Callable
from math import inf

import numpy as np

from ..errors import GraphError
from ..types import Range

# Name -> function of x and the op's `args`, given here with their defaults where ONNX or torch may leave them away.
ACTS: dict[str, Callable[..., np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "clip": lambda x, lo, hi: np.clip(x, lo, hi),
    "leaky": lambda x, slope: np.where(x < 0, slope * x, x),
    "abs": np.abs,
    "elu": lambda x, alpha=1.0: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "selu": lambda x, alpha, gamma: gamma * np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
    "softplus": lambda x: np.logaddexp(0, x),
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(0.5 * x)),  # overflows nowhere
    "tanh": np.tanh,
    "hsigmoid": lambda x, slope=1 / 6, offset=0.5: np.clip(slope * x + offset, 0, 1),
    "hswish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "silu": lambda x: x * (0.5 * (1 + np.tanh(0.5 * x))),
}
ARGS = {
    "clip": (2,),
    "leaky": (1,),
    "elu": (0, 1),
    "selu": (2,),
    "hsigmoid": (0, 2),
}  # how many `args` a function has; all others none
CLAMPS = ("relu", "relu6", "clip")


def check_act(name: str, act: str, args: tuple[float, ...]) -> None:
    """Raise GraphError where the op `name` has an unknown activation or wrong arguments for it."""
    if act not in ACTS:
        raise GraphError(f"{name}: unknown activation '{act}', one of {', '.join(ACTS)}")
    if len(args) not in ARGS.get(act, (0,)) or (act == "clip" and not args[0] < args[1]):
        raise GraphError(f"{name}: activation '{act}' with the arguments {args}")


def clamp_of(act: str | None, args: tuple[float, ...]) -> Range:
    """Return the (lowest, highest) value that one of CLAMPS, or no activation, lets through."""
    if act == "clip":
        low, high = args
        return low, high
    return {None: (-inf, inf), "relu": (0.0, inf), "relu6": (0.0, 6.0)}[act]
