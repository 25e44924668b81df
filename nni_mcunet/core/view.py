"""Say which part of a picture a network sees, and how that part is resized: the View. It is data, in an architecture's
JSON, in the metadata of an ONNX file and in the generated C; nni_mcunet/pictures.py applies it to pixels. A network is
trained, judged, calibrated and deployed with one view: with another one it loses points that int8 does not cost.
"""

from dataclasses import dataclass

from .errors import UserError
from .types import Plain
from .validate import short

WANTED = "'stretch' or 'crop:SHARE', a share of the side from 0.01 to 1 such as crop:0.875"


@dataclass(frozen=True)
class View:
    """keep  None ("stretch"): the whole picture, resized by OpenCV's bilinear filter. This is mmdet's
    Resize(keep_ratio=False).
    A share from 0.01 to 1 ("crop:0.875"): the largest centred part with the shape of the network's input, its
    sides times `keep`, resized by Pillow's bilinear filter, which averages over all pixels. 0.875 is ImageNet's
    "resize to 256, cut out 224".
    """

    keep: float | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.keep, (int, float)) and not isinstance(self.keep, bool)
        if self.keep is not None and not (number and 0.01 <= self.keep <= 1):
            raise UserError(f"the view keeps {str(self.keep)[:40]}: expected a share of the side from 0.01 to 1")

    def __str__(self) -> str:
        return "stretch" if self.keep is None else f"crop:{self.keep!r}"

    @classmethod
    def parse(cls, text: Plain) -> "View":
        """Invert str(). Raises UserError."""
        if text == "stretch":
            return cls()
        kind, _, keep = text.partition(":") if isinstance(text, str) else ("", "", "")
        try:
            if kind == "crop":
                return cls(float(keep))
        except ValueError:  # no number, or no share of a side
            pass
        raise UserError(f"the view is {short(text)}: expected {WANTED}")


STRETCH = View()
