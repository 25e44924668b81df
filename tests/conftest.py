"""Where the tests find the real data: MCUNET_SHARED, by default ../shared. Absent for a stranger, present in CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Let ccache answer for gcc: hundreds of tests compile the same kernels, which is half of their time."""
    ccache = shutil.which("ccache", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if ccache is None:
        return
    links = ROOT / "out/tests/ccache"
    links.mkdir(parents=True, exist_ok=True)
    for compiler in ("gcc", "g++", "arm-none-eabi-gcc"):
        (links / f"{compiler}.{os.getpid()}").symlink_to(ccache)
        (links / f"{compiler}.{os.getpid()}").replace(links / compiler)  # the workers do this at once
    os.environ["PATH"] = f"{links}{os.pathsep}{os.environ['PATH']}"
    os.environ["CCACHE_NOHASHDIR"] = "1"  # an object with line numbers, too, serves every folder


@pytest.fixture(scope="session")
def shared() -> Path:
    path = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}: set MCUNET_SHARED to its folder")
    return path


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True).returncode:
        pytest.skip("this user may not mount a disk of 1 MB")
    yield place
    subprocess.run(["umount", place], check=True)
