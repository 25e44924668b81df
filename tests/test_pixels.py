"""A picture's byte in an int8 file of others: in C, in numpy, on a board and by the commands it is the integer of what
the byte stands for, by the range of the file's input or by --mean and --std."""

import ctypes
import subprocess
import warnings
from dataclasses import replace

import numpy as np
import pytest
from inprocess import command, refused
from PIL import Image
from tflite_files import Layers, Reference

import nni_mcunet as mcu
from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.codegen.sources import write_sources
from nni_mcunet.engine.frontend import load_model
from nni_mcunet.engine.int8_classifier import by_c, by_onnxruntime
from nni_mcunet.engine.model import PIXELS, Pixels, Scale
from nni_mcunet.engine.ops.pixels import as_read, described, integers, is_plain, pixels_of, table, with_pixels
from nni_mcunet.engine.run.emulator import run_emulated
from nni_mcunet.engine.run.firmware import build_firmware
from nni_mcunet.engine.run.generated import as_read as of_folder
from nni_mcunet.engine.run.host import build_host

MCUNET = Scale(2 / 254, 0)  # of mcunet-in3's published file
IMAGENET = Scale(4.758 / 255, -14)


def made(scale: Scale, channels: int = 3) -> bytes:
    n = Layers(np.random.default_rng(0))
    image = n.map((1, 6, 5, channels), scale.scale, scale.zero_point)
    return n.write([image.index], [n.connected(n.conv(image, 4, (3, 3)), 5).index])


@pytest.fixture
def file(tmp_path):
    def write(scale: Scale, channels: int = 3):
        (tmp_path / "net.tflite").write_bytes(made(scale, channels))
        return tmp_path / "net.tflite"

    return write


@pytest.mark.parametrize(
    "scale, channels, byte_is",
    [
        (PIXELS, 3, "(byte - 0) / 255"),
        (Scale(0.96 / 255, -128), 3, "(byte - 0) / 255"),  # the calibration pictures had no white
        (MCUNET, 3, "(byte - 127.5) / 127.5"),
        (Scale(2 / 255, -1), 1, "(byte - 127.5) / 127.5"),
        (Scale(1.0, -128), 3, "(byte - 0) / 1"),
        (Scale(1.0, 0), 3, "(byte - 128) / 1"),
        (Scale(1 / 255, 0), 3, "(byte - 127.5) / 255"),
        (IMAGENET, 3, "(byte - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]"),
        (IMAGENET, 1, "(byte - 114) / 53.5939"),
        (Scale(0.5, 83), 1, "(byte - 211) / 2"),  # no usual range: its integers are the bytes less 128
        (MCUNET, 2, "(byte - 128) / 127"),  # no picture
    ],
)
def test_the_range_of_the_input_says_what_a_byte_is(file, scale, channels, byte_is):
    model = load_model(file(scale, channels))
    assert str(pixels_of(model)) == byte_is and f"is {byte_is} to the network" in described(model)
    way, given = pixels_of(model), model.scales[model.graph.inputs[0].name]
    reals = (np.arange(256) - np.array(way.mean)[:, None]) / np.array(way.std)[:, None]
    reals = np.clip(reals, *given.span)
    assert (np.abs(given.dequantize(table(model)) - reals) <= given.scale * 0.502).all()


def test_compile_says_what_it_assumes(file, tmp_path):
    with pytest.warns(
        mcu.PixelsWarning, match=r"net.tflite: a byte of a picture is .byte - 127.5. / 127.5 to the netw"
    ):
        mcu.compile(file(MCUNET), "stm32f412", tmp_path / "fw")
    for path, how in ((file(MCUNET), {"mean": 127.5, "std": 127.5}), (file(PIXELS), {}), (file(MCUNET, 2), {})):
        with warnings.catch_warnings():
            warnings.simplefilter("error", mcu.PixelsWarning)
            mcu.compile(path, "stm32f412", tmp_path / "fw", **how)


def test_a_byte_is_plain_where_that_is_as_near(file):
    assert is_plain(load_model(file(Scale(2 / 255, -1)))) and is_plain(load_model(file(Scale(2 / 255, 0))))
    assert not is_plain(load_model(file(MCUNET)))


@pytest.mark.parametrize("scale", [MCUNET, IMAGENET])
def test_c_and_board_equal_litert(file, tmp_path, scale):
    path = file(scale)
    model, picture = load_model(path), np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    way = pixels_of(model)
    real = (picture - np.array(way.mean)) / np.array(way.std)
    q = np.clip(np.round(real / np.float32(scale.scale)) + scale.zero_point, -128, 127).astype(np.int8)
    assert np.array_equal(integers(model, picture), q)
    (expected,) = Reference(path.read_bytes())(q)
    folder = write_sources(plan(model.graph), model, tmp_path / "c")
    seen = as_read(model, picture)
    assert np.array_equal(build_host(folder).run(seen)[0], expected.ravel())
    assert np.array_equal(of_folder(folder, picture), seen)
    board = get_board("stm32f412")
    assert np.array_equal(run_emulated(build_firmware(folder, board, seen), board)["outputs"][0], expected.ravel())


@pytest.mark.parametrize("scale, flags, warned", [
    (MCUNET, [], True),
    (MCUNET, ["-DMCU_FRAME_HOLDS_Q"], False),
    (PIXELS, [], False),
])  # fmt: skip
def test_who_gives_a_picture_where_integers_are_read_is_warned(file, tmp_path, scale, flags, warned):
    """mcu_read_frame copies integers: a photograph's bytes would be wrong without a word."""
    model = load_model(file(scale))
    folder = write_sources(plan(model.graph), model, tmp_path / "c")
    command = ["g++", "-xc++", "-fsyntax-only", "-I.", "-Ipictures", *flags, "-"]
    text = '#include "mcu_model.h"\n#include "frame.h"\nmcu_frame frame;\n'
    done = subprocess.run(command, input=text, cwd=folder, capture_output=True, text=True, check=True)
    assert ("mcu_read_rgb" in done.stderr) == warned, done.stderr


class Bytes(ctypes.Structure):
    """C's mcu_frame_bytes."""

    _fields_ = (("pixels", ctypes.c_char_p), ("stride", ctypes.c_int), ("high_first", ctypes.c_int))


def luma(rgb: np.ndarray) -> np.ndarray:
    return (rgb.astype(int) @ (19595, 38470, 7471) + 32768 >> 16).astype(np.uint8)[..., None]


@pytest.mark.parametrize("scale, channels", [(MCUNET, 3), (IMAGENET, 3), (MCUNET, 1), (PIXELS, 3)])
def test_callbacks_of_the_generated_c(file, tmp_path, scale, channels):
    """Give the integers of rows 1..3, columns 2..3 of an RGB frame, a grey one and one of 16 bits."""
    model = load_model(file(scale, channels))
    folder = write_sources(plan(model.graph), model, tmp_path / "c")
    sources = [*folder.glob("*.c"), folder / "pictures/mcu_frames.c"]
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-I{folder}/pictures"]
    subprocess.run(["gcc", *flags, "-o", str(tmp_path / "c.so"), *map(str, sources)], check=True)
    library = ctypes.CDLL(str(tmp_path / "c.so"))
    rgb = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    r, g, b = (np.random.default_rng(2).integers(0, n, (6, 5)).astype(np.uint16) for n in (32, 64, 32))
    wide = np.stack([r << 3 | r >> 2, g << 2 | g >> 4, b << 3 | b >> 2], -1).astype(np.uint8)
    frames = {
        "rgb": (rgb, rgb),
        "grey": (rgb[..., :1].copy(), np.repeat(rgb[..., :1], 3, 2)),
        "rgb565": ((r << 11 | g << 5 | b).astype("<u2"), wide),
    }
    for name, (frame, seen) in frames.items():
        given, tile = Bytes(frame.tobytes(), frame.strides[0], 0), np.zeros((3, 2, channels), np.int8)
        library[f"mcu_read_{name}"](ctypes.byref(given), 1, 2, 3, 2, tile.ctypes.data_as(ctypes.c_void_p))
        assert np.array_equal(tile, integers(model, seen if channels == 3 else luma(seen))[1:4, 2:4]), name


def test_mean_and_std_by_the_commands(file, tmp_path, monkeypatch, capsys):
    """A photograph is turned into the input's integers; an array is these integers plus 128."""
    path = file(IMAGENET, 1)
    picture = np.arange(30, dtype=np.uint8).reshape(6, 5, 1) * 8
    Image.fromarray(picture[..., 0]).save(tmp_path / "photo.png")
    words = (path, "--board", "stm32f412", "--mean", 113, "--std", 57, "-o", tmp_path / "fw")
    found = command(monkeypatch, capsys, "generate", *words)
    assert found.code == 0 and "a byte of a picture is (byte - 113) / 57 to the network\n" in found.out
    q = next(iter(load_model(path).scales.values())).quantize((picture - 113.0) / 57)
    (expected,) = Reference(path.read_bytes())(q)
    assert np.array_equal(mcu.run(tmp_path / "fw", tmp_path / "photo.png").outputs[0], expected.ravel())
    np.save(tmp_path / "photo.npy", seen := (q.astype(int) + 128).astype(np.uint8))
    assert np.array_equal(mcu.run(tmp_path / "fw", tmp_path / "photo.npy").outputs[0], expected.ravel())
    options = {"mean": [113], "std": [57], "project": True, "picture": tmp_path / "photo.png"}
    fw = mcu.compile(path, "stm32f412", tmp_path / "fw2", prefix="faces", **options)
    assert np.array_equal(fw.run(seen).outputs[0], expected.ravel())
    assert (tmp_path / "fw2/board/picture.rgb").read_bytes() == seen.tobytes()
    refused(command(monkeypatch, capsys, "generate", *words[:4], 1, 2, *words[5:]), "--mean 1 2: expected one finite")


def test_what_the_input_cannot_hold_is_refused(file):
    model = load_model(file(MCUNET))
    assert with_pixels(model, None, None) is model
    with pytest.raises(UserError, match=r"make 0 to 255 of a picture, and the file's input holds -1.008 to 1"):
        with_pixels(model, None, [1])
    for wrong in ([0], [float("nan")], [1, 2]):
        with pytest.raises(UserError, match=r"--std .*: expected one finite number or one for each of 3 channels"):
            with_pixels(model, None, wrong)
    assert with_pixels(model, [1, 2, 3], [200]).pixels == Pixels((1, 2, 3), (200, 200, 200))


def test_accuracy_feeds_c_and_onnxruntime_the_same(file):
    """An ONNX file of others, whose input has another scale than ours."""
    model = load_model(file(MCUNET))
    ops = tuple(replace(op, twice=False) for op in model.graph.ops)
    model = with_pixels(replace(model, graph=replace(model.graph, ops=ops)), [100], [150])
    picture = np.random.default_rng(1).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    given = model.scales[model.graph.outputs[0]]
    ours, theirs = by_c(model)(picture), by_onnxruntime(model)(picture)
    assert np.abs(given.dequantize(ours) - theirs).max() <= given.scale * 1.001
