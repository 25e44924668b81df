"""Find anchors for YOLO from real boxes: k-means with 1 - IoU, as fractions of the network's input, ready to paste.

    mcunet anchors configs/det/yolov3_bccd.py              the boxes that the config trains on
    mcunet anchors VOCdevkit/VOC2007 VOC2012.tar.xz --scales 3 --split trainval

Boxes marked difficult are left out, as mmdet leaves them out of the training.
"""

import argparse

from ..core.errors import UserError
from ..core.files import write_json
from ..core.outputs import check_outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", help="configs (.py), VOC folders, or archives of them (.tar, .tar.xz)")
    parser.add_argument("--scales", type=int, help="default: as many as the config has, else 3")
    parser.add_argument("--number", type=int, help="anchors of all scales together; default 3 for each scale")
    parser.add_argument("--split", default="trainval", help="VOC: list of ImageSets/Main (default trainval)")
    parser.add_argument("--seed", type=int, default=0, help="of k-means (default 0)")
    parser.add_argument("--json", help="also write the result to this file")


def main(args: argparse.Namespace) -> None:
    check_outputs({"--json": (args.json, ".json")}, *args.sources)
    import numpy as np

    from detection import load_config, picture_view
    from detection.config.config_shape import dataset_of
    from detection.data.anchors import choose, dataset_sizes, voc_sizes
    from detection.models.backbone import read_arch

    from ..core.view import STRETCH

    sizes, scales = [], 3
    for source in args.sources:
        if source.endswith(".py"):
            config = load_config(source)
            view, size = picture_view(config), read_arch(config.model.backbone.arch).resolution
            if view != STRETCH and len(args.sources) > 1:
                raise UserError(
                    f"{source} letterboxes its pictures, and its anchors hold for no other: give it in its own run"
                )
            sizes.append(dataset_sizes(dataset_of(config, "train_dataloader"), view, size))
            scales = len(config.model.backbone.out_indices)
        else:
            sizes.append(voc_sizes(source, args.split))
    scales = scales if args.scales is None else args.scales
    number = 3 * scales if args.number is None else args.number
    if scales < 1 or number < 1:
        raise UserError("--scales and --number begin at 1")
    found = choose(np.concatenate(sizes), number, scales, args.seed)
    print(f"{found.boxes:,} boxes; mean IoU with the best anchor {found.mean_iou:.4f}; {found.recall:.1%} reach 0.5")
    print(f"anchors={found.scales},")
    if args.json:
        write_json(args.json, found._asdict())
