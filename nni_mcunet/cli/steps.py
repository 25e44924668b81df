"""Run a way of many steps, each of which is a command and is printed before it runs. A step whose product exists is not
run again, so that what was stopped goes on. No command: `mcunet demo` and `mcunet deploy` share it."""

import subprocess
import sys
import time
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[1] / ".mim/configs"  # in the tree and in a wheel


class Steps:
    """Run one step after the other and say how long it has taken."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def minutes(self) -> float:
        """Return the minutes since the first step."""
        return (time.monotonic() - self.start) / 60

    def __call__(self, title: str, product: Path, *command: object, done: bool | None = None) -> None:
        """Run `mcunet COMMAND` unless it was done: unless `product` is there, where that says it. Exits with its code,
        or with 1 where it wrote no product."""
        print(f"\n[{self.minutes:4.1f} min] {title}", flush=True)
        if product.exists() if done is None else done:
            print(f"  {product} is there: not run again")
            return
        words = [str(c) for c in command]
        print("  mcunet " + " ".join(words), flush=True)
        code = subprocess.run([sys.executable, "-m", "nni_mcunet", *words]).returncode
        if code or not product.exists():
            sys.exit(code or f"error: the step ended without writing {product}")
