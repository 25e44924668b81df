"""Say which version of the project this is. No command: `mcunet --version` prints it."""

import subprocess
from pathlib import Path

from .. import __version__

TREE = Path(__file__).resolve().parents[2]


def version() -> str:
    """Return the version and, where the project runs from a git tree, its commit and whether files differ from it."""
    if not (TREE / ".git").exists():
        return __version__
    words = ["git", "-C", str(TREE), "describe", "--always", "--abbrev=10", "--dirty=, changed", "--exclude=*"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine
        return __version__
    return f"{__version__} (commit {found.stdout.strip()})" if found.returncode == 0 else __version__
