"""Read the settings of a training for the command lines: the flags, and behind them a YAML file."""

import argparse
import os
from dataclasses import fields, replace

from ...core.errors import UserError
from ...core.types import PlainDict
from ...core.validate import check_keys, integer, read_yaml, short
from ..data import Data, open_data, parse_data
from .recipe import Recipe

KEYS = ("space", "data", "out", "recipe", "save_every")


def read_settings(path: str | None) -> PlainDict:
    """Read the mapping of a YAML file, {} without one. Raises UserError."""
    if path is None:
        return {}
    settings = read_yaml(path)
    check_keys(settings, KEYS, str(path))
    for key in settings:
        if key in ("space", "out") and (not isinstance(settings[key], str) or not settings[key]):
            raise UserError(f"{path}: {key} is {short(settings[key])}: expected a non-empty string")
        if key == "save_every":
            integer(settings[key], f"{path}: save_every", 1)
    return settings


def data_and_recipe(settings: PlainDict, args: argparse.Namespace, default: Recipe) -> tuple[Data, Recipe]:
    """Return the data and the recipe: flags before the file, the file before the default. A learning rate is of the
    batch it was given with: another batch changes it by the linear rule (Goyal et al. 2017). Raises UserError."""
    given = settings.get("data") or {"kind": "digits"}
    if args.data:
        asked = parse_data(args.data)
        same = isinstance(given, dict) and given.get("kind") == asked.get("kind")
        given = given | asked if same else asked  # --data imagenet:/there keeps the file's other options
    data, recipe = open_data(given), settings.get("recipe") or {}
    if not isinstance(recipe, dict):
        raise UserError(f"recipe is {short(recipe)}: expected a mapping")
    flags = {f.name: getattr(args, f.name, None) for f in fields(Recipe)} | {"epochs": getattr(args, "epochs", None)}
    flags = {name: value for name, value in flags.items() if value is not None}
    if {"largest", "shared"} & set(flags):
        recipe = {name: value for name, value in recipe.items() if name != "epochs"}
    known = {f.name: getattr(default, f.name) for f in fields(Recipe)}
    found = Recipe.from_dict(known | recipe | flags, data)
    return data, found if "lr" in flags else _scaled(found, recipe.get("batch", default.batch) if "lr" in recipe
                                                     else default.batch)  # fmt: skip


def _scaled(recipe: Recipe, batch: int) -> Recipe:
    """Give a recipe the learning rate of its own batch, from that of `batch`; AdamW's does not depend on it so."""
    if recipe.adam or recipe.batch == batch:
        return recipe
    lr = recipe.lr * recipe.batch / batch
    if not int(os.environ.get("RANK", 0)):  # of torchrun's processes the first
        print(f"learning rate {lr:g}: {recipe.lr:g} is for batches of {batch}, not {recipe.batch}; --lr sets another")
    return replace(recipe, lr=lr)
