"""Say how a network's input comes from the pixels that the generated C reads. It is given, or stated by a default that
the samples agree with, and never guessed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import UserError
from ..core.types import Picture, PlainDict
from ..engine.model import Pixels, Scale
from .inputs import each_channel

SLACK = 0.51  # of a pixel: what rounding in the samples' own preprocessing may add at the ends
WHITE = 255.0
IMAGENET = "mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]"


@dataclass(frozen=True)
class Preprocessing(Pixels):
    """How a network's input comes from a picture: it reads (byte - mean) / std of bytes 0..255, a number of each for a
    channel, as mmdet's data_preprocessor has it; bgr: in that order of channels, as are the numbers. saturates: values
    beyond the bytes' are the nearest byte's, as QuantizeLinear rounds the input of a quantised network."""

    bgr: bool = False
    saturates: bool = False

    @classmethod
    def of(cls, channels: int, mean: float | Sequence[float] | None, std: float | Sequence[float] | None,
           bgr: bool = False) -> "Preprocessing":  # fmt: skip
        """Return that of a user's numbers, one for all channels or one each; by default pixel / 255. Raises UserError
        for what is no such number, and for numbers that count pixels 0..1."""
        given = (("mean", 0.0 if mean is None else mean), ("std", WHITE if std is None else std))
        means, stds = (each_channel(name, value, channels) for name, value in given)
        if stds and max(stds) < 1 and min(stds) > 0:
            scaled = ", ".join(f"{name}={[round(WHITE * v, 3) for v in values]}"
                               for name, values in (("mean", means), ("std", stds)))  # fmt: skip
            raise UserError(
                f"std is {stds}: mean and std count pixels 0..255, and these seem to count 0..1: give {scaled}"
            )
        return cls(tuple(means), tuple(stds), bgr)

    @classmethod
    def of_scale(cls, scale: Scale, channels: int) -> "Preprocessing":
        """Return that of a quantised network, which reads a pixel p as scale * (p - 128 - zero_point)."""
        return cls((128.0 + scale.zero_point,) * channels, (1 / scale.scale,) * channels, saturates=True)

    def pixels(self, sample: np.ndarray) -> Picture:
        """Return the picture, uint8 (h, w, c), that the network reads as `sample`, float (c, h, w), each value rounded
        to the nearest pixel. Raises UserError where a value is that of no pixel."""
        mean, std = (np.array(v, float).reshape(-1, 1, 1) for v in (self.mean, self.std))
        found = sample.astype(float) * std + mean
        if not np.isfinite(found).all():
            raise UserError("a sample holds values that are not finite")
        beyond = found.min(initial=0) < -SLACK or found.max(initial=0) > WHITE + SLACK
        if beyond and not self.saturates:
            raise UserError(
                f"a sample holds {sample.min():.4g}..{sample.max():.4g}: with {self} these are pixels "
                f"{found.min():.4g}..{found.max():.4g}, and a pixel is 0..255; {self._way_out()}"
            )
        picture = np.clip(np.round(found), 0, 255).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(picture[..., ::-1] if self.bgr else picture)

    def _way_out(self) -> str:
        if set(self.mean) == {0.0} and set(self.std) == {WHITE}:
            return (
                "say how the module's input comes from them, (pixel - mean) / std: mean=127.5, std=127.5 for -1..1, "
                f"mean=0, std=1 for 0..255, {IMAGENET} for ImageNet's"
            )
        return "give the mean and std with which the samples were made, in pixels"

    def to_dict(self) -> PlainDict:
        """Return the numbers as plain data."""
        return {"mean": list(self.mean), "std": list(self.std), "bgr": self.bgr}

    def __str__(self) -> str:
        one = len(set(self.mean)) == len(set(self.std)) == 1
        numbers = Pixels(self.mean[:1], self.std[:1]) if one else Pixels(self.mean, self.std)
        return f"{numbers}{' in BGR' if self.bgr else ''}"
