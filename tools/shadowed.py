"""No command: how profile.py and inspect.py, which have names of the standard library, stay out of its way. A script of
this folder has the folder first on sys.path, and what torch or dataclasses import under these names would be ours."""

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def give_way(name: str) -> None:
    """`import name` gives the standard library's module, now that it has found the file of this folder."""
    here = Path(__file__).resolve().parent
    spec = PathFinder.find_spec(name, [p for p in sys.path if Path(p).resolve() != here])
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
