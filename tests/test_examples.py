"""The examples run as they stand."""

import os
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from tiny import environment

from nni_mcunet.core.ir.arch import ArchSpec

EXAMPLES = ROOT / "examples"


def test_each_is_listed():
    listed = re.findall(r"examples/([\w/]+\.\w+)", (EXAMPLES / "README.md").read_text())
    assert {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.*") if path.is_file()} == {
        *listed,
        "README.md",
    }


@pytest.mark.parametrize("words", [[], ["mcunet_in1"], ["mcunet_in4", "stm32h743"]])
def test_plan(words):
    done = subprocess.run([sys.executable, EXAMPLES / "plan.py", *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    name, board = [*words, *("mcunet_in3", "stm32f412")[len(words) :]][:2]
    assert done.stdout.startswith(f"{name}, ") and f"\n{board} has " in done.stdout
    assert len((EXAMPLES / "plan.py").read_text().splitlines()) <= 15


@pytest.fixture
def photos(tmp_path):
    """Two classes of pictures, dark and light, in train/CLASS."""
    rng = np.random.default_rng(0)
    for at in range(64):
        name = ("dark", "light")[at % 2]
        picture = rng.integers(0, 90, (128, 128, 3)) + 160 * (at % 2)
        (tmp_path / "photos/train" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(tmp_path / f"photos/train/{name}/{at}.png")
    return tmp_path / "photos"


def test_foreign_model(photos, tmp_path):
    """A float ONNX file, calibrated; then a .tflite that keeps its integers."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3, 2, 1)).eval()
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), tmp_path / "net.onnx", dynamo=True, verbose=False)
    main = runpy.run_path(str(EXAMPLES / "foreign_model.py"))["main"]
    result = main(tmp_path / "net.onnx", photos / "train/dark", "stm32f412", tmp_path / "fw")
    (values,) = result.named.values()
    assert values.size == 8 * 8 * 4 and result.facts["instructions"] > 0


def test_foreign_tflite(photos, shared, tmp_path):
    main = runpy.run_path(str(EXAMPLES / "foreign_model.py"))["main"]
    result = main(shared / "models/tflite/vww_96_int8.tflite", photos / "train/dark", folder=tmp_path / "fw")
    (values,) = result.named.values()
    assert values.size == 2


@pytest.mark.slow
def test_search_pictures(photos, tmp_path):
    code = (
        f"import runpy; runpy.run_path({str(EXAMPLES / 'search_pictures.py')!r})['main']({str(photos)!r}, "
        f"{str(tmp_path / 'out')!r}, largest=20, shared=20, population=4, iterations=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    spec = ArchSpec.load(tmp_path / "out/search/best.json")
    assert spec.schedule is not None and (tmp_path / "out/search/best.pth").exists()


@pytest.mark.slow
def test_detector(shared, tmp_path):
    env = os.environ | {"MCUNET_EPOCHS": "1", "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    command = ["sh", EXAMPLES / "detector.sh", shared / "data/bccd/BCCD", "stm32h743", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out/board/report.json").exists()


def test_the_camera_is_the_documented_one():
    """docs/c.md's, which test_pictures compiles."""
    blocks = re.findall(r"```c\n(.*?)```", (ROOT / "docs/c.md").read_text(), re.DOTALL)
    (documented,) = [block for block in blocks if "DCMI_IRQHandler" in block]
    assert (EXAMPLES / "camera/camera.c").read_text().partition("*/\n")[2] == documented
