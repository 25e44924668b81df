"""Train a super-network: mcunet train-supernet [--space demo] [--out out/supernet/demo.pth]

With --config configs/cls/supernet_imagenet.yml --data imagenet:/data/imagenet it is the paper's recipe; on several GPUs
with torchrun --nproc-per-node 8. --start mcunet_in3.json in3.pth begins with the weights of a trained network, which
the space's largest must contain. With --config configs/det/supernet_bccd.yml it is one of detectors, trained by mmdet's
loss. It goes on where an earlier run with the same settings stopped, and does nothing when that one was finished.
`tensorboard --logdir` shows the folder beside the checkpoint.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import writing
from ..core.outputs import check_outputs
from ..search.supernet.recipe import Recipe
from .going_on import if_there, saying_how_to_go_on
from .recipe_arguments import add_recipe

if TYPE_CHECKING:
    from ..search.data import Data


def report(path: str, data: "Data", device: str, candidates: int = 4) -> None:
    """Print the held-out accuracy, or a detector's mAP50, of the largest, the smallest and a few random networks.
    Warn where none is better than guessing."""
    import numpy as np

    from ..search.data.classification import Classification, is_chance
    from ..search.supernet.training import evaluate, load_supernet, to_device

    space, net = load_supernet(path)
    net, rng = to_device(net, device), np.random.default_rng(0)
    rows = [("largest", space.largest()), ("smallest", space.smallest())]
    rows += [("random", space.random(rng)) for _ in range(candidates)]
    best = 0.0
    for name, candidate in rows:
        spec = space.spec(candidate)
        r = "x".join(map(str, dict.fromkeys(spec.resolution)))
        score, macs = evaluate(space, net, candidate, data), data.task.graph(spec).macs
        print(f"{name:9} r {r:>7}  {macs / 1e6:7.2f} million MACs  {data.task.measure} {score:.3f}")
        best = max(best, score)
    task, pictures = data.task, data.source.sizes["held_out"]
    if isinstance(task, Classification) and is_chance(best, task.classes, pictures):
        print(f"warning: none of these is clearly better than guessing, {1 / task.classes:.3f} for {task.classes} "
              f"classes on {pictures:,} pictures: train longer, with more steps in --largest and --shared, into "
              "another --out", file=sys.stderr)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", help="YAML with space, data, out, recipe, save_every; flags go before it")
    parser.add_argument("--space", help="preset or file of the search space (default demo)")
    parser.add_argument("--out", help="checkpoint (default out/supernet/SPACE.pth)")
    parser.add_argument(
        "--epochs",
        type=int,
        nargs=2,
        metavar=("LARGEST", "SHARED"),
        help="passes over the data, instead of the steps of --largest and --shared",
    )
    parser.add_argument("--start", nargs=2, metavar=("ARCH", "WEIGHTS"), help="architecture (.json) and weights (.pth, "
                        "ours or as MCUNet's authors published them) of a network to begin with")  # fmt: skip
    add_recipe(parser, Recipe())


def main(args: argparse.Namespace) -> None:
    import torch

    from ..core.ir.arch import ArchSpec
    from ..core.progress import Progress
    from ..search.space import load_space
    from ..search.supernet import distributed as ranks
    from ..search.supernet.recipe_options import data_and_recipe, read_settings
    from ..search.supernet.training import load_weights, train

    torch.set_num_threads(args.threads)
    settings, device = read_settings(args.config), ranks.pick_device(args.device)
    space = load_space(args.space or settings.get("space", "demo"))
    out = args.out or settings.get("out", f"out/supernet/{space.name}.pth")
    check_outputs({"--out": (out, ".pth")}, args.config, args.space, *(args.start or ()), goes_on=True)
    data, recipe = data_and_recipe(settings, args, Recipe())
    start = None
    if args.start:
        spec = ArchSpec.load(args.start[0])
        start = spec, load_weights(spec, args.start[1])
    save_every = args.save_every or settings.get("save_every", 20)
    ranks.join(device)
    first = ranks.place()[0] == 0
    if first:
        print(f"{recipe.described()}; one resolution a step, for all its {recipe.subnets} networks")
    going_on = saying_how_to_go_on(lambda: if_there(Path(out)), show=first)
    with going_on, Progress(recipe.steps, "step", f"super-network of {space.name}", first) as bar:

        def progress(step: int, loss: float) -> None:
            bar.to(step, f"loss={loss:.2f}")

        with writing(out):
            train(space, recipe, out, data, save_every, progress, args.device, start)
    if first:
        report(out, data, args.device)
        print(f"wrote {out}")
    ranks.leave()
