"""The command lines as a user meets them: small ways that work, and bad input that ends in one line and exit code 2."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from nni_mcunet.core.ir.arch import ArchSpec
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import mobilenet_v2
from nni_mcunet.core.nn.net import Net
from nni_mcunet.core.plan.plan import plan
from nni_mcunet.engine.frontend.onnx import load_onnx
from nni_mcunet.search.data import digit_scenes as digits


def tool(name, *arguments):
    command = [sys.executable, f"tools/{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def refused(done, *words):
    """Exit code 2 and a single line that has the words."""
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ") and "Traceback" not in done.stderr
    for word in words:
        assert word in lines[-1]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A classifier's arch JSON and weights, eight pictures, and the files that export and quantize make of them."""
    import cv2

    folder = tmp_path_factory.mktemp("classifier")
    spec, rng = mobilenet_v2(96, 0.35, 10), np.random.default_rng(0)
    spec.save(folder / "arch.json")
    torch.manual_seed(0)
    torch.save(Net(build_graph(spec)).state_dict(), folder / "weights.pth")
    (folder / "pictures").mkdir()
    for i in range(8):
        cv2.imwrite(str(folder / f"pictures/{i}.png"), digits.scene(rng, (96, 96), "train")[0])
    done = tool("export", folder / "arch.json", folder / "weights.pth", "-o", folder / "m.onnx")
    assert done.returncode == 0, done.stderr
    done = tool("quantize", folder / "m.onnx", "--calib", folder / "pictures", "-o", folder / "m.int8.onnx")
    assert done.returncode == 0, done.stderr
    return folder


def test_generate_and_run(classifier, tmp_path):
    """The halo cached, so that nothing is computed twice, unless it is told to recompute it."""
    for folder, more in (("clip", ["--halo", "clip"]), ("c", [])):
        generate = ["--board", "F412", "--arena-kb", 64, *more, "-o", tmp_path / folder]
        done = tool("generate", classifier / "m.int8.onnx", *generate)
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / folder / "plan.json").read_text())
        assert facts["arena_bytes"] <= 64 * 1024 and facts["n"] > 0
        assert facts["halo"] == (folder if more else "cache") and f"halo {facts['halo']}" in done.stdout
        assert (facts["patch_overhead"] > 0) == bool(more)
    run = ["--board", "F412", "--emulate", "--picture", classifier / "pictures/0.png", "--json", tmp_path / "r.json"]
    done = tool("run_board", tmp_path / "c", *run)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["arena_bytes"] == facts["arena_bytes"] and report["instructions"] > facts["macs"]
    scores = [t["score"] for t in report["top"]]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)


def test_importer_gives_the_spec_s_graph_back(classifier):
    graph = build_graph(ArchSpec.load(classifier / "arch.json")).folded()
    assert load_onnx(classifier / "m.onnx").graph == graph == load_onnx(classifier / "m.int8.onnx").graph


def test_generate_several_segments(classifier, tmp_path):
    """The smallest arena takes more than one patched segment, its C runs exactly, and so does one that was asked
    for."""
    model, wanted = (
        classifier / "m.int8.onnx",
        {"least": ["--least-sram", "--max-overhead", 0.05], "asked": ["--patches", "2x2,2x1", "--blocks", "3,6"]},
    )
    facts = {}
    for name, more in wanted.items():
        done = tool("generate", model, "--board", "F412", *more, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        facts[name] = json.loads((tmp_path / name / "plan.json").read_text())
    assert facts["least"]["then"] and facts["least"]["patch_overhead"] <= 0.05
    assert facts["least"]["arena_bytes"] < facts["asked"]["arena_bytes"]
    assert (facts["asked"]["p"], facts["asked"]["n"], facts["asked"]["then"]) == ([2, 2], 3, [[[2, 1], 6]])


def test_the_smallest_arena_is_taken_at_the_knee_of_the_front(classifier, tmp_path):
    """Unless told otherwise: the front is printed with its times, and how wide it was looked for."""
    more = ["--least-sram", "--max-p", 3, "--segments", 2]
    done = tool("generate", classifier / "m.int8.onnx", "--board", "F412", *more, "-o", tmp_path / "c")
    assert done.returncode == 0, done.stderr
    assert "up to 2 segments in patches, grids up to 3x3 of square shape; the front:" in done.stdout
    (row,) = (line.split() for line in done.stdout.splitlines() if line.endswith("<- knee"))
    facts = json.loads((tmp_path / "c/plan.json").read_text())
    assert f"{facts['arena_bytes']:,}" == row[0] and float(row[3]) > 0


def test_generate_refuses(classifier, tmp_path):
    model, out = classifier / "m.int8.onnx", tmp_path / "c"
    refused(tool("generate", model, "--board", "stm32x", "-o", out), "unknown board 'stm32x'", "stm32h743")
    refused(tool("generate", tmp_path / "no.onnx", "--board", "F412", "-o", out), "no such file", "no.onnx")
    refused(tool("generate", classifier / "m.onnx", "--board", "F412", "-o", out), "is float", "mcunet quantize")
    refused(tool("generate", model, "--board", "F412", "--arena-kb", 8, "-o", out), "m.int8.onnx: ",
            "bytes of sram", "smaller network")  # fmt: skip
    smallest = plan(load_onnx(model).graph)
    assert smallest.arena > 8 * 1024
    for options, *words in (
        ("--patches 3", "--patches '3'", "2x2"),
        ("--patches 2x2 --blocks 3 --least-sram", "--least-sram", "--patches"),
        ("--patches 2x2 --blocks 3 --segments 2", "--segments", "--patches"),
        ("--fastest --max-overhead 0", "--max-overhead", "--fastest"),
        ("--max-overhead -1", "-1", "0 or more"),
        ("--segments 0", "0 patched segments", "1 or more"),
        ("--max-p 0", "0x0", "1 or more"),
        ("--arena-kb 0", "0 bytes for the network"),
    ):
        refused(tool("generate", model, "--board", "F412", *options.split(), "-o", out), *words)
    assert not out.exists()


def test_unreadable_files_are_refused(classifier, tmp_path):
    out = tmp_path / "q.onnx"
    refused(tool("quantize", classifier / "m.onnx", "--calib", classifier / "m.onnx", "-o", out), "m.onnx")
    refused(tool("quantize", tmp_path, "--calib", classifier / "pictures", "-o", out), str(tmp_path))
    (tmp_path / "board.json").write_text('{"name": "x", "core": "cortex-m4", "clock_hz": 1, "sram": "256", "flash": 1}')
    refused(
        tool("generate", classifier / "m.int8.onnx", "--board", tmp_path / "board.json", "-o", out),
        "sram (bytes) is '256'",
    )


def test_readme_has_no_gaps():
    assert "@@" not in (ROOT / "README.md").read_text()


def test_export_refuses(classifier, tmp_path):
    (tmp_path / "arch.json").write_text('{"name": "x", "resolutoin": 96}')
    out = tmp_path / "m.onnx"
    refused(tool("export", tmp_path / "arch.json", classifier / "weights.pth", "-o", out), "unknown key 'resolutoin'")
    refused(tool("export", tmp_path / "none.json", classifier / "weights.pth", "-o", out), "no such file")
    mobilenet_v2(96, 0.5, 10).save(tmp_path / "other.json")
    refused(tool("export", tmp_path / "other.json", classifier / "weights.pth", "-o", out), "does not hold the weights")
    assert not out.exists()


def test_quantize_refuses(classifier, tmp_path):
    out = tmp_path / "q.onnx"
    (tmp_path / "empty").mkdir()
    refused(tool("quantize", classifier / "m.onnx", "--calib", tmp_path / "empty", "-o", out), "no picture")
    refused(tool("quantize", classifier / "m.onnx", "--calib", tmp_path / "absent", "-o", out), "no such file")
    (tmp_path / "cut.onnx").write_bytes((classifier / "m.onnx").read_bytes()[:1000])
    refused(tool("quantize", tmp_path / "cut.onnx", "--calib", classifier, "-o", out), "not a valid ONNX file")
    refused(tool("quantize", classifier / "m.onnx", "--calib", "README.md", "-o", out), "README.md is one file")
    refused(tool("quantize", classifier / "m.onnx", "--calib", classifier, "--images", 0, "-o", out), "images is 0")
    (tmp_path / "empty/a.png").write_bytes(b"no picture")
    refused(tool("quantize", classifier / "m.onnx", "--calib", tmp_path / "empty", "-o", out), "no readable picture")
    assert not out.exists()


def test_run_board_refuses(classifier, tmp_path):
    picture = ["--picture", classifier / "pictures/0.png"]
    refused(tool("run_board", tmp_path, "--board", "F412", "--emulate", *picture), "mcunet generate")
    layers = ["--port", "/dev/ttyACM0", "--layers", tmp_path / "layers.png"]
    refused(tool("run_board", tmp_path, "--board", "F412", *layers, *picture), "--emulate")
