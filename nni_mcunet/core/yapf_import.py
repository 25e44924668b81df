"""Import yapf, which mmengine imports, although the cache of its grammar is broken.

yapf 0.43 renames that file into its place before its content is written. A process that starts in that moment reads an
empty file (torchrun, NNI's trials), and a process killed in that moment leaves one behind for every later start.
"""

import pickle
import shutil
from importlib.metadata import version

from platformdirs import user_cache_dir

TRIES = 5  # other processes may write the file at the same time


def import_yapf() -> None:
    """Import yapf; a cache that cannot be read is removed, and yapf writes it anew."""
    for again in reversed(range(TRIES)):
        try:
            import yapf  # noqa: F401

            return
        except (EOFError, pickle.UnpicklingError):
            if not again:
                raise
            shutil.rmtree(user_cache_dir("YAPF", "Google", version=version("yapf")), ignore_errors=True)
