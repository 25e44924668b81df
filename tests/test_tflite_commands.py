"""A .tflite file where a user gives it: to the commands, and to the calls of `import nni_mcunet as mcu`."""

import json

import numpy as np
import pytest
from inprocess import command, refused
from tflite_files import Reference
from tflite_nets import classifier, floats

import nni_mcunet as mcu
from nni_mcunet.engine.int8_classifier import by_c
from nni_mcunet.engine.run.pictures import list_pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small int8 file. Its name does not say what it is."""
    path = tmp_path_factory.mktemp("tflite") / "net.bin"
    path.write_bytes(classifier(np.random.default_rng(3)))
    return path


def some_picture(path) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, mcu.load(path).image).astype(np.uint8)


def litert(path, picture: np.ndarray) -> np.ndarray:
    (found,) = Reference(path.read_bytes())((picture.astype(int) - 128).astype(np.int8))
    return found.ravel()


@pytest.fixture
def done(monkeypatch, capsys):
    """Run a command, which must succeed, and give back its output."""

    def run(name: str, *arguments) -> str:
        found = command(monkeypatch, capsys, name, *arguments)
        assert found.code == 0, found
        return found.out

    return run


def assert_commands(done, path, folder, board: str) -> None:
    """From the file to the bytes of an emulated board, which are LiteRT's."""
    picture, layers = some_picture(path), len(mcu.load(path).graph.ops)
    np.save(folder / "picture.npy", picture)
    done("profile", path, "--board", board, "--json", folder / "profile.json")
    assert json.loads((folder / "profile.json").read_text())["macs"] == mcu.load(path).graph.macs
    assert len(done("inspect", path).splitlines()) > layers
    done("generate", path, "--board", board, "-o", folder / "fw")
    words = ("--board", board, "--emulate", "--picture", folder / "picture.npy", "--npz", folder / "out.npz")
    assert "class " in done("run_board", folder / "fw", *words)
    assert np.array_equal(np.load(folder / "out.npz")["arr_0"], litert(path, picture))


def test_commands(done, made, tmp_path):
    assert_commands(done, made, tmp_path, "stm32f412")


@pytest.mark.parametrize(
    "file, board",
    [("tflite/kws_ref_model", "stm32f412"), ("tflite/vww_96_int8", "stm32f412"),
     pytest.param("mcunet-in3/int8", "stm32f746", marks=pytest.mark.slow)],
)  # fmt: skip
def test_commands_on_published_files(done, shared, tmp_path, file, board):
    assert_commands(done, shared / "models" / f"{file}.tflite", tmp_path, board)


def test_calls(made, tmp_path):
    net = mcu.load(made)
    assert net.kind == "int8" and net.image == (21, 19, 3)
    picture = some_picture(made)
    fw = mcu.compile(net, "stm32f412", tmp_path / "fw", schedule=mcu.Schedule(p=(2, 2), n=2))
    assert np.array_equal(fw.run(picture).outputs[0], litert(made, picture))
    assert np.array_equal(mcu.run(tmp_path / "fw", picture).outputs[0], litert(made, picture))


def test_a_float_file_is_quantised(done, tmp_path):
    (tmp_path / "float.tflite").write_bytes(floats())
    pictures = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3)).astype(np.uint8)
    np.save(tmp_path / "pictures.npy", pictures)
    words = ("--calib", tmp_path / "pictures.npy", "-o", tmp_path / "net.int8.onnx")
    assert "calibrated on 8 pictures" in done("quantize", tmp_path / "float.tflite", *words)
    int8 = mcu.load(tmp_path / "net.int8.onnx")
    (want,) = Reference(floats())(pictures[0].astype(np.float32) / 255)
    found = by_c(int8.model)(pictures[0])
    scale = int8.model.scales[int8.graph.outputs[0]]
    noise = scale.dequantize(found) - want.ravel()
    assert (want**2).sum() > 100 * (noise**2).sum()  # 20 dB


def test_an_int8_file_is_not_quantised_once_more(monkeypatch, capsys, made, tmp_path):
    found = command(monkeypatch, capsys, "quantize", made, "--calib", tmp_path, "-o", tmp_path / "x.onnx")
    refused(found, made, "is int8 already")


def test_no_onnx_file_with_another_rounding(monkeypatch, capsys, made, tmp_path):
    """onnxruntime would round once, and knows no tables."""
    with pytest.raises(mcu.UserError, match="rounds as TensorFlow Lite does"):
        mcu.load(made).save(tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


@pytest.mark.slow
def test_mcunet_in3_is_as_accurate_as_under_litert(done, shared, tmp_path):
    """On 250 photographs of ImageNet, whose bytes the file's input scale takes for -1 .. 1."""
    data = shared / "data/imagenet_sample"
    files = list_pictures(data)
    for split, pictures in (("train", files[:1] * 1000), ("test", files)):
        for i, file in enumerate(pictures):
            label = i if split == "train" else int(file.name[:4])
            folder = tmp_path / split / f"{label:04}"
            folder.mkdir(parents=True)
            (folder / file.name).symlink_to(file)
    published = json.loads((data / "expected.json").read_text())
    words = "--data", f"{{kind: folder, root: {tmp_path}, held_out: 1}}", "--backend", "c"
    out = done("accuracy", shared / "models/mcunet-in3/int8.tflite", *words)
    assert "a byte of a picture is (byte - 127.5) / 127.5 to the network, as the range of its input" in out
    assert f": {published['litert_int8_top1']} of {published['images']} test pictures" in out
