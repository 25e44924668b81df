"""Modules that other tools have made: quantised by torchao, detectors of mmdet. The page and the example that say how,
the report, the wheel."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from test_api import BLOCK
from test_detect import made
from test_modules import db, samples
from test_wheel import wheel
from theirs import run
from torch import nn
from torch_nets import norm_conv
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

import nni_mcunet as mcu
from detection import load_detector

__all__ = ["made", "wheel"]  # fixtures of other files
SHAPE = 3, 32, 24


class Plain(nn.Module):
    """A network of what XNNPACK's quantiser knows: convolutions, sums, a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.dw = norm_conv(3, 8, 3, 2, act=nn.ReLU), norm_conv(8, 8, groups=8, act=nn.ReLU)
        self.pw, self.pool, self.fc = nn.Conv2d(8, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.fc(torch.flatten(self.pool(x + self.pw(self.dw(x))), 1))


@pytest.fixture(scope="module")
def converted():
    """A module that torchao has quantised, on inputs of its own range."""
    torch.manual_seed(0)
    module, x = Plain().eval(), 4 * samples(16) - 2
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(module, (x[:1],)).module(), quantizer)
    for one in x:
        prepared(one[None])
    return convert_pt2e(prepared), x


@pytest.mark.parametrize("program", [False, True])
def test_torchao_s_integers_are_kept(converted, program, tmp_path):
    module, x = converted
    given = torch.export.export(module, (x[:1],)) if program else module
    fw = mcu.compile(given, board="stm32f412", out=tmp_path / "fw")
    assert fw.network.kind == "int8" and fw.sqnr == {} and len(fw.network.graph.ops) == 6
    step = fw.network.model.scales[fw.network.graph.outputs[0]].scale
    torch.onnx.export(torch.export.export(module, (x[:1],)), dynamo=True, verbose=False).save(tmp_path / "qdq.onnx")
    for one in x[:6]:
        found = next(iter(fw.run(one).named.values()))
        with torch.no_grad():
            wanted = module(one[None]).numpy()
        (theirs,) = run(tmp_path / "qdq.onnx", one[None].numpy())
        assert found.shape == wanted.shape and abs(found - theirs).max() < 1.01 * step
        assert abs(found - wanted).max() < 1.01 * step


def test_torchao_s_input_by_the_bytes_of_a_picture(converted, tmp_path):
    """mean and std say what a byte is, a float is rounded to the file's own scale."""
    module, _ = converted
    fw = mcu.compile(module, board="stm32f412", out=tmp_path / "fw", mean=127.5, std=63.75)
    assert "MCU_PIXEL(channel, byte) (mcu_pixels" in (tmp_path / "fw/mcu_model.h").read_text()
    with pytest.raises(mcu.UserError, match="leave out bgr"):
        mcu.compile(module, board="stm32f412", out=tmp_path / "fw", bgr=True)
    most, beyond = (fw.run(torch.full(SHAPE, value)).outputs[0] for value in (2.0, 100.0))
    assert np.array_equal(most, beyond)  # as QuantizeLinear saturates


def test_a_checkpoint_of_mmdet(made, tmp_path):
    config, weights = made / "config.py", made / "last.pth"
    pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    fw = mcu.compile(config, pictures, board="stm32h743", out=tmp_path / "fw", weights=weights)
    assert fw.run(made / "ein Bild.png").boxes and len(fw.sqnr) == len(fw.network.graph.outputs) > 1
    live = mcu.compile(load_detector(config, weights), pictures, board="stm32h743", out=tmp_path / "live")
    assert live.facts == fw.facts and live.network.model.scales == fw.network.model.scales
    for path in (tmp_path / "fw").glob("*_model.c"):
        assert path.read_bytes() == (tmp_path / "live" / path.name).read_bytes()
    with pytest.raises(mcu.UserError, match="an architecture without weights"):
        mcu.compile(config, pictures, board="stm32h743", out=tmp_path / "none")


def test_the_page_s_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    torch.manual_seed(0)
    for block in BLOCK.findall((ROOT / "docs/pytorch.md").read_text()):
        exec(compile(block, "docs/pytorch.md", "exec"), names)
    said = capsys.readouterr().out
    assert "instructions" in said and "reads (byte - 127.5) / 127.5" in said and "peak" in said
    assert names["answer"].named["op_4"].shape == (1, 4)


def test_the_report_is_that_of_the_emulated_firmware(tmp_path):
    torch.manual_seed(0)
    fw = mcu.compile(Plain().eval(), samples(8), board="stm32f412", out=tmp_path / "fw")
    report = fw.report()
    row, ran = report["boards"]["stm32f412"], fw.run(fw.network.example, on="emulator").to_dict()
    assert {key: row[key] for key in ("arena_bytes", "sram_bytes", "flash_bytes", "instructions")} == {
        key: ran[key] for key in ("arena_bytes", "sram_bytes", "flash_bytes", "instructions")
    }
    assert row["macs"] == fw.plan.macs and row["arena_bytes"] == fw.arena and report["sqnr"] == fw.sqnr
    assert report["network"] == "Plain" and report["reads"] == {"mean": [0] * 3, "std": [255] * 3, "bgr": False}


def test_the_example_runs(tmp_path, capsys):
    example = runpy.run_path(str(ROOT / "examples/pytorch.py"))
    floats, int8 = example["main"](tmp_path / "fw", steps=300)
    said = capsys.readouterr().out
    assert floats > 0.8 and abs(floats - int8) < 0.05 and "instructions" in said and "SQNR" in said


def test_a_module_is_compiled_outside_the_tree(wheel, tmp_path):
    script = (
        "import torch, nni_mcunet as mcu; m = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU());"
        "fw = mcu.compile(m.eval(), torch.rand(4, 3, 16, 16), board='stm32f412', out='fw');"
        "print(mcu.__file__, fw.run(torch.rand(3, 16, 16)).named['op_0'].shape)"
    )
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "-t",
        str(tmp_path / "site"),
        wheel,
    ]
    subprocess.run(words, check=True)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {script}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path, *shape = done.stdout.split(" ", 1)
    assert Path(path).is_relative_to(tmp_path) and shape == ["(1, 4, 8, 8)\n"]


def test_the_sqnr_is_what_the_firmware_says(tmp_path):
    torch.manual_seed(0)
    module, x = Plain().eval(), samples(16)
    fw = mcu.compile(module, x, board="stm32f412", out=tmp_path / "fw")
    with torch.no_grad():
        measured = db(module(x), np.concatenate([fw.run(one).named["fc"] for one in x]))
    assert measured == pytest.approx(fw.sqnr["fc"], abs=1)
