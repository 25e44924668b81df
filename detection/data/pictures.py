"""Look at single pictures: what their files say, whether they can be decoded, and how training passes over one that
cannot.

Decoding is mmdet's (OpenCV, 8 bits, BGR): grey becomes three equal channels, CMYK and palettes are converted, 16 bits
lose the lower 8, alpha is dropped, EXIF's orientation is applied. Annotation programs show a picture turned, too. Where
its annotation has the size of the unturned one the boxes lie elsewhere, and mcunet check-data says so. Either turn the
files (`exiftran -ai`), or give LoadImageFromFile color_type='color_ignore_orientation'.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import mmcv
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from PIL import UnidentifiedImageError

from nni_mcunet.core.types import FilePath, PlainDict
from nni_mcunet.pictures import PictureError, open_picture

from ..said import tell

END = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # what a whole file ends with
TAIL = 4096  # bytes of the end looked at: programs append to a JPEG
ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange width and height
KINDS = {"L": "grey", "1": "grey", "I;16": "16-bit", "I;16B": "16-bit", "I": "16-bit", "P": "palette", "LA": "alpha",
         "PA": "alpha", "RGBA": "alpha", "CMYK": "CMYK", "RGB": "RGB"}  # fmt: skip


class Picture(NamedTuple):
    """Hold what a file says.

    size    (w, h) as it is decoded
    kind    "RGB", "grey", "16-bit", "palette", "alpha", "CMYK" or Pillow's mode
    turned  EXIF's orientation is applied
    fault   why it cannot be decoded, None where it can
    aside   EXIF's orientation exchanges sides of different lengths
    """

    size: tuple[int, int] | None
    kind: str
    turned: bool
    fault: str | None
    aside: bool = False


def inspect(path: FilePath, decode: bool = False) -> Picture:
    """Read a file's head and end only, and decode it where these are not as they should be, or `decode` asks for it.
    Damage in the middle that the decoder bridges cannot be seen: it is a picture, with a smear."""
    path = Path(path)
    try:
        with open_picture(path) as image:
            (w, h), kind = image.size, KINDS.get(image.mode, image.mode)
            whole = END.get(image.format, b"") in _tail(path)
            orientation = image.getexif().get(ORIENTATION, 1)
    except PictureError as error:
        return Picture(None, "", False, str(error))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        return Picture(None, "", False, f"no picture: {error}" if path.stat().st_size else "an empty file")
    size = (h, w) if orientation in TURNED else (w, h)
    fault = decoding_fault(path) if decode or not whole else None
    return Picture(size, kind, orientation not in (0, 1), fault, size != (w, h))


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - TAIL, 0))
        return file.read()


def decoding_fault(path: FilePath) -> str | None:
    """Say why mmdet's decoder gives no picture; None where it does."""
    try:
        image = mmcv.imfrombytes(Path(path).read_bytes(), backend="cv2")
    except cv2.error as error:
        return f"cannot be decoded: {error.err}"
    return None if image is not None else "cannot be decoded: cut short or damaged"


def too_large(path: FilePath) -> str | None:
    """Say that a picture has more pixels than are read; None where it has not."""
    try:
        open_picture(path).close()
    except PictureError as error:
        return f"has {error}"
    except Exception:  # the decoder says what else is wrong with it
        return None
    return None


@TRANSFORMS.register_module()
class LoadPicture(LoadImageFromFile):
    """Load a picture for training, as LoadImageFromFile does. One that cannot be decoded is named once in the log and
    passed over, by mmengine's own way (None: the data set draws another, from the worker's seeded generator).

    Evaluation keeps LoadImageFromFile, which stops: a metric over fewer pictures than were asked for is another metric.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.named: set[str] = set()

    def transform(self, results: PlainDict) -> PlainDict | None:
        """Add the picture to `results`; None where it cannot be decoded."""
        path = results["img_path"]
        fault = too_large(path)
        try:
            if fault is None:
                return super().transform(results)
        except (cv2.error, AssertionError):  # mmcv's assertion that OpenCV gave an image
            fault = "cannot be decoded"
        if path not in self.named:
            self.named.add(path)
            tell(f"{path} {fault}: another picture is taken in its place", logging.WARNING)
        return None
