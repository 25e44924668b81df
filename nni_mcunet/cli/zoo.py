"""List the trained networks that come with this project, and show their cards.

mcunet zoo                                   a table: name, data, metric, memory, estimated time; then recipes
mcunet zoo show blood-cells-f412             the card: data and their licence, figures, boards, commands
mcunet generate zoo:blood-cells-f412 --board stm32f412 -o out/fw

zoo:NAME stands for a model's file in every command that takes one.
"""

import argparse

from ..core.errors import UserError
from ..core.model_zoo import PREFIX, card, index, recipes
from ..core.types import PlainDict

COLUMNS = (("name", 28), ("input", 9), ("head", 8), ("mAP50", 7), ("int8", 7), ("SRAM, kB", 10), ("flash, kB", 11),
           ("ms, est.", 10), ("on", 12), ("finds", 0))  # fmt: skip
LEFT = ("name", "on", "finds")
RECIPES = """
Recipes: the terms of these pictures do not let us hand on the weights. Scores are float / int8, measured here:
  mcunet train CONFIG; mcunet deploy CONFIG work_dirs/NAME/last.pth --boards BOARD -o out/NAME
"""
PUBLISHED = """
MCUNet's ImageNet networks, with the weights that their authors publish (github.com/mit-han-lab/mcunet):
  mcunet export mcunet_in3 WEIGHTS.pth --view crop:0.875 -o in3.onnx
  mcunet quantize in3.onnx --calib photos -o in3.int8.onnx"""


def line(name: str, entry: PlainDict) -> list[str]:
    """Return a network's row: its figures on the first of its boards."""
    board, row = next(iter(entry["boards"].items()))
    floats, int8 = (next(iter(entry[kind].values())) for kind in ("float", "int8"))
    time, kb = row["milliseconds_estimated"], [f"{row[key] / 1024:.1f}" for key in ("sram_bytes", "flash_bytes")]
    return [
        PREFIX + name, entry["input"], entry["head"], f"{floats:.3f}", f"{int8:.3f}", *kb,
        "-" if time is None else f"{time:.0f}", board, ", ".join(entry["classes"]),
    ]  # fmt: skip


def recipe(row: PlainDict) -> str:
    """Return a recipe's line."""
    shown = [name for name in row["float"] if name in ("easy", "medium", "hard")] or ["mAP50"]
    scores = ", ".join(f"{name} {row['float'][name]:.3f} / {row['int8'][name]:.3f}" for name in shown)
    return f"  {row['config']:36}{row['board']:11}{scores}; {row['data']}"


def laid_out(cells: list[str]) -> str:
    """Return a line of the table: names to the left, figures to the right."""
    pairs = zip(cells, COLUMNS, strict=True)
    text = [f"  {cell:<{n}}" if name in LEFT else f"{cell:>{n}}" for cell, (name, n) in pairs]
    return "".join(text).strip()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", nargs="?", choices=("list", "show"), default="list", help="list (default) or show")
    parser.add_argument("name", nargs="?", help="with show: the network")


def main(args: argparse.Namespace) -> None:
    if (args.verb == "show") != (args.name is not None):
        raise UserError("mcunet zoo lists the networks, mcunet zoo show NAME prints the card of one")
    if args.name:
        print(card(args.name), end="")
        return
    print(laid_out([name for name, _ in COLUMNS]))
    for name, entry in index().items():
        print(laid_out(line(name, entry)))
    print(RECIPES + "\n".join(map(recipe, recipes())) + "\n" + PUBLISHED)
