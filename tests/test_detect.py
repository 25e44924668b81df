"""mcunet detect: any picture's boxes in its own pixels, of the float network and of the int8 file's C, drawn."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detection import float_boxes, load_config, load_detector
from nni_mcunet import bridge
from nni_mcunet.cli.detect import finder
from nni_mcunet.cli.main import run
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.arch import ArchSpec, Block
from nni_mcunet.core.view import STRETCH, View
from nni_mcunet.engine.frontend.onnx.write import save_onnx
from nni_mcunet.engine.int8_detector import compiled, load_int8_detector
from nni_mcunet.engine.quant.post_training import calibrated

DIGITS = Path(__file__).parents[1] / "configs/det/yolov3_digits.py"


def test_boxes_are_in_the_pictures_own_pixels():
    def detect(rgb):
        assert rgb.shape == (32, 64, 3)
        return np.array([[0, 0, 8, 8], [16, 8, 64, 32]]), np.array([0.25, 0.5]), np.array([1, 0])

    picture = Image.new("RGB", (128, 320))
    assert finder(detect, (32, 64), ("a", "b"), STRETCH)(picture) == [
        {"name": "a", "score": 0.5, "box": [32, 80, 128, 320]},
        {"name": "b", "score": 0.25, "box": [0, 0, 16, 80]},
    ]
    letterboxed = finder(detect, (32, 64), ("a", "b"), View(pad=0))(picture)  # 13x32, at the left
    assert letterboxed[1]["box"] == pytest.approx([0, 0, 8 * 128 / 13, 80])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A config, its random weights, its int8 file, and a picture of another size than the network's."""
    folder = tmp_path_factory.mktemp("detect")
    blocks = ((Block(0, 1, 0, 8),), (Block(3, 2, 24, 16),), (Block(3, 2, 48, 24),), (Block(3, 2, 72, 40),),
              (Block(3, 1, 120, 48),))  # fmt: skip
    arch = ArchSpec("small_r64", 64, 16, blocks).save(folder / "arch.json")
    config = folder / "config.py"
    config.write_text(f"_base_ = {str(DIGITS)!r}\nmodel = dict(backbone=dict(arch={str(arch)!r}))\n")
    torch.manual_seed(0)
    detector = load_detector(str(config))
    torch.save({"meta": {}, "state_dict": detector.state_dict()}, folder / "last.pth")
    rng = np.random.default_rng(0)
    model = bridge.detector(str(config), str(folder / "last.pth"))
    save_onnx(calibrated(model, list(rng.integers(0, 255, (4, 64, 64, 3), np.uint8))), folder / "model.int8.onnx")
    cv2.imwrite(str(folder / "ein Bild.png"), rng.integers(0, 255, (90, 120, 3), np.uint8))
    return folder


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_the_command(made, tmp_path, kind, capsys):
    network = [str(made / "config.py"), str(made / "last.pth")] if kind == "float" else [str(made / "model.int8.onnx")]
    out = tmp_path / "boxes"
    run("detect", [*network, str(made / "ein Bild.png"), "-o", str(out), "--score", "0"])
    (report,) = json.loads((out / "boxes.json").read_text())
    if kind == "float":
        model = load_detector(load_config(str(made / "config.py")), str(made / "last.pth"))
        found = float_boxes(model, small(made))
    else:
        found = compiled(load_int8_detector(made / "model.int8.onnx"))(small(made))
    corners, scores, _ = found
    order = np.argsort(-scores, kind="stable")
    boxes = np.array([box["box"] for box in report["boxes"]]).reshape(-1, 4)
    np.testing.assert_allclose(boxes, corners[order] * ([120 / 64, 90 / 64] * 2), rtol=1e-5)
    assert [box["score"] for box in report["boxes"]] == pytest.approx(scores[order].tolist()) and len(boxes)
    assert Image.open(out / "ein Bild.png").size[0] > 100 and "ein Bild.png: " in capsys.readouterr().out


def small(folder):
    image = cv2.imread(str(folder / "ein Bild.png"))[..., ::-1]
    return np.ascontiguousarray(cv2.resize(image, (64, 64), interpolation=cv2.INTER_LINEAR))


def test_a_broken_picture_costs_no_other(made, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "c.png"):
        (tmp_path / "photos" / name).write_bytes((made / "ein Bild.png").read_bytes())
    (tmp_path / "photos/b.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(UserError, match=r"1 of 3 pictures cannot be read: .*b\.jpg.*out has the 2 others"):
        run("detect", [str(p) for p in (made / "model.int8.onnx", tmp_path / "photos", "-o", tmp_path / "out")])
    assert {p.name for p in (tmp_path / "out").glob("?.png")} == {"a.png", "c.png"}
    assert [Path(row["picture"]).name for row in json.loads((tmp_path / "out/boxes.json").read_text())] == [
        "a.png",
        "c.png",
    ]


def test_what_cannot_be_done_is_one_line(made, tmp_path):
    picture, out = str(made / "ein Bild.png"), ["-o", str(tmp_path / "x")]
    for words, message in (
        ([str(made / "arch.json"), picture], "expected a detector's config"),
        ([str(made / "config.py"), picture], "give its checkpoint"),
        ([str(made / "config.py"), str(made / "last.pth")], "give its checkpoint"),
        ([str(made / "model.int8.onnx"), picture, picture], "two pictures are called"),
    ):
        with pytest.raises(UserError, match=message):
            run("detect", [*words, *out])
    assert not (tmp_path / "x").exists()
