"""No command: what the benchmarks share, their tables in docs and the tools that they run."""

import subprocess
import sys
from pathlib import Path

from nni_mcunet.core.files import write_atomic

ROOT = Path(__file__).parents[1]


def into_page(page: str, begin: str, table: str, end: str) -> None:
    """Replace the text between these two lines of a page of docs."""
    path = ROOT / "docs" / page
    before, rest = path.read_text().split(begin)
    write_atomic(path, before + begin + table + end + rest.split(end)[1])


def python(*words) -> None:
    """Run a tool of the project, printed before; exits with its code where that is not 0."""
    words = [sys.executable, *map(str, words)]
    print(" ".join(words[1:]), flush=True)
    if code := subprocess.run(words, cwd=ROOT).returncode:
        sys.exit(code)
