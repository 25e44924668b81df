"""Read picture files as pixels, decoded, turned, cut and resized in one way for training, calibration and boards.

Every picture becomes RGB of 8 bits: grey, palettes and CMYK are converted, alpha is dropped, 16 bits lose the lower 8,
and EXIF's orientation is applied, as mmdet does. A view of the whole picture decodes with OpenCV, as mmdet does; one
that crops with Pillow.
"""

import io
import warnings
from functools import cache
from typing import IO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .core.errors import PictureNote, UserError
from .core.types import FilePath, Picture
from .core.validate import file_bytes
from .core.view import View

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")  # as Pillow calls them
MOST_PIXELS = 1 << 27  # more than any camera's; decoded they are 400 MB
TOO_LARGE = f"more than the {MOST_PIXELS:,} pixels that are read: make it smaller"
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes of 16 bits
BITS = "pictures of 16 bits a channel are read as 8: the upper 8 count"
GREY = (
    "pictures in colour become grey: this network reads one channel. Where that is sound or another signal, give .npy "
    "files, uint8 of the network's shape"
)
ORIENTATION = 0x0112  # EXIF's tag; the turns below undo its values 2, 3, ...
_NAMES = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]
TURNS = {value: Image.Transpose[name] for value, name in enumerate(_NAMES, 2)}


class PictureError(UserError):
    """A file that is no picture, is cut short or has too many pixels: the message names it and the way out."""


@cache
def known_formats() -> tuple[str, ...]:
    """Return those of FORMATS that this Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> tuple[str, ...]:
    """Return the endings of the files that are pictures, lower case with the dot."""
    known = known_formats()
    return tuple(sorted(suffix for suffix, name in Image.registered_extensions().items() if name in known))


def open_picture(file: FilePath | IO[bytes]) -> Image.Image:
    """Open a picture file (path or file object): its head is read, nothing is decoded. Raises Pillow's errors, or
    PictureError for more than MOST_PIXELS."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fewer pixels, and of EXIF that is damaged
            image = Image.open(file, formats=known_formats())
    except Image.DecompressionBombError:
        raise PictureError(TOO_LARGE) from None
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise PictureError(TOO_LARGE)
    return image


def size_of(path: FilePath) -> tuple[int, int]:
    """Return the (w, h) in pixels of a picture's file, turned as its EXIF says; nothing is decoded. Raises what `load`
    raises for a file without a whole head."""
    try:
        with open_picture(io.BytesIO(file_bytes(path, kind=PictureError))) as image:
            return image.size[::-1] if _orientation(image) >= 5 else image.size
    except UnidentifiedImageError:
        raise PictureError(f"{path} is no readable picture: give a whole JPEG or PNG in its place") from None


def load(path: FilePath, view: View, channels: int = 3) -> Image.Image:
    """Return the picture of a file as RGB of 8 bits, or of one channel as grey, in its own size. Grey is the luma of
    ITU-R BT.601, the one that the C callbacks compute. Raises FileNotFoundError or PictureError."""
    colour = _colour(path, view)
    if channels != 1:
        return colour
    if _has_colours(colour):
        warnings.warn(GREY, PictureNote, stacklevel=2)
    return colour.convert("L")


def _has_colours(image: Image.Image) -> bool:
    red, green, blue = (band.tobytes() for band in image.split())
    return not red == green == blue


def _colour(path: FilePath, view: View) -> Image.Image:
    data = file_bytes(path, kind=PictureError)
    image = _whole(path, data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if view.keep is None else None
    return image if decoded is None else Image.fromarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _is_deep(image: Image.Image, data: bytes) -> bool:
    """Tell whether pixels have more than 8 bits a channel. Pillow gives 8 of a PNG in colours; its head says how many
    there are."""
    return image.mode in DEEP or (image.format == "PNG" and data[24:25] == b"\x10")


def _whole(path: FilePath, data: bytes) -> Image.Image:
    """Decode a whole picture with Pillow, which unlike OpenCV says where a file is cut short."""
    try:
        with open_picture(io.BytesIO(data)) as image:
            image.load()
            if _is_deep(image, data):
                warnings.warn(BITS, PictureNote, stacklevel=2)
            return _eight_bits(_turned(image)).convert("RGB")
    except PictureError as error:
        raise PictureError(f"{path} has {error}") from None
    except Exception as error:  # Pillow lets through whatever its readers meet in a broken file
        known = not isinstance(error, UnidentifiedImageError)
        reason = " ".join(str(error).split()) if known else "of no known kind" if data else "an empty file"
        raise PictureError(f"{path} is no readable picture ({reason}): give a whole JPEG or PNG in its place") from None


def _turned(image: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """Return EXIF's 1 (upright) to 8, 1 where it cannot be read. From 5 on width and height change places."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # the EXIF is broken, the picture whole
        return 1
    return found if found in TURNS else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode not in DEEP:
        return image
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


def seen(image: Image.Image, size: tuple[int, int], view: View) -> Picture:
    """Return what a network for pictures of `size` (h, w) sees of one: uint8 (h, w, 3) for RGB, (h, w, 1) for grey."""
    h, w = size
    if view.keep is None:
        high, wide = view.placed((image.height, image.width), size)
        resized = cv2.resize(np.asarray(image), (wide, high), interpolation=cv2.INTER_LINEAR).reshape(high, wide, -1)
        if view.pad is None:
            return np.asarray(resized, np.uint8)
        found = np.full((h, w, resized.shape[2]), view.pad, np.uint8)
        found[:high, :wide] = resized
        return found
    scale = view.keep * min(image.height / h, image.width / w)
    x, y = max(image.width - w * scale, 0) / 2, max(image.height - h * scale, 0) / 2  # 0: a rounding error is below
    box = x, y, min(x + w * scale, image.width), min(y + h * scale, image.height)
    return np.array(image.resize((w, h), Image.Resampling.BILINEAR, box=box)).reshape(h, w, -1)
