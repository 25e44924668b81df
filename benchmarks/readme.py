"""No command: what the benchmarks share, their tables in the README and the tools that they run."""

import subprocess
import sys
from pathlib import Path

from nni_mcunet.core.files import write_atomic

ROOT = Path(__file__).parents[1]


def into_readme(begin: str, table: str, end: str) -> None:
    """Replace what stands in the README between these two lines."""
    path = ROOT / "README.md"
    before, rest = path.read_text().split(begin)
    write_atomic(path, before + begin + table + end + rest.split(end)[1])


def python(*words) -> None:
    """Run a tool of the project, printed before; exits with its code where that is not 0."""
    words = [sys.executable, *map(str, words)]
    print(" ".join(words[1:]), flush=True)
    if code := subprocess.run(words, cwd=ROOT).returncode:
        sys.exit(code)
