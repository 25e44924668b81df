"""Look at the files that a command was given, before it imports what takes seconds: zoo:NAME stands for one, and each
has to be there. No command."""

import argparse
from pathlib import Path

from ..core.errors import UserError
from ..core.model_zoo import entry, is_named, model_file, weights_file

ENDINGS = (".py", ".json", ".yml", ".pth", ".onnx", ".tflite")
NAMED = ("config", "checkpoint", "arch", "weights", "network")  # a file where it ends so, else a name that is known
PATHS = ("folder", "files")
FILES = {"config": "a config file", "checkpoint": "a checkpoint (.pth)"}  # never a name that is known


def with_files(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with the files that zoo:NAME stands for: float weights for --weights, an int8 model for
    all others. Raises UserError for an unknown name, for one in the place of a config or a checkpoint, for a file or a
    folder that is not there, and for a folder in a file's place."""
    for key, value in vars(args).items():
        if key in FILES and is_named(value):
            config = entry(value)["config"]
            raise UserError(f"{value} is an int8 file, trained by {config}: expected {FILES[key]}")
        find = weights_file if key == "weights" else model_file
        if is_named(value):
            setattr(args, key, str(find(value)))
        elif isinstance(value, list):
            setattr(args, key, [str(find(one)) if is_named(one) else one for one in value])
    for key, expected in FILES.items():
        for path in _given(args, (key,)):
            if path.is_dir():
                ending = "" if key != "config" else " (.py)" if "cfg_options" in vars(args) else " (.yml)"
                raise UserError(f"{path} is a folder: expected {expected}{ending}")
    for path in _given(args, NAMED):
        if path.suffix in ENDINGS and not path.exists():
            raise UserError(f"no such file: {path}")
    for path in _given(args, PATHS):
        if not path.exists():
            raise UserError(f"no such file or folder: {path}")
    return args


def _given(args: argparse.Namespace, keys: tuple[str, ...]) -> list[Path]:
    values = [getattr(args, key, None) or [] for key in keys]
    return [Path(path) for value in values for path in (value if isinstance(value, list) else [value])]
