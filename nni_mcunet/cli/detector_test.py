"""Evaluate a detector as `mcunet test` does: float, int8 or its compiled C, by mmdet's runner. No command."""

import argparse
from typing import TYPE_CHECKING

from ..core.errors import UserError, writing
from ..core.files import write_json
from ..core.outputs import check_outputs
from ..core.yapf_import import import_yapf

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


def test_detector(args: argparse.Namespace) -> None:
    """Print the metrics of a config's test set. Raises UserError."""
    outputs = {"--out": (args.out, ".pkl"), "--out-json": (args.out_json, ".json")}
    check_outputs(outputs, args.config, args.checkpoint)
    onnx = args.checkpoint.endswith(".onnx")
    args.backend = args.backend or ("int8" if onnx else "float")
    if onnx and args.backend == "float":
        raise UserError(f"--backend float is mmdet's network: give its .pth instead of {args.checkpoint}")
    import_yapf()
    from mmengine.dist import is_main_process

    from detection import (
        WorkDirRunner,
        add_coco,
        building,
        check_trained,
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
        load_weights(runner, args.checkpoint)
        check_trained(args.checkpoint, cfg)
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
        if not metrics:
            print("no box is found on the test pictures, so there is no metric: train longer")
        for name, value in metrics.items():
            print(f"{name:32} {value:.4f}")
        if args.out_json:
            write_json(args.out_json, metrics)
