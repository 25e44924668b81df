r"""Quantise a float ONNX or .tflite file to int8 (QDQ), calibrated on pictures: weights per channel, activations per
tensor. Then say which layers lose most: SQNR in dB, of the network up to a layer and of the layer by itself.

mcunet quantize model.onnx --calib configs/det/yolov3_bccd.py -o model.int8.onnx    its training set

mcunet quantize model.onnx --calib out/digits/VOC2007/JPEGImages \
    --list out/digits/VOC2007/ImageSets/Main/train.txt --method mse --report sqnr.json -o model.int8.onnx

mcunet quantize model.onnx --qat last.pth -o model.int8.onnx     the checkpoint's own weights and ranges
mcunet quantize yunet.onnx --mean 0 0 0 --std 1 1 1 --bgr --calib faces -o yunet.int8.onnx    someone else's
"""

import argparse
import sys

from ..api.networks import load
from ..core.errors import UserError
from ..core.files import write_json
from ..core.outputs import check_outputs
from ..core.validate import counted
from ..engine.frontend.onnx import save_onnx
from ..engine.quant.range_methods import METHODS
from .calibration_pictures import add_pictures, pictures
from .outputs_argument import add_outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="float ONNX, such as mcunet export's, or .tflite")
    add_outputs(parser)
    add_pictures(parser)
    parser.add_argument("--qat", metavar="CKPT.pth", help="of quantisation-aware training: its weights and ranges; "
                        "--calib then only measures")  # fmt: skip
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="of the picture, where the file leaves it open"
    )
    parser.add_argument("--mean", type=float, nargs="+", metavar="M",
                        help="the file reads (pixel - mean) / std: a number a channel (default 0)")  # fmt: skip
    parser.add_argument("--std", type=float, nargs="+", metavar="S", help="default 255")  # fmt: skip
    parser.add_argument("--bgr", action="store_true", help="the file reads BGR; mean and std are in its order")
    parser.add_argument("--view", help="how it sees a picture, where the file does not say: stretch (default), "
                        "letterbox:PAD or crop:SHARE, the centre; crop:0.875 is ImageNet's; the "
                        "int8 file says it, too")  # fmt: skip
    parser.add_argument("--method", choices=METHODS, default="mse", help="how ranges are clipped (default mse)")
    parser.add_argument("--percent", type=float, default=99.99, help="of --method percentile (default 99.99)")
    parser.add_argument("--no-equalize", action="store_true", help="leave the channels' ranges as they are")
    parser.add_argument("--no-compensation", action="store_true", help="round each weight by itself")
    parser.add_argument(
        "--no-bias-correction", action="store_true", help="do not correct the biases for the error of int8"
    )
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="layers to name (default 5)")
    parser.add_argument("--report", metavar="FILE.json", help="write every layer's SQNR")
    parser.add_argument("-o", "--out", required=True, help="ONNX file to write")


def main(args: argparse.Namespace) -> None:
    outputs = {"-o": (args.out, ".onnx"), "--report": (args.report, ".json")}
    check_outputs(outputs, args.model, args.qat, args.calib, args.list)
    if not 50 <= args.percent <= 100:
        raise UserError(f"--percent {args.percent:g}: give a percentage of 50 to 100, such as 99.99")
    if not args.calib and not args.qat:
        raise UserError("--calib says on which pictures to calibrate, --qat which training has found the ranges")
    from ..api.quantization import MEASURED, float_model, losses, to_int8
    from ..engine.quant.sqnr import report, table, to_json, worst

    network = load(args.model, size=args.size, outputs=args.outputs)
    model = float_model(network, args.mean, args.std, args.bgr, args.view)
    calibration = list(pictures(args, model)) if args.calib else []
    if args.qat:
        from ..bridge import of_checkpoint  # imports mmdet

        int8, how = of_checkpoint(model, args.qat), f"as {args.qat} has learnt it"
    else:
        steps = not args.no_equalize, not args.no_compensation, not args.no_bias_correction
        int8 = to_int8(model, calibration, args.method, args.percent, *steps)
        how = f"calibrated on {counted(len(calibration), 'picture')}"
    save_onnx(int8, args.out)
    print(f"{args.out}: {how}")
    if args.mean is None and args.std is None:
        print("a byte of a picture is byte / 255 to the network; --mean and --std say otherwise, --bgr the order")
    if not calibration:
        return
    rows = report(model, int8, calibration[:MEASURED])
    if args.worst > 0:
        print(f"the layers that lose most by themselves, of {len(rows)}:\n{table(worst(rows, args.worst))}")
    for text in losses(model, int8, rows):
        print(f"warning: {text}", file=sys.stderr)
    if args.report:
        write_json(args.report, to_json(rows))
