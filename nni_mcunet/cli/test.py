"""Evaluate a detector through the config's data set and metric: mmdet's own tool behind the plug-in, with its flags.

mcunet test configs/det/yolov3_digits.py CHECKPOINT.pth                       the float network
mcunet test configs/det/yolov3_digits.py CHECKPOINT.pth --backend int8        quantised now, as compiled C
mcunet test configs/det/yolov3_digits.py model.int8.onnx --backend reference  an int8 file, in numpy

A checkpoint of quantisation-aware training has its own ranges: float then is that network with int8 simulated. The C's
boxes and the numpy reference's are the boards' bit for bit; the reference is slow.

Whatever the config's metric is, map50 is the AP at an overlap of 0.5 and map50_95 that of COCO, by pycocotools.
"""

import argparse
from typing import TYPE_CHECKING

from ..core.errors import UserError, writing
from ..core.files import write_json
from ..core.outputs import check_outputs
from .cfg_options import add_options

if TYPE_CHECKING:
    from mmengine.config import Config

    from detection import DeployedDetector

ENGINES = {"int8": "compiled", "reference": "interpreted"}  # functions of engine/int8_detector.py


def int8_detector(args: argparse.Namespace, cfg: "Config") -> "DeployedDetector":
    """Return the int8 engine as mmdet's model: of an int8 file, or of a checkpoint quantised now. Raises UserError."""
    from detection import DeployedDetector, check_classes, check_view, config_classes

    from ..bridge import int8
    from ..engine import int8_detector as engine
    from ..engine.model import view_of

    if args.checkpoint.endswith(".onnx"):
        model = engine.load_int8_detector(args.checkpoint)
        check_classes(model.meta["detector"]["classes"], config_classes(cfg), args.checkpoint)
        check_view(view_of(model), cfg, args.checkpoint)
    else:
        model = int8(args.config, args.checkpoint, args.cfg_options, args.calib_images)
    return DeployedDetector(getattr(engine, ENGINES[args.backend])(model))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("checkpoint", help="of mcunet train (.pth), or int8 of mcunet quantize (.onnx)")
    parser.add_argument("--backend", choices=("float", *ENGINES), help="default float for .pth, int8 for .onnx")
    parser.add_argument("--calib-images", type=int, default=128, metavar="N",
                        help="int8 of a float .pth is calibrated on N training pictures (default 128)")  # fmt: skip
    parser.add_argument("--work-dir", help="logs and metrics; default work_dirs/CONFIG")
    parser.add_argument("--out", help="also dump the predictions to this pickle file (.pkl)")
    parser.add_argument("--out-json", help="also write the metrics to this file")
    parser.add_argument("--show-dir", help="draw the boxes into this folder below WORK_DIR/TIME")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: the config's, else a flip")
    add_options(parser)
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")


def main(args: argparse.Namespace) -> None:
    outputs = {"--out": (args.out, ".pkl"), "--out-json": (args.out_json, ".json")}
    check_outputs(outputs, args.config, args.checkpoint)
    onnx = args.checkpoint.endswith(".onnx")
    args.backend = args.backend or ("int8" if onnx else "float")
    if onnx and args.backend == "float":
        raise UserError(f"--backend float is mmdet's network: give its .pth instead of {args.checkpoint}")
    from mmengine.dist import is_main_process

    from detection import (
        WorkDirRunner,
        add_coco,
        building,
        check_trained_view,
        deploy,
        dump,
        load_weights,
        map50,
        map50_95,
        prepare,
        with_pictures,
        with_tta,
    )

    cfg = prepare(args.config, args.cfg_options, args.work_dir)
    cfg.launcher, cfg.load_from, cfg.resume = args.launcher, None, False
    model = int8_detector(args, cfg) if args.backend != "float" else None
    if args.show_dir:
        with_pictures(cfg, args.show_dir)
    if args.tta:
        with_tta(cfg)
    with writing(cfg.work_dir), building(cfg, args.config):
        runner = WorkDirRunner.from_cfg(cfg)
    if model is None:
        check_trained_view(args.checkpoint, cfg)
        load_weights(runner, args.checkpoint)
    else:
        deploy(runner, model)
    add_coco(runner)
    if args.out:
        dump(runner, args.out)
    with writing(args.out or cfg.work_dir), building(cfg, args.config):
        metrics = runner.test()
    comparable = {"map50": map50(metrics), "map50_95": map50_95(metrics)}
    metrics = {name: value for name, value in comparable.items() if value is not None} | metrics
    if is_main_process():
        for name, value in metrics.items():
            print(f"{name:32} {value:.4f}")
        if args.out_json:
            write_json(args.out_json, metrics)
