"""Hold the settings of a training: a Recipe. It knows no torch, so that a command line reads its defaults at once."""

from dataclasses import dataclass, fields, replace
from math import cos, pi
from typing import TYPE_CHECKING, cast

from ...core.errors import UserError
from ...core.types import PlainDict
from ...core.validate import short

if TYPE_CHECKING:
    from ..data import Data

WARM_UP = 5  # steps
CLIP = 5.0  # largest norm of a step's gradients


@dataclass(frozen=True)
class Recipe:
    """Hold how a network is trained.

    largest, shared   steps of the two phases (a single network has the first one only)
    subnets           networks a shared step, their gradients averaged
    sandwich          two of them are the largest and the smallest, not random ones
    batch             pictures a step, the same for all networks of the step and shared out among the processes
    lr, weight_decay  SGD, Nesterov momentum 0.9; lr falls as a cosine in each phase
    adam              AdamW instead of SGD
    label_smoothing   of the cross-entropy
    ema               decay of the averaged weights that evaluation uses, 0 for none
    amp               half precision: float16 with scaled gradients on a GPU, bfloat16 on a CPU
    """

    largest: int = 160
    shared: int = 160
    subnets: int = 4
    sandwich: bool = False
    batch: int = 16
    lr: float = 0.2
    weight_decay: float = 4e-5
    adam: bool = False
    label_smoothing: float = 0.0
    ema: float = 0.0
    amp: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), cast(type, field.type)
            if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float)[: 1 + (kind is float)]):
                raise UserError(f"recipe: {field.name} is {short(value)}: expected {kind.__name__}")
            if not 0 <= value < 1 << 63:
                raise UserError(f"recipe: {field.name} is {short(value)}: expected a number from 0 to 2^63 - 1")
        for name, low in (("batch", 1), ("subnets", 3 if self.sandwich else 1), ("largest", 1)):
            if getattr(self, name) < low:
                raise UserError(f"recipe: {name} is {getattr(self, name)}: expected at least {low}")
        if self.ema >= 1 or self.label_smoothing >= 1:
            raise UserError(f"recipe: ema is {self.ema:g}, label_smoothing {self.label_smoothing:g}: expected below 1")

    @property
    def steps(self) -> int:
        """Count the steps of both phases."""
        return self.largest + self.shared

    def described(self) -> str:
        """Say how it trains, what the paper leaves open included."""
        optimizer = "AdamW" if self.adam else "SGD with Nesterov momentum 0.9"
        return (
            f"batches of {self.batch}, learning rate {self.lr:g} at its highest: {optimizer}, {self.steps:,} steps, "
            f"{WARM_UP} to warm up, then a cosine; weight decay {self.weight_decay:g}, also of batch normalisation and "
            f"biases; gradients clipped to a norm of {CLIP:g}"
        )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, with a warm-up in each phase."""
        second = step >= self.largest
        at, of = (step - self.largest, self.shared) if second else (step, self.largest)
        return self.lr * min(1, (at + 1) / WARM_UP) * (1 + cos(pi * at / of)) / 2

    @classmethod
    def from_dict(cls, values: PlainDict, data: "Data | None" = None) -> "Recipe":
        """Read a recipe from a file's mapping. `epochs` [largest, shared] may stand for the steps when the data are
        given. Raises UserError."""
        if not isinstance(values, dict):
            raise UserError(f"recipe is {short(values)}: expected a mapping")
        values = dict(values)
        epochs = values.pop("epochs", None)
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(["epochs", *(field.name for field in fields(cls))])
            raise UserError(f"recipe: unknown key '{unknown[0]}': known are {known}")
        recipe = cls(**values)
        if epochs is None:
            return recipe
        if not isinstance(epochs, (list, tuple)) or len(epochs) != 2 or not all(isinstance(e, int) for e in epochs):
            raise UserError(
                f"recipe: epochs is {short(epochs)}: expected [of the largest network, of the shared phase]"
            )
        assert data is not None, "epochs are counted in steps of the data"
        largest, shared = (count * data.epoch(recipe.batch) for count in epochs)
        return replace(recipe, largest=largest, shared=shared)
