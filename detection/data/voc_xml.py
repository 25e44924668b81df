"""Read one annotation file of VOC's format, and name what is wrong in it (mmdet's own reader traces back)."""

from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from nni_mcunet.core.errors import UserError
from nni_mcunet.core.types import FilePath
from nni_mcunet.core.validate import short

MOST = 1 << 20  # pixels of a side


class Annotation(NamedTuple):
    """Hold an annotation file's content.

    size       (w, h) in pixels, or None where the file has none
    folder, file  as the file says, "" where it does not
    names      class name of each object, difficult: whether it is marked so
    boxes      (n, 4): xmin, ymin, xmax, ymax, counted from 1
    """

    size: tuple[int, int] | None
    folder: str
    names: list[str]
    difficult: list[bool]
    boxes: np.ndarray
    file: str = ""


def read_annotation(text: bytes, where: FilePath) -> Annotation:
    """Read an annotation. Raises UserError, with `where`, for what is no XML or lacks a name or a corner."""
    try:
        root = fromstring(text)
        if root.tag != "annotation":
            raise ValueError(f"its root is <{short(root.tag)[1:-1]}>")
        size, objects = root.find("size"), root.findall("object")
        return Annotation(
            None if size is None else (_side(size, "width"), _side(size, "height")),
            root.findtext("folder", ""),
            [_name(item) for item in objects],
            [bool(_integer(item.findtext("difficult", "0"), "an object's difficult")) for item in objects],
            np.array([_corners(item.find("bndbox")) for item in objects], np.float64).reshape(-1, 4),
            root.findtext("filename", "").strip(),
        )
    except DefusedXmlException:
        raise UserError(f"{where}: it declares entities, which no annotation needs and which are not read") from None
    except (ParseError, LookupError) as error:  # LookupError: an encoding that Python does not know
        raise UserError(f"{where}: not XML ({str(error)[:200]})") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: no annotation of VOC's format ({str(error)[:200]}); expected the root <annotation>, in it "
            "size/width, size/height (1 or more), and for each object name, bndbox/xmin, ymin, xmax, ymax, difficult "
            "(0, 1 or none)"
        ) from None


def _text(parent: Element | None, name: str) -> str:
    text = None if parent is None else parent.findtext(name)
    if text is None:
        raise ValueError(f"a {name} is missing")
    return text


def _integer(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what} is {short(text)}, no integer") from None


def _side(size: Element, name: str) -> int:
    value = _integer(_text(size, name), f"size/{name}")
    if not 0 < value < MOST:
        raise ValueError(f"size/{name} is {short(value)}")
    return value


def _name(item: Element) -> str:
    text = _text(item, "name")
    if not text.strip():
        raise ValueError("an object's name is empty")
    return text


def _corners(box: Element | None) -> list[float]:
    found = [float(_text(box, side)) for side in ("xmin", "ymin", "xmax", "ymax")]
    if not all(abs(v) < MOST for v in found):  # nan is not below it either
        raise ValueError(f"a box has the corners {short(found)}")
    return found
