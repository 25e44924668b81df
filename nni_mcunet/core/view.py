"""Say which part of a picture a network sees, and how that part is resized: the View. It is data, in an architecture's
JSON, in the metadata of an ONNX file and in the generated C; nni_mcunet/pictures.py applies it to pixels. A network is
trained, judged, calibrated and deployed with one view: with another one it loses points that int8 does not cost.
"""

from dataclasses import dataclass

from .errors import UserError
from .types import Plain
from .validate import short

WANTED = (
    "'stretch', 'letterbox:PAD', the byte 0 to 255 of the rest such as letterbox:114, or 'crop:SHARE', a share of the "
    "side from 0.01 to 1 such as crop:0.875"
)


@dataclass(frozen=True)
class View:
    """Neither ("stretch"): the whole picture, each axis resized for itself by OpenCV's bilinear filter. This is mmdet's
    Resize(keep_ratio=False).

    keep  A share from 0.01 to 1 ("crop:0.875"): the largest centred part with the shape of the network's input, its
    sides times `keep`, resized by Pillow's bilinear filter, which averages over all pixels. 0.875 is ImageNet's
    "resize to 256, cut out 224".
    pad   A byte ("letterbox:114"): the whole picture in its own shape, as large as it fits, by OpenCV's bilinear
    filter. It lies at the top left, as mmdet's Pad leaves it; what is right of it or below is of this byte.
    """

    keep: float | None = None
    pad: int | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.keep, (int, float)) and not isinstance(self.keep, bool)
        if self.keep is not None and not (number and 0.01 <= self.keep <= 1):
            raise UserError(f"the view keeps {str(self.keep)[:40]}: expected a share of the side from 0.01 to 1")
        if self.pad is not None and (type(self.pad) is not int or not 0 <= self.pad <= 255 or self.keep is not None):
            raise UserError(f"the view pads with {str(self.pad)[:40]}: expected a byte, 0 to 255, and no share to keep")

    def __str__(self) -> str:
        if self.pad is not None:
            return f"letterbox:{self.pad}"
        return "stretch" if self.keep is None else f"crop:{self.keep!r}"

    def placed(self, picture: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w) in pixels that a picture (h, w) takes of a network's image of `size` (h, w), from the top
        left on: of a letterbox the largest of the picture's shape, rounded to the nearest pixel, otherwise all."""
        (h, w), (high, wide) = picture, size
        if self.pad is None:
            return size
        if h * wide < w * high:  # as wide as the image
            return max(1, (2 * h * wide + w) // (2 * w)), wide
        return high, max(1, (2 * w * high + h) // (2 * h))

    def scale(self, picture: tuple[int, int], size: tuple[int, int]) -> tuple[float, float]:
        """Return how many pixels (x, y) of a whole picture (h, w) one pixel of a network's image of `size` (h, w)
        is."""
        high, wide = self.placed(picture, size)
        return picture[1] / wide, picture[0] / high

    @classmethod
    def parse(cls, text: Plain) -> "View":
        """Invert str(). Raises UserError."""
        if text == "stretch":
            return cls()
        kind, _, keep = text.partition(":") if isinstance(text, str) else ("", "", "")
        try:
            if kind == "crop":
                return cls(float(keep))
            if kind == "letterbox" and keep.isascii() and keep.isdigit():
                return cls(pad=int(keep))
        except ValueError:  # no number, or no share of a side
            pass
        raise UserError(f"the view is {short(text)}: expected {WANTED}")


STRETCH = View()
