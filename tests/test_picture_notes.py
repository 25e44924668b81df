"""A note says where a network reads less of a picture than it has, and the kinds that are read are told in one list."""

import warnings

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from nni_mcunet.cli.calibration_pictures import add_pictures
from nni_mcunet.cli.parser import Parser
from nni_mcunet.core.errors import PictureNote
from nni_mcunet.core.view import STRETCH, View
from nni_mcunet.pictures import FORMATS, load


def notes_of(path, channels=3, view=STRETCH) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        load(path, view, channels)
    assert all(issubclass(one.category, PictureNote) for one in found)
    return [str(one.message) for one in found]


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 8, 4)])
@pytest.mark.parametrize("view", [STRETCH, View(keep=0.875)], ids=str)
def test_sixteen_bits_are_said_to_be_read_as_eight(tmp_path, shape, view):
    deep = np.random.default_rng(0).integers(0, 1 << 16, shape).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    cv2.imwrite(str(tmp_path / "flat.png"), (deep >> 8).astype(np.uint8))
    assert notes_of(tmp_path / "deep.png", view=view) == [
        "pictures of 16 bits a channel are read as 8: the upper 8 count"
    ]
    assert notes_of(tmp_path / "flat.png", view=view) == []


def test_a_colour_picture_for_one_channel_is_said_to_become_grey(tmp_path):
    """A keyword network has one channel, too: a photograph is no sound."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    Image.fromarray(np.repeat(pixels[..., :1], 3, 2)).save(tmp_path / "grey.png")  # three channels, no colour
    (said,) = notes_of(tmp_path / "colour.png", 1)
    assert "become grey" in said and ".npy files" in said
    assert notes_of(tmp_path / "grey.png", 1) == notes_of(tmp_path / "colour.png", 3) == []


def test_help_and_pages_tell_the_kinds_that_are_read():
    add_pictures(parser := Parser("x"))
    for text in (
        parser.format_help(),
        *((ROOT / f"docs/{name}.md").read_text() for name in ("int8", "troubleshooting")),
    ):
        assert ", ".join(FORMATS) in " ".join(text.split())
