"""Measure the accuracy of a classifier as it is deployed: of its ONNX file, float or int8, or of its compiled C.

mcunet accuracy model.onnx --data imagenet:data/imagenet
mcunet accuracy model.int8.onnx --data "{kind: folder, root: photos}" --split held_out --backend c

Pictures are seen by the view in the file, as by `mcunet run` and by the calibration. A search's figure of the network
is the same up to int8.
"""

import argparse

from ..core.errors import UserError
from .pixels import add_pixels, told_pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="ONNX file of a classifier")
    parser.add_argument("--data", required=True, help="KIND:ROOT with imagenet, vww, cifar10 or folder, or {YAML}")
    parser.add_argument("--split", default="test", help="test (default), held_out or train")
    parser.add_argument("--backend", choices=("onnxruntime", "c"), default="onnxruntime",
                        help="c: an int8 file's compiled C")  # fmt: skip
    parser.add_argument("--view", help="how it sees pictures, where the file does not say: stretch (default) or "
                        "crop:SHARE, the centre; crop:0.875 is ImageNet's")  # fmt: skip
    add_pixels(parser)


def main(args: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from ..engine.frontend import load_model
    from ..engine.int8_classifier import BACKENDS, check_classifier
    from ..engine.model import view_of
    from ..engine.run.pictures import with_view
    from ..search.data import open_data, parse_data
    from ..search.data.classification import Classification

    torch.set_num_threads(1)
    model = told_pixels(with_view(load_model(args.model), args.view), args.mean, args.std)
    data = open_data(parse_data(args.data))
    if not isinstance(data.task, Classification):
        raise UserError(f"--data {args.data}: pictures with boxes; a detector is tested by mcunet test")
    check_classifier(model, data.task.classes)
    classify, image, view = BACKENDS[args.backend](model), model.graph.inputs[0], view_of(model)
    count = data.size(args.split)
    pictures = tqdm(
        data.as_deployed(args.split, (image.h, image.w), view), total=count, unit="picture", leave=False, disable=None
    )
    right = sum(int(classify(picture).argmax() == label) for picture, label in pictures)
    print(f"accuracy {right / count:.4f}: {right} of {count} {args.split} pictures, seen by {view}")
