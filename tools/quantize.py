r"""Quantise a float ONNX file to int8 (QDQ), calibrated on pictures: weights per channel, activations per tensor.

python tools/quantize.py model.onnx --calib configs/det/yolov3_bccd.py -o model.int8.onnx    its training set

python tools/quantize.py model.onnx --calib out/digits/VOC2007/JPEGImages \
    --list out/digits/VOC2007/ImageSets/Main/train.txt -o model.int8.onnx

python tools/quantize.py model.onnx --qat last.pth -o model.int8.onnx     the checkpoint's own weights and ranges
"""

import argparse
from collections.abc import Iterator

import numpy as np
from mmengine.config import DictAction

from nni_mcunet.core.errors import UserError, exit_on_user_error
from nni_mcunet.core.qat import learnt_ranges, learnt_weights
from nni_mcunet.engine.deploy import calibrated, learnt
from nni_mcunet.engine.images import list_pictures, load_picture
from nni_mcunet.engine.onnx_io import load_onnx, save_onnx
from nni_mcunet.engine.quant import Model, QuantModel


def of_folder(args, size) -> Iterator[np.ndarray]:
    return (load_picture(p, (size.h, size.w)) for p in list_pictures(args.calib, args.list, args.images))


def of_config(args) -> Iterator[np.ndarray]:
    from detection import input_pictures, load_config  # imports mmdet

    return input_pictures(load_config(args.calib, args.cfg_options), args.images)


def of_checkpoint(model: Model, path: str) -> QuantModel:
    from detection import load_from_local  # imports mmdet

    state = load_from_local(path, "cpu")
    state = state.get("state_dict", state)
    return learnt(model, learnt_weights(state), learnt_ranges(state))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="float ONNX of tools/export.py")
    ranges = parser.add_mutually_exclusive_group(required=True)
    ranges.add_argument("--calib", help="folder of pictures, or a config of configs/det")
    ranges.add_argument("--qat", help="checkpoint of quantisation-aware training: its weights and ranges")
    parser.add_argument("--list", help="text file with the pictures to use, one stem a line; default all")
    parser.add_argument("--images", type=int, default=128, help="use so many of them at most (default 128)")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, help="key=value pairs merged into that config")
    parser.add_argument("-o", "--out", required=True, help="ONNX file to write")
    args = parser.parse_args()
    model = load_onnx(args.model)
    if not isinstance(model, Model):
        raise UserError(f"{args.model} is int8 already; give the float file")
    if args.qat:
        print(f"{save_onnx(of_checkpoint(model, args.qat), args.out)}: weights and ranges of {args.qat}")
        return
    pictures = list(of_config(args) if args.calib.endswith(".py") else of_folder(args, model.graph.inputs[0]))
    save_onnx(calibrated(model, pictures), args.out)
    print(f"{args.out}: calibrated on {len(pictures)} pictures")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
