"""No command: what demo.py and deploy.py share. A way of many commands, each of which works alone and is printed before
it runs. A step whose product exists is not run again, so that what was stopped goes on."""

import subprocess
import sys
import time
from pathlib import Path


class Steps:
    def __init__(self):
        self.start = time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.start) / 60

    def __call__(self, title: str, product: Path, *command, done: bool | None = None) -> None:
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
