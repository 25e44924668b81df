"""Evaluate what was trained: a detector through its config's data set and metric (mmdet's own tool behind the plug-in,
with its flags), a classifier on a search's data.

mcunet test configs/det/yolov3_digits.py CHECKPOINT.pth                       the float network
mcunet test configs/det/yolov3_digits.py CHECKPOINT.pth --backend int8        quantised now, as compiled C
mcunet test configs/det/yolov3_digits.py model.int8.onnx --backend reference  an int8 file, in numpy
mcunet test best.json best_tuned.pth --qat best_qat.pth --data folder:photos  a classifier: float, PTQ, QAT, their C

A checkpoint of quantisation-aware training has its own ranges: float then is that network with int8 simulated. The C's
boxes and the numpy reference's are the boards' bit for bit; the reference is slow.

A classifier's figures are top-1, all on the same pictures by the same view: give --data as for the search. Whatever a
detector's metric is, map50 is the AP at an overlap of 0.5 and map50_95 that of COCO, by pycocotools.
"""

import argparse

from ..core.errors import UserError
from ..core.files import write_json
from ..core.outputs import check_outputs
from .cfg_options import add_options
from .detector_test import ENGINES, test_detector

CLASSIFIER = ("data", "qat", "split")  # flags that only its test knows
DETECTOR = ("backend", "work_dir", "out", "show_dir", "tta", "cfg_options")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="configs/det/*.py, or a classifier's architecture (.json)")
    parser.add_argument("checkpoint", help="of mcunet train or finetune (.pth), or int8 of mcunet quantize (.onnx)")
    parser.add_argument(
        "--data", help="of a classifier: digits, KIND:ROOT with imagenet, vww, cifar10 or folder, or {YAML}"
    )
    parser.add_argument(
        "--qat", metavar="QAT.pth", help="weights of mcunet finetune --qat, tested next to the float ones"
    )
    parser.add_argument("--split", help="test, held_out or train; default test, or held_out where there is none")
    parser.add_argument("--backend", choices=("float", *ENGINES), help="default float for .pth, int8 for .onnx")
    parser.add_argument("--calib-images", type=int, default=128, metavar="N",
                        help="int8 of a float .pth is calibrated on N training pictures (default 128)")  # fmt: skip
    parser.add_argument("--work-dir", help="logs and metrics; default work_dirs/CONFIG")
    parser.add_argument("--out", help="also dump the predictions to this pickle file (.pkl)")
    parser.add_argument("--out-json", help="also write the metrics to this file")
    parser.add_argument("--show-dir", help="draw the boxes into this folder below WORK_DIR/TIME")
    parser.add_argument("--tta", action="store_true", help="test-time augmentation: the config's, else a flip")
    add_options(parser)
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm", "mpi"),
        default="none",
        help="what has started the processes, for several GPUs (default none)",
    )


def main(args: argparse.Namespace) -> None:
    classifier = args.config.endswith(".json")
    given = [f"--{key.replace('_', '-')}" for key in (DETECTOR if classifier else CLASSIFIER) if getattr(args, key)]
    if given and classifier:
        raise UserError(f"{' '.join(given)} is for a detector's config: leave it out")
    if given:
        raise UserError(f"{' '.join(given)} is for a classifier's architecture (.json): a config has its own data")
    if classifier:
        test_classifier(args)
    else:
        test_detector(args)


def test_classifier(args: argparse.Namespace) -> None:
    """Print a classifier's top-1 as float, int8 and C. Raises UserError."""
    check_outputs({"--out-json": (args.out_json, ".json")}, args.config, args.checkpoint, args.qat)
    if args.data is None:
        raise UserError("--data says on which pictures a classifier is tested: give it as for the search")

    from ..api.classification import accuracies

    how = {"qat": args.qat, "split": args.split, "images": args.calib_images}
    found = accuracies(args.config, args.checkpoint, args.data, **how)
    print(found)
    if args.out_json:
        write_json(args.out_json, found.to_dict())
