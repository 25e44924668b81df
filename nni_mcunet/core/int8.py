"""Compute the steps of int8 tensors and weights: the formulas that training simulates and the engine deploys.

The format is that of Jacob et al. 2018. Each formula takes numpy arrays and torch tensors alike, through the methods
that both have, and imports neither: so core/nn/qat.py and engine/model.py get the same bits from the same line. Ranges,
steps and biases are doubles; the caller rounds a step to float32 before anything is divided by it.
"""

from typing import Any, Protocol, TypeAlias, TypeVar

Value: TypeAlias = Any  # a number, a numpy array or scalar, or a torch tensor


class Numbers(Protocol):
    """Name what numpy's arrays and scalars and torch's tensors have in common, as far as the formulas use it."""

    def clip(self, *, min: Value = ..., max: Value = ...) -> Value:
        """Hold each number between min and max."""

    def round(self) -> Value:
        """Round each number to the nearest integer, half to even."""

    def __getitem__(self, index: Value, /) -> Value: ...
    def __abs__(self) -> Value: ...
    def __mul__(self, other: Value, /) -> Value: ...
    def __rmul__(self, other: Value, /) -> Value: ...
    def __truediv__(self, other: Value, /) -> Value: ...
    def __rtruediv__(self, other: Value, /) -> Value: ...


Array = TypeVar("Array", bound=Numbers)
PIXEL_STEP = 1 / 255  # of the image: real = byte / 255, q = byte - 128
PROBABILITY_STEP = 1 / 256  # of a softmax
LOWEST = -128  # the zero point of both


def range_step(low: Array, high: Array) -> Array:
    """Return the finest step with which 256 integers represent [low, high] and zero."""
    return (high.clip(min=0) - low.clip(max=0)).clip(min=1e-6) / 255


def zero_point(low: Array, step: Array | float) -> Array:
    """Return the integer of zero in a range that begins at `low`, as a double in -128..127."""
    return (-128 - low.clip(max=0) / step).round().clip(-128, 127)


def weight_steps(largest: Array, bias: Array, step_in: Array | float) -> Array:
    """Return the steps (cout,) of a convolution's weights from the largest absolute weight of each output channel
    (cout,), the bias (cout,) and the step of the input."""
    # A near-dead channel with a large bias would overflow its int32: the bias sets a floor for the step.
    floor = abs(bias) / (step_in * 2**24)
    return (largest / 127).clip(min=floor).clip(min=1e-12)


def weight_integers(weight: Array, step: Array) -> Array:
    """Return a weight (cout, cin/groups, kh, kw) in its steps (cout,), rounded, each in -127..127; dtype as given."""
    return (weight / step[:, None, None, None]).round().clip(-127, 127)


def bias_integers(bias: Array, step_in: Array | float, step: Array) -> Array:
    """Return a bias (cout,) in steps of step_in * step, rounded, as doubles."""
    return (bias / (step_in * step)).round()
