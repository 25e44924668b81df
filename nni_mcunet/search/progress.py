"""Show how far a long command is: a bar on a terminal, a plain line at each tenth in a pipe or a file."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

TENTHS = 10


class Progress:
    """Count up to `total` on stderr. title: what is done, unit: what is counted; show: False says nothing."""

    def __init__(self, total: int, unit: str, title: str, show: bool = True):
        self.total, self.unit, self.title, self.done, self.said = total, unit, title, 0, 0
        self.plain = show and not sys.stderr.isatty()
        self.bar = tqdm(total=total, unit=unit, desc=title, disable=None if show else True)
        self.start = time.monotonic()

    def to(self, done: int, figures: str = "") -> None:
        """Say that `done` of the total are done, with figures such as a loss."""
        self.bar.set_postfix_str(figures, refresh=False)
        self.bar.update(done - self.done)
        self.done = done
        if self.plain and done * TENTHS // max(self.total, 1) > self.said:
            self.said = done * TENTHS // max(self.total, 1)
            seconds = time.monotonic() - self.start
            print(f"{self.title}: {done} of {self.total} {self.unit}s in {seconds:.0f} s{figures and ', ' + figures}",
                  file=sys.stderr, flush=True)  # fmt: skip

    def __enter__(self) -> "Progress":
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the bar."""
        self.bar.close()
