"""`python tools/NAME.py` is `mcunet NAME`, also from a tree that is not installed."""

import os
import sys


def run(module: str, command: str) -> None:
    """Run it where the caller is the program, not where a worker process imports that once more."""
    if module == "__main__":
        here = os.path.dirname(os.path.abspath(__file__))
        # Not this folder: its profile.py and inspect.py would hide the standard library's.
        sys.path[:] = [os.path.dirname(here), *(p for p in sys.path if os.path.abspath(p or ".") != here)]
        from nni_mcunet.cli.main import main

        main([command, *sys.argv[1:]])
