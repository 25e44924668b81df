"""Add the flags of a training's recipe to `mcunet train-supernet` and `mcunet finetune`. No command, and no torch: what
the flags mean is read in search/supernet/recipe_options.py."""

import argparse
from dataclasses import fields

from ..search.supernet.recipe import Recipe
from .argument_types import positive

HELP = {
    "largest": "steps that train only the largest network",
    "shared": "steps of random sub-networks",
    "subnets": "sub-networks trained in one step",
    "sandwich": "the largest and the smallest among them",
    "batch": "pictures a step",
    "lr": "highest learning rate",
    "weight_decay": "of the optimizer",
    "adam": "AdamW instead of SGD",
    "label_smoothing": "of the cross-entropy",
    "ema": "decay of averaged weights for evaluation",
    "amp": "half precision",
    "seed": "of every random draw",
}


def add_recipe(parser: argparse.ArgumentParser, default: Recipe, skip: tuple[str, ...] = ()) -> None:
    """Add the flags of the recipe, its data and how it is run. A flag that was not given is None."""
    parser.add_argument("--data", help="digits (default), KIND:ROOT with imagenet, vww, cifar10 or folder, or {YAML}")
    for field in fields(Recipe):
        flag, value = "--" + field.name.replace("_", "-"), getattr(default, field.name)
        if field.name in skip:
            continue
        if field.type is bool:
            parser.add_argument(flag, action="store_true", default=None, help=HELP[field.name])
        else:
            parser.add_argument(flag, type=field.type, help=f"{HELP[field.name]} (default {value})")
    parser.add_argument("--save-every", type=positive, help="steps between two checkpoints (default 20)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--threads", type=positive, default=1, help="of the CPU (default 1); more are faster only on idle cores"
    )
