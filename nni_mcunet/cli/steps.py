"""Run a way of many steps, each of which is a command and is printed before it runs. A step whose product exists is not
run again, so that what was stopped goes on; `claim` sees to it that it is of the same things. No command: `mcunet demo`
and `mcunet deploy` share it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.errors import UserError
from ..core.files import write_json
from ..core.types import Plain

CONFIGS = Path(__file__).resolve().parents[1] / ".mim/configs"  # in the tree and in a wheel


def claim(marker: Path, said: Mapping[str, Plain], products: Mapping[str, Sequence[Path]], way_out: str) -> list[str]:
    """Say in the JSON file `marker` what products are of, before they are made. said: a value a key, or a dict of
    hashes. products: those that depend on a key. Returns the keys, with those of their dicts in brackets, that the
    marker has with another value while one of their products is there; it then stays as it is.

    Raises UserError, with the `way_out`, for a damaged marker, and for products that are there although the marker
    lacks their key: they would be taken for finished steps."""
    now: dict[str, Plain] = json.loads(json.dumps(said))  # as it is read back: no tuples
    there = {key: [path for path in products[key] if os.path.lexists(path)] for key in said}
    try:
        known = dict(json.loads(marker.read_text())) if marker.exists() else {}
        other = [_difference(key, known[key], now[key]) for key in said if key in known and there[key]]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{marker} is damaged: {way_out}") from None
    if different := [text for text in other if text]:
        return different
    if taken := dict.fromkeys(path for key in said if key not in known for path in there[key]):
        names = ", ".join(os.path.relpath(path, marker.parent) for path in taken)
        raise UserError(f"{marker.parent} has no {marker.name} that says what its {names} is of: {way_out}")
    if known | now != known:
        write_json(marker, known | now)
    return []


def _difference(key: str, old: Plain, new: Plain) -> str:
    """Name a key whose value differs, in brackets those within it; empty where none does."""
    if old == new:
        return ""
    if not isinstance(new, dict):
        return key
    return f"{key} ({', '.join(k for k in old | new if old.get(k) != new.get(k))})"


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
        or with 1 where it wrote no product. Ctrl-C says on stderr that the way goes on from here."""
        print(f"\n[{self.minutes:4.1f} min] {title}", flush=True)
        if product.exists() if done is None else done:
            print(f"  {product} is there: not run again")
            return
        words = [str(c) for c in command]
        print("  mcunet " + " ".join(words), flush=True)
        try:
            code = subprocess.run([sys.executable, "-m", "nni_mcunet", *words]).returncode
        except KeyboardInterrupt:
            print("stopped: the same command begins this step again, after those that are done", file=sys.stderr)
            raise
        if code or not product.exists():
            sys.exit(code or f"error: the step ended without writing {product}")
