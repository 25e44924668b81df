"""Show how far a long command is: a bar on a terminal, a plain line now and then in a pipe or a file."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

from .validate import counted

TENTHS = 10
QUIET = 5.0  # seconds between two lines, and before the first: a short command says nothing

Item = TypeVar("Item")


class Progress:
    """Count up to `total` on stderr, None where it is not known. title: what is done, unit: what is counted; show:
    False says nothing."""

    def __init__(self, total: int | None, unit: str, title: str, show: bool = True):
        from tqdm import tqdm  # `import nni_mcunet` does not wait for it

        self.total, self.unit, self.title, self.done, self.said = total, unit, title, 0, 0
        self.plain = show and not sys.stderr.isatty()
        self.bar = tqdm(total=total, unit=unit, desc=title, leave=False, disable=None if show else True)
        self.start = self.spoke = time.monotonic()

    def to(self, done: int, figures: str = "") -> None:
        """Say that `done` are done, with figures such as a loss."""
        self.bar.set_postfix_str(figures, refresh=False)
        self.bar.update(done - self.done)
        self.done = done
        now, tenth = time.monotonic(), done * TENTHS // max(self.total or done, 1)
        if not self.plain or now - self.spoke < QUIET or (self.total is not None and tenth <= self.said):
            return
        self.said, self.spoke = tenth, now
        print(f"{self.title}: {self._far(now - self.start)}{figures and ', ' + figures}", file=sys.stderr, flush=True)

    def _far(self, seconds: float) -> str:
        """Say how far it is, and how long the rest takes at this pace."""
        if self.total is None:
            return f"{counted(self.done, self.unit)} in {seconds:.0f} s"
        left = seconds * (self.total - self.done) / max(self.done, 1)
        rest = f", about {left:.0f} s to go" if self.done < self.total else ""
        return f"{self.done:,} of {counted(self.total, self.unit)} in {seconds:.0f} s{rest}"

    def __enter__(self) -> "Progress":
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the bar."""
        self.bar.close()


class Stages:
    """Name the parts of a work whose length nobody knows, as each begins: said in a pipe, on a terminal one line that
    the next one replaces. title: what is done."""

    def __init__(self, title: str, total: int):
        from tqdm import tqdm

        self.title, self.total, self.done = title, total, 0
        self.bar = tqdm(total=total, unit="part", desc=title, leave=False, disable=None)

    def __call__(self, part: str) -> None:
        """Say that a part begins."""
        self.bar.set_postfix_str(part)
        self.bar.update(int(self.done > 0))
        self.done += 1
        if not sys.stderr.isatty():
            print(f"{self.title}: {part} ({self.done} of {self.total})", file=sys.stderr, flush=True)

    def __enter__(self) -> "Stages":
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the line."""
        self.bar.close()


def each(items: Iterable[Item], unit: str, title: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and show how far that is. total: how many there are, where `items` does not know."""
    with Progress(len(items) if isinstance(items, Sized) else total, unit, title) as bar:
        for done, item in enumerate(items, 1):
            yield item
            bar.to(done)
