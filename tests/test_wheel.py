"""The wheel: it holds every package, kernel, config and board, no test, and all commands work outside the tree."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from nets import block_graph, random_model

from nni_mcunet import __version__
from nni_mcunet.cli.main import COMMANDS
from nni_mcunet.engine.frontend.onnx import save_onnx

PARTS = ("nni_mcunet", "detection", "configs", "tools", "zoo", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: nothing is left in the tree."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tree / name)
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out), str(tree)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("*.whl")
    return found


def test_the_wheel_has_all_of_the_project_and_nothing_else(wheel):
    assert wheel.name == f"nni_mcunet-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        metadata = file.read(f"nni_mcunet-{__version__}.dist-info/METADATA").decode()
    packed = {name for name in names if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT))
        for folder in ("nni_mcunet", "detection")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".mim" not in path.parts
    }
    for folder in ("configs", "tools", "zoo"):  # links in the tree, files in the wheel
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        expected |= {f"nni_mcunet/.mim/{path.relative_to(ROOT)}" for path in files}
    assert packed == expected
    kinds = {Path(name).suffix for name in packed}
    assert kinds >= {".py", ".c", ".h", ".ld", ".S", ".yml", ".json", ".cjs", ".sh"}
    assert any(name.endswith("/LICENSE") for name in names - packed)
    assert "License-Expression: MIT" in metadata and f"\nVersion: {__version__}\n" in metadata
    assert not any("test" in Path(name).parts[0] for name in packed)


def test_the_unpacked_wheel_runs(wheel, tmp_path):
    """Outside the tree: every module of a command is imported, a network of the zoo is profiled."""
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}

    def run(*words):
        line = [sys.executable, "-m", "nni_mcunet", *words]
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version") == f"mcunet {__version__}\n"
    assert all(name in run("completion", "bash") for name in ("generate", "check-data", "detector-table"))
    assert "300.77M MACs" in run("profile", "mobilenet_v2")


@pytest.mark.slow
def test_a_clean_environment_has_every_command(wheel, tmp_path):
    """A virtual environment with the wheel and the packages it needs, and no tree in sight."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python, site = home / "bin/python", next(home.glob("lib/python*/site-packages"))
    words = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"PATH": f"{home}/bin:{env['PATH']}"}
    work = tmp_path / "work"
    work.mkdir()

    def run(*words, code: int = 0) -> str:
        done = subprocess.run([str(word) for word in words], cwd=work, env=env, capture_output=True, text=True)
        assert done.returncode == code, (words, done.stderr)
        return done.stdout + done.stderr

    where = run(python, "-c", "import nni_mcunet, detection; print(nni_mcunet.__file__, detection.__file__)")
    assert all(Path(path).is_relative_to(home) for path in where.split()[-2:])
    assert run("mcunet", "--version") == f"mcunet {__version__}\n"
    for name in COMMANDS:
        if name != "nnictl":
            assert run("mcunet", name, "--help").startswith(f"usage: mcunet {name}")
    assert "3.0" in run("mcunet-nnictl", "--version") and "3.0" in run("mcunet", "nnictl", "--version")
    mim = site / "nni_mcunet/.mim"
    assert run(python, mim / "tools/train.py", "--help").startswith("usage: mcunet train")
    run("mcunet", "digits", "--train", "8", "--val", "4", "--size", "64")
    assert "yolov3_bccd" in run("mcunet", "detector-table")
    assert "digits/VOC2007" in run("mcunet", "check-data", mim / "configs/det/yolov3_digits.py")
    assert "docs/detectors.md" in run("mcunet", "detector-table", "--write", code=2)
    rng = np.random.default_rng(0)
    save_onnx(random_model(rng, block_graph(rng, (20, 24), 3)), work / "m.int8.onnx")
    assert "arena" in run("mcunet", "generate", "m.int8.onnx", "--board", "stm32f412", "--project", "-o", "fw")
    assert (work / "fw/mcu_model.h").is_file() and (work / "fw/Makefile").is_file()
    named = run(python, "-c", DEMO).splitlines()[0].split()  # the configs of the demo's steps, which it has brought
    assert "configs/nni/demo_h743.yml" in named and all((work / name).is_file() for name in named)


DEMO = """
import sys
from nni_mcunet.cli import demo, main
demo.Steps.__call__ = lambda self, title, product, *words, done=None: named.extend(map(str, words))
named = []
sys.stdout, out = sys.stderr, sys.stdout
main.main(["demo"])
print(*(word for word in named if word.startswith("configs/")), file=out)
"""
