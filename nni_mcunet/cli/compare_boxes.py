"""Compare the int8 engine's boxes with mmdet's float ones on the same pictures of the config's test set.

mcunet compare-boxes configs/det/yolov3_digits.py CHECKPOINT.pth
mcunet compare-boxes configs/det/yolov3_digits.py CHECKPOINT.pth --int8 model.int8.onnx --json agreement.json

It prints a row for the float boxes of each least score: the share whose coordinates the int8 ones have within so many
pixels of the network's input, those without a match, quantiles of the largest difference, and the means of the
differences of centre and size, in pixels, and of the score. A second row has the shares before NMS, which may keep
another of two boxes that are as good: the boxes that int8 predicts so near.
"""

import argparse
from collections.abc import Iterable
from typing import Any

from ..core.files import write_json
from ..core.outputs import check_outputs
from .argument_types import fraction
from .cfg_options import add_options

LEGEND = """The share of the float boxes of at least that score to which int8 has a box within so many pixels of the
network's input on all four sides. unmatched: the share without any; qN px: a share N of the matched differs by at most
this; centre, size, score: mean differences, in pixels and in score. before NMS: the share to which int8 predicts a box
so near, even if NMS keeps another one."""
EMPTY = "no box of the float detector has a score of {}: there is nothing to compare; train it longer, or lower --score"


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """Print the figures of each score: its rows of `agreement`."""
    if not any(row["boxes"] for row in rows.values()):
        print(EMPTY.format(min(rows, key=float)))
        return
    pixels, quantiles, parts = (list(next(iter(rows.values()))[k]) for k in ("within", "quantiles", "mean"))
    head = ["score >=", "boxes", *(f"<= {p} px" for p in pixels), "unmatched", *(f"q{q} px" for q in quantiles), *parts]
    print(LEGEND + "\n" + "".join(f"{h:>10}" for h in head))
    for score, row in rows.items():
        shares = _cells([*row["within"].values(), row["unmatched"]], ".1%")
        lengths, off = [*row["quantiles"].values(), row["mean"]["centre"], row["mean"]["size"]], row["mean"]["score"]
        print(
            f"{score:>10}{row['boxes']:>10}{shares}{_cells(lengths, '.2f')}{_cells([off], '.4f')}\n"
            f"{'before NMS':>20}{_cells(row['before_nms'].values(), '.1%')}"
        )


def _cells(values: Iterable[float | None], form: str) -> str:
    return "".join(f"{'-' if value is None else format(value, form):>10}" for value in values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py")
    parser.add_argument("checkpoint", help="of mcunet train (.pth)")
    parser.add_argument("--int8", help="its int8 file; default: quantised now")
    parser.add_argument(
        "--calib-images", type=int, default=128, metavar="N", help="training pictures that calibrate it (default 128)"
    )
    parser.add_argument("--images", type=int, default=200, help="test pictures at most (default 200)")
    parser.add_argument(
        "--score", type=fraction, nargs="+", default=[0.05, 0.3, 0.5], help="least scores (default 0.05 0.3 0.5)"
    )
    parser.add_argument("--json", help="file for the figures")
    add_options(parser)


def main(args: argparse.Namespace) -> None:
    check_outputs({"--json": (args.json, ".json")}, args.config, args.checkpoint, args.int8)
    import numpy as np

    from detection import (
        check_anchors,
        check_classes,
        check_view,
        config_classes,
        float_boxes,
        input_pictures,
        load_config,
        load_detector,
    )

    from ..bridge import int8
    from ..core.progress import each
    from ..engine.detect.agreement import agreement, box_errors, prediction_errors
    from ..engine.int8_detector import compiled, load_int8_detector, without_nms
    from ..engine.model import view_of

    cfg, of = load_config(args.config, args.cfg_options), (args.config, args.checkpoint, args.cfg_options)
    quantized = load_int8_detector(args.int8) if args.int8 else int8(*of, args.calib_images)
    check_classes(quantized.meta["detector"]["classes"], config_classes(cfg), args.int8)
    check_view(view_of(quantized), cfg, args.int8)
    image = quantized.graph.inputs[0]
    check_anchors(args.config, cfg.model.bbox_head, quantized.meta["detector"], (image.h, image.w), args.int8)
    model, detect, predict = load_detector(*of), compiled(quantized), compiled(without_nms(quantized))
    errors, before, scores = [], [], []
    for rgb in each(input_pictures(cfg, args.images, "test_dataloader"), "picture", "comparing boxes"):
        wanted = float_boxes(model, rgb)
        errors.append(box_errors(wanted, detect(rgb)))
        before.append(prediction_errors(wanted, predict(rgb)))
        scores.append(wanted[1])
    error, predicted, score = np.concatenate(errors), np.concatenate(before), np.concatenate(scores)
    rows = {str(t): agreement(error[score >= t], predicted[score >= t]) for t in args.score}
    print_table(rows)
    if args.json:
        write_json(args.json, {"config": args.config, "images": len(errors), "score": rows})
