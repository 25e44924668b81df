"""Say how a training that Ctrl-C has stopped goes on. No command."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def saying_how_to_go_on(checkpoint: Callable[[], Path | None], flag: str = "", show: bool = True) -> Iterator[None]:
    """Print one line on stderr where Ctrl-C ends the context. checkpoint: finds the file from which the same command,
    with `flag`, goes on; None before there is one. show: False in all processes but the first."""
    try:
        yield
    except KeyboardInterrupt:
        if show:
            found = checkpoint()
            again = f": the same command{flag} goes on from {found}"
            print(f"stopped{again if found else ' before its first checkpoint: it begins anew'}", file=sys.stderr)
        raise


def if_there(path: Path) -> Path | None:
    """Return the path of a file that is there."""
    return path if path.is_file() else None
