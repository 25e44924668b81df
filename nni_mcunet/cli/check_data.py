"""Look at every picture and box of a config's data sets: mcunet check-data configs/det/yolov3_bccd.py

It decodes all pictures as mmdet does, names the broken ones, prints counts per class and box sizes. Exit code 1 where a
picture is corrupt or not of the size annotated, or a box has no area or reaches beyond its picture; 2 where files are
missing.
"""

import argparse
import sys
from pathlib import Path

from ..core.outputs import check_outputs
from .cfg_options import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("--png", help="scatter plot of the box sizes to write")
    parser.add_argument("--most", type=int, default=20, help="offenders of a data set to name (default 20)")
    add_options(parser)


def main(args: argparse.Namespace) -> None:
    check_outputs({"--png": (args.png, ".png")}, args.config)
    from detection import building, prepare
    from detection.data.data_survey import box_report, draw_sizes, survey
    from detection.data.datasets import build_dataset, loader_leaves

    config = prepare(args.config, args.cfg_options)
    surveys = {}
    for _, data in loader_leaves(config):
        name = str(Path(data.get("data_root") or "", data["ann_file"]))
        if name not in surveys:  # most often validation and test are one set
            with building(config, args.config):
                built = build_dataset(data)
            found = surveys[name] = survey(built, decode=True)
            print(f"{name}: {found.line()}\n{box_report(found)}")
            for offender in found.broken[: args.most]:
                print(f"  {offender}")
            if len(found.broken) > args.most:
                print(f"  ... and {len(found.broken) - args.most} more: see --most")
    if args.png:
        draw_sizes(surveys, args.png)
    sys.exit(any(found.broken for found in surveys.values()))
