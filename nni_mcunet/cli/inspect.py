"""Show what an int8 model is made of: each tensor's range, scale and zero point and the spread of its weights' scales;
with the float model and pictures its SQNR, too; and one layer drawn.

mcunet inspect model.int8.onnx
mcunet inspect model.int8.onnx --float model.onnx --calib PICTURES --layer s2_b1_dw --png s2_b1_dw.png
"""

import argparse

from ..core.errors import UserError
from ..core.outputs import check_outputs
from .calibration_pictures import add_pictures, pictures
from .outputs_argument import add_outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="int8 ONNX, such as mcunet quantize's, or .tflite")
    parser.add_argument("--float", metavar="MODEL.onnx", help="the float file it was made from; with --calib")
    add_outputs(parser)
    add_pictures(parser)
    parser.add_argument("--layer", help="the layer to draw; with --png")
    parser.add_argument("--png", metavar="FILE", help="its weights and, with --float and --calib, its values")


def main(args: argparse.Namespace) -> None:
    check_outputs({"--png": (args.png, ".png")}, args.model, args.float, args.calib, args.list)
    if bool(args.float) != bool(args.calib) or bool(args.layer) != bool(args.png):
        raise UserError("--float goes with --calib, and --layer with --png: give both or neither")
    from ..api.inspection import inspect
    from ..api.networks import load

    int8, source, images = load(args.model, outputs=args.outputs), None, None
    if args.float:
        source = load(args.float, outputs=args.outputs)
        images = list(pictures(args, source.float_model()))
    found = inspect(int8, source, images, images=args.images)
    if args.png:
        found.draw(args.layer, args.png)
    print(found)
