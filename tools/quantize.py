r"""Quantise a float ONNX file to int8 (QDQ), calibrated on pictures: weights per channel, activations per tensor. Then
say which layers lose most: SQNR in dB, of the network up to a layer and of the layer by itself.

python tools/quantize.py model.onnx --calib configs/det/yolov3_bccd.py -o model.int8.onnx    its training set

python tools/quantize.py model.onnx --calib out/digits/VOC2007/JPEGImages \
    --list out/digits/VOC2007/ImageSets/Main/train.txt --method mse --report sqnr.json -o model.int8.onnx
"""

import argparse
from functools import partial
from itertools import islice

from calib import add_arguments, pictures

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.files import write_json
from nni_mcunet.engine.calibrators import METHODS, percentile
from nni_mcunet.engine.onnx_io import load_onnx, save_onnx
from nni_mcunet.engine.ptq import calibrated
from nni_mcunet.engine.quant import Model
from nni_mcunet.engine.sqnr import report, table, to_json, worst

MEASURED = 32  # pictures of those, for the report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="float ONNX, such as tools/export.py's")
    add_arguments(parser, required=True)
    parser.add_argument("--method", choices=METHODS, default="mse", help="how ranges are clipped (default mse)")
    parser.add_argument("--percent", type=float, default=99.99, help="of --method percentile (default 99.99)")
    parser.add_argument("--no-equalize", action="store_true", help="leave the channels' ranges as they are")
    parser.add_argument("--no-bias-correction", action="store_true", help="round the biases and no more")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="layers to name (default 5)")
    parser.add_argument("--report", metavar="FILE.json", help="write every layer's SQNR")
    parser.add_argument("-o", "--out", required=True, help="ONNX file to write")
    args = parser.parse_args()
    if not 50 <= args.percent <= 100:
        raise UserError(f"--percent {args.percent:g}: give a percentage of 50 to 100, such as 99.99")
    model = load_onnx(args.model)
    if not isinstance(model, Model):
        raise UserError(f"{args.model} is int8 already; give the float file")
    method = partial(percentile, percent=args.percent) if args.method == "percentile" else METHODS[args.method]
    calibration = list(pictures(args, model.graph.inputs[0]))
    int8 = calibrated(model, calibration, method, not args.no_equalize, not args.no_bias_correction)
    save_onnx(int8, args.out)
    print(f"{args.out}: calibrated on {len(calibration)} pictures")
    rows = report(model, int8, islice(calibration, MEASURED))
    if args.worst > 0:
        print(f"the layers that lose most by themselves, of {len(rows)}:\n{table(worst(rows, args.worst))}")
    if args.report:
        write_json(args.report, to_json(rows))


if __name__ == "__main__":
    with exit_on_user_error():
        main()
