"""Accuracy of a classifier as it is deployed: of its ONNX file, float or int8, or of its compiled C. Pictures are seen
by the view in the file, which `mcunet run` and the calibration use, too; what a search said of it is to be the same up
to int8.

mcunet accuracy model.onnx --data imagenet:data/imagenet
mcunet accuracy model.int8.onnx --data "{kind: folder, root: photos}" --split held_out --backend c
"""

import argparse

import torch
from tqdm import tqdm

from ..core.errors import UserError
from ..engine.frontend import load_model
from ..engine.int8_classifier import BACKENDS, check_classifier
from ..engine.model import view_of
from ..engine.run.pictures import with_view
from ..search.data import open_data, parse_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="ONNX file of a classifier")
    parser.add_argument("--data", required=True, help="KIND:ROOT with imagenet, vww, cifar10 or folder, or {YAML}")
    parser.add_argument("--split", default="test", help="test (default), held_out or train")
    parser.add_argument("--backend", choices=BACKENDS, default="onnxruntime", help="c: an int8 file's compiled C")
    parser.add_argument("--view", help="how it sees pictures, where the file does not say: stretch (default) or "
                        "crop:SHARE, the centre; crop:0.875 is ImageNet's")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, data = with_view(load_model(args.model), args.view), open_data(parse_data(args.data))
    if data.task.head is not None:
        raise UserError(f"--data {args.data}: pictures with boxes; a detector is tested by mcunet test")
    check_classifier(model, data.task.classes)
    classify, image, view = BACKENDS[args.backend](model), model.graph.inputs[0], view_of(model)
    count = data.size(args.split)
    pictures = tqdm(data.as_deployed(args.split, (image.h, image.w), view), total=count, unit="picture", leave=False)
    right = sum(int(classify(picture).argmax() == label) for picture, label in pictures)
    print(f"accuracy {right / count:.4f}: {right} of {count} {args.split} pictures, seen by {view}")
