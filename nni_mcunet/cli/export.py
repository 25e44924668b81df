"""Write a trained network as float ONNX, one node per layer under the layer's name.

mcunet export configs/det/yolov3_digits.py CHECKPOINT.pth -o model.onnx     a detector
mcunet export CONFIG.py CHECKPOINT.pth -o model.onnx --with-boxes             its boxes, for onnxruntime
mcunet export ARCH.json WEIGHTS.pth -o model.onnx                           a classifier or backbone
"""

import argparse

from ..core.outputs import check_outputs
from .cfg_options import add_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="mmdet config of a detector (.py) or architecture (.json)")
    parser.add_argument("checkpoint", help="its weights (.pth)")
    parser.add_argument("-o", "--out", required=True, help="ONNX file to write")
    parser.add_argument("--with-boxes", action="store_true", help="decoding and NMS too: boxes, scores, labels")
    parser.add_argument("--view", help="how a classifier sees pictures, if its files do not say: stretch (default), "
                        "letterbox:PAD, or crop:SHARE, the centre; crop:0.875 is ImageNet's")  # fmt: skip
    add_options(parser)


def main(args: argparse.Namespace) -> None:
    check_outputs({"-o": (args.out, ".onnx")}, args.config, args.checkpoint)
    from ..api.networks import load
    from ..engine.model import view_of

    found = load(args.config, args.checkpoint, view=args.view, options=args.cfg_options)
    found.save(args.out, boxes=args.with_boxes)
    model, (h, w, _) = found.float_model(), found.image
    view = f"pictures {view_of(model)}" + ("" if "view" in model.meta else " (default)")
    print(f"{args.out}: {h}x{w}, {view}, {model.graph.macs:,} MACs, {model.graph.params:,} parameters")
