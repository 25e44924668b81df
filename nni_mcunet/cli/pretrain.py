"""Train a backbone as a classifier, from nothing.

mcunet pretrain configs/arch/mcunetv2_voc_f412.json --data imagenet:ROOT

Any architecture gets a classifier for the classes of the data, which may lie in ImageNet's layout or in any folders by
class (folder:ROOT). The recipe is the paper's: 150 epochs of SGD, batches of 1024 at a learning rate of 0.2, less in
proportion for smaller ones. On several GPUs: torchrun --nproc-per-node 8 -m nni_mcunet pretrain ... It goes on where an
earlier run stopped, from the checkpoint --out with .ckpt.

A detector begins with the weights: `model.backbone.init_cfg.checkpoint` of its config, `mcunet new-detector --weights`.
The classifier itself is beside them (.json), for `mcunet export`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from ..core.errors import UserError, writing
from ..core.outputs import check_outputs
from ..core.validate import read_json
from ..search.supernet.recipe import Recipe
from .argument_types import positive
from .finetune import of_one_network, train_on
from .recipe_arguments import add_recipe

PAPER = Recipe(batch=1024, lr=0.2)  # appendix B
EPOCHS = 150


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arch", help="architecture, JSON")
    parser.add_argument("--config", help="YAML of `mcunet train-supernet`: its data and recipe")
    parser.add_argument("-o", "--out", help="weights to write (default out/pretrain/NAME.pth)")
    parser.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"), help="of the images; default the "
                        "architecture's")  # fmt: skip
    parser.add_argument("--epochs", dest="passes", type=positive, default=EPOCHS,
                        help=f"passes over the data (default {EPOCHS})")  # fmt: skip
    parser.add_argument("--steps", type=positive, help="instead of epochs")
    add_recipe(parser, PAPER, skip=("largest", "shared", "subnets", "sandwich"))


def main(args: argparse.Namespace) -> None:
    import torch

    from ..core.ir.arch import ArchSpec
    from ..core.nn.net import Net
    from ..search.data.classification import Classification
    from ..search.supernet import distributed as ranks
    from ..search.supernet.recipe_options import data_and_recipe, read_settings
    from ..search.supernet.training import check_view, to_device

    torch.set_num_threads(args.threads)
    settings, spec, device = read_settings(args.config), ArchSpec.load(args.arch), ranks.pick_device(args.device)
    out = Path(args.out or f"out/pretrain/{spec.name}.pth")
    check_outputs({"--out": (out, ".pth")}, args.arch, args.config)
    data, recipe = data_and_recipe(settings, args, PAPER)
    if not isinstance(data.task, Classification):
        raise UserError("a backbone is trained on pictures by class: give --data imagenet:ROOT or folder:ROOT")
    check_view(spec, args.arch, data)
    if spec.classes not in (None, data.task.classes):
        raise UserError(
            f"{args.arch}: {spec.name} has {spec.classes} classes, and the data {data.task.classes}: leave classes "
            "out of the file, and it gets those of the data"
        )
    size = spec.resolution if args.size is None else (args.size[0], args.size[1])
    spec = replace(spec, classes=data.task.classes, resolution=size, view=data.view, expected=())
    recipe, beside = of_one_network(recipe, args, data), out.with_suffix(".json")
    if beside.exists() and read_json(beside) != spec.to_dict():
        raise UserError(f"{beside} is there and is not {args.arch} with a classifier: give another --out")
    torch.manual_seed(recipe.seed)  # the same weights to begin with in all processes, and after a stop
    net = to_device(Net(data.task.graph(spec)), args.device)
    ranks.join(device)
    if ranks.place()[0] == 0:
        print(f"{data.task.classes} classes, {recipe.described()}")
        with writing(beside):
            spec.save(beside)
    train_on(spec, net, recipe, data, out, args.save_every or settings.get("save_every", 20),
             f"pre-training {spec.name}", args.device)  # fmt: skip
    ranks.leave()
