"""Networks that read one channel, two, four or five, as a user meets them: calibrated on pictures or arrays, compiled,
run here, under QEMU and on an imitated board over its serial line. And what is refused on the way."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from conftest import ROOT
from nets import random_graph, random_model
from onnx import helper, numpy_helper
from PIL import Image
from stm32 import Stm32
from test_project import run
from test_tools import refused
from theirs import exact_session

from nni_mcunet.core.boards import get_board
from nni_mcunet.core.errors import PassedOver, UserError
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.core.view import View
from nni_mcunet.engine.frontend.fuse import of_pixels
from nni_mcunet.engine.frontend.onnx import load_onnx, to_onnx
from nni_mcunet.engine.library import write_library
from nni_mcunet.engine.lower import reference
from nni_mcunet.engine.quant.ort_session import to_input
from nni_mcunet.engine.quant.post_training import calibrated
from nni_mcunet.engine.quant.sqnr import report
from nni_mcunet.engine.run.board_project import model_hash
from nni_mcunet.engine.run.pictures import list_pictures, load_picture, read_pictures
from nni_mcunet.engine.run.serial_link import SerialBoard


def network(shape, layout="nchw", classes=4, seed=0):
    """A float ONNX file of a convolution, ReLU, mean and classifier on h x w x c, its input as `layout` has it."""
    (h, w, c), rng = shape, np.random.default_rng(seed)
    dims = {"nchw": [1, c, h, w], "nhwc": [1, h, w, c], "nhw": [1, h, w]}[layout]
    constants = {"w0": rng.normal(0, 0.5, (6, c, 3, 3)), "b0": rng.normal(0, 0.2, 6),
                 "w1": rng.normal(0, 0.5, (classes, 6)), "b1": rng.normal(0, 0.2, classes)}  # fmt: skip
    constants = [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()]
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["map"])]
    constants.append(numpy_helper.from_array(np.array([-1, c, h, w]), "shape"))
    nodes += [
        helper.make_node("Conv", ["map" if layout != "nchw" else "x", "w0", "b0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]), helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("Gemm", ["f", "w1", "b1"], ["y"], transB=1),
    ]  # fmt: skip
    ends = helper.make_tensor_value_info("x", 1, dims), helper.make_tensor_value_info("y", 1, [1, classes])
    graph = helper.make_graph(nodes[layout == "nchw" :], "net", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def saved(path, *arguments, **fields):
    onnx.save(network(*arguments, **fields), path)
    return path


def arrays(shape, count=6, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def scores(proto, x):
    session = exact_session(proto)
    name = session.get_inputs()[0].name
    return session.run(None, {name: x.reshape(session.get_inputs()[0].shape)})[0].ravel()


@pytest.mark.parametrize("shape, layout", [((28, 20, 1), "nchw"), ((28, 20, 1), "nhwc"), ((49, 10, 1), "nhwc"),
                                           ((49, 10, 1), "nhw"), ((9, 8, 2), "nchw"), ((9, 8, 5), "nchw")])  # fmt: skip
def test_float_and_int8_mean_what_the_file_does(shape, layout, tmp_path):
    path, pictures = saved(tmp_path / "m.onnx", shape, layout), arrays(shape)
    model = load_onnx(path)
    image = model.graph.inputs[0]
    assert (image.h, image.w, image.c) == shape
    expected = [scores(onnx.load(path), to_input(p)) for p in pictures]
    for picture, wanted in zip(pictures, expected, strict=True):
        assert np.allclose(scores(to_onnx(model), to_input(picture)), wanted, atol=1e-5)
    int8 = calibrated(model, pictures)
    assert all(row.total > 25 for row in report(model, int8, pictures))
    scale = int8.scales[int8.graph.outputs[0]]
    for picture, wanted in zip(pictures, expected, strict=True):
        out = reference.run(plan(int8.graph), int8, (picture.astype(int) - 128).astype(np.int8))
        assert np.abs(scale.dequantize(out[int8.graph.outputs[0]].ravel()) - wanted).max() < 0.1 * np.ptp(wanted) + 0.02


def test_an_input_of_one_channel_is_not_taken_for_another(tmp_path):
    """28 channels of 28 x 1 positions, reshaped to anything but one channel, stay NCHW."""
    proto = network((28, 1, 28))
    proto.graph.node.insert(0, helper.make_node("Reshape", ["x", "same"], ["map"]))
    proto.graph.node[1].input[0] = "map"
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 28, 28, 1]), "same"))
    onnx.save(proto, tmp_path / "m.onnx")
    assert load_onnx(tmp_path / "m.onnx").graph.inputs[0].c == 28


@pytest.mark.parametrize("c", [1, 2, 4])
def test_mean_and_std_have_a_number_a_channel(c, tmp_path):
    """As one computes them before the file; another count or no number is refused by its name."""
    model = load_onnx(saved(tmp_path / "m.onnx", (9, 8, c)))
    mean, std = [10.0 * i for i in range(1, c + 1)], [50.0 + i for i in range(c)]
    picture = arrays((9, 8, c), 1)[0]
    x = ((picture - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)[None].astype(np.float32)
    ours = scores(to_onnx(of_pixels(model, mean, std)), to_input(picture))
    assert np.allclose(ours, scores(network((9, 8, c)), x), atol=1e-4)
    for wrong, words in (({"mean": [0] * 3}, f"--mean has 3 numbers.*{c} channel"),
                         ({"std": []}, "--std has 0 numbers"),
                         ({"std": [0] * c}, "std above 0"), ({"mean": [np.nan] * c}, "finite"),
                         ({"std": [np.inf] * c}, "finite"), ({"bgr": True}, "--bgr is for three")):  # fmt: skip
        with pytest.raises(UserError, match=words):
            of_pixels(model, **wrong)


@pytest.mark.parametrize("view", [View(), View(0.875)])
def test_any_picture_as_grey_or_colour(view, tmp_path):
    """Grey is Pillow's luma of the RGB picture, the one that the C callbacks compute; alpha is dropped."""
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 4)).astype(np.uint8)
    for mode in ("RGB", "L", "LA", "P", "RGBA", "I;16"):
        wide = (
            Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)
            if mode == "I;16"
            else Image.fromarray(rgb).convert(mode)
        )
        wide.save(tmp_path / "p.png")
        grey, colour = (load_picture(tmp_path / "p.png", (8, 8), View(1.0), c) for c in (1, 3))
        assert grey.shape == (8, 8, 1) and colour.shape == (8, 8, 3)
        assert np.array_equal(grey[..., 0], np.asarray(Image.fromarray(colour).convert("L")))
        assert load_picture(tmp_path / "p.png", (5, 7), view, 1).shape == (5, 7, 1)
    with pytest.raises(UserError, match=r"reads 4 channels, and a picture has 1 or 3: give a \.npy file"):
        load_picture(tmp_path / "p.png", (8, 8), view, 4)


def test_arrays_in_files(tmp_path):
    """Several to a file or one, of a folder without pictures or by name; each as it is, whatever the view."""
    shape = (4, 3, 2)
    many = arrays(shape, 5)
    np.save(tmp_path / "a.npy", many[:4]), np.save(tmp_path / "b.npy", many[4]), (tmp_path / "x.txt").touch()
    assert np.array_equal(list(read_pictures(tmp_path, shape, View(0.5))), many)
    assert np.array_equal(list(read_pictures(tmp_path / "a.npy", shape, most=2)), many[[0, 2]])
    (tmp_path / "names.txt").write_text("b\n")
    assert np.array_equal(list(read_pictures(tmp_path, shape, names=tmp_path / "names.txt")), many[4:])
    assert np.array_equal(load_picture(tmp_path / "b.npy", shape[:2], channels=2), many[4])
    np.save(tmp_path / "a.npy", many[:4, ..., 0]), np.save(tmp_path / "b.npy", many[4, ..., :1])
    grey = list(read_pictures(tmp_path, (4, 3, 1)))
    assert np.array_equal(grey, many[..., :1])
    Image.fromarray(many[0, ..., 0]).save(tmp_path / "p.png")
    with pytest.warns(
        PassedOver, match=r": passed over 4 of 5, which are no pictures by their names: a\.npy, b\.npy, "
    ):
        assert [p.name for p in list_pictures(tmp_path, channels=1)] == ["p.png"]
    with pytest.warns(PassedOver, match=r"which are no arrays by their names: names.txt, p.png, x.txt$"):
        assert [p.name for p in list_pictures(tmp_path, channels=2)] == ["a.npy", "b.npy"]


def test_a_folder_s_pictures_are_those_that_a_single_picture_may_be(tmp_path, recwarn):
    """By name in a folder, by content one by one: the same kinds. A folder names the rest, once."""
    image = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    for name in ("a.jpg", "B.PNG", "c.JPG", "d.gif", "e.tif", "f.TIFF", "g.webp", "h.bmp", "i.ppm", "j.jfif"):
        image.save(tmp_path / name, format={"j.jfif": "JPEG"}.get(name))
    files = list_pictures(tmp_path)
    assert len(files) == 10 and not recwarn.list
    assert all(abs(int(load_picture(path, (4, 4)).mean()) - 200) < 8 for path in files)
    (tmp_path / "sub").mkdir()
    for name in (".hidden", "notes.txt", "old.pcx"):
        image.save(tmp_path / name, format="PCX")
    with pytest.warns(PassedOver, match=r"passed over 3 of 13, .*: notes.txt, old.pcx, sub/$"):
        assert list_pictures(tmp_path) == files
    with pytest.raises(UserError, match=r"old\.pcx is no readable picture"):
        load_picture(tmp_path / "old.pcx", (4, 4))
    for i in range(9):
        (tmp_path / f"{i}.xml").touch()
    with pytest.warns(PassedOver, match=r"passed over 12 of 22, .*: 0.xml, 1.xml, 2.xml, 3.xml, 4.xml, \.\.\.$"):
        list_pictures(tmp_path)
    (tmp_path / "names.txt").write_text("a\nd\n")
    recwarn.clear()
    assert [p.name for p in list_pictures(tmp_path, tmp_path / "names.txt")] == ["a.jpg", "d.gif"] and not recwarn.list


def broken_arrays(folder):
    shape, good = (4, 3, 2), arrays((4, 3, 2), 1)[0]
    np.save(folder / "good.npy", good)
    np.save(folder / "float.npy", good.astype(np.float32)), np.save(folder / "int8.npy", good.astype(np.int8))
    np.save(folder / "turned.npy", good.transpose(2, 0, 1)), np.save(folder / "object.npy", np.array([{}, 1], object))
    np.save(folder / "deep.npy", good[None, None]), np.save(folder / "number.npy", np.uint8(3))
    (folder / "empty.npy").touch(), (folder / "text.npy").write_text("x" * 99)
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:-3])
    head = (folder / "good.npy").read_bytes()
    (folder / "huge.npy").write_bytes(head.replace(b"(4, 3, 2), }", b"(4" + b"0" * 9 + b", 3, 2)}")[: len(head)])
    np.savez(folder / "zip", good)
    (folder / "zip.npz").rename(folder / "zip.npy")
    return [p for p in sorted(folder.iterdir()) if p.name != "good.npy"], shape


def test_broken_arrays_are_one_line(tmp_path):
    files, shape = broken_arrays(tmp_path)
    assert len(files) == 11
    for path in files:
        with pytest.raises(UserError, match=path.name) as caught:
            list(read_pictures(path, shape))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="holds 2 arrays"):
        np.save(tmp_path / "two.npy", arrays(shape, 2))
        load_picture(tmp_path / "two.npy", (4, 3), channels=2)
    with pytest.raises(FileNotFoundError):
        load_picture(tmp_path / "none.npy", (4, 3), channels=2)


def tool(name, *arguments):
    command = [sys.executable, ROOT / f"tools/{name}.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("shape", [(49, 10, 1), (12, 11, 4)])
def test_from_file_to_board(shape, tmp_path):
    """quantize, generate --project, make, run_board --emulate: the command lines."""
    saved(tmp_path / "m.onnx", shape)
    np.save(tmp_path / "c.npy", arrays(shape)), np.save(tmp_path / "p.npy", arrays(shape, 1)[0])
    if shape[2] == 1:
        (tmp_path / "pictures").mkdir()
        for i, picture in enumerate(arrays((30, 33, 3), 3)):
            Image.fromarray(picture).save(tmp_path / f"pictures/{i}.jpg")
    calib, shown = ("pictures", "pictures/0.jpg") if shape[2] == 1 else ("c.npy", "p.npy")
    numbers = ["--mean", *["30"] * shape[2], "--std", *["60"] * shape[2]]
    int8, fw = tmp_path / "m.int8.onnx", tmp_path / "fw"
    for done in (
        tool("quantize", tmp_path / "m.onnx", "--calib", tmp_path / calib, *numbers, "-o", int8),
        tool("generate", int8, "--board", "stm32f410", "--project", "--picture", tmp_path / shown, "-o", fw),
        tool(
            "run_board", fw, "--board", "stm32f410", "--emulate", "--picture", tmp_path / shown, "--json", fw / "r.json"
        ),
    ):
        assert done.returncode == 0, done.stderr
    assert len(json.loads((fw / "r.json").read_text())["top"]) == 4
    assert (fw / "board/picture.rgb").stat().st_size == np.prod(shape)
    run("make", "-j2", cwd=fw)
    if shape[2] == 4:
        Image.fromarray(arrays((9, 9, 3), 1)[0]).save(tmp_path / "p.png")
        done = tool("run_board", fw, "--board", "stm32f410", "--emulate", "--picture", tmp_path / "p.png")
        refused(done, "this network reads 4 channels")


def test_another_count_of_channels_is_one_line(tmp_path):
    saved(tmp_path / "m.onnx", (9, 8, 2))
    np.save(tmp_path / "c.npy", arrays((9, 8, 3)))
    with pytest.raises(UserError, match=r"c\.npy holds uint8 \(6, 9, 8, 3\): expected uint8 of the shape \(9, 8, 2\)"):
        list(read_pictures(tmp_path / "c.npy", (9, 8, 2)))
    with pytest.raises(UserError, match=r"a picture of \(9, 8, 3\) uint8; the model reads \(9, 8, 2\)"):
        calibrated(load_onnx(tmp_path / "m.onnx"), arrays((9, 8, 3)))


def test_tiles_of_two_channels_over_the_serial_line(tmp_path):
    """The image of an imitated board asks for them one by one."""
    rng, board = np.random.default_rng(4), get_board("stm32f410")
    graph = random_graph(rng, 3, (12, 14), (2, 5), image=2)
    model, picture = random_model(rng, graph), rng.integers(0, 256, (12, 14, 2)).astype(np.uint8)
    p = plan(graph)
    write_library(tmp_path / "fw", p, model, board, project=True)
    run("make", "-j2", cwd=tmp_path / "fw")
    imitated = Stm32("stm32f410", (tmp_path / "fw/build/firmware.bin").read_bytes())
    try:
        with SerialBoard(imitated.start(60), 60) as line:
            line.greet("stm32f410", model_hash(tmp_path / "fw"))
            found = line.run(picture)["outputs"]
    finally:
        imitated.stopping = True
    expected = reference.run(p, model, (picture.astype(int) - 128).astype(np.int8))
    assert all(np.array_equal(found[i], expected[name].ravel()) for i, name in enumerate(graph.outputs))
