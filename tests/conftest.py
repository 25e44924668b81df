"""Where the tests find the real data: MCUNET_SHARED, by default ../shared. Absent for a stranger, present in CI."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    path = Path(os.environ.get("MCUNET_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}: set MCUNET_SHARED to its folder")
    return path
