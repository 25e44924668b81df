"""Measure the accuracy of a classifier as it is deployed: of its ONNX file, float or int8, or of its compiled C.

mcunet accuracy model.onnx --data imagenet:data/imagenet
mcunet accuracy model.int8.onnx --data "{kind: folder, root: photos}" --split held_out --backend c

Pictures are seen by the view in the file, as by `mcunet run` and by the calibration. A search's figure of the network
is the same up to int8.
"""

import argparse
from dataclasses import replace

from .pixels import add_pixels, told_pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="file of a classifier (.onnx, .tflite)")
    parser.add_argument(
        "--data", required=True, help="digits, KIND:ROOT with imagenet, vww, cifar10 or folder, or {YAML}"
    )
    parser.add_argument("--split", help="test, held_out or train; default test, or held_out where there is none")
    parser.add_argument("--backend", choices=("onnxruntime", "c"), default="onnxruntime",
                        help="c: an int8 file's compiled C")  # fmt: skip
    parser.add_argument("--view", help="how it sees pictures, where the file does not say: stretch (default), "
                        "letterbox:PAD, or crop:SHARE, the centre; crop:0.875 is ImageNet's")  # fmt: skip
    add_pixels(parser)


def main(args: argparse.Namespace) -> None:
    from ..api.classification import accuracy
    from ..api.networks import load

    found = load(args.model)
    told = replace(found, model=told_pixels(found.any_model(), args.mean, args.std))
    print(accuracy(told, args.data, split=args.split, backend=args.backend, view=args.view))
