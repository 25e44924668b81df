"""A picture's boxes are told in its own pixels, and the C that finds them is compiled once for what a folder holds."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import nni_mcunet as mcu
from nni_mcunet.api.answer import Seen
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.view import STRETCH, View
from nni_mcunet.engine.run import host
from nni_mcunet.pictures import size_of

ZOO = ROOT / "zoo/blood-cells-f412"


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The zoo's detector for an image of 160x160 as C, and its photograph in another shape."""
    folder = tmp_path_factory.mktemp("cells")
    with Image.open(ZOO.with_suffix(".jpg")) as picture:
        picture.resize((640, 240)).save(folder / "wide.png")
    return mcu.compile(f"{ZOO}.onnx", "stm32f412", folder / "fw", source="frame"), folder / "wide.png"


def test_boxes_are_in_the_pictures_pixels(cells):
    firmware, picture = cells
    h, w, _ = firmware.network.image
    found = mcu.run(firmware.folder, picture)
    assert found.boxes and found.to_dict()["picture"] == [640, 240]
    for box in found.boxes:
        x1, y1, x2, y2 = box["box"]
        expected = [x1 * 640 / w, y1 * 240 / h, x2 * 640 / w, y2 * 240 / h]
        np.testing.assert_allclose(box["in_picture"], expected, atol=0.005)
    lines = str(found).splitlines()
    assert "boxes x1, y1, x2, y2 in pixels of the picture, 640x240:" in lines
    assert lines[-1].endswith(", ".join(f"{v:.1f}" for v in found.boxes[-1]["in_picture"]))


def test_boxes_of_an_array_are_in_the_images_pixels(cells):
    firmware, picture = cells
    h, w, _ = firmware.network.image
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB").resize((w, h)))
    found = firmware.run(pixels)
    assert found.boxes and "in_picture" not in found.boxes[0] and "picture" not in found.to_dict()
    assert f"in pixels of the network's image, {w}x{h}:" in str(found)


def test_a_letterbox_scales_both_axes_alike():
    seen = Seen((100, 100), View(pad=114), (400, 200))
    assert seen.own([0, 0, 100, 50]) == [0, 0, 400, 200]
    assert Seen((100, 50), STRETCH, (400, 400)).own([10, 10, 20, 20]) == [40, 80, 80, 160]
    assert Seen((100, 50), STRETCH, None).own([10, 10, 20, 20]) is None


def test_the_size_of_a_turned_picture_is_that_of_what_is_seen(tmp_path):
    image, exif = Image.new("RGB", (30, 20)), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "upright.jpg")
    assert size_of(tmp_path / "turned.jpg") == (20, 30) and size_of(tmp_path / "upright.jpg") == (30, 20)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match="no readable picture"):
        size_of(tmp_path / "text.jpg")


def test_a_folder_is_compiled_once(cells, monkeypatch):
    firmware, picture = cells
    calls, compile_c = [], host.compile_c
    monkeypatch.setattr(host, "compile_c", lambda *args: calls.append(1) or compile_c(*args))
    host._built.cache_clear()
    first = mcu.run(firmware.folder, picture)
    second, third = mcu.run(firmware.folder, picture), firmware.run(picture)
    assert len(calls) == 1
    for run in (second, third):
        assert all(map(np.array_equal, first.outputs, run.outputs)) and run.boxes == first.boxes
    model = firmware.folder / "mcu_model.c"
    text = model.read_text()
    model.write_text(f"{text}/* edited */\n")
    mcu.run(firmware.folder, picture)
    assert len(calls) == 2  # other C is compiled, whatever the folder is called
    model.write_text(text)
    assert not list((firmware.folder / "build").glob("**/model.so"))


def test_the_command_says_which_pixels(cells, tmp_path):
    firmware, picture = cells
    command = [sys.executable, "-m", "nni_mcunet", "run", firmware.folder, "--board", "stm32f412", "--emulate"]
    done = subprocess.run([*command, "--picture", picture], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and "in pixels of the picture, 640x240:" in done.stdout, done.stderr
