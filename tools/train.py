r"""Train a detector: mmdet's own tool behind the plug-in, with the same flags. WORK_DIR/last.pth is the finished one.

    python tools/train.py configs/det/yolov3_digits.py \
        --work-dir out/demo/det --cfg-options model.backbone.arch=out/demo/arch.json
"""

import argparse
from pathlib import Path

from mmengine.config import DictAction
from mmengine.runner import Runner, find_latest_checkpoint

from detection import prepare
from nni_mcunet.core.errors import exit_on_user_error
from nni_mcunet.core.files import write_atomic


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("--work-dir", help="logs and checkpoints; default work_dirs/CONFIG")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision (CUDA)")
    parser.add_argument("--resume", nargs="?", const="auto", help="a checkpoint, or the latest of the work dir")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value pairs merged into the config")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    args = parser.parse_args()

    cfg = prepare(args.config, args.cfg_options, args.work_dir)
    cfg.launcher = args.launcher
    if args.amp:
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume
    runner = Runner.from_cfg(cfg)
    runner.train()
    last = find_latest_checkpoint(runner.work_dir)
    write_atomic(Path(runner.work_dir) / "last.pth", Path(last).read_bytes())


if __name__ == "__main__":
    with exit_on_user_error():
        main()
