"""One annotation file of VOC's format, read with names for what is wrong in it (mmdet's own reader traces back)."""

import xml.etree.ElementTree as ET
from typing import NamedTuple

import numpy as np

from nni_mcunet.core.errors import UserError


class Annotation(NamedTuple):
    """size (w, h) in pixels, or None where the file has none; folder as the file says; per object its class name,
    whether it is marked difficult, and its box in `boxes` (n, 4): xmin, ymin, xmax, ymax, counted from 1."""

    size: tuple[int, int] | None
    folder: str
    names: list[str]
    difficult: list[bool]
    boxes: np.ndarray


def read_annotation(text: bytes, where) -> Annotation:
    """UserError, with `where`, for what is no XML or lacks a name or a corner."""
    try:
        root = ET.fromstring(text)
        size, objects = root.find("size"), root.findall("object")
        return Annotation(
            None if size is None else (int(size.find("width").text), int(size.find("height").text)),
            root.findtext("folder", ""),
            [item.find("name").text for item in objects],
            [bool(int(item.findtext("difficult", "0"))) for item in objects],
            np.array([_corners(item.find("bndbox")) for item in objects], float).reshape(-1, 4),
        )
    except ET.ParseError as error:
        raise UserError(f"{where}: not XML ({error})") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: no annotation of VOC's format ({error}); expected size/width, size/height, and for each object "
            "name, bndbox/xmin, ymin, xmax, ymax"
        ) from None


def _corners(box: ET.Element) -> list[float]:
    return [float(box.find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")]
