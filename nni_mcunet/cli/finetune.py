"""Fine-tune a network that a search found: mcunet finetune out/search/X/best.json out/search/X/best.pth

It trains 10 epochs at a tenth of the super-network's learning rate (appendix B: 0.2 / 10 for batches of 1024, less in
proportion for smaller ones). Give --data as for the search: another split would train on what judges. It prints the
accuracy before and after, on the held-out pictures that the search judged by and on the test set, and writes the
weights to --out (default beside the given ones, *_tuned.pth). It goes on where an earlier run stopped, from the
checkpoint --out with .ckpt.

--qat trains quantisation-aware and writes the weights (*_qat.pth) with the ranges that mcunet quantize --qat takes; the
accuracy after it is that of the simulated int8.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import writing
from ..core.files import write_atomic
from ..core.outputs import check_outputs
from ..core.validate import check_is_file
from ..search.supernet.recipe import Recipe
from .argument_types import positive
from .going_on import if_there, saying_how_to_go_on
from .recipe_arguments import add_recipe

if TYPE_CHECKING:
    from ..core.ir.arch import ArchSpec
    from ..core.nn.net import Net
    from ..search.data import Data

PAPER = Recipe(batch=1024, lr=0.02)  # appendix B
BATCH = 64
DEFAULT = replace(PAPER, batch=BATCH, lr=PAPER.lr * BATCH / PAPER.batch)


def accuracies(net: "Net", data: "Data", spec: "ArchSpec") -> str:
    """Say the accuracy on the held-out pictures and, where there is one, on the test set."""
    device = next(net.parameters()).device
    judged = {"held-out": data.held_out} | ({"test": data.test} if "test" in data.source.sizes else {})
    return ", ".join(f"{name} {data.task.score(net, of(spec.resolution, device)):.3f}" for name, of in judged.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", help="architecture, JSON")
    parser.add_argument("weights", help="its state dict")
    parser.add_argument("--config", help="YAML of `mcunet train-supernet`: its data and recipe, at a tenth of its lr")
    parser.add_argument("--out", help="state dict to write")
    parser.add_argument("--epochs", dest="passes", type=positive, default=10, help="passes over the data (default 10)")
    parser.add_argument("--steps", type=positive, help="instead of epochs")
    parser.add_argument("--qat", action="store_true", help="simulate int8 while training")
    add_recipe(parser, DEFAULT, skip=("largest", "shared", "subnets", "sandwich"))


def main(args: argparse.Namespace) -> None:
    import torch

    from ..core.ir.arch import ArchSpec
    from ..search.data.classification import Classification
    from ..search.supernet import distributed as ranks
    from ..search.supernet.recipe_options import data_and_recipe, read_settings
    from ..search.supernet.training import check_split, check_view, load_weights, to_device

    name = f"{Path(args.weights).stem}_{'qat' if args.qat else 'tuned'}.pth"
    out = Path(args.out or Path(args.weights).with_name(name))
    check_outputs({"--out": (out, ".pth")}, args.arch, args.weights, args.config)
    torch.set_num_threads(args.threads)
    settings, spec, device = read_settings(args.config), ArchSpec.load(args.arch), ranks.pick_device(args.device)
    check_is_file(args.weights)
    data, recipe = data_and_recipe(settings, args, DEFAULT)
    if args.lr is None and "lr" in (settings.get("recipe") or {}):
        recipe = replace(recipe, lr=recipe.lr / 10)
    recipe = of_one_network(recipe, args, data)
    check_view(spec, args.arch, data)
    if unknown := check_split(args.weights, data):
        print(f"warning: {unknown}", file=sys.stderr)
    net = to_device(load_weights(spec, args.weights), args.device)
    ranks.join(device)
    first = ranks.place()[0] == 0
    if first:
        print(recipe.described())
    if first and isinstance(data.task, Classification) and spec.classes == data.task.classes:
        print(f"before: {accuracies(net.eval(), data, spec)}")
    save_every = args.save_every or settings.get("save_every", 20)
    train_on(spec, net, recipe, data, out, save_every, f"fine-tuning {spec.name}", args.device, args.qat)
    ranks.leave()


def of_one_network(recipe: Recipe, args: argparse.Namespace, data: "Data") -> Recipe:
    """Return the recipe with one phase only, of --steps or --epochs."""
    steps = args.steps or args.passes * data.epoch(recipe.batch)
    return replace(recipe, largest=steps, shared=0, subnets=1, sandwich=False)


def train_on(
    spec: "ArchSpec", net: "Net", recipe: Recipe, data: "Data", out: Path, save_every: int, title: str, device: str,
    qat: bool = False,
) -> None:  # fmt: skip
    """Train a classifier from OUT.ckpt on, where that is, with a bar; print its accuracy and write its weights to
    `out`. Under torchrun all processes call this together, once they have joined."""
    from ..core.progress import Progress
    from ..search.supernet import distributed as ranks
    from ..search.supernet.training import finetune, weights_file

    first, checkpoint = ranks.place()[0] == 0, out.with_name(out.name + ".ckpt")
    going_on = saying_how_to_go_on(lambda: if_there(checkpoint), show=first)
    with going_on, Progress(recipe.steps, "step", title, first) as bar:

        def progress(step: int, loss: float) -> None:
            bar.to(step, f"loss={loss:.2f}")

        with writing(out):
            net = finetune(spec, net, recipe, data, checkpoint, save_every, progress, device, qat)
    if first:
        print(f"after:  {accuracies(net, data, spec)}")
        print(f"wrote {write_atomic(out, weights_file(net.state_dict(), data))}")
