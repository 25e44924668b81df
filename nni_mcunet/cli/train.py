r"""Train a detector: mmdet's own tool behind the plug-in, with the same flags. WORK_DIR/last.pth is the finished one;
one of an earlier training there is kept as last.previous.pth.

mcunet train configs/det/yolov3_digits.py \
    --work-dir out/demo/det --cfg-options model.backbone.arch=out/demo/arch.json
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UserError, writing
from ..core.yapf_import import import_yapf
from .cfg_options import add_options
from .going_on import saying_how_to_go_on

if TYPE_CHECKING:
    from mmengine.config import Config


def apply(args: argparse.Namespace, cfg: "Config") -> None:
    """Put the flags into the config, as mmdet's tool does. Raises UserError for one that does not fit."""
    import torch
    from mmengine.dist import is_main_process

    from detection import check_resumable, check_trained, config_classes, latest_checkpoint

    cfg.launcher = args.launcher
    if args.amp:
        if not torch.cuda.is_available():
            raise UserError("--amp is mixed precision on CUDA, and there is no GPU here: leave it out")
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    if args.auto_scale_lr:
        if not cfg.get("auto_scale_lr", {}).get("base_batch_size"):
            raise UserError("--auto-scale-lr: the config has no auto_scale_lr=dict(enable=False, base_batch_size=...)")
        cfg.auto_scale_lr.enable = True
    if args.resume or cfg.get("resume"):
        given = args.resume if args.resume and args.resume != "auto" else cfg.get("resume") and cfg.get("load_from")
        found = given or latest_checkpoint(cfg.work_dir)
        cfg.resume = found is not None
        if found is None and is_main_process():  # a new run, as with mmdet's tool, but not silently
            print(f"warning: {cfg.work_dir} holds no checkpoint to resume: a new training begins", file=sys.stderr)
        if found is not None:
            check_resumable(found, config_classes(cfg))
            check_trained(found, cfg)
            cfg.load_from = str(found)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("--work-dir", help="logs and checkpoints; default work_dirs/CONFIG")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision (CUDA)")
    parser.add_argument("--auto-scale-lr", action="store_true", help="learning rate by batch size and processes")
    parser.add_argument("--resume", nargs="?", const="auto", help="a checkpoint, or the work dir's last one")
    add_options(parser)
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what has started the processes, for several GPUs (default none)",
    )


def main(args: argparse.Namespace) -> None:
    import_yapf()
    from mmengine.dist import is_main_process
    from mmengine.runner import find_latest_checkpoint

    from detection import (
        WorkDirRunner,
        building,
        check_work_dir,
        latest_checkpoint,
        prepare,
        unfinished,
        write_last,
    )

    cfg = prepare(args.config, args.cfg_options, args.work_dir)
    apply(args, cfg)
    check_work_dir(cfg)
    first, begin = is_main_process(), time.time()
    if first and not cfg.get("resume") and (left := unfinished(cfg.work_dir)):
        print(f"warning: {cfg.work_dir} holds an unfinished training and this one begins anew: --resume goes on from "
              f"{left}", file=sys.stderr)  # fmt: skip

    def written() -> Path | None:
        found = latest_checkpoint(cfg.work_dir)
        return found if found and (cfg.get("resume") or found.stat().st_mtime >= begin) else None

    going_on = saying_how_to_go_on(written, " with --resume", first)
    with going_on, writing(cfg.work_dir), building(cfg, args.config):
        runner = WorkDirRunner.from_cfg(cfg)
        runner.train()
    if first:
        last = latest_checkpoint(runner.work_dir, runner.iter) or find_latest_checkpoint(runner.work_dir)
        if last is None:
            raise UserError(f"{runner.work_dir}: the training wrote no checkpoint: see default_hooks.checkpoint")
        if kept := write_last(runner.work_dir, last):
            print(f"note: last.pth of the training before is kept as {kept}", file=sys.stderr)
