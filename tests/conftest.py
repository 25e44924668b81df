"""Where the tests find the real data: MCUNET_SHARED, by default ../shared. Absent for a stranger, present in CI."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
