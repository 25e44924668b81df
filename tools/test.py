"""Evaluate a detector's checkpoint: mmdet's own tool behind the plug-in, with the same flags.

python tools/test.py configs/det/yolov3_digits.py out/demo/det/last.pth --out-json out/demo/map.json
"""

import argparse

from mmengine.config import DictAction
from mmengine.runner import Runner

from detection import prepare
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("checkpoint", help="of tools/train.py")
    parser.add_argument("--work-dir", help="logs and metrics; default work_dirs/CONFIG")
    parser.add_argument("--out-json", help="also write the metrics to this file")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value pairs merged into the config")
    args = parser.parse_args()

    cfg = prepare(args.config, args.cfg_options, args.work_dir)
    cfg.load_from = args.checkpoint
    metrics = Runner.from_cfg(cfg).test()
    print(f"mAP50 {metrics['pascal_voc/mAP']:.4f}")
    if args.out_json:
        write_json(args.out_json, {"map50": float(metrics["pascal_voc/mAP"]), **metrics})


if __name__ == "__main__":
    with exit_on_user_error():
        main()
