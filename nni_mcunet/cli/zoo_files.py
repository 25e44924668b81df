"""Let zoo:NAME stand for a file in what a command was given. No command."""

import argparse

from ..core.model_zoo import is_named, model_file, weights_file


def with_files(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with the files that zoo:NAME stands for: float weights for --weights, an int8 model for
    all others. Raises UserError for an unknown name."""
    for key, value in vars(args).items():
        find = weights_file if key == "weights" else model_file
        if is_named(value):
            setattr(args, key, str(find(value)))
        elif isinstance(value, list):
            setattr(args, key, [str(find(one)) if is_named(one) else one for one in value])
    return args
